package telemetry

// Every instrument of the sidecar. A line here is all that a new counter needs:
// shards, Prometheus, OpenTelemetry and docs/metrics.md follow (run the package's
// tests with UPDATE=1 for the last).

// What a request is recorded with; written by Shard.Request.
var (
	duration  = declare(Histogram, "http.server.request.duration", "s", "Time from a request's head to the end of its reply, over all requests and without attributes.")
	requests  = counters("quadnine.requests", "{request}", "Finished requests by tenant and outcome.", "tenant", "outcome")
	fallbacks = counters("quadnine.degraded.responses", "{response}", "Replies that a degrade step gave, by tenant and step.", "tenant", "step")
)

// Callers.
var (
	opened             = counters("quadnine.downstream.connections.opened", "{connection}", "Connections that callers opened and whose protocol is known.", "network.protocol.version")
	DownstreamOpenedH1 = opened.with("1.1")
	DownstreamOpenedH2 = opened.with("2")

	closed             = counters("quadnine.downstream.connections.closed", "{connection}", "Connections of callers that ended, by whichever side.", "network.protocol.version")
	DownstreamClosedH1 = closed.with("1.1")
	DownstreamClosedH2 = closed.with("2")

	refused               = counters("quadnine.requests.refused", "{request}", "Requests and connections refused before a route was chosen, by reason.", "reason")
	RefusedHeaderTooLarge = refused.with("header-too-large")
	RefusedBadPreface     = refused.with("bad-preface")
	RefusedBadFrame       = refused.with("bad-frame")
	RefusedParseError     = refused.with("parse-error")
	RefusedMalformed      = refused.with("malformed")
	RefusedNoTenant       = refused.with("tenant-missing")
	RefusedFlood          = refused.with("flood")
	RefusedTargetTooLong  = refused.with("target-too-long")
	RefusedOverload       = refused.with("overload")

	cut               = counters("quadnine.downstream.connections.cut", "{connection}", "Connections of callers ended for what they did, by reason; docs/limits.md says what each bound is.", "reason")
	DownstreamCut     = perReason(cut)
	DownstreamChunks  = cut.with("chunk-flood")
	DownstreamStalled = cut.with("write-stall")

	turnedAway       = counters("quadnine.downstream.connections.refused", "{connection}", "Connections of callers closed as soon as they were accepted, by reason.", "reason")
	TurnedAwayFull   = turnedAway.with("max-connections")
	TurnedAwayMemory = turnedAway.with("memory")
	KeepAlivesEnded  = counter("quadnine.downstream.keepalives.ended", "{connection}", "HTTP/1.1 connections asked to close with a reply, to free memory.")
	RefusedUpgrade   = refused.with("upgrade")

	handshakes        = counters("quadnine.downstream.tls.handshakes", "{handshake}", "TLS handshakes with callers, by what came of them: full, resumed, failed, timeout, gave-way (1,024 others were under way), closed (the caller left, or this process ended), plain-text (on a port that takes TLS only), no-chain (no filter chain takes the connection).", "result")
	HandshakeFull     = handshakes.with("full")
	HandshakeResumed  = handshakes.with("resumed")
	HandshakeFailed   = handshakes.with("failed")
	HandshakeTimedOut = handshakes.with("timeout")
	HandshakeGaveWay  = handshakes.with("gave-way")
	HandshakeClosed   = handshakes.with("closed")
	RefusedPlainText  = handshakes.with("plain-text")
	RefusedNoChain    = handshakes.with("no-chain")
	TLSBroken         = counter("quadnine.downstream.tls.broken", "{connection}", "Established TLS connections of callers that ended with an error of the record layer.")

	WithoutTenant      = counter("quadnine.requests.without_tenant", "{request}", "Requests that named no tenant and ran under _other.")
	HopHeadersStripped = counter("quadnine.hop_headers.stripped", "{request}", "Requests of callers outside the trusted ranges that carried x-quadnine headers, which were removed.")
)

