//! Prompts that are turned into keys here: the same code that filters run, on threads of their own.
//!
//! What waits is bounded twice, by the number of prompts at once and by a deadline. Work that has begun goes on past the
//! deadline, and its place is free only when it ends: a flood of large prompts cannot take more threads than there are
//! places.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Semaphore;
use tonic::Status;
use warmpath_core::model::{Model, PromptKeys};
use warmpath_core::pass::{Pass, PassReason};
use warmpath_core::request::{self, Api};

use crate::config::PromptsConfig;
use crate::metrics::{Metrics, PromptLabels};

/// Turns bodies into keys.
#[derive(Clone, Debug)]
pub struct Prompts {
    places: Arc<Semaphore>,
    deadline: Duration,
}

impl Prompts {
    /// With the bounds of the configuration.
    pub fn new(config: &PromptsConfig) -> Self {
        Self { places: Arc::new(Semaphore::new(config.at_once)), deadline: config.deadline }
    }

    /// Keys of a request to `model`, or why it has none.
    ///
    /// # Errors
    /// DEADLINE_EXCEEDED when it takes longer than it may.
    pub(super) async fn keys(
        &self,
        model: Arc<Model>,
        path: String,
        body: Vec<u8>,
        metrics: &Metrics,
    ) -> Result<Result<PromptKeys, PassReason>, Status> {
        let start = Instant::now();
        let places = Arc::clone(&self.places);
        let work = async move {
            let place = places.acquire_owned().await.map_err(|error| Status::internal(error.to_string()))?;
            let work = move || {
                let keys = keys(&model, &path, &body);
                drop(place);
                keys
            };
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|_| Status::internal("the prompt's work ended early"))
        };
        let result = tokio::time::timeout(self.deadline, work).await.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded("the prompt was not turned into keys within prompts.deadline"))
        });
        let outcome = match &result {
            Ok(Ok(_)) => "keyed",
            Ok(Err(pass)) => pass.reason.label(),
            Err(_) => "deadline",
        };
        metrics.prompts.get_or_create(&PromptLabels { outcome }).inc();
        metrics.prompt_seconds.observe(start.elapsed().as_secs_f64());
        Ok(result?.map_err(|pass| pass.reason))
    }

    /// Counts a prompt that was not taken on.
    pub(super) fn refused(&self, metrics: &Metrics) {
        metrics.prompts.get_or_create(&PromptLabels { outcome: "busy" }).inc();
    }
}

fn keys(model: &Model, path: &str, body: &[u8]) -> Result<PromptKeys, Pass> {
    let api = Api::from_path(path).ok_or_else(|| {
        Pass::new(PassReason::UnsupportedField, "path: not of an API whose prompts can be keyed")
    })?;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
    let now = since.and_then(|since| i64::try_from(since.as_secs()).ok());
    model.keys(&request::parse(api, body)?, now)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use warmpath_core::definition::ModelDefinition;
    use warmpath_core::model::Model;
    use warmpath_core::tokenizer::HfTokenizer;

    use super::Prompts;
    use crate::config::PromptsConfig;
    use crate::metrics::Metrics;

    /// The only place is taken and stays so: the deadline ends the wait, however slow the machine is.
    #[tokio::test]
    async fn a_prompt_that_takes_too_long_is_answered_at_its_deadline() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/tests/data/tokenizer.json");
        let tokenizer = Box::new(HfTokenizer::from_json(&std::fs::read(file).unwrap()).unwrap());
        let model = Arc::new(Model::load(ModelDefinition::default(), tokenizer, None).unwrap());
        let config =
            PromptsConfig { at_once: 1, deadline: Duration::from_millis(5), ..PromptsConfig::default() };
        let prompts = Prompts::new(&config);
        let place = prompts.places.clone().acquire_owned().await.unwrap();
        let metrics = Metrics::default();
        let ask = || prompts.keys(model.clone(), "/v1/completions".to_owned(), b"{}".to_vec(), &metrics);
        assert_eq!(ask().await.unwrap_err().code(), tonic::Code::DeadlineExceeded);
        let counted = metrics.prompts.get_or_create(&super::PromptLabels { outcome: "deadline" }).get();
        assert_eq!(counted, 1);
        drop(place);
    }
}
