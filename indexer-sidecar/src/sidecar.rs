//! The whole sidecar, put together: everything it needs is handed in, and it ends when it is told to.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use warmpath_proto::v1::INDEXER_SERVICE;
use warmpath_proto::v1::indexer_server::IndexerServer;

use crate::admin::{self, Admin};
use crate::assets;
use crate::catalog::{self, Library};
use crate::config::{self, Config};
use crate::endpoints::EndpointSet;
use crate::endpoints::follow::{self, Follow};
use crate::events::{self, EventMetrics};
use crate::files::Stamps;
use crate::index::SharedIndex;
use crate::listeners::Listeners;
use crate::logs::beat;
use crate::metrics::{Metrics, Reloaded};
use crate::pick::prompt::Prompts;
use crate::pick::serve::{self, PickListeners, PickServices};
use crate::pick::{Picker, message_bytes_max};
use crate::reload::{Reload, Rules};
use crate::state::StateHandle;

/// How long requests in flight may take once the process is told to end. Picks take far under a millisecond; only a
/// connection that does not read its answer lasts longer.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// A configuration whose models are loaded.
#[derive(Debug)]
pub struct Loaded {
    /// Path of the configuration file; it is followed.
    pub file: PathBuf,
    /// What it says.
    pub config: Config,
    library: Library,
    stamps: Stamps,
}

impl Loaded {
    /// Reads the configuration and loads its models.
    pub fn read(file: PathBuf) -> Result<Self, config::ConfigError> {
        let config = config::load(&file)?;
        // Before the files are read: a change in between is seen as one.
        let stamps = Stamps::of(catalog::files(&config, &file));
        let library = Library::load(&config, &file, &Library::default())?;
        Ok(Self { file, config, library, stamps })
    }
}

/// Checks a configuration with everything that it names, as far as files can tell: models, seed, endpoints file.
pub fn check(file: PathBuf) -> Result<(), config::ConfigError> {
    let loaded = Loaded::read(file)?;
    follow::read(&loaded.config.endpoints.file).map(drop)
}

/// Runs until `shutdown`, then drains. `metrics` are the outer half's, made by the caller because its log counts too.
pub async fn run(
    loaded: Loaded,
    listeners: Listeners,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Loaded { file, config, library, stamps } = loaded;
    listeners.addresses()?.warn_if_open();
    let index = SharedIndex::new(config.index.blocks_max)
        .within(usize::try_from(config.index.bytes_max.as_u64()).unwrap_or(usize::MAX))
        .speculating(config.index.speculate_for);
    let index = Arc::new(index);
    let event_metrics = Arc::new(EventMetrics::default());
    let rules = watch::Sender::new(Rules::new(library.key_rules()));
    let state = StateHandle::new(library, config.mode, config.logs.scores);
    let prompts = Prompts::new(&config.prompts);
    let picker =
        Picker::new(Arc::clone(&index), state.clone(), Arc::clone(&metrics), config.pick.keys_max, prompts)
            .weighing(&config.index.medium_weights)
            .until(shutdown.clone());
    let endpoints = watch::Sender::new(Arc::new(EndpointSet::new()));
    let endpoints_read = watch::Sender::new(false);
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    index.metrics().register(&mut registry);
    event_metrics.register(&mut registry);
    metrics.reloaded("config", Reloaded::Applied);
    let admin = Arc::new(Admin {
        registry: Mutex::new(registry),
        metrics: Arc::clone(&metrics),
        state: state.clone(),
        index: Arc::clone(&index),
        picker: picker.clone(),
        endpoints_read: endpoints_read.subscribe(),
        shutdown: shutdown.clone(),
    });

    let mut tasks = JoinSet::new();
    tasks.spawn(ok(events::run(
        endpoints.subscribe(),
        rules.subscribe(),
        config.central.clone(),
        Arc::clone(&index),
        event_metrics,
        shutdown.clone(),
    )));
    let follow = Follow {
        file: config.endpoints.file.clone(),
        resolve_every: config.endpoints.resolve_every,
        publish: endpoints,
        read: endpoints_read,
        metrics: Arc::clone(&metrics),
    };
    tasks.spawn(ok(follow.run(shutdown.clone())));
    tasks.spawn(ok(beat::run(config.logs.beat_every, Arc::clone(&metrics), index, shutdown.clone())));
    let health = start_servers(&mut tasks, listeners, &picker, &state, admin, &config, &shutdown).await;
    let reload = Reload { file, config, state, rules, metrics };
    tasks.spawn(ok(reload.run(stamps, shutdown.clone())));
    wait(tasks, &health.reporter, &shutdown).await
}

/// What stays with the servers until they are done.
struct Health {
    reporter: HealthReporter,
}

/// Starts every server; each stops accepting at `shutdown` and ends when its requests have.
async fn start_servers(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    listeners: Listeners,
    picker: &Picker,
    state: &StateHandle,
    admin: Arc<Admin>,
    config: &Config,
    shutdown: &CancellationToken,
) -> Health {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status(INDEXER_SERVICE, ServingStatus::Serving).await;
    let body_bytes_max = usize::try_from(config.prompts.body_bytes_max.as_u64()).unwrap_or(usize::MAX);
    let message_bytes_max = message_bytes_max(config.pick.keys_max, body_bytes_max);
    let picks = IndexerServer::new(picker.clone()).max_decoding_message_size(message_bytes_max);
    let services =
        PickServices { picks, rest: Routes::new(health), refused: admin.metrics.connections_refused.clone() };
    let picks = PickListeners { unix: listeners.pick_unix, tcp: listeners.pick_tcp };
    let stop = shutdown.clone();
    tasks.spawn_blocking(move || serve::block_on(picks, &services, &stop));
    tasks.spawn(serve_http(listeners.assets, assets::router(state.clone()), shutdown.clone()));
    tasks.spawn(serve_http(listeners.admin, admin::router(admin), shutdown.clone()));
    Health { reporter }
}

async fn serve_http(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
    Ok(())
}

/// Waits for the end of everything. A task that ends early, well or badly, ends all others.
async fn wait(
    mut tasks: JoinSet<anyhow::Result<()>>,
    health: &HealthReporter,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let mut result = Ok(());
    tokio::select! {
        () = shutdown.cancelled() => {}
        Some(early) = tasks.join_next() => {
            result = early.context("a task of the sidecar panicked").flatten();
            shutdown.cancel();
        }
    }
    health.set_service_status("", ServingStatus::NotServing).await;
    health.set_service_status(INDEXER_SERVICE, ServingStatus::NotServing).await;
    let drained = tokio::time::timeout(DRAIN_DEADLINE, async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended.context("a task of the sidecar panicked").flatten() {
                log::error!(error = format!("{error:#}").as_str(); "did not end well");
            }
        }
    });
    if drained.await.is_err() {
        log::warn!(deadline_s = DRAIN_DEADLINE.as_secs(); "requests were still in flight at the deadline");
        tasks.shutdown().await;
    }
    result
}

async fn ok(task: impl Future<Output = ()>) -> anyhow::Result<()> {
    task.await;
    Ok(())
}
