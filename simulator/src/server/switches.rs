//! `/sim/`: ways to fail on purpose, and a look inside. They answer even while the pod hangs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, Pod};
use crate::config::NoneHash;
use crate::pod::{End, PodState};

/// Path prefix of all switches.
pub(super) const PREFIX: &str = "/sim/";

pub(super) fn router() -> Router<Arc<PodState>> {
    Router::new()
        .route("/sim/kill", post(kill))
        .route("/sim/hang", post(hang))
        .route("/sim/release", post(release))
        .route("/sim/restart", post(restart))
        .route("/sim/drop-events", post(drop_events))
        .route("/sim/pause-events", post(pause_events))
        .route("/sim/resume-events", post(resume_events))
        .route("/sim/state", get(state))
}

/// The pod ends at once; the process exits. There may be no answer.
async fn kill(State(state): Pod) -> StatusCode {
    state.end.send_replace(Some(End::Killed));
    StatusCode::OK
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hang {
    /// How long, as in `5s`; without it until `/sim/release`.
    #[serde(default, rename = "for", with = "humantime_serde")]
    duration: Option<Duration>,
}

/// The engine stops stepping and nothing is answered.
async fn hang(State(state): Pod, Query(hang): Query<Hang>) -> StatusCode {
    state.hung.send_replace(true);
    if let Some(duration) = hang.duration {
        tokio::spawn(async move {
            tokio::time::sleep(duration).await;
            state.hung.send_replace(false);
        });
    }
    StatusCode::OK
}

async fn release(State(state): Pod) -> StatusCode {
    state.hung.send_replace(false);
    StatusCode::OK
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restart {
    /// Hash blocks as before, where the release does so over a restart; by default they get other hashes.
    #[serde(default)]
    same_hashes: bool,
}

/// A new engine process on the same ports: empty cache, sequence numbers from 0, requests in flight fail.
async fn restart(State(state): Pod, Query(restart): Query<Restart>) -> Result<StatusCode, ApiError> {
    let none_hash = if restart.same_hashes { state.config.none_hash.clone() } else { NoneHash::Random };
    state.restart(&none_hash).await.map_err(|error| ApiError::unavailable(format!("{error:#}")))?;
    Ok(StatusCode::OK)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DropEvents {
    /// Batches to lose.
    n: u64,
    /// Whether replay still has them.
    #[serde(default = "yes")]
    replayable: bool,
}

fn yes() -> bool {
    true
}

/// The next `n` batches take their sequence numbers and are not sent.
async fn drop_events(State(state): Pod, Query(drop): Query<DropEvents>) -> StatusCode {
    for rank in state.ranks.read().await.iter() {
        if let Some(publisher) = &rank.publisher {
            publisher.drop_next(drop.n, drop.replayable).await;
        }
    }
    StatusCode::OK
}

/// Batches are held back, without sequence numbers, until `/sim/resume-events`.
async fn pause_events(State(state): Pod) -> StatusCode {
    pause(&state, true).await
}

async fn resume_events(State(state): Pod) -> StatusCode {
    pause(&state, false).await
}

async fn pause(state: &PodState, paused: bool) -> StatusCode {
    for rank in state.ranks.read().await.iter() {
        if let Some(publisher) = &rank.publisher {
            publisher.pause(paused).await;
        }
    }
    StatusCode::OK
}

/// Counters of every rank, as JSON. `batches` is the next sequence number as long as nothing is paused.
async fn state(State(state): Pod) -> Json<Value> {
    let ranks: Vec<_> = state.ranks.read().await.iter().map(|rank| rank.stats()).collect();
    let ranks = ranks.iter().map(|stats| {
        json!({
            "running": stats.running, "waiting": stats.waiting, "usage": stats.usage,
            "prefix_cache_queries": stats.prefix_queries, "prefix_cache_hits": stats.prefix_hits,
            "prompt_tokens": stats.prompt_tokens, "generation_tokens": stats.generation_tokens,
            "finished": stats.finished, "aborted": stats.aborted, "preemptions": stats.preemptions,
            "cached_blocks": stats.cached_blocks, "batches": stats.batches,
        })
    });
    Json(json!({
        "hung": *state.hung.borrow(),
        "requests": state.requests.load(std::sync::atomic::Ordering::Relaxed),
        "ranks": ranks.collect::<Vec<_>>(),
    }))
}
