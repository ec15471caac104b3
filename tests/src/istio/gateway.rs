//! The Envoy configuration that istiod makes of a Gateway with its HTTPRoutes and Services, before extensions.
//!
//! Differences that do not matter here: everything is static instead of delivered over xDS (so a cluster has the pods'
//! endpoints in it), and access logs, TLS and the status port are left out. Names, filters, limits and retries are
//! istiod's.

use std::{cmp::Reverse, collections::BTreeMap, net::SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Manifests, string};

/// Name and type of the network filter that carries the HTTP filters.
pub const HTTP_CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// Bytes that Istio 1.31's edge profile lets a connection buffer; earlier ones leave Envoy's 1 MiB.
const LISTENER_BUFFER_BYTES: u32 = 32 * 1024;

/// Addresses of the ready pods by Service name: what an EndpointSlice says.
pub type Endpoints = BTreeMap<String, Vec<SocketAddr>>;

/// istiod's name of the cluster for a port of a Service.
pub fn cluster_name(host: &str, port: u64) -> String {
    format!("outbound|{port}||{host}")
}

/// Bootstrap of a gateway pod for the Gateway of that name, listening at `listen`.
pub fn bootstrap(
    manifests: &Manifests,
    name: &str,
    listen: SocketAddr,
    endpoints: &Endpoints,
) -> Result<Value> {
    let gateway = manifests.one("Gateway", name)?;
    let listeners = gateway["spec"]["listeners"].as_array().context("listeners of the Gateway")?;
    ensure!(listeners.len() == 1, "one listener is what these tests know");
    let port = listeners[0]["port"].as_u64().context("port of the listener")?;
    let mut clusters = Vec::new();
    for service in manifests.of_kind("Service").filter(|service| service["spec"]["clusterIP"] != "None") {
        clusters.push(cluster(manifests, service, endpoints)?);
    }
    Ok(json!({
        "node": { "id": "router~127.0.0.1~gateway.default~default.svc.cluster.local", "cluster": "gateway.default" },
        "admin": { "address": socket_address(([127, 0, 0, 1], 0).into()) },
        "stats_config": { "stats_matcher": stats_matcher() },
        "static_resources": {
            "listeners": [listener(port, listen, routes(manifests, name)?)],
            "clusters": clusters,
        },
    }))
}

/// What istio-agent's bootstrap lets Envoy count.
fn stats_matcher() -> Value {
    let prefixes = ["reporter=", "cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm"];
    let suffixes = ["rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied", "downstream_cx_active"];
    let mut patterns: Vec<Value> = prefixes.iter().map(|prefix| json!({ "prefix": prefix })).collect();
    patterns.extend(suffixes.iter().map(|suffix| json!({ "suffix": suffix })));
    json!({ "inclusion_list": { "patterns": patterns } })
}

fn listener(port: u64, listen: SocketAddr, routes: Vec<Value>) -> Value {
    json!({
        "name": format!("0.0.0.0_{port}"),
        "address": socket_address(listen),
        "traffic_direction": "OUTBOUND",
        "per_connection_buffer_limit_bytes": LISTENER_BUFFER_BYTES,
        "filter_chains": [{ "filters": [{
            "name": HTTP_CONNECTION_MANAGER,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": format!("outbound_0.0.0.0_{port}"),
                "use_remote_address": true,
                "normalize_path": true,
                "server_name": "istio-envoy",
                "stream_idle_timeout": "0s",
                "forward_client_cert_details": "SANITIZE_SET",
                "upgrade_configs": [{ "upgrade_type": "websocket" }],
                "common_http_protocol_options": { "headers_with_underscores_action": "REJECT_REQUEST" },
                "route_config": {
                    "name": format!("http.{port}"),
                    "validate_clusters": true,
                    "virtual_hosts": [{ "name": format!("*:{port}"), "domains": ["*"], "routes": routes }],
                },
                "http_filters": [
                    http_filter("grpc_stats", "grpc_stats.v3.FilterConfig"),
                    http_filter("fault", "fault.v3.HTTPFault"),
                    http_filter("cors", "cors.v3.Cors"),
                    http_filter("router", "router.v3.Router"),
                ],
            },
        }] }],
    })
}

fn http_filter(name: &str, message: &str) -> Value {
    json!({
        "name": format!("envoy.filters.http.{name}"),
        "typed_config": { "@type": format!("type.googleapis.com/envoy.extensions.filters.http.{message}") },
    })
}

/// Puts the filter of a WasmPlugin where istiod puts phase STATS: after authentication and authorization (this gateway
/// has none) and before everything else.
pub fn insert_plugin(envoy: &mut Value, filter: Value) -> Result<()> {
    for manager in http_connection_managers(envoy, HTTP_CONNECTION_MANAGER) {
        manager["http_filters"].as_array_mut().context("http_filters")?.insert(0, filter.clone());
    }
    Ok(())
}

