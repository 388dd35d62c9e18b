package judge

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/quadnine/quadnine/internal/testkit"
)

// host is the name that all routes are for.
const host = "judge.example"

// serverYAML configures Envoy Gateway: resources from files, proxies as processes
// of this machine, everything below dir.
func serverYAML(dir string, admin int) string {
	return fmt.Sprintf(`apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyGateway
gateway: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}
provider:
  type: Custom
  custom:
    resource: {type: File, file: {paths: ["%[1]s/resources"]}}
    infrastructure:
      type: Host
      host: {configHome: "%[1]s/config", dataHome: "%[1]s/data", stateHome: "%[1]s/state", runtimeDir: "%[1]s/run"}
admin: {address: {host: 127.0.0.1, port: %[2]d}}
logging: {level: {default: info}}
telemetry: {metrics: {prometheus: {disable: true}}}
extensionApis: {enableBackend: true, enableLua: true}
`, dir, admin)
}

// gatewayYAML is the class, a Gateway at ports, and backends. At the port secure, if
// that is not 0, it speaks TLS with what secretYAML holds.
func gatewayYAML(ports []int, secure int, backends map[string]*backend) string {
	var b strings.Builder
	listeners := make([]string, len(ports))
	for i, p := range ports {
		listeners[i] = fmt.Sprintf("{name: http-%d, protocol: HTTP, port: %d}", i, p)
	}
	if secure != 0 {
		listeners = append(listeners, fmt.Sprintf("{name: https, protocol: HTTPS, port: %d, hostname: %s, tls: {mode: Terminate, certificateRefs: [{kind: Secret, name: judge}]}}", secure, host))
	}
	fmt.Fprintf(&b, `apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: judge}
spec:
  controllerName: gateway.envoyproxy.io/gatewayclass-controller
  parametersRef: {group: gateway.envoyproxy.io, kind: EnvoyProxy, name: host, namespace: default}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {name: host, namespace: default}
spec:
  provider: {type: Host, host: {envoyVersion: %s}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: judge, namespace: default}
spec:
  gatewayClassName: judge
  listeners: [%s]
`, envoyVersion, strings.Join(listeners, ", "))
	for _, x := range backends {
		fmt.Fprintf(&b, `---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: %s, namespace: default}
spec: {endpoints: [{ip: {address: 127.0.0.1, port: %d}}]}
`, x.name, x.port)
	}
	return b.String()
}

// secretYAML is a certificate and its key.
func secretYAML(p testkit.Pair) string {
	in := base64.StdEncoding.EncodeToString
	return `apiVersion: v1
kind: Secret
metadata: {name: judge, namespace: default}
type: kubernetes.io/tls
data: {tls.crt: ` + in(p.Cert) + `, tls.key: ` + in(p.Key) + `}
`
}

// luaYAML is a policy that no quadnine will follow: a script in the proxy.
const luaYAML = `apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyExtensionPolicy
metadata: {name: lua, namespace: default}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: judge}]
  lua: [{type: Inline, inline: "function envoy_on_request(handle) end"}]
`

// resources is what the tests change: HTTPRoutes.
type resources struct {
	generation int
	live       string // the backend of /live
	weights    [2]int // of stable and canary on /split
}

// to is a backendRefs entry, with more of its fields.
func to(name string, more ...string) string {
	return "{group: gateway.envoyproxy.io, kind: Backend, name: " + name + strings.Join(append([]string{""}, more...), ", ") + "}"
}

// rule is one rule of the route.
func rule(match, filters string, backends ...string) string {
	r := "  - matches: [{" + match + "}]\n"
	if filters != "" {
		r += "    filters: [" + filters + "]\n"
	}
	if len(backends) > 0 {
		r += "    backendRefs: [" + strings.Join(backends, ", ") + "]\n"
	}
	return r
}

func prefix(path string) string { return "path: {type: PathPrefix, value: " + path + "}" }

func weight(n int) string { return fmt.Sprintf("weight: %d", n) }

// routeYAML begins an HTTPRoute.
func routeYAML(name string) string {
	return `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ` + name + `, namespace: default}
spec:
  parentRefs: [{name: judge}]
  hostnames: [` + host + `]
  rules:
`
}

// yaml is two HTTPRoutes. The second has the generation in its name, so that each
// generation brings a cluster and takes one away.
func (r resources) yaml() string {
	says := fmt.Sprintf(`{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-generation, value: "%d"}]}}`, r.generation)
	asks := func(v string) string {
		return "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-part, value: " + v + "}]}}]"
	}
	return routeYAML("judge") +
		rule(prefix("/live"), says, to(r.live)) +
		rule(prefix("/split"), says, to("stable", weight(r.weights[0])), to("canary", weight(r.weights[1]))) +
		rule(prefix("/parts"), says, to("stable", weight(r.weights[0]), asks("a")), to("canary", weight(r.weights[1]), asks("b"))) +
		rule(prefix("/team")+`, headers: [{name: x-team, value: canary}]`, "", to("canary")) +
		rule(prefix("/team")+`, headers: [{type: RegularExpression, name: x-team, value: "late-[0-9]+"}]`, "", to("late")) +
		rule(prefix("/team")+`, queryParams: [{name: team, value: canary}]`, "", to("canary")) +
		rule(prefix("/team"), "", to("stable")) +
		rule("path: {type: Exact, value: /exact}", "", to("canary")) +
		rule(`path: {type: RegularExpression, value: "/re/[a-z]+"}`, "", to("canary")) +
		rule(prefix("/old/api"), "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}", to("stable")) +
		rule(prefix("/root"), "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}", to("stable")) +
		rule(prefix("/full"), "{type: URLRewrite, urlRewrite: {hostname: rewritten.example, path: {type: ReplaceFullPath, replaceFullPath: /whole}}}", to("stable")) +
		rule(prefix("/gone"), "{type: RequestRedirect, requestRedirect: {scheme: https, hostname: other.example, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /there}}}") +
		rule(prefix("/fields"), "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: new}], add: [{name: x-add, value: more}], remove: [x-gone]}}", to("stable")) +
		"---\n" + routeYAML(fmt.Sprintf("generation-%d", r.generation)) +
		rule(prefix(fmt.Sprintf("/generation/%d", r.generation)), "", to("late"))
}
