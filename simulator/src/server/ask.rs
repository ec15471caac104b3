//! What a generation request asks for.

use std::sync::Arc;

use axum::http::HeaderMap;
use serde_json::Value;
use warmpath_core::request::Api;

use super::ApiError;
use crate::config::PodConfig;
use crate::engine::Scope;

/// vLLM's default `max_tokens` for completions.
const COMPLETION_TOKENS: usize = 16;
/// Prompts in one body.
const PROMPTS_MAX: usize = 1024;

/// A request, read.
pub(super) struct Ask {
    /// The model's name, for the answer.
    pub(super) model: String,
    /// Token ids of each prompt.
    pub(super) prompts: Vec<Arc<[u32]>>,
    /// Tokens to generate for each prompt.
    pub(super) output_tokens: usize,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) scope: Arc<Scope>,
    /// `X-data-parallel-rank`
    pub(super) rank: Option<usize>,
}

impl Ask {
    pub(super) fn read(
        api: Api,
        headers: &HeaderMap,
        body: &Value,
        config: &PodConfig,
    ) -> Result<Self, ApiError> {
        let model = body["model"].as_str().unwrap_or(&config.model.config.name).to_owned();
        let lora = config.model.lora(body["model"].as_str()).map_err(|_| ApiError::unknown_model(&model))?;
        let prompts = prompts(api, body, config)?;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let session_id = body["session_id"].as_str().or_else(|| header("x-session-id"));
        Ok(Self {
            model,
            output_tokens: output_tokens(api, body, &prompts, config)?,
            prompts,
            stream: body["stream"].as_bool().unwrap_or(false),
            include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            scope: Arc::new(Scope {
                lora,
                cache_salt: body["cache_salt"].as_str().filter(|salt| !salt.is_empty()).map(str::to_owned),
                session_id: session_id.map(str::to_owned),
            }),
            rank: header("x-data-parallel-rank").and_then(|rank| rank.parse().ok()),
        })
    }
}

fn prompts(api: Api, body: &Value, config: &PodConfig) -> Result<Vec<Arc<[u32]>>, ApiError> {
    let tokens = |body: &Value| {
        let tokens =
            config.model.tokens(api, body).map_err(|pass| ApiError::bad_request(pass.to_string()))?;
        Ok(Arc::from(tokens))
    };
    // A list of prompts, as opposed to one prompt of token ids.
    let several =
        body["prompt"].as_array().filter(|list| list.first().is_some_and(|first| !first.is_number()));
    match several.filter(|_| api == Api::Completions) {
        None => Ok(vec![tokens(body)?]),
        Some(list) if list.len() > PROMPTS_MAX => {
            Err(ApiError::bad_request(format!("more than {PROMPTS_MAX} prompts")))
        }
        Some(list) => list
            .iter()
            .map(|prompt| {
                let mut single = body.clone();
                single["prompt"] = prompt.clone();
                tokens(&single)
            })
            .collect(),
    }
}

fn output_tokens(
    api: Api,
    body: &Value,
    prompts: &[Arc<[u32]>],
    config: &PodConfig,
) -> Result<usize, ApiError> {
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
    let context = config.model.config.max_model_len as usize;
    let room = context.saturating_sub(longest);
    let fields = match api {
        Api::Completions | Api::Messages => vec![&body["max_tokens"]],
        Api::ChatCompletions => vec![&body["max_completion_tokens"], &body["max_tokens"]],
        Api::Responses => vec![&body["max_output_tokens"]],
        Api::Generate => vec![&body["sampling_params"]["max_tokens"]],
    };
    let field = fields.into_iter().find(|value| !value.is_null());
    let default = match api {
        Api::Completions => COMPLETION_TOKENS,
        _ => config.chat_output_tokens,
    };
    let wanted = match field {
        None => default.min(room),
        Some(value) => match value.as_u64() {
            Some(0) | None => return Err(ApiError::bad_request("max_tokens must be at least 1.")),
            Some(wanted) => usize::try_from(wanted).unwrap_or(usize::MAX),
        },
    };
    if wanted == 0 || wanted > room {
        return Err(ApiError::bad_request(format!(
            "This model's maximum context length is {context} tokens. However, you requested {wanted} output tokens \
             and your prompt contains at least {longest} input tokens."
        )));
    }
    Ok(wanted)
}
