//! The APIs that generate: a request in, its tokens out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use warmpath_core::request::Api;

use super::ask::Ask;
use super::stream::stream;
use super::{ApiError, read_json};
use crate::driver::{Progress, Rank, RankError};
use crate::engine::EngineRequest;
use crate::engine::step_time::OUTSIDE_ENGINE;
use crate::model::PodModel;
use crate::pod::PodState;

/// Answers a request of any API.
pub(super) async fn generate(
    api: Api,
    state: &Arc<PodState>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response, ApiError> {
    let arrival = Instant::now();
    let ask = Ask::read(api, headers, &read_json(body)?, &state.config)?;
    if ask.stream && !matches!(api, Api::Completions | Api::ChatCompletions) {
        return Err(ApiError::bad_request(format!(
            "the simulator does not stream answers of {}",
            api.path()
        )));
    }
    let rank = choose_rank(state, ask.rank).await?;
    let outside = state.config.pace.real(OUTSIDE_ENGINE);
    // A sleep of nothing would take a tick of the timer, a millisecond: an instant pod would be no such thing.
    if !outside.is_zero() {
        tokio::time::sleep(outside).await;
    }
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
        let prefix = match api {
            Api::Completions => "cmpl",
            Api::ChatCompletions => "chatcmpl",
            Api::Messages => "msg",
            Api::Responses => "resp",
            Api::Generate => "generate-tokens",
        };
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

/// A finished choice.
struct Choice {
    text: String,
    tokens: Vec<u32>,
}

async fn collect(mut answer: Answer, receivers: Vec<mpsc::Receiver<Progress>>) -> Result<Response, ApiError> {
    let mut choices = Vec::with_capacity(receivers.len());
    for mut receiver in receivers {
        let mut choice = Choice { text: String::new(), tokens: Vec::with_capacity(answer.output_tokens) };
        for position in 0..answer.output_tokens {
            let Some(progress) = receiver.recv().await else {
                return Err(ApiError::unavailable("the engine has stopped"));
            };
            choice.text.push_str(answer.model.text(progress.token));
            choice.tokens.push(progress.token);
            if position == 0 {
                answer.first_token(progress);
            }
        }
        choices.push(choice);
    }
    Ok(Json(whole(&answer, choices)).into_response())
}

/// The answer as its API words it.
fn whole(answer: &Answer, choices: Vec<Choice>) -> Value {
    let usage = answer.usage(answer.output_tokens * choices.len());
    let with_usage = |object: &str, choices: Vec<Value>| {
        let mut body = answer.object(object, Value::Array(choices));
        body["usage"] = usage.clone();
        body
    };
    let mut choices = choices.into_iter().enumerate();
    match answer.api {
        Api::Completions => {
            let choice = |(index, Choice { text, .. })| {
                json!({"index": index, "text": text, "logprobs": null, "finish_reason": "length",
                    "stop_reason": null, "prompt_logprobs": null})
            };
            with_usage("text_completion", choices.map(choice).collect())
        }
        Api::ChatCompletions => {
            let choice = |(index, Choice { text, .. })| {
                json!({"index": index, "message": {"role": "assistant", "content": text, "tool_calls": []},
                    "logprobs": null, "finish_reason": "length", "stop_reason": null})
            };
            with_usage("chat.completion", choices.map(choice).collect())
        }
        Api::Generate => {
            let choice = |(index, Choice { tokens, .. })| json!({"index": index, "logprobs": null, "finish_reason": "length", "token_ids": tokens});
            json!({"request_id": answer.id, "choices": choices.map(choice).collect::<Value>()})
        }
        // These have one answer, not choices.
        Api::Messages => {
            let text = choices.next().map(|(_, choice)| choice.text);
            json!({"id": answer.id, "type": "message", "role": "assistant", "model": answer.model_name,
                "content": [{"type": "text", "text": text}], "stop_reason": "max_tokens",
                "usage": {"input_tokens": answer.prompt_tokens, "output_tokens": answer.output_tokens}})
        }
        Api::Responses => {
            let text = choices.next().map(|(_, choice)| choice.text);
            let content = json!([{"type": "output_text", "text": text, "annotations": []}]);
            json!({"id": answer.id, "object": "response", "created_at": answer.created, "model": answer.model_name,
                "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
                "output": [{"type": "message", "role": "assistant", "status": "incomplete", "content": content}],
                "usage": {"input_tokens": answer.prompt_tokens, "output_tokens": answer.output_tokens,
                    "input_tokens_details": {"cached_tokens": answer.cached_tokens}}})
        }
    }
}
