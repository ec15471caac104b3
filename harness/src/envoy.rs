//! Envoy on the shipped configuration, with this machine's addresses put in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::client::Client;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::sidecar::merge;

/// Time until the listeners are open: the module is compiled before, about 1 s per MB on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(180);

/// Which of the shipped wirings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// `envoy/header.yaml`
    Header,
    /// `envoy/filter-state.yaml`
    FilterState,
}

impl Steer {
    /// The shipped file.
    #[must_use]
    pub fn file(self) -> PathBuf {
        let name = match self {
            Steer::Header => "header.yaml",
            Steer::FilterState => "filter-state.yaml",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy").join(name)
    }

    /// The shipped configuration.
    ///
    /// # Errors
    /// When the file cannot be read or is not YAML.
    pub fn config(self) -> Result<Value> {
        let path = self.file();
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
    }
}

/// What is put into a shipped configuration.
#[derive(Debug, Clone)]
pub struct Wiring<'a> {
    /// The filter module.
    pub filter: &'a Path,
    /// Merged over the plugin's configuration.
    pub plugin: &'a Value,
    /// The sidecar's Unix socket for picks.
    pub pick: &'a Path,
    /// The sidecar's asset port.
    pub assets: SocketAddr,
    /// The pods.
    pub pods: &'a [SocketAddr],
}

/// Put addresses and paths into a configuration that is wired as the shipped files are.
///
/// # Errors
/// When it has no such clusters or no Wasm filter: then it is not what is shipped, and nothing would be tested.
pub fn wire(config: &mut Value, wiring: &Wiring<'_>) -> Result<()> {
    free_ports(config)?;
    let pods: Vec<Value> = wiring.pods.iter().map(|pod| socket_address(*pod)).collect();
    set_endpoints(config, "warmpath_pool", pods)?;
    set_endpoints(config, "warmpath_pick", vec![json!({"pipe": {"path": wiring.pick}})])?;
    set_endpoints(config, "warmpath_assets", vec![socket_address(wiring.assets)])?;
    let mut filters = 0;
    each_object(config, &mut |object| {
        if !is_wasm_filter(object) {
            return Ok(());
        }
        filters += 1;
        let plugin = object.get_mut("config").context("the Wasm filter has no config")?;
        plugin["vm_config"]["code"] = json!({"local": {"filename": wiring.filter}});
        let text = plugin["configuration"]["value"].as_str().unwrap_or("{}");
        let mut settings: Value =
            serde_json::from_str(text).context("the plugin's configuration is not JSON")?;
        merge(&mut settings, wiring.plugin);
        plugin["configuration"]["value"] = settings.to_string().into();
        Ok(())
    })?;
    if filters == 0 {
        bail!("the configuration has no Wasm filter");
    }
    Ok(())
}

/// The same gateway without Warmpath: no filter, round robin over the pods, and no guard of held requests.
///
/// # Errors
/// When the configuration has no pool.
pub fn without_warmpath(config: &mut Value, pods: &[SocketAddr]) -> Result<()> {
    free_ports(config)?;
    set_endpoints(config, "warmpath_pool", pods.iter().map(|pod| socket_address(*pod)).collect())?;
    let clusters = config["static_resources"]["clusters"].as_array_mut().context("no clusters")?;
    clusters.retain(|cluster| cluster["name"] == "warmpath_pool");
    let pool = clusters.first_mut().and_then(Value::as_object_mut).context("no cluster warmpath_pool")?;
    pool.remove("load_balancing_policy");
    pool.insert("lb_policy".into(), "ROUND_ROBIN".into());
    each_object(config, &mut |object| {
        if let Some(filters) = object.get_mut("http_filters").and_then(Value::as_array_mut) {
            filters.retain(|filter| {
                filter["typed_config"]["@type"].as_str().is_some_and(|ty| ty.ends_with(".Router"))
            });
        }
        // The shipped guard route ends requests that a dead VM holds; without a filter it would match all.
        if let Some(route) = object.get_mut("route").and_then(Value::as_object_mut) {
            route.remove("idle_timeout");
        }
        // Of filters that are gone.
        object.remove("typed_per_filter_config");
        Ok(())
    })
}

