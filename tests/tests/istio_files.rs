//! The files for Istio agree with each other: kinds, names, ports, paths and labels that one file says and another uses.

use std::collections::BTreeSet;

use serde_json::Value;
use warmpath_tests::istio::{Manifests, gateway, string};

fn shipped() -> Manifests {
    Manifests::shipped().unwrap()
}

/// All strings at a pointer of the items of a list.
fn strings<'a>(list: &'a Value, pointer: &str) -> BTreeSet<&'a str> {
    list.as_array().unwrap().iter().map(|item| string(item, pointer).unwrap()).collect()
}

/// Values of every patch of all EnvoyFilters with that `applyTo`.
fn patches<'a>(manifests: &'a Manifests, apply_to: &str) -> Vec<&'a Value> {
    let filters = manifests.of_kind("EnvoyFilter");
    let patches = filters.flat_map(|filter| filter["spec"]["configPatches"].as_array().unwrap());
    patches.filter(|patch| patch["applyTo"] == apply_to).collect()
}

fn added_cluster<'a>(manifests: &'a Manifests, name: &str) -> &'a Value {
    let added = patches(manifests, "CLUSTER").into_iter().map(|patch| &patch["patch"]["value"]);
    added.into_iter().find(|cluster| cluster["name"] == name).unwrap()
}

#[test]
fn holds_the_kinds_that_an_installation_needs() {
    let manifests = shipped();
    let kinds: BTreeSet<_> = manifests
        .all()
        .map(|object| (string(object, "/apiVersion").unwrap(), string(object, "/kind").unwrap()))
        .collect();
    let expected = BTreeSet::from([
        ("extensions.istio.io/v1alpha1", "WasmPlugin"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        ("networking.istio.io/v1", "DestinationRule"),
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        ("v1", "ConfigMap"),
        ("v1", "Service"),
    ]);
    assert_eq!(kinds, expected);
    let names: BTreeSet<_> = manifests
        .all()
        .map(|object| (object["kind"].to_string(), object["metadata"]["name"].to_string()))
        .collect();
    assert_eq!(names.len(), manifests.all().count(), "two objects of one kind and name");
    let namespaces: BTreeSet<_> =
        manifests.all().map(|object| string(object, "/metadata/namespace").unwrap()).collect();
    assert_eq!(
        namespaces,
        BTreeSet::from(["default"]),
        "selectors and plain references stay in one namespace"
    );
}

#[test]
fn everything_selects_the_gateway_by_the_label_of_its_new_pods() {
    let manifests = shipped();
    let label = serde_json::to_value(manifests.gateway_labels().unwrap()).unwrap();
    assert_eq!(label, serde_json::json!({ "warmpath.dev/gateway": "enabled" }));
    let plugin = manifests.one("WasmPlugin", "warmpath").unwrap();
    assert_eq!(plugin["spec"]["selector"]["matchLabels"], label);
    assert!(
        plugin["spec"]["targetRefs"].is_null(),
        "targetRefs would reach pods that started without the module"
    );
    assert_eq!(manifests.of_kind("EnvoyFilter").count(), 3);
    for filter in manifests.of_kind("EnvoyFilter") {
        assert_eq!(filter["spec"]["workloadSelector"]["labels"], label, "{}", filter["metadata"]["name"]);
    }
}

#[test]
fn a_gateway_pod_without_the_label_stays_as_it_was() {
    let manifests = shipped();
    let pods = gateway::Endpoints::from([("vllm".into(), vec!["127.0.0.1:1".parse().unwrap()])]);
    let before = gateway::bootstrap(&manifests, "inference", "127.0.0.1:1".parse().unwrap(), &pods).unwrap();
    let mut after = before.clone();
    let module = "unused.wasm".as_ref();
    warmpath_tests::istio::extend(&mut after, &manifests, &Default::default(), module).unwrap();
    assert_eq!(after, before);
    let labels = manifests.gateway_labels().unwrap();
    warmpath_tests::istio::extend(&mut after, &manifests, &labels, module).unwrap();
    assert_ne!(after, before);
}

#[test]
fn the_gateway_refers_to_the_pod_patch() {
    let manifests = shipped();
    let gateway = manifests.one("Gateway", "inference").unwrap();
    assert_eq!(gateway["spec"]["gatewayClassName"], "istio");
    let reference = &gateway["spec"]["infrastructure"]["parametersRef"];
    assert_eq!(reference["group"], "");
    let pod_patch =
        manifests.one(string(reference, "/kind").unwrap(), string(reference, "/name").unwrap()).unwrap();
    assert!(pod_patch["data"]["deployment"].is_string());
}

#[test]
fn the_pod_patch_mounts_what_both_containers_use() {
    let manifests = shipped();
    let pod = &manifests.config_map("warmpath-gateway", "deployment").unwrap()["spec"]["template"]["spec"];
    let volumes = strings(&pod["volumes"], "/name");
    let [proxy, sidecar] = &pod["containers"].as_array().unwrap()[..] else { panic!("two containers") };
    assert_eq!(proxy["name"], "istio-proxy");
    for mount in [proxy, sidecar].iter().flat_map(|container| container["volumeMounts"].as_array().unwrap()) {
        assert!(volumes.contains(string(mount, "/name").unwrap()), "{mount}");
    }
    let mount_path = |container: &Value, volume: &str| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == volume);
        string(mount.unwrap_or_else(|| panic!("{volume} is not mounted")), "/mountPath").unwrap().to_owned()
    };
    let socket_folder = mount_path(proxy, "warmpath-run");
    assert_eq!(mount_path(sidecar, "warmpath-run"), socket_folder);
    assert!(sidecar["readinessProbe"].is_null(), "would take the gateway out of service");

    let config = manifests.config_map("warmpath-sidecar", "config.yaml").unwrap();
    assert!(string(&config, "/pick/unix").unwrap().starts_with(&format!("{socket_folder}/")));
    let config_file = format!("{}/config.yaml", mount_path(sidecar, "warmpath-config"));
    assert_eq!(sidecar["args"], serde_json::json!(["--config", config_file]));
    assert_eq!(config["seed_file"], format!("{}/seed", mount_path(sidecar, "warmpath-seed")));
    for asset in ["tokenizer", "tokenizer_config", "config", "chat_template"] {
        let path = string(&config["models"][0], &format!("/{asset}")).unwrap();
        assert!(path.starts_with(&format!("{}/", mount_path(sidecar, "warmpath-models"))), "{path}");
    }
    let config_volume =
        pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "warmpath-config");
    assert_eq!(config_volume.unwrap()["configMap"]["name"], "warmpath-sidecar");
    assert!(manifests.config_map("warmpath-sidecar", string(&config, "/endpoints/file").unwrap()).is_ok());
}

