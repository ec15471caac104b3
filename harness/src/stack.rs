//! A whole stack: pods, sidecar, Envoy, in the order in which they can be known to each other.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::envoy::{Envoy, Steer, Wiring, wire, without_warmpath};
use crate::metrics::Metrics;
use crate::model::ModelFiles;
use crate::pod::{Endpoint, Pod, PodOptions};
use crate::programs::Programs;
use crate::sidecar::{Sidecar, SidecarFiles, merge};

/// Time until the filter has the models (it asks every few seconds, with backoff).
const MODELS_LIMIT: Duration = Duration::from_secs(120);

type Edit = Box<dyn FnOnce(&mut Value) -> Result<()> + Send>;

/// What to boot. Everything has a default: two instant pods, header steering, one Envoy worker, the demo's model.
pub struct StackBuilder {
    programs: Programs,
    steer: Steer,
    warmpath: bool,
    concurrency: u32,
    pods: Vec<PodOptions>,
    external: Vec<Endpoint>,
    models: Vec<ModelFiles>,
    plugin: Value,
    sidecar: Value,
    sidecar_absent: bool,
    edits: Vec<Edit>,
}

impl fmt::Debug for StackBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackBuilder")
            .field("steer", &self.steer)
            .field("pods", &self.pods)
            .finish_non_exhaustive()
    }
}

impl StackBuilder {
    /// Which shipped file Envoy runs on.
    #[must_use]
    pub fn steer(mut self, steer: Steer) -> Self {
        self.steer = steer;
        self
    }

    /// The same gateway without filter and sidecar: plain round robin.
    #[must_use]
    pub fn round_robin(mut self) -> Self {
        self.warmpath = false;
        self
    }

    /// Envoy workers.
    #[must_use]
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// `count` simulated pods of this kind, in place of the default ones.
    #[must_use]
    pub fn pods(mut self, count: usize, options: PodOptions) -> Self {
        self.pods = vec![options; count];
        self
    }

    /// Pods that run already (real ones), in place of simulated ones.
    #[must_use]
    pub fn external_pods(mut self, endpoints: Vec<Endpoint>) -> Self {
        self.pods.clear();
        self.external = endpoints;
        self
    }

    /// The models; simulated pods serve the first one, which is also the default.
    #[must_use]
    pub fn models(mut self, models: Vec<ModelFiles>) -> Self {
        self.models = models;
        self
    }

    /// Merge over the plugin's configuration.
    #[must_use]
    pub fn plugin(mut self, changes: Value) -> Self {
        merge(&mut self.plugin, &changes);
        self
    }

    /// Merge over the sidecar's configuration.
    #[must_use]
    pub fn sidecar(mut self, changes: Value) -> Self {
        merge(&mut self.sidecar, &changes);
        self
    }

    /// Do not start the sidecar; [`Stack::start_sidecar`] does.
    #[must_use]
    pub fn sidecar_absent(mut self) -> Self {
        self.sidecar_absent = true;
        self
    }

    /// Change Envoy's configuration after everything else has been put in.
    #[must_use]
    pub fn edit_envoy(mut self, edit: impl FnOnce(&mut Value) -> Result<()> + Send + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// Boot, and wait until requests can be steered (unless the sidecar is absent).
    ///
    /// # Errors
    /// When a part does not come up, with the end of its logs.
    pub async fn start(self) -> Result<Stack> {
        let directory =
            tempfile::Builder::new().prefix("warmpath-").tempdir().context("making a directory")?;
        let model = self.models.first().context("a stack needs a model")?;
        let mut pods = Vec::new();
        for (index, options) in self.pods.iter().enumerate() {
            let name = format!("pod-{index}");
            pods.push(Pod::start(&self.programs.simulator, &name, model, options, directory.path()).await?);
        }
        let endpoints: Vec<Endpoint> =
            pods.iter().map(|pod| pod.endpoint().clone()).chain(self.external).collect();
        let addresses: Vec<SocketAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
        let assets = if self.sidecar_absent { free_address()? } else { ([127, 0, 0, 1], 0).into() };
        let mut files =
            SidecarFiles::write(directory.path(), &self.models, &endpoints, assets, &self.sidecar)?;
        let wants_sidecar = self.warmpath && !self.sidecar_absent;
        let mut sidecar = None;
        let mut assets = assets;
        if wants_sidecar {
            let started = Sidecar::start(&self.programs.sidecar, "sidecar", &files).await?;
            assets = started.assets;
            // Envoy knows this port from now on: a restarted sidecar must take it again.
            files.change(&json!({"assets": {"listen": assets.to_string()}}))?;
            sidecar = Some(started);
        }
        let mut config = self.steer.config()?;
        if self.warmpath {
            let pick = files.pick_socket();
            let filter = &self.programs.filter;
            wire(
                &mut config,
                &Wiring { filter, plugin: &self.plugin, pick: &pick, assets, pods: &addresses },
            )?;
        } else {
            without_warmpath(&mut config, &addresses)?;
        }
        for edit in self.edits {
            edit(&mut config)?;
        }
        let envoy =
            Envoy::start(&self.programs.envoy, "envoy", &config, self.concurrency, directory.path()).await?;
        let mut stack = Stack {
            envoy,
            sidecar,
            pods,
            files,
            programs: self.programs,
            concurrency: self.concurrency,
            models: self.models.len(),
            sidecars_started: usize::from(wants_sidecar),
            directory,
        };
        if wants_sidecar {
            stack.wait_for_models().await?;
        }
        Ok(stack)
    }
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).context("finding a free port")
}

