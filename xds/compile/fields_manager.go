package compile

const manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

// managerFields are the messages of the connection manager and its filters.
var managerFields = map[string]message{
	manager: {
		"codec_type":                           use("differential: codec h2 only"),
		"stat_prefix":                          label("no figure carries it"),
		"rds":                                  use("differential: routes late"),
		"route_config":                         part("observed: inline routes"),
		"http_filters":                         use("differential: health check answered"),
		"http2_protocol_options":               use("observed: callers' windows"),
		"common_http_protocol_options":         use("differential: headers too many"),
		"http_protocol_options":                hold(),
		"server_name":                          use("differential: server named"),
		"drain_timeout":                        use("observed: listener drains"),
		"access_log":                           use("differential: TestAccessLog"),
		"upgrade_configs":                      use("observed: upgrade"),
		"proxy_100_continue":                   use("observed: expect is the app's"),
		"use_remote_address":                   use("differential: xff remote address"),
		"xff_num_trusted_hops":                 use("differential: xff hops"),
		"skip_xff_append":                      use("differential: xff skip append"),
		"original_ip_detection_extensions":     use("differential: xff extension"),
		"generate_request_id":                  use("differential: request id none"),
		"preserve_external_request_id":         use("differential: request id preserved"),
		"request_id_extension":                 hold(),
		"stream_idle_timeout":                  use("differential: stream idle timeout"),
		"request_timeout":                      use("observed: request timeout"),
		"request_headers_timeout":              use("observed: headers timeout"),
		"max_request_headers_kb":               use("differential: headers too large"),
		"normalize_path":                       use("differential: path normalize"),
		"merge_slashes":                        use("differential: path merge slashes"),
		"path_with_escaped_slashes_action":     use("differential: path escaped reject"),
		"server_header_transformation":         use("differential: server append"),
		"forward_client_cert_details":          use("observed: callers' certificates"),
		"internal_address_config":              use("observed: internal callers"),
		"tracing":                              skip("spans are configured by flags"),
		"add_user_agent":                       skip("the sidecar does not name itself to the app"),
		"delayed_close_timeout":                skip(tunesOnly),
		"set_current_client_cert_details":      use("observed: callers' certificates are told"),
		"stream_error_on_invalid_http_message": skip("a malformed message ends its stream or connection as its protocol says"),
		"access_log_flush_interval":            skip("a request is logged when it ends"),
		"flush_access_log_on_new_request":      skip("a request is logged when it ends"),
		"access_log_options":                   skip("a request is logged when it ends"),
		"add_proxy_protocol_connection_state":  skip("the PROXY protocol is not spoken"),
		"append_local_overload":                skip("there is no overload manager"),
		"http1_safe_max_connection_duration":   skip("connections have no greatest age"),
		"stream_flush_timeout":                 skip(tunesOnly),
		"drain_timeout_jitter":                 skip(tunesOnly),
		"record_route_resolution_stats":        skip(countsOnly),
		"scoped_routes":                        deny("use rds or route_config"),
		"local_reply_config":                   deny("replies of the sidecar are not rewritten: unset it"),
		"http3_protocol_options":               deny("use HTTP1 or HTTP2"),
	},
	"envoy.extensions.filters.network.http_connection_manager.v3.Rds": {
		"config_source":     use("differential: routes missing"),
		"route_config_name": use("differential: routes late"),
	},
	"envoy.extensions.filters.network.http_connection_manager.v3.RequestIDExtension": {
		"typed_config": label("only the UUID extension, which is the default, is taken"),
	},
	manager + ".SetCurrentClientCertDetails": {
		"subject": use("observed: callers' certificates are told"),
		"cert":    use("observed: callers' certificates are told"),
		"chain":   use("observed: callers' certificates are told"),
		"dns":     use("observed: callers' certificates are told"),
		"uri":     use("observed: callers' certificates are told"),
		"issuer":  deny("use subject, uri and dns"),
		"format":  deny("unset it"),
	},
	manager + ".UpgradeConfig": {
		"upgrade_type": use("observed: upgrade"),
		"enabled":      use("observed: upgrade"),
		"filters":      deny("upgrades pass the filters of all requests: unset it"),
	},
	manager + ".InternalAddressConfig": {
		"cidr_ranges":  use("observed: internal callers"),
		"unix_sockets": deny("callers come over TCP: unset it"),
	},
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter": {
		"name":             use("observed: router by name"),
		"typed_config":     use("differential: health check answered"),
		"is_optional":      use("differential: foreign filter optional"),
		"disabled":         use("observed: filter disabled"),
		"config_discovery": deny("write the filter into typed_config"),
	},
	"envoy.extensions.filters.http.router.v3.Router": {
		"suppress_envoy_headers":                   use("differential: suppressed fields"),
		"dynamic_stats":                            skip(countsOnly),
		"start_child_span":                         skip("spans are configured by flags"),
		"suppress_grpc_request_failure_code_stats": skip(countsOnly),
		"reject_connect_request_early_data":        skip("CONNECT is not taken"),
		"upstream_log":                             deny("use access_log of the connection manager"),
		"upstream_log_options":                     deny("use access_log of the connection manager"),
	},
	"envoy.extensions.filters.http.health_check.v3.HealthCheck": {
		"pass_through_mode":               use("differential: health check passed through"),
		"cache_time":                      use("differential: health check cached"),
		"cluster_min_healthy_percentages": use("differential: health check of sick clusters"),
		"headers":                         use("differential: health check answered"),
	},
	"envoy.extensions.filters.http.grpc_stats.v3.FilterConfig": {
		"emit_filter_state":                 skip(countsOnly),
		"individual_method_stats_allowlist": skip(countsOnly),
		"stats_for_all_methods":             skip(countsOnly),
		"enable_upstream_stats":             skip(countsOnly),
		"replace_dots_in_grpc_service_name": skip(countsOnly),
	},
	// These filters do nothing until they are told something.
	"envoy.extensions.filters.http.fault.v3.HTTPFault": {},
	"envoy.extensions.filters.http.cors.v3.Cors":       {},
	"envoy.extensions.filters.http.rbac.v3.RBAC": {
		"rules_stat_prefix":        skip(countsOnly),
		"shadow_rules_stat_prefix": skip(countsOnly),
	},
	"envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit": {
		"stat_prefix":             skip(countsOnly),
		"max_dynamic_descriptors": skip("there are no descriptors"),
		"status":                  skip("there is no bucket"),
	},
	"envoy.extensions.http.original_ip_detection.xff.v3.XffConfig": {
		"xff_num_trusted_hops": use("differential: xff extension"),
		"skip_xff_append":      use("differential: xff extension append"),
		"xff_trusted_cidrs":    deny("use xff_num_trusted_hops"),
	},
	"envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig": {
		"pack_trace_reason":                 skip("request ids do not carry a trace reason"),
		"use_request_id_for_trace_sampling": skip("spans are configured by flags"),
	},
}

