//! `/v1/completions` and `/v1/chat/completions`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use warmpath_core::request::Api;

use super::ask::Ask;
use super::stream::stream;
use super::{ApiError, Pod, read_json};
use crate::driver::{Progress, Rank, RankError};
use crate::engine::EngineRequest;
use crate::engine::step_time::OUTSIDE_ENGINE;
use crate::model::PodModel;
use crate::pod::PodState;

pub(super) async fn completions(
    State(state): Pod,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    generate(Api::Completions, &state, &headers, &body).await
}

pub(super) async fn chat_completions(
    State(state): Pod,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    generate(Api::ChatCompletions, &state, &headers, &body).await
}

async fn generate(
    api: Api,
    state: &Arc<PodState>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, ApiError> {
    let arrival = Instant::now();
    let ask = Ask::read(api, headers, &read_json(body)?, &state.config)?;
    let rank = choose_rank(state, ask.rank).await?;
    tokio::time::sleep(state.config.pace.real(OUTSIDE_ENGINE)).await;
    let mut choices = Vec::with_capacity(ask.prompts.len());
    for prompt in &ask.prompts {
        let request = EngineRequest {
            prompt: prompt.clone(),
            output_tokens: ask.output_tokens,
            scope: ask.scope.clone(),
        };
        choices.push(rank.submit(request).await?);
    }
    let answer = Answer::new(api, state, &ask, rank, arrival);
    if ask.stream {
        return Ok(stream(answer, choices, ask.include_usage).into_response());
    }
    collect(answer, choices).await
}

/// The asked-for rank, or the least busy one by vLLM's own measure (waiting requests count four times).
async fn choose_rank(state: &PodState, asked: Option<usize>) -> Result<Arc<Rank>, ApiError> {
    let ranks = state.ranks.read().await;
    let chosen = match asked {
        Some(asked) => {
            let rank = ranks.get(asked);
            Some(rank.ok_or_else(|| {
                ApiError::bad_request(format!("data_parallel_rank {asked} is out of range."))
            })?)
        }
        None => ranks.iter().min_by_key(|rank| {
            let stats = rank.stats();
            stats.waiting * 4 + stats.running
        }),
    };
    chosen.cloned().ok_or_else(|| ApiError::unavailable("the engine is restarting"))
}

impl From<RankError> for ApiError {
    fn from(error: RankError) -> Self {
        match error {
            RankError::Refused(refusal) => Self::bad_request(refusal.to_string()),
            RankError::Stopped => Self::unavailable(error.to_string()),
        }
    }
}

/// What all parts of one answer have in common.
pub(super) struct Answer {
    pub(super) api: Api,
    pub(super) model: Arc<PodModel>,
    pub(super) output_tokens: usize,
    rank: Arc<Rank>,
    id: String,
    created: u64,
    model_name: String,
    prompt_tokens: usize,
    cached_tokens: usize,
    arrival: Option<Instant>,
}

impl Answer {
    fn new(api: Api, state: &PodState, ask: &Ask, rank: Arc<Rank>, arrival: Instant) -> Self {
        let number = state.requests.fetch_add(1, Ordering::Relaxed);
        let prefix = if api == Api::Completions { "cmpl" } else { "chatcmpl" };
        Self {
            api,
            model: state.config.model.clone(),
            output_tokens: ask.output_tokens,
            rank,
            id: format!("{prefix}-{number}"),
            created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            model_name: ask.model.clone(),
            prompt_tokens: ask.prompts.iter().map(|prompt| prompt.len()).sum(),
            cached_tokens: 0,
            arrival: Some(arrival),
        }
    }

    /// Notes a choice's first token.
    pub(super) fn first_token(&mut self, progress: Progress) {
        self.cached_tokens += progress.cached_tokens;
        if let Some(arrival) = self.arrival.take() {
            self.rank.observe_first_token(arrival.elapsed());
        }
    }

    pub(super) fn usage(&self, completion_tokens: usize) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
            "completion_tokens": completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        })
    }

    /// The object around choices; `object` as in `chat.completion.chunk`.
    pub(super) fn object(&self, object: &str, choices: Value) -> Value {
        json!({"id": self.id, "object": object, "created": self.created, "model": self.model_name,
            "choices": choices})
    }
}

async fn collect(mut answer: Answer, receivers: Vec<mpsc::Receiver<Progress>>) -> Result<Response, ApiError> {
    let mut choices = Vec::with_capacity(receivers.len());
    let completion_tokens = answer.output_tokens * receivers.len();
    for (index, mut receiver) in receivers.into_iter().enumerate() {
        let mut text = String::new();
        for position in 0..answer.output_tokens {
            let Some(progress) = receiver.recv().await else {
                return Err(ApiError::unavailable("the engine has stopped"));
            };
            if position == 0 {
                answer.first_token(progress);
            }
            text.push_str(answer.model.text(progress.token));
        }
        choices.push(match answer.api {
            Api::Completions => {
                json!({"index": index, "text": text, "logprobs": null, "finish_reason": "length",
                "stop_reason": null, "prompt_logprobs": null})
            }
            Api::ChatCompletions => json!({"index": index, "message": {"role": "assistant", "content": text,
                "tool_calls": []}, "logprobs": null, "finish_reason": "length", "stop_reason": null}),
        });
    }
    let object = match answer.api {
        Api::Completions => "text_completion",
        Api::ChatCompletions => "chat.completion",
    };
    let mut body = answer.object(object, Value::Array(choices));
    body["usage"] = answer.usage(completion_tokens);
    Ok(Json(body).into_response())
}