/// A running stack. Dropping it ends all its processes and removes its directory.
#[derive(Debug)]
pub struct Stack {
    /// Envoy. (Fields drop in this order: the gateway goes first.)
    pub envoy: Envoy,
    /// The sidecar; none when it is absent or was killed.
    pub sidecar: Option<Sidecar>,
    /// Simulated pods, in order.
    pub pods: Vec<Pod>,
    /// The sidecar's configuration, to change it while it runs.
    pub files: SidecarFiles,
    programs: Programs,
    concurrency: u32,
    models: usize,
    sidecars_started: usize,
    directory: TempDir,
}

impl Stack {
    /// What to boot, with defaults.
    #[must_use]
    pub fn builder(programs: Programs) -> StackBuilder {
        StackBuilder {
            programs,
            steer: Steer::Header,
            warmpath: true,
            concurrency: 1,
            pods: vec![PodOptions::default(); 2],
            external: Vec::new(),
            models: vec![ModelFiles::demo()],
            plugin: json!({}),
            sidecar: json!({}),
            sidecar_absent: false,
            edits: Vec::new(),
        }
    }

    /// HTTP/1 to Envoy's listener.
    #[must_use]
    pub fn client(&self) -> Client {
        self.envoy.http1()
    }

    /// Where configurations, sockets and logs are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Start the sidecar again (or for the first time), on the same ports.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_sidecar(&mut self) -> Result<()> {
        let name = match self.sidecars_started {
            0 => "sidecar".to_owned(),
            again => format!("sidecar-{again}"),
        };
        self.sidecars_started += 1;
        self.sidecar = Some(Sidecar::start(&self.programs.sidecar, &name, &self.files).await?);
        Ok(())
    }

    /// The sidecar, which must run.
    ///
    /// # Errors
    /// When it does not.
    pub fn running_sidecar(&mut self) -> Result<&mut Sidecar> {
        self.sidecar.as_mut().context("the sidecar does not run")
    }

    /// The running sidecar's metrics.
    ///
    /// # Errors
    /// When it does not run or does not answer.
    pub async fn sidecar_metrics(&self) -> Result<Metrics> {
        self.sidecar.as_ref().context("the sidecar does not run")?.metrics().await
    }

    /// Start a killed pod again, on the same ports.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart_pod(&mut self, index: usize) -> Result<()> {
        let pod = self.pods.get_mut(index).with_context(|| format!("there is no pod {index}"))?;
        pod.restart(&self.programs.simulator, self.directory.path()).await
    }

    /// Wait until every worker's VM has loaded every model.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn wait_for_models(&mut self) -> Result<()> {
        // The counter is Envoy's, over all VMs: one for each worker, and one on the main thread that loads them as well.
        let wanted = (self.models * (self.concurrency as usize + 1)) as f64;
        let admin = self.envoy.admin_client();
        self.envoy
            .process()
            .wait_until("the models in the filter", MODELS_LIMIT, async || {
                admin
                    .metrics("/stats/prometheus")
                    .await
                    .is_ok_and(|metrics| metrics.sum("warmpath_asset_loads") >= wanted)
            })
            .await
    }
}
