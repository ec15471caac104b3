//! vLLM's HTTP API, as far as gateways and load generators use it.

mod ask;
mod generate;
mod metrics;
mod stream;
mod switches;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use warmpath_core::request::Api;

use crate::pod::PodState;

/// Largest body taken, in bytes. Like vLLM's server, which has no limit, but a process has.
const BODY_MAX: usize = 256 << 20;
/// Says who served: the pod's listen address.
const POD_HEADER: &str = "x-pod";

type Pod = State<Arc<PodState>>;

/// Serves until `drain` is sent, then until requests in flight are done.
pub(crate) async fn serve(listener: TcpListener, state: Arc<PodState>, drain: oneshot::Receiver<()>) {
    // Without this the second chunk of a stream waits for the acknowledgement of the first.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let draining = async {
        let _ = drain.await;
    };
    let served = axum::serve(listener, router(state)).with_graceful_shutdown(draining).await;
    if let Err(error) = served {
        eprintln!("warmpath-simulator: HTTP server: {error}");
    }
}

fn router(state: Arc<PodState>) -> Router {
    let mut router = Router::new();
    for api in Api::ALL {
        let generate = move |state: Pod, headers: HeaderMap, body: Bytes| async move {
            generate::generate(api, &state, &headers, &body).await
        };
        router = router.route(api.path(), post(generate));
    }
    router
        .route("/v1/models", get(models))
        .route("/tokenize", post(tokenize))
        .route("/health", get(health))
        .route("/ping", get(health))
        .route("/version", get(version))
        .route("/metrics", get(metrics::metrics))
        .route("/reset_prefix_cache", post(reset_prefix_cache))
        .merge(switches::router())
        .layer(middleware::from_fn_with_state(state.clone(), gate))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(state)
}

/// Holds requests back while the pod hangs (its switches go on working), and says who answered.
async fn gate(State(state): Pod, request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with(switches::PREFIX) {
        let _ = state.hung.subscribe().wait_for(|hung| !hung).await;
    }
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&state.listen) {
        response.headers_mut().insert(POD_HEADER, value);
    }
    response
}

/// An error as vLLM words it.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl ApiError {
    fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "BadRequestError", message: message.into() }
    }

    fn unknown_model(name: &str) -> Self {
        let message = format!("The model `{name}` does not exist.");
        Self { status: StatusCode::NOT_FOUND, kind: "NotFoundError", message }
    }

    /// The engine ended while the request was in it.
    fn unavailable(message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, kind: "EngineDeadError", message: message.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, kind, message } = self;
        let code = status.as_u16();
        let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
        (status, Json(body)).into_response()
    }
}

fn read_json(body: &Bytes) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("Invalid JSON in the request body: {error}")))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(ApiError::bad_request("The request body must be a JSON object."))
    }
}

async fn health() -> StatusCode {
    StatusCode::OK
}

async fn version(State(state): Pod) -> Json<Value> {
    Json(json!({"version": state.config.wire.name}))
}

async fn models(State(state): Pod) -> Json<Value> {
    let config = &state.config.model.config;
    let entry = |name: &str, parent: Option<&str>| {
        json!({"id": name, "object": "model", "created": 0, "owned_by": "vllm", "root": name, "parent": parent,
            "max_model_len": config.max_model_len})
    };
    let base = std::iter::once(entry(&config.name, None));
    let adapters = config.lora_adapters.iter().map(|name| entry(name, Some(&config.name)));
    Json(json!({"object": "list", "data": base.chain(adapters).collect::<Vec<_>>()}))
}

async fn tokenize(State(state): Pod, body: Bytes) -> Result<Json<Value>, ApiError> {
    let body = read_json(&body)?;
    let api = if body.get("messages").is_some() { Api::ChatCompletions } else { Api::Completions };
    let model = &state.config.model;
    let tokens = model.tokens(api, &body).map_err(|pass| ApiError::bad_request(pass.to_string()))?;
    let max_model_len = model.config.max_model_len;
    Ok(Json(
        json!({"count": tokens.len(), "max_model_len": max_model_len, "tokens": tokens, "token_strs": null}),
    ))
}

async fn reset_prefix_cache(State(state): Pod) -> Result<Json<Value>, ApiError> {
    let mut success = true;
    for rank in state.ranks.read().await.iter() {
        success &= rank.reset_cache().await.map_err(|error| ApiError::unavailable(error.to_string()))?;
    }
    Ok(Json(json!({"success": success})))
}