/// Routes of all HTTPRoutes of a Gateway, in the Gateway API's order: exact paths before prefixes, longer before shorter,
/// more headers before fewer.
fn routes(manifests: &Manifests, gateway: &str) -> Result<Vec<Value>> {
    let mut routes = Vec::new();
    for http_route in manifests.of_kind("HTTPRoute") {
        let parents = http_route["spec"]["parentRefs"].as_array().context("parentRefs")?;
        if !parents.iter().any(|parent| parent["name"] == gateway) {
            continue;
        }
        ensure!(http_route["spec"]["hostnames"].is_null(), "hostnames are not what these tests know");
        for (number, rule) in http_route["spec"]["rules"].as_array().context("rules")?.iter().enumerate() {
            let (namespace, name) =
                (string(http_route, "/metadata/namespace")?, string(http_route, "/metadata/name")?);
            let name = format!("{namespace}.{name}.{number}");
            for matched in rule["matches"].as_array().context("matches")? {
                routes.push(route(manifests, &name, matched, &rule["backendRefs"], namespace)?);
            }
        }
    }
    routes.sort_by_key(|route: &Value| {
        let exact = route["match"]["path"].as_str();
        let prefix = route["match"]["path_separated_prefix"].as_str();
        let headers = route["match"]["headers"].as_array().map_or(0, Vec::len);
        (exact.is_none(), Reverse(exact.or(prefix).map_or(0, str::len)), Reverse(headers))
    });
    Ok(routes)
}

fn route(
    manifests: &Manifests,
    name: &str,
    matched: &Value,
    backends: &Value,
    namespace: &str,
) -> Result<Value> {
    let path = string(matched, "/path/value")?;
    let mut conditions = match string(matched, "/path/type")? {
        "Exact" => json!({ "path": path }),
        "PathPrefix" => json!({ "path_separated_prefix": path }),
        other => bail!("path type {other} is not what these tests know"),
    };
    let mut headers = Vec::new();
    if let Some(method) = matched["method"].as_str() {
        headers.push(json!({ "name": ":method", "string_match": { "exact": method } }));
    }
    for header in matched["headers"].as_array().into_iter().flatten() {
        ensure!(header["type"].is_null(), "header matches other than Exact are not what these tests know");
        headers.push(json!({ "name": header["name"], "string_match": { "exact": header["value"] } }));
    }
    conditions["headers"] = headers.into();
    let backend = backends.get(0).context("backendRefs")?;
    let service = manifests.one("Service", string(backend, "/name")?)?;
    let port = backend["port"].as_u64().context("port of a backend")?;
    let ports = service["spec"]["ports"].as_array().context("ports of a Service")?;
    ensure!(ports.iter().any(|known| known["port"] == port), "the Service has no port {port}");
    Ok(json!({
        "name": name,
        "match": conditions,
        "route": {
            "cluster": cluster_name(&host(string(backend, "/name")?, namespace), port),
            "timeout": "0s",
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,unavailable,cancelled",
                "num_retries": 2,
                "retry_host_predicate": [{
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
                    },
                }],
                "host_selection_retry_max_attempts": 5,
            },
        },
    }))
}

/// DNS name of a Service.
pub fn host(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc.cluster.local")
}

/// The cluster of a Service's first port, with its pods as endpoints.
fn cluster(manifests: &Manifests, service: &Value, endpoints: &Endpoints) -> Result<Value> {
    let name = string(service, "/metadata/name")?;
    let host = host(name, string(service, "/metadata/namespace")?);
    let port = service.pointer("/spec/ports/0/port").and_then(Value::as_u64).context("port of a Service")?;
    let pods = endpoints.get(name).with_context(|| format!("no endpoints for Service {name}"))?;
    let pods: Vec<_> =
        pods.iter().map(|pod| json!({ "endpoint": { "address": socket_address(*pod) } })).collect();
    let name = cluster_name(&host, port);
    Ok(json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": common_lb_config(manifests, &host)?,
        "circuit_breakers": { "thresholds": [{ "max_connections": u32::MAX, "max_pending_requests": u32::MAX,
            "max_requests": u32::MAX, "max_retries": u32::MAX, "track_remaining": true }] },
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": pods }] },
    }))
}

/// istiod gives every cluster locality settings, unless a DestinationRule for the host switches them off.
fn common_lb_config(manifests: &Manifests, host: &str) -> Result<Value> {
    for rule in manifests.of_kind("DestinationRule") {
        let setting = &rule["spec"]["trafficPolicy"]["loadBalancer"]["localityLbSetting"];
        if string(rule, "/spec/host")? == host && setting["enabled"] == false {
            return Ok(json!({}));
        }
    }
    Ok(json!({ "locality_weighted_lb_config": {} }))
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// All network filters of all filter chains of all listeners.
pub fn network_filters(envoy: &mut Value) -> impl Iterator<Item = &mut Value> {
    fn list<'a>(value: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
        value.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
    }
    list(&mut envoy["static_resources"], "listeners")
        .flat_map(|listener| list(listener, "filter_chains"))
        .flat_map(|chain| list(chain, "filters"))
}

/// Configurations of the network filters of that name, which are HTTP connection managers.
pub fn http_connection_managers<'a>(
    envoy: &'a mut Value,
    name: &'a str,
) -> impl Iterator<Item = &'a mut Value> {
    network_filters(envoy)
        .filter(move |filter| filter["name"] == name)
        .map(|filter| &mut filter["typed_config"])
}