// Upstreams.
var (
	UpstreamConnects         = counter("quadnine.upstream.connects", "{connection}", "Connections opened to endpoints.")
	UpstreamConnectFailures  = counter("quadnine.upstream.connect.failures", "{connection}", "Connections to endpoints that could not be opened.")
	upstreamHandshakes       = counters("quadnine.upstream.tls.handshakes", "{handshake}", "TLS handshakes with endpoints, by what came of them.", "result")
	UpstreamSecured          = upstreamHandshakes.with("full")
	UpstreamResumed          = upstreamHandshakes.with("resumed")
	UpstreamNotSecured       = upstreamHandshakes.with("failed")
	UpstreamProbeFallbacks   = counter("quadnine.upstream.probe.fallbacks", "{endpoint}", "Endpoints that did not speak HTTP/2 when probed and are used with HTTP/1.1.")
	upstreamStreams          = counters("quadnine.upstream.streams.failed", "{stream}", "Tries that ended before the whole reply, by who ended them: the endpoint (reset), the proxy for a reply that breaks the protocol or a limit (malformed), or the connection (lost).", "reason")
	UpstreamStreamsReset     = upstreamStreams.with("reset")
	UpstreamStreamsMalformed = upstreamStreams.with("malformed")
	UpstreamStreamsLost      = upstreamStreams.with("lost")

	upstreamCut        = counters("quadnine.upstream.connections.cut", "{connection}", "Connections to endpoints ended for what the endpoint did, by reason; docs/limits.md says what each bound is.", "reason")
	UpstreamCut        = perReason(upstreamCut)
	UpstreamStalled    = upstreamCut.with("write-stall")
	ResponsesMalformed = counter("quadnine.upstream.responses.malformed", "{response}", "Responses of endpoints that break HTTP: refused, or cut off where their head was already passed on.")
	ResponsesReset     = counter("quadnine.responses.reset", "{response}", "Replies that broke after their head was sent; the caller saw a reset, never a clean end.")
	AccessLogDrops     = counter("quadnine.access_log.drops", "{line}", "Lines of access logs that were not written: the file could not be opened or written, or the writer was behind.")
	PeerAttempts       = counter("quadnine.peer.attempts", "{request}", "Requests sent to a peer sidecar as a degrade step.")
)

// Certificates and their keys.
var (
	certificates       = counters("quadnine.tls.certificates.read", "{file}", "Certificates and bundles taken into use, at first or because their files changed, and those that could not be.", "result")
	CertificatesRead   = certificates.with("ok")
	CertificatesFailed = certificates.with("failed")
)

// Retries.
var (
	retried          = counters("quadnine.upstream.retries", "{request}", "Requests sent again, by what came of the try before.", "reason")
	RetriedConnect   = retried.with("connect-failure")
	RetriedRefused   = retried.with("refused")
	RetriedReset     = retried.with("reset")
	RetriedTimeout   = retried.with("per-try-timeout")
	RetriedStatus    = retried.with("status")
	RetriesSucceeded = counter("quadnine.upstream.retries.succeeded", "{request}", "Requests that were sent again and then answered below 500.")

	notRetried       = counters("quadnine.upstream.retries.refused", "{request}", "Requests that were not sent again although their try failed in a way that allows it, by what was in the way: the method, a body that was not kept, the number of tries, the cluster's budget.", "reason")
	NotRetriedMethod = notRetried.with("method")
	NotRetriedBody   = notRetried.with("body")
	NotRetriedLimit  = notRetried.with("limit")
	NotRetriedBudget = notRetried.with("budget")
)

