//! The admin port: `/metrics`, `/livez`, `/readyz`, the mode switch `/v1/mode`, `/v1/models`: how each model is served, and
//! why, and `/v1/streams`: how far each event stream can be trusted, why and since when, and what came of its events (JSON,
//! [`crate::index::report`]).
//!
//! Ready means: the models are loaded, the endpoints file was read, and it is not shutting down. An empty index is
//! ready as well: picks are answered by least outstanding then, which is no worse than without a sidecar, and a
//! gateway must not wait for pods to publish. `warmpath_indexer_endpoints_live` says how many event streams are live.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warmpath_core::definition::Mode;

use crate::catalog::Entry;
use crate::index::SharedIndex;
use crate::metrics::{Metrics, Seen, mode_name};
use crate::pick::Picker;
use crate::state::StateHandle;

/// The largest body of a mode switch.
const BODY_BYTES_MAX: usize = 4096;

/// Content type of the text format that `prometheus_client` writes.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the admin port shows and switches.
pub struct Admin {
    /// All metrics of the process. One scrape at a time: gauges are filled in for it.
    pub registry: Mutex<Registry>,
    /// The gauges that a scrape fills in.
    pub metrics: Arc<Metrics>,
    /// Mode and models.
    pub state: StateHandle,
    /// Asked for live event streams.
    pub index: Arc<SharedIndex>,
    /// Asked for outstanding picks.
    pub picker: Picker,
    /// Whether the endpoints file was read.
    pub endpoints_read: watch::Receiver<bool>,
    /// Set when the process is to end.
    pub shutdown: CancellationToken,
}

/// The routes of the admin port.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(show_models))
        .route("/v1/mode", get(show_mode).put(switch_mode))
        .route("/v1/streams", get(streams))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(admin)
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    if admin.shutdown.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: shutting down\n").into_response();
    }
    if !*admin.endpoints_read.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: the endpoints file was not read yet\n")
            .into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let mut text = String::new();
    let registry = admin.registry.lock().unwrap_or_else(PoisonError::into_inner);
    admin.metrics.refresh(admin.seen());
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

impl Admin {
    fn seen(&self) -> Seen {
        let state = self.state.get();
        let count = |model: &str| {
            let endpoints = self.index.lookup(model, &[]);
            (model.to_owned(), endpoints.len(), endpoints.iter().filter(|endpoint| endpoint.live).count())
        };
        Seen {
            mode: state.catalog.mode,
            served: state.library.models.iter().map(Entry::labels).collect(),
            models: state.catalog.models.iter().map(|model| count(&model.name)).collect(),
            outstanding: self.picker.outstanding(),
        }
    }
}

async fn streams(State(admin): State<Arc<Admin>>) -> Response {
    axum::Json(admin.index.streams()).into_response()
}

/// How each model is served, and why: what the log said when it was loaded.
async fn show_models(State(admin): State<Arc<Admin>>) -> Response {
    let state = admin.state.get();
    axum::Json(state.library.models.iter().map(Entry::shown).collect::<Vec<_>>()).into_response()
}

/// Body of `/v1/mode`, both ways.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModeBody {
    mode: Mode,
}

async fn show_mode(State(admin): State<Arc<Admin>>) -> Response {
    axum::Json(ModeBody { mode: admin.state.get().catalog.mode }).into_response()
}

/// Switches the mode until the configuration file names another one than it did, or the process ends.
async fn switch_mode(State(admin): State<Arc<Admin>>, body: Bytes) -> Response {
    match serde_json::from_slice::<ModeBody>(&body) {
        Ok(ModeBody { mode }) => {
            admin.state.set_mode(mode);
            log::info!(mode = mode_name(mode); "mode switched");
            axum::Json(ModeBody { mode }).into_response()
        }
        Err(error) => {
            let help = "send {\"mode\": \"steer\"}, \"observe\" or \"off\"";
            (StatusCode::BAD_REQUEST, format!("not a mode: {error}; {help}\n")).into_response()
        }
    }
}
