//! The asset port: what filters fetch before they can key prompts.
//!
//! `GET /v1/catalog` answers the catalog as JSON, `GET /v1/assets/{sha256}` the bytes of a file that the catalog of
//! now refers to. A file of an earlier catalog is gone: whoever gets 404 asks for the catalog again.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use warmpath_core::definition::{ASSET_PATH_PREFIX, CATALOG_PATH};

use crate::state::StateHandle;

/// The routes of the asset port.
pub fn router(state: StateHandle) -> Router {
    Router::new()
        .route(CATALOG_PATH, get(catalog))
        .route(&format!("{ASSET_PATH_PREFIX}{{sha256}}"), get(asset))
        .with_state(state)
}

async fn catalog(State(state): State<StateHandle>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], state.get().catalog_json.clone()).into_response()
}

async fn asset(State(state): State<StateHandle>, Path(sha256): Path<String>) -> Response {
    match state.get().library.assets.get(&sha256) {
        Some(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes.clone()).into_response(),
        None => (StatusCode::NOT_FOUND, "no such asset: the catalog of now does not refer to it\n")
            .into_response(),
    }
}