// Degradation.
var (
	transitions       = counters("quadnine.breaker.transitions", "{transition}", "Breaker state changes of tenant+metric keys, by the state entered.", "state")
	BreakerOpened     = transitions.with("open")
	BreakerHalfOpened = transitions.with("half_open")
	BreakerClosed     = transitions.with("closed")

	clusterTransitions       = counters("quadnine.cluster.breaker.transitions", "{transition}", "Breaker state changes of whole clusters, by the state entered.", "state")
	ClusterBreakerOpened     = clusterTransitions.with("open")
	ClusterBreakerHalfOpened = clusterTransitions.with("half_open")
	ClusterBreakerClosed     = clusterTransitions.with("closed")

	lookups     = counters("quadnine.cache.lookups", "{lookup}", "Looks into the response cache, by result.", "result")
	CacheHits   = lookups.with("hit")
	CacheMisses = lookups.with("miss")

	CacheStores     = counter("quadnine.cache.stores", "{response}", "Replies stored in the response cache.")
	OverBudgetDrops = counter("quadnine.buffer.over_budget", "{body}", "Bodies no longer buffered because a byte budget was used up: such a request is not retried and its reply not stored.")
)

// Models.
var (
	ModelMismatch  = counter("quadnine.model.mismatch", "{response}", "Replies whose x-model-version was missing or not the version that was asked for; x-quadnine-model is left out.")
	ModelNotFinite = counter("quadnine.model.not_finite", "{request}", "Evaluations that gave NaN or an infinity; another version answered, or an error that says so.")
	ModelBadInput  = counter("quadnine.model.bad_input", "{request}", "Evaluations without a usable number in the upstream's reply.")

	ModelInputRefused = counter("quadnine.model.input.refused", "{request}", "Evaluations whose inputs the version does not take, by its manifest's schema or its own word.")
	ModelFailed       = counter("quadnine.model.failed", "{request}", "Evaluations that failed: trapped, stopped for taking too long, or without bytes to read; another version answered, or an error that says so.")
	ModelNarrowed     = counter("quadnine.model.narrowed", "{version}", "Versions brought in whose schema refuses inputs that the active one takes; the log names them.")

	answered         = counters("quadnine.model.answers", "{response}", "Replies computed here, or accompanied by a version that they named, by what that version was.", "role")
	AnsweredActive   = answered.with("active")
	AnsweredCanary   = answered.with("canary")
	AnsweredPrevious = answered.with("previous")
	AnsweredPinned   = answered.with("pinned")

	ModelRows = counter("quadnine.model.rows", "{row}", "Rows that were computed for queries of several; each such query is one answer.")

	pinsIgnored       = counters("quadnine.model.pins.ignored", "{request}", "Requests whose x-model-version was not followed, by reason.", "reason")
	ModelPinUntrusted = pinsIgnored.with("untrusted")
	ModelPinRefused   = pinsIgnored.with("refused")
	ModelPinUnknown   = pinsIgnored.with("unknown")

	verdicts       = counters("quadnine.model.verdicts", "{verdict}", "Verdicts on versions: a canary promoted, a version taken back, one blocked by the pool of sidecars (here or not), a canary undecided for as long as it may be.", "verdict")
	ModelPromoted  = verdicts.with("promote")
	ModelTakenBack = verdicts.with("rollback")
	ModelBlocked   = verdicts.with("block")
	ModelUndecided = verdicts.with("undecided")

	shadowed        = counters("quadnine.model.shadow.queries", "{query}", "Queries that a version in shadow computed beside the active one, by what came of it.", "result")
	ShadowEqual     = shadowed.with("equal")
	ShadowDifferent = shadowed.with("different")
	ShadowNotFinite = shadowed.with("not-finite")
	ShadowFailed    = shadowed.with("failed")
	shadowSkipped   = counters("quadnine.model.shadow.skipped", "{query}", "Queries that a version in shadow did not compute although they were of its share: too many waited (busy), the active version was computed without an input that it wants (inputs), it was taken out of shadow meanwhile (gone).", "reason")
	ShadowSkipped   = [...]CounterID{shadowSkipped.with("busy"), shadowSkipped.with("inputs"), shadowSkipped.with("gone")} // by policy.Skip

	warmups        = counters("quadnine.model.warmups", "{request}", "Warm-up requests of manifests, by whether the version answered as it should; one that does not quarantines its drop.", "result")
	WarmupAnswered = warmups.with("answered")
	WarmupFailed   = warmups.with("failed")

	patches           = counters("quadnine.model.patches", "{patch}", "bsdiff4 and zstd patches that a child process was started on, by what came of it.", "result")
	ModelPatchApplied = patches.with("applied")
	ModelPatchFailed  = patches.with("failed")
	ModelPatchBytes   = counter("quadnine.model.patch.made", "By", "Bytes of the versions that were made out of patches.")

	ModelBucketReceived   = counter("quadnine.model.bucket.received", "By", "Bytes of objects that were fetched from --model-bucket, manifests and read-backs included.")
	ModelBucketSent       = counter("quadnine.model.bucket.sent", "By", "Bytes of objects that were sent to --model-bucket.")
	bucketFailures        = counters("quadnine.model.bucket.failures", "{request}", "Requests to --model-bucket that failed or were cut off, by what they were for; most are sent again.", "operation")
	ModelBucketListFailed = bucketFailures.with("list")
	ModelBucketGetFailed  = bucketFailures.with("get")
	ModelBucketPutFailed  = bucketFailures.with("put")
	ModelShareDetached    = counter("quadnine.model.share.detached", "{process}", "Processes that shared a model and were cut off: not ready in time, not reading, or not keeping to the protocol; the log says which and why.")
	ModelShareRevoked     = counter("quadnine.model.share.revoked", "{version}", "Versions that a process still mapped when the reclaim time was over, each process counted.")
	ModelCompactions      = counter("quadnine.model.compactions", "{version}", "Chains of deltas that were written anew, as one delta or a full file.")
	ModelTiered           = counter("quadnine.model.tiered", "{version}", "Versions that were removed from the local store because --model-bucket holds them.")
)