#[test]
fn the_plugin_and_the_sidecar_name_the_same_clusters_and_addresses() {
    let manifests = shipped();
    let plugin = &manifests.one("WasmPlugin", "warmpath").unwrap()["spec"]["pluginConfig"];
    let config = manifests.config_map("warmpath-sidecar", "config.yaml").unwrap();
    let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";

    let pick = added_cluster(&manifests, string(plugin, "/pick_cluster").unwrap());
    assert_eq!(pick.pointer(&format!("{address}/pipe/path")), config.pointer("/pick/unix"));
    let protocol = "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let http2 = pick.pointer(&format!("{protocol}/explicit_http_config/http2_protocol_options"));
    assert!(http2.is_some(), "gRPC needs HTTP/2");

    let assets = added_cluster(&manifests, string(plugin, "/assets_cluster").unwrap());
    let socket = assets.pointer(&format!("{address}/socket_address")).unwrap();
    let socket = format!("{}:{}", string(socket, "/address").unwrap(), socket["port_value"]);
    assert_eq!(config["assets"]["listen"], socket);
}

#[test]
fn the_filter_makes_keys_where_the_route_holds() {
    let manifests = shipped();
    let plugin = &manifests.one("WasmPlugin", "warmpath").unwrap()["spec"]["pluginConfig"];
    assert_eq!(plugin["steer"], "filter_state", "the only wiring that a WasmPlugin can have");
    let keyed: BTreeSet<_> = plugin["paths"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let rules = &manifests.one("HTTPRoute", "vllm").unwrap()["spec"]["rules"];
    for rule in [&rules[0], &rules[1]] {
        assert_eq!(strings(&rule["matches"], "/path/value"), keyed);
        assert_eq!(strings(&rule["matches"], "/path/type"), BTreeSet::from(["Exact"]));
        assert_eq!(strings(&rule["matches"], "/method"), BTreeSet::from(["POST"]));
    }
    let released = |rule: &Value| {
        let matches = rule["matches"].as_array().unwrap();
        matches
            .iter()
            .all(|one| one["headers"][0]["name"] == "x-warmpath" && one["headers"][0]["value"] == "released")
    };
    assert_eq!([released(&rules[0]), released(&rules[1])], [true, false]);

    let merges = patches(&manifests, "HTTP_ROUTE");
    let named: Vec<_> = merges
        .iter()
        .map(|patch| {
            let route = string(patch, "/match/routeConfiguration/vhost/route/name").unwrap();
            (
                route,
                !patch["patch"]["value"]["typed_per_filter_config"]["envoy.filters.http.buffer"].is_null(),
            )
        })
        .collect();
    assert_eq!(named, [("default.vllm.0", false), ("default.vllm.1", true)]);
}

#[test]
fn services_destination_rule_and_endpoints_mean_the_same_pods() {
    let manifests = shipped();
    let (normal, headless) =
        (manifests.one("Service", "vllm").unwrap(), manifests.one("Service", "vllm-pods").unwrap());
    assert_eq!(headless["spec"]["clusterIP"], "None");
    assert_eq!(normal["spec"]["selector"], headless["spec"]["selector"]);

    let host = gateway::host("vllm", "default");
    assert_eq!(manifests.one("DestinationRule", "vllm").unwrap()["spec"]["host"], host);
    let merge =
        patches(&manifests, "CLUSTER").into_iter().find(|patch| patch["patch"]["operation"] == "MERGE");
    let cluster = &merge.unwrap()["match"]["cluster"];
    assert_eq!(cluster["service"], host);
    assert_eq!(cluster["portNumber"], normal["spec"]["ports"][0]["port"]);

    let endpoints = manifests.config_map("warmpath-sidecar", "endpoints.yaml").unwrap();
    let endpoint = &endpoints["endpoints"][0];
    let pods = gateway::host("vllm-pods", "default");
    assert_eq!(endpoint["address"], format!("{pods}:{}", normal["spec"]["ports"][0]["targetPort"]));
    for (setting, name) in [("events", "tcp-kv-events"), ("replay", "tcp-kv-replay")] {
        let ports = headless["spec"]["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == name).unwrap();
        assert_eq!(endpoint[setting], format!(":{}", port["targetPort"]));
    }
    let models = manifests.config_map("warmpath-sidecar", "config.yaml").unwrap();
    assert_eq!(endpoint["model"], models["models"][0]["name"]);
}
