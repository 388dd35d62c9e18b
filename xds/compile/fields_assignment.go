package compile

// assignmentFields are the messages of a ClusterLoadAssignment.
var assignmentFields = map[string]message{
	"envoy.config.endpoint.v3.ClusterLoadAssignment": {
		"cluster_name":    use("observed: name of an assignment"),
		"endpoints":       use("differential: eds weights"),
		"policy":          use("differential: priority overprovisioning"),
		"named_endpoints": deny("write each endpoint where it belongs"),
	},
	"envoy.config.endpoint.v3.ClusterLoadAssignment.Policy": {
		"overprovisioning_factor":  use("differential: priority overprovisioning"),
		"drop_overloads":           deny("requests are not dropped by share: unset it"),
		"endpoint_stale_after":     deny("endpoints stay until they are taken away: unset it"),
		"weighted_priority_health": deny("unset it: endpoints count equally for the health of a priority"),
	},
	"envoy.config.endpoint.v3.LocalityLbEndpoints": {
		"locality":                     label("pages show it"),
		"lb_endpoints":                 use("differential: eds weights"),
		"load_balancing_weight":        use("differential: locality weights"),
		"priority":                     use("differential: priority lost"),
		"metadata":                     label("for people"),
		"proximity":                    skip("as in Envoy"),
		"load_balancer_endpoints":      deny("use lb_endpoints"),
		"leds_cluster_locality_config": deny("use lb_endpoints"),
	},
	"envoy.config.endpoint.v3.LbEndpoint": {
		"endpoint":              use("differential: eds weights"),
		"health_status":         use("differential: eds health statuses"),
		"load_balancing_weight": use("differential: eds weights"),
		"metadata":              label("for people"),
		"endpoint_name":         deny("write the endpoint where it belongs"),
	},
	"envoy.config.endpoint.v3.Endpoint": {
		"address":              use("differential: eds weights"),
		"hostname":             use("differential: host rewrite"),
		"health_check_config":  skip(noChecks),
		"observability_name":   skip(countsOnly),
		"additional_addresses": deny("make an endpoint of each address"),
	},
}