// Management server. Series are by kind of resource: CDS, EDS, LDS, RDS, RTDS.
var (
	xdsUpdates  = counters("quadnine.xds.updates", "{response}", "Responses of a management server, by kind and by whether all in it was accepted.", "api", "result")
	XDSAccepted = perAPI(xdsUpdates, "accepted")
	XDSRejected = perAPI(xdsUpdates, "rejected")
)

// xdsAPIs are the kinds of resources, in the order of xds.Kind.
var xdsAPIs = [...]string{"CDS", "EDS", "LDS", "RDS", "RTDS", "SDS"}

func perAPI(in *Instrument, result string) (out [len(xdsAPIs)]CounterID) {
	for i, api := range xdsAPIs {
		out[i] = in.with(api, result)
	}
	return out
}

// cutReasons are why a connection is ended, in the order of h2.Flood; the first is
// any other error of the protocol.
var cutReasons = [...]string{
	"protocol-error", "ping-flood", "settings-flood", "priority-flood", "window-update-flood", "empty-frames", "reset-flood",
	"continuation-flood", "unknown-frames", "goaway-flood", "closed-stream-frames", "refused-streams", "interim-flood",
	"unread-acks", "slow-head", "settings-timeout",
}

func perReason(in *Instrument) (out [len(cutReasons)]CounterID) {
	for i, reason := range cutReasons {
		out[i] = in.with(reason)
	}
	return out
}

// Telemetry about itself.
var (
	scraped        = counters("quadnine.telemetry.scrapes", "{scrape}", "Scrapes by how they were served: encoded for this scraper, or shared with one that came first.", "how")
	ScrapesEncoded = scraped.with("encoded")
	ScrapesShared  = scraped.with("shared")

	SamplesDropped = counter("quadnine.telemetry.samples.dropped", "{sample}", "Gauge samples left out of a collection because their labels were wrong or repeated.")
	ExportFailures = counter("quadnine.telemetry.export.failures", "{export}", "Failed exports to the OTLP receiver.")
)

