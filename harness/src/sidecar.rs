//! The indexer sidecar: its configuration, its process, its ports.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::client::Client;
use crate::metrics::Metrics;
use crate::model::ModelFiles;
use crate::pod::Endpoint;
use crate::process::Process;

/// Time to the line that says where it listens, and then to `/readyz`.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Strings of the self-check: every kind of them, and no second of an unoptimised sidecar's start.
const SELF_CHECK_STRINGS: usize = 160;

/// Configuration of a sidecar in a directory: what survives its process.
#[derive(Debug, Clone)]
pub struct SidecarFiles {
    directory: PathBuf,
    config: Value,
}

impl SidecarFiles {
    /// Write configuration and endpoints file for these models and endpoints, with the pick socket in `directory`.
    ///
    /// `changes` is merged over the configuration. `assets` is where the asset port shall be; port 0 is any.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn write(
        directory: &Path,
        models: &[ModelFiles],
        endpoints: &[Endpoint],
        assets: SocketAddr,
        changes: &Value,
    ) -> Result<Self> {
        let models: Vec<Value> =
            models.iter().enumerate().map(|(index, model)| model_entry(model, index == 0)).collect();
        let mut config = json!({
            "mode": "steer",
            "pick": {"unix": directory.join("pick.sock"), "tcp": "127.0.0.1:0"},
            "assets": {"listen": assets.to_string(), "self_check_strings": SELF_CHECK_STRINGS},
            "admin": {"listen": "127.0.0.1:0"},
            "seed": "0123456789abcdef",
            "models": models,
            "endpoints": {"file": "endpoints.yaml"},
        });
        merge(&mut config, changes);
        let files = SidecarFiles { directory: directory.to_owned(), config };
        files.write_endpoints(endpoints)?;
        files.save()?;
        Ok(files)
    }

    /// The configuration as it stands in the file.
    #[must_use]
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Change the configuration file (it is watched while the sidecar runs).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn change(&mut self, changes: &Value) -> Result<()> {
        merge(&mut self.config, changes);
        self.save()
    }

    /// Change the endpoints file (it is watched while the sidecar runs).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_endpoints(&self, endpoints: &[Endpoint]) -> Result<()> {
        let entries: Vec<Value> = endpoints.iter().map(Endpoint::entry).collect();
        replace(&self.directory.join("endpoints.yaml"), &json!({ "endpoints": entries }))
    }

    /// The Unix socket of picks.
    #[must_use]
    pub fn pick_socket(&self) -> PathBuf {
        self.directory.join("pick.sock")
    }

    fn path(&self) -> PathBuf {
        self.directory.join("sidecar.yaml")
    }

    fn save(&self) -> Result<()> {
        replace(&self.path(), &self.config)
    }
}

fn model_entry(model: &ModelFiles, default: bool) -> Value {
    json!({
        "name": model.name,
        "default": default,
        "block_tokens": model.block_tokens,
        "max_model_len": model.max_model_len,
        "tokenizer": model.tokenizer,
        "tokenizer_config": model.tokenizer_config,
        "config": model.config,
        "chat_template": model.chat_template,
    })
}

/// Write through a rename, as editors and Kubernetes do: a watcher never sees half a file. (JSON is YAML.)
fn replace(path: &Path, value: &Value) -> Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, format!("{value:#}\n")).with_context(|| format!("writing {}", part.display()))?;
    std::fs::rename(&part, path).with_context(|| format!("writing {}", path.display()))
}

/// Put `changes` over `base`: objects key by key, all else whole.
pub(crate) fn merge(base: &mut Value, changes: &Value) {
    match (base, changes) {
        (Value::Object(base), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(base.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
        (base, change) => *base = change.clone(),
    }
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    /// Asset port.
    pub assets: SocketAddr,
    /// Admin port.
    pub admin: SocketAddr,
}

impl Sidecar {
    /// Start it and wait until `/readyz` says 200.
    ///
    /// # Errors
    /// When it cannot be started or is not ready in time, with the end of its logs.
    pub async fn start(program: &Path, name: &str, files: &SidecarFiles) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("--config").arg(files.path());
        let mut process = Process::start(name, command, &files.directory)?;
        let (assets, admin) = process.wait_for_line(START_LIMIT, listening).await?;
        let client = Client::http1(admin);
        process
            .wait_until("200 on /readyz", START_LIMIT, async || {
                client.get("/readyz").await.is_ok_and(|response| response.status == 200)
            })
            .await?;
        Ok(Sidecar { process, assets, admin })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// To the admin port.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::http1(self.admin)
    }

    /// Its metrics.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        self.client().metrics("/metrics").await
    }
}

/// Asset and admin address of the line in which the sidecar says where it listens.
fn listening(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let address = |key: &str| line[key].as_str()?.parse().ok();
    Some((address("assets")?, address("admin")?))
}

#[cfg(test)]
mod tests {
    use super::{json, merge};

    #[test]
    fn merges_objects_and_replaces_the_rest() {
        let mut base = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1});
        merge(&mut base, &json!({"a": {"c": [3]}, "e": {"f": null}}));
        assert_eq!(base, json!({"a": {"b": 1, "c": [3]}, "d": 1, "e": {"f": null}}));
    }
}