// pemSource is a DataSource of certificates and keys.
var pemSource = message{
	"inline_string":     use("observed: TLS"),
	"inline_bytes":      use("observed: TLS"),
	"filename":          use("observed: TLS from files"),
	"watched_directory": deny("set the watched_directory beside it"),
}

// placedFields are fields that mean something else, or nothing, where they stand:
// by the field around their message.
var placedFields = map[string]map[string]message{
	manager + ".common_http_protocol_options": {
		"envoy.config.core.v3.HttpProtocolOptions": {
			"max_requests_per_connection": deny("callers' connections have no greatest number of requests"),
		},
	},
	manager + ".http2_protocol_options": {
		"envoy.config.core.v3.Http2ProtocolOptions": {
			"max_concurrent_streams": use("observed: callers' windows"),
			"allow_connect":          use("observed: extended connect"),
		},
	},
	"envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig.sds_config": {
		"envoy.config.core.v3.ConfigSource": {
			"ads":                   use("xds: TestSecretsReachTheWire"),
			"initial_fetch_timeout": use("xds: TestSecretsThatDoNotCome"),
			"api_config_source":     use("xds: TestSecretsByTheirOwnStream"),
			"path_config_source":    use("xds: TestSecretsOfListenersFromFiles"),
			"path":                  use("xds: TestSecretsOfListenersFromFiles"),
		},
	},
	"envoy.extensions.transport_sockets.tls.v3.TlsCertificate.certificate_chain": {
		"envoy.config.core.v3.DataSource": pemSource,
	},
	"envoy.extensions.transport_sockets.tls.v3.TlsCertificate.private_key": {
		"envoy.config.core.v3.DataSource": pemSource,
	},
	"envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.trusted_ca": {
		"envoy.config.core.v3.DataSource": pemSource,
	},
	"envoy.config.cluster.v3.Cluster.common_http_protocol_options": {
		"envoy.config.core.v3.HttpProtocolOptions": {
			"max_headers_count":               skip("responses hold what the engine allows"),
			"headers_with_underscores_action": skip("it is about callers' fields: set it on the listener"),
		},
	},
	"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.common_http_protocol_options": {
		"envoy.config.core.v3.HttpProtocolOptions": {
			"max_headers_count":               skip("responses hold what the engine allows"),
			"headers_with_underscores_action": skip("it is about callers' fields: set it on the listener"),
		},
	},
}