fn free_ports(config: &mut Value) -> Result<()> {
    let any = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    config["admin"] = json!({ "address": any });
    for listener in config["static_resources"]["listeners"].as_array_mut().context("no listeners")? {
        listener["address"] = any.clone();
    }
    Ok(())
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn set_endpoints(config: &mut Value, name: &str, addresses: Vec<Value>) -> Result<()> {
    let clusters = config["static_resources"]["clusters"].as_array_mut().context("no clusters")?;
    let cluster = clusters
        .iter_mut()
        .find(|cluster| cluster["name"] == name)
        .with_context(|| format!("the configuration has no cluster {name}"))?;
    let endpoints: Vec<Value> =
        addresses.into_iter().map(|address| json!({"endpoint": {"address": address}})).collect();
    cluster["load_assignment"] = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]});
    Ok(())
}

fn is_wasm_filter(object: &Map<String, Value>) -> bool {
    object.get("@type").and_then(Value::as_str).is_some_and(|ty| ty.ends_with("filters.http.wasm.v3.Wasm"))
}

/// Call `visit` on every object, outer ones first.
fn each_object(
    value: &mut Value,
    visit: &mut impl FnMut(&mut Map<String, Value>) -> Result<()>,
) -> Result<()> {
    match value {
        Value::Object(object) => {
            visit(object)?;
            object.values_mut().try_for_each(|value| each_object(value, visit))
        }
        Value::Array(array) => array.iter_mut().try_for_each(|value| each_object(value, visit)),
        _ => Ok(()),
    }
}

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    /// Admin port.
    pub admin: SocketAddr,
    /// Addresses of the listeners, by name.
    pub listeners: BTreeMap<String, SocketAddr>,
}

impl Envoy {
    /// Start Envoy on a finished configuration and wait until it is live.
    ///
    /// # Errors
    /// When it refuses the configuration or is not live in time, with the end of its logs.
    pub async fn start(
        program: &Path,
        name: &str,
        config: &Value,
        concurrency: u32,
        directory: &Path,
    ) -> Result<Self> {
        let file = directory.join(format!("{name}.json"));
        std::fs::write(&file, format!("{config:#}"))
            .with_context(|| format!("writing {}", file.display()))?;
        let admin_file = directory.join(format!("{name}.admin"));
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).arg("--admin-address-path").arg(&admin_file);
        command.args([
            "--concurrency",
            &concurrency.to_string(),
            "--disable-hot-restart",
            "--log-level",
            "info",
            // The access log is read while Envoy runs; by default it would be up to 10 s behind.
            "--file-flush-interval-msec",
            "50",
        ]);
        let mut process = Process::start(name, command, directory)?;
        let mut admin = None;
        process
            .wait_until("admin address", START_LIMIT, async || {
                admin = std::fs::read_to_string(&admin_file).ok().and_then(|text| text.trim().parse().ok());
                admin.is_some()
            })
            .await?;
        let admin = admin.context("no admin address")?;
        let client = Client::http1(admin);
        process
            .wait_until("LIVE on /ready", START_LIMIT, async || {
                client.get("/ready").await.is_ok_and(|response| response.status == 200)
            })
            .await?;
        let listeners = listeners(&client).await?;
        Ok(Envoy { process, admin, listeners })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Address of its only listener, or of the first by name.
    ///
    /// # Panics
    /// When it has none: [`Envoy::start`] does not return such an Envoy.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        *self.listeners.values().next().expect("start() checks that there is a listener")
    }

    /// HTTP/1 to its listener.
    #[must_use]
    pub fn http1(&self) -> Client {
        Client::http1(self.address())
    }

    /// HTTP/2 to its listener.
    #[must_use]
    pub fn http2(&self) -> Client {
        Client::http2(self.address())
    }

    /// To its admin port.
    #[must_use]
    pub fn admin_client(&self) -> Client {
        Client::http1(self.admin)
    }

    /// `/stats/prometheus`, with the filter's own metrics.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        self.admin_client().metrics("/stats/prometheus").await
    }
}

async fn listeners(admin: &Client) -> Result<BTreeMap<String, SocketAddr>> {
    let answer = admin.get("/listeners?format=json").await?.ok()?.json()?;
    let statuses = answer["listener_statuses"].as_array().context("Envoy's admin port lists no listeners")?;
    let mut listeners = BTreeMap::new();
    for status in statuses {
        let socket = &status["local_address"]["socket_address"];
        let address = format!("{}:{}", socket["address"].as_str().unwrap_or_default(), socket["port_value"]);
        let name = status["name"].as_str().unwrap_or_default().to_owned();
        listeners.insert(name, address.parse().with_context(|| format!("a listener on {address:?}"))?);
    }
    if listeners.is_empty() {
        bail!("Envoy has no listener");
    }
    Ok(listeners)
}
