//! Applies an EnvoyFilter to an Envoy bootstrap with static resources, as istiod applies it to what it sends.
//!
//! Exactly the operations that the shipped files use: HTTP_FILTER INSERT_BEFORE, NETWORK_FILTER MERGE, HTTP_ROUTE MERGE,
//! CLUSTER MERGE and ADD. Anything else is an error, and so is a patch that matches nothing: istiod would skip it in
//! silence.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::gateway::{http_connection_managers, network_filters};

/// Message fields that are protobuf maps: a merge replaces their entries instead of merging them.
const MAP_FIELDS: [&str; 3] =
    ["typed_per_filter_config", "typed_extension_protocol_options", "filter_metadata"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "workloadSelector")]
    _workload_selector: Value,
    config_patches: Vec<ConfigPatch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ConfigPatch {
    apply_to: ApplyTo,
    r#match: Match,
    patch: Patch,
}

#[derive(Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ApplyTo {
    NetworkFilter,
    HttpFilter,
    HttpRoute,
    Cluster,
}

#[derive(Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Operation {
    Merge,
    Add,
    InsertBefore,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    operation: Operation,
    value: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Match {
    #[serde(rename = "context")]
    _context: PatchContext,
    listener: Option<ListenerMatch>,
    route_configuration: Option<RouteConfigurationMatch>,
    cluster: Option<ClusterMatch>,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum PatchContext {
    Gateway,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ListenerMatch {
    filter_chain: FilterChainMatch,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterChainMatch {
    filter: FilterMatch,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FilterMatch {
    name: String,
    sub_filter: Option<Named>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteConfigurationMatch {
    vhost: VirtualHostMatch,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VirtualHostMatch {
    route: Named,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ClusterMatch {
    service: String,
    port_number: u16,
}

/// Applies the patches of one EnvoyFilter in their order.
pub fn apply(envoy: &mut Value, envoy_filter: &Value) -> Result<()> {
    let spec = Spec::deserialize(&envoy_filter["spec"])?;
    for (number, config_patch) in spec.config_patches.into_iter().enumerate() {
        let what = format!("configPatches[{number}] ({:?})", config_patch.apply_to);
        let matched = apply_one(envoy, config_patch).with_context(|| what.clone())?;
        ensure!(matched > 0, "{what} matches nothing");
    }
    Ok(())
}

/// How many objects the patch changed or made.
fn apply_one(envoy: &mut Value, ConfigPatch { apply_to, r#match, patch }: ConfigPatch) -> Result<usize> {
    let value = patch.value;
    match (apply_to, patch.operation, r#match) {
        (ApplyTo::NetworkFilter, Operation::Merge, Match { listener: Some(listener), .. }) => {
            merge_network_filters(envoy, &listener.filter_chain.filter, &value)
        }
        (ApplyTo::HttpFilter, Operation::InsertBefore, Match { listener: Some(listener), .. }) => {
            insert_before(envoy, &listener.filter_chain.filter, &value)
        }
        (ApplyTo::HttpRoute, Operation::Merge, Match { route_configuration: Some(routes), .. }) => {
            merge_routes(envoy, &routes.vhost.route.name, &value)
        }
        (ApplyTo::Cluster, Operation::Merge, Match { cluster: Some(cluster), .. }) => {
            merge_clusters(envoy, &cluster, &value)
        }
        (ApplyTo::Cluster, Operation::Add, Match { cluster: None, .. }) => add_cluster(envoy, value),
        (_, operation, _) => bail!("{operation:?} with this match is not one that the shipped files use"),
    }
}

/// istiod merges inside the `typed_config` of a network filter, which a plain protobuf merge would replace as a whole.
fn merge_network_filters(envoy: &mut Value, wanted: &FilterMatch, value: &Value) -> Result<usize> {
    let mut matched = 0;
    for filter in network_filters(envoy).filter(|filter| filter["name"] == wanted.name) {
        let (target, source) = (&mut filter["typed_config"], &value["typed_config"]);
        ensure!(target["@type"] == source["@type"], "typed_config of another type than the filter's");
        let mut source = source.as_object().context("typed_config")?.clone();
        source.remove("@type");
        merge(target.as_object_mut().context("typed_config of the filter")?, &source)?;
        matched += 1;
    }
    Ok(matched)
}

fn insert_before(envoy: &mut Value, wanted: &FilterMatch, value: &Value) -> Result<usize> {
    let sub_filter = wanted.sub_filter.as_ref().context("HTTP_FILTER INSERT_BEFORE needs a subFilter")?;
    let mut matched = 0;
    for manager in http_connection_managers(envoy, &wanted.name) {
        let filters = manager["http_filters"].as_array_mut().context("http_filters")?;
        if let Some(place) = filters.iter().position(|filter| filter["name"] == sub_filter.name) {
            filters.insert(place, value.clone());
            matched += 1;
        }
    }
    Ok(matched)
}

fn merge_routes(envoy: &mut Value, name: &str, value: &Value) -> Result<usize> {
    let value = value.as_object().context("value of a route patch")?;
    let mut matched = 0;
    for manager in http_connection_managers(envoy, super::gateway::HTTP_CONNECTION_MANAGER) {
        let hosts = manager["route_config"]["virtual_hosts"].as_array_mut().context("virtual_hosts")?;
        let routes = hosts.iter_mut().filter_map(|host| host["routes"].as_array_mut()).flatten();
        for route in routes.filter(|route| route["name"] == name) {
            merge(route.as_object_mut().context("route")?, value)?;
            matched += 1;
        }
    }
    Ok(matched)
}

fn clusters(envoy: &mut Value) -> Result<&mut Vec<Value>> {
    envoy["static_resources"]["clusters"].as_array_mut().context("clusters")
}

fn merge_clusters(envoy: &mut Value, wanted: &ClusterMatch, value: &Value) -> Result<usize> {
    let value = value.as_object().context("value of a cluster patch")?;
    let name = super::gateway::cluster_name(&wanted.service, wanted.port_number.into());
    let mut matched = 0;
    for cluster in clusters(envoy)?.iter_mut().filter(|cluster| cluster["name"] == name) {
        merge(cluster.as_object_mut().context("cluster")?, value)?;
        matched += 1;
    }
    Ok(matched)
}

fn add_cluster(envoy: &mut Value, value: Value) -> Result<usize> {
    let clusters = clusters(envoy)?;
    let name = &value["name"];
    ensure!(name.is_string(), "a cluster needs a name");
    ensure!(clusters.iter().all(|cluster| cluster["name"] != *name), "cluster {name} exists already");
    clusters.push(value);
    Ok(1)
}

/// Merges as protobuf does: messages field by field, lists by appending, scalars, `Any` and map entries by replacing.
/// A scalar that is zero in the patch cannot be told from an absent one, so it would change nothing: an error here.
fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<()> {
    for (key, new) in patch {
        let Some(old) = target.get_mut(key) else {
            target.insert(key.clone(), new.clone());
            continue;
        };
        match (old, new) {
            (Value::Object(old), Value::Object(new)) if MAP_FIELDS.contains(&key.as_str()) => {
                old.extend(new.clone());
            }
            (old, Value::Object(new)) if new.contains_key("@type") => *old = Value::Object(new.clone()),
            (Value::Object(old), Value::Object(new)) => merge(old, new).with_context(|| key.clone())?,
            (Value::Array(old), Value::Array(new)) => old.extend(new.iter().cloned()),
            (old, new) if !old.is_object() && !old.is_array() && !new.is_object() && !new.is_array() => {
                let zero = [Value::Bool(false), Value::from(0), Value::from("")].contains(new);
                ensure!(!zero, "{key}: MERGE cannot set {new}");
                *old = new.clone();
            }
            _ => bail!("{key}: a field of another shape"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut target: Value, patch: Value) -> Result<Value> {
        merge(target.as_object_mut().unwrap(), patch.as_object().unwrap())?;
        Ok(target)
    }

    #[test]
    fn merges_as_protobuf_does() {
        let target = json!({ "list": [1], "message": { "kept": 1, "set": 1 },
            "any": { "@type": "a", "gone": 1 }, "typed_per_filter_config": { "x": { "gone": 1 } } });
        let patch = json!({ "list": [2], "message": { "set": 2 }, "new": true,
            "any": { "@type": "b" }, "typed_per_filter_config": { "x": { "set": 2 }, "y": {} } });
        let expected = json!({ "list": [1, 2], "message": { "kept": 1, "set": 2 }, "new": true,
            "any": { "@type": "b" }, "typed_per_filter_config": { "x": { "set": 2 }, "y": {} } });
        assert_eq!(merged(target, patch).unwrap(), expected);
    }

    #[test]
    fn refuses_to_merge_what_istiod_would_ignore() {
        for zero in [json!(0), json!(false), json!("")] {
            let error = merged(json!({ "field": 1 }), json!({ "field": zero })).unwrap_err();
            assert!(error.to_string().contains("field: MERGE cannot set"), "{error}");
        }
    }

    #[test]
    fn a_patch_that_matches_nothing_is_an_error() {
        let mut envoy = json!({ "static_resources": { "clusters": [], "listeners": [] } });
        let filter = json!({ "spec": { "workloadSelector": {}, "configPatches": [{ "applyTo": "CLUSTER",
            "match": { "context": "GATEWAY", "cluster": { "service": "gone", "portNumber": 1 } },
            "patch": { "operation": "MERGE", "value": {} } }] } });
        let error = apply(&mut envoy, &filter).unwrap_err();
        assert!(error.to_string().contains("configPatches[0] (Cluster) matches nothing"), "{error}");
    }
}
