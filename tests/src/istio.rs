//! What an operator applies (`wasm-plugin.yaml`, `envoyfilter/`, `istio/`), read as Istio reads it.
//!
//! [`Manifests`] holds the shipped files; [`gateway`] makes the Envoy configuration that istiod makes of Gateway,
//! HTTPRoutes and Services before any extension; [`patch`] applies EnvoyFilters to it. [`extend`] puts it all together
//! for one gateway pod. This is no istiod: it knows the fields and operations that the shipped files use and refuses all
//! others, so that a file cannot ask for more than the tests have seen.

pub mod gateway;
pub mod patch;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// Labels of a pod.
pub type Labels = BTreeMap<String, String>;

/// Kubernetes objects, in the order of the files and of the documents in each file.
#[derive(Clone, Debug)]
pub struct Manifests(Vec<Value>);

impl Manifests {
    /// Reads every YAML file that the repository ships for Istio.
    pub fn shipped() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut paths = vec![root.join("wasm-plugin.yaml")];
        for folder in ["envoyfilter", "istio"] {
            let mut files = std::fs::read_dir(root.join(folder))?
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<Vec<_>>>()?;
            files.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
            files.sort();
            paths.extend(files);
        }
        let mut objects = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            objects.extend(Self::parse(&text).with_context(|| path.display().to_string())?.0);
        }
        Ok(Self(objects))
    }

    /// Parses the YAML documents of one file.
    pub fn parse(text: &str) -> Result<Self> {
        let objects: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| anyhow!("{error}"))?;
        for object in &objects {
            for path in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"] {
                string(object, path)?;
            }
        }
        Ok(Self(objects))
    }

    /// All objects.
    pub fn all(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }

    /// The objects of one kind.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |object| object["kind"] == *kind)
    }

    /// The one object of that kind and name.
    pub fn one(&self, kind: &str, name: &str) -> Result<&Value> {
        let found: Vec<_> = self.of_kind(kind).filter(|object| object["metadata"]["name"] == name).collect();
        match found[..] {
            [object] => Ok(object),
            _ => bail!("{} objects {kind}/{name} instead of one", found.len()),
        }
    }

    /// A YAML document kept as text under a key of a ConfigMap.
    pub fn config_map(&self, name: &str, key: &str) -> Result<Value> {
        let text = string(self.one("ConfigMap", name)?, &format!("/data/{}", key.replace('/', "~1")))?;
        serde_saphyr::from_str(text).map_err(|error| anyhow!("ConfigMap {name}, {key}: {error}"))
    }

    /// Labels of the pods that Istio makes for the Gateway, as the Deployment patch that it refers to sets them.
    pub fn gateway_labels(&self) -> Result<Labels> {
        let deployment = self.config_map("warmpath-gateway", "deployment")?;
        Ok(Labels::deserialize(&deployment["spec"]["template"]["metadata"]["labels"])?)
    }
}

/// The string at a JSON pointer.
pub fn string<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found
        .with_context(|| format!("no string at {pointer} of {}/{}", value["kind"], value["metadata"]["name"]))
}

/// Extends the configuration of a gateway pod that has these labels by every WasmPlugin and EnvoyFilter that selects it.
/// `module` is the file that istio-agent would have pulled.
pub fn extend(envoy: &mut Value, manifests: &Manifests, labels: &Labels, module: &Path) -> Result<()> {
    for plugin in manifests.of_kind("WasmPlugin") {
        if selects(&plugin["spec"]["selector"]["matchLabels"], labels)? {
            let filter = wasm_filter(plugin, module)?;
            gateway::insert_plugin(envoy, filter)?;
        }
    }
    apply_envoy_filters(envoy, manifests, labels)
}

/// Applies every EnvoyFilter that selects a pod with these labels. EnvoyFilters of one age are applied by name.
pub fn apply_envoy_filters(envoy: &mut Value, manifests: &Manifests, labels: &Labels) -> Result<()> {
    let mut filters: Vec<_> = manifests.of_kind("EnvoyFilter").collect();
    filters.sort_by_key(|filter| filter["metadata"]["name"].as_str());
    for filter in filters {
        if selects(&filter["spec"]["workloadSelector"]["labels"], labels)? {
            let name = string(filter, "/metadata/name")?;
            patch::apply(envoy, filter).with_context(|| format!("EnvoyFilter {name}"))?;
        }
    }
    Ok(())
}

/// Whether a selector's labels are all among the pod's.
fn selects(selector: &Value, labels: &Labels) -> Result<bool> {
    let wanted = Labels::deserialize(selector).context("labels of a selector")?;
    ensure!(!wanted.is_empty(), "a selector without labels selects every pod of the namespace");
    Ok(wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// The fields of a WasmPlugin that the shipped one uses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "read for their presence and type; only some change the Envoy configuration")]
struct WasmPlugin {
    selector: Value,
    url: String,
    image_pull_policy: String,
    phase: Phase,
    fail_strategy: FailStrategy,
    plugin_config: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Phase {
    Stats,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum FailStrategy {
    FailReload,
    FailOpen,
}

/// The Envoy filter that istiod and istio-agent make of a WasmPlugin, except that istiod delivers it over ECDS.
pub fn wasm_filter(plugin: &Value, module: &Path) -> Result<Value> {
    let spec = WasmPlugin::deserialize(&plugin["spec"]).context("WasmPlugin")?;
    let name = format!("{}.{}", string(plugin, "/metadata/namespace")?, string(plugin, "/metadata/name")?);
    let failure_policy = match spec.fail_strategy {
        FailStrategy::FailReload => "FAIL_RELOAD",
        FailStrategy::FailOpen => "FAIL_OPEN",
    };
    Ok(json!({
        "name": format!("extensions.istio.io/wasmplugin/{name}"),
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": name,
                "failure_policy": failure_policy,
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": { "local": { "filename": module } },
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": serde_json::to_string(&spec.plugin_config)?,
                },
            },
        },
    }))
}