// What callbacks read; see Registry.Gauge and Registry.Gauges.
var (
	Ready                 = gauge("quadnine.ready", "{process}", "1 while new requests are welcome, 0 while starting or draining.")
	ActiveRequests        = gauge("http.server.active_requests", "{request}", "Requests being served.")
	DownstreamConnections = gauge("quadnine.downstream.connections", "{connection}", "Open connections of callers.")
	MaxConnections        = gauge("quadnine.downstream.connections.max", "{connection}", "The most connections of callers at a time; more are closed.")
	MemoryUsed            = gauge("quadnine.memory.used", "By", "Memory that the runtime holds and cannot give up: live heap, stacks and its own; what the ceiling is compared with.")
	MemoryMax             = gauge("quadnine.memory.max", "By", "The ceiling of quadnine.memory.used; 0 without one.")
	MemoryResident        = gauge("quadnine.memory.resident", "By", "Resident set size of the process, mapped files included; 0 where the system does not tell.")
	OverloadActions       = gauges("quadnine.overload.action", "{share}", "How far an action against overload is taken, from 0 (not) to 1 (always).", "action")
	CertificateEnd        = gauges("quadnine.tls.certificate.not_after", "s", "When a certificate in use ends, its chain included, in Unix time; of a bundle of trusted ones, the first.", "certificate")
	UpstreamConnections   = gauges("quadnine.upstream.connections", "{connection}", "Open connections to an endpoint.", "cluster", "endpoint")
	EndpointHealthy       = gauges("quadnine.endpoint.healthy", "{endpoint}", "1 while an endpoint is given requests, 0 while it is thought down.", "cluster", "endpoint")
	ClusterBreakerOpen    = gauges("quadnine.cluster.breaker.open", "{cluster}", "1 while a cluster's breaker is open.", "cluster")
	BreakerKeys           = gauges("quadnine.breaker.keys", "{key}", "Tenant+metric keys in the breaker table, by state.", "state")
	XDSConnected          = gauge("quadnine.xds.connected", "{stream}", "1 while a stream to a management server is open.")
	XDSStaleAge           = gauge("quadnine.xds.stale.age", "s", "How old the stored configuration is that no server has confirmed since the start; 0 when it is confirmed.")
	XDSResources          = gauges("quadnine.xds.resources", "{resource}", "Resources known, by kind.", "api")
	XDSResourcesRejected  = gauges("quadnine.xds.resources.rejected", "{resource}", "Resources whose newest version was refused; /xds/status says why.", "api")
	XDSIgnoredFields      = gauges("quadnine.xds.ignored_fields", "{field}", "Fields set in accepted resources that have no effect; /xds/status lists them.", "api")
	XDSUnknownFields      = gauges("quadnine.xds.unknown_fields", "{field}", "Fields in accepted resources that this program's API does not have.", "api")
	CacheBytes            = gauge("quadnine.cache.size", "By", "Bytes held by the response cache, heads included.")
	CacheEntries          = gauge("quadnine.cache.entries", "{response}", "Replies held by the response cache.")
	ModelVersion          = gauges("quadnine.model.version", "{version}", "The number of the version in a state, for the states active, canary, standby and shadow.", "model", "state")
	ModelCanaryShare      = gauges("quadnine.model.canary.share", "{share}", "The share of callers that a model's canary answers, 0 to 1.", "model")
	ModelEvidence         = gauges("quadnine.model.canary.evidence", "{factor}", "The evidence against a canary (signals errors and latency), 1/alpha of which takes it back, and for it (errors-for, latency-for), 1/beta of which each it needs to be promoted.", "model", "signal")
	ModelPooled           = gauge("quadnine.model.pool.connected", "{server}", "1 while canaries are judged together with other sidecars, 0 while here alone.")
	ModelLeases           = gauges("quadnine.model.leases", "{lease}", "Leases of a mapped version.", "model", "version")
	ModelMappedBytes      = gauges("quadnine.model.mapped", "By", "Bytes of a mapped version.", "model", "version")
	ModelPrivateBytes     = gauges("quadnine.model.private", "By", "Bytes of a mapped version that were copied into private memory.", "model", "version")
	ModelLockedBytes      = gauges("quadnine.model.locked", "By", "Bytes of a mapped version that are locked into memory; 0 without --model-mlock.", "model", "version")
	ModelBucketListed     = gauge("quadnine.model.bucket.listed", "s", "When --model-bucket was listed last, in Unix time; 0 before that.")
	ModelBucketProblems   = gauge("quadnine.model.bucket.problems", "{problem}", "Versions in --model-bucket that cannot be used, and such here that cannot be moved there; /models says why.")
	ModelShadowShare      = gauges("quadnine.model.shadow.share", "{share}", "The share of queries that a version computes in shadow, 0 to 1.", "model", "version")
	ModelShadowDifference = gauges("quadnine.model.shadow.difference", "{ratio}", "By how much the shadow's answers differ from the active version's, over the larger of the two magnitudes: quantiles 0.5, 0.9, 0.99 and 1.", "model", "version", "quantile")
	ExperimentShare       = gauges("quadnine.model.experiment.share", "{share}", "The share of callers that an arm of a running experiment has, 0 to 1; 0 once its version is gone.", "model", "experiment", "version")
	ExperimentRequests    = gauges("quadnine.model.experiment.requests", "{request}", "Requests with an outcome that an arm's version answered, or failed to, since the experiment or its weights began.", "model", "experiment", "version")
	ExperimentFailures    = gauges("quadnine.model.experiment.failures", "{request}", "Of these, those that failed.", "model", "experiment", "version")
	ExperimentMean        = gauges("quadnine.model.experiment.mean", "{number}", "Mean of the numbers that an arm's version answered; only where it is computed here.", "model", "experiment", "version")
	ExperimentLatency     = gauges("quadnine.model.experiment.latency", "s", "Durations of an arm's successful requests: quantiles 0.5, 0.95 and 0.99.", "model", "experiment", "version", "quantile")
	ModelShareProcesses   = gauges("quadnine.model.share.processes", "{process}", "Processes that share a model.", "model")
	ModelShareHeld        = gauges("quadnine.model.share.held", "By", "Bytes of versions that are out of use and that processes still map, each process counted.", "model")
	ModelShareSealed      = gauge("quadnine.model.share.sealed", "By", "Memory that sealed copies of the store's files take, for processes whose user could write these.")
	ModelPatchTime        = gauge("quadnine.model.patch.duration", "s", "Time that the last child took that applied a patch, from its start to its end; 0 before the first.")
	ModelPatchCPU         = gauge("quadnine.model.patch.cpu", "s", "CPU time of the same child, user and system.")
	ModelStoreUsed        = gauges("quadnine.model.store.used", "By", "Bytes of files that a model's versions take in the store, with what is reserved for those being brought in.", "model")
	ModelStoreQuota       = gauge("quadnine.model.store.quota", "By", "The most that the versions of all models may take in the store; 0 without --model-quota.")
	ModelMappings         = gauge("quadnine.model.mappings", "{mapping}", "Kernel mappings that the versions of all models take, about.")
	ModelMappingsMax      = gauge("quadnine.model.mappings.max", "{mapping}", "The most of them that versions may take; a drop that would need more is refused.")
	ModelBlockedActive    = gauge("quadnine.model.blocked.active", "{version}", "Versions that answer although they are blocked, for there is no standby; /models says why.")
	ModelQuarantined      = gauge("quadnine.model.quarantined", "{drop}", "Drops that are not used; /models says why.")
)
