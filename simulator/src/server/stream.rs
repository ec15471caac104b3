//! Answers as server-sent events, one per token.

use std::collections::VecDeque;

use axum::response::sse::{Event, Sse};
use futures::stream::{self, SelectAll, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use warmpath_core::request::Api;

use super::generate::Answer;
use crate::driver::Progress;

/// The engine ended in the middle of a stream: the connection is cut, as a crash would.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the engine has stopped")]
pub(super) struct Died;

/// Streams the tokens of all choices as they come.
pub(super) fn stream(
    answer: Answer,
    receivers: Vec<mpsc::Receiver<Progress>>,
    include_usage: bool,
) -> Sse<impl Stream<Item = Result<Event, Died>>> {
    let sent = vec![0; receivers.len()];
    let tokens = stream::select_all(receivers.into_iter().enumerate().map(|(choice, receiver)| {
        ReceiverStream::new(receiver).map(move |progress| (choice, progress)).boxed()
    }));
    let chunks = Chunks { answer, tokens, sent, include_usage, queue: VecDeque::new(), done: false };
    Sse::new(stream::unfold(chunks, |mut chunks| async move {
        let event = chunks.next().await?;
        Some((event, chunks))
    }))
}

struct Chunks {
    answer: Answer,
    tokens: SelectAll<stream::BoxStream<'static, (usize, Progress)>>,
    /// Tokens sent of each choice.
    sent: Vec<usize>,
    include_usage: bool,
    queue: VecDeque<Event>,
    done: bool,
}

impl Chunks {
    async fn next(&mut self) -> Option<Result<Event, Died>> {
        if let Some(event) = self.queue.pop_front() {
            return Some(Ok(event));
        }
        if self.done {
            return None;
        }
        match self.tokens.next().await {
            Some((choice, progress)) => self.token(choice, progress),
            None if self.sent.iter().all(|sent| *sent == self.answer.output_tokens) => self.finish(),
            None => {
                self.done = true;
                return Some(Err(Died));
            }
        }
        self.queue.pop_front().map(Ok)
    }

    fn token(&mut self, choice: usize, progress: Progress) {
        let first = self.sent[choice] == 0;
        self.sent[choice] += 1;
        let reason = (self.sent[choice] == self.answer.output_tokens).then_some("length");
        if first {
            self.answer.first_token(progress);
        }
        let model = self.answer.model.clone();
        let text = model.text(progress.token);
        let chunk = match self.answer.api {
            Api::Completions => {
                json!([{"index": choice, "text": text, "logprobs": null, "finish_reason": reason,
                "stop_reason": null}])
            }
            _ => {
                if first {
                    let delta = json!({"role": "assistant", "content": ""});
                    let opening =
                        json!([{"index": choice, "delta": delta, "logprobs": null, "finish_reason": null}]);
                    self.push(opening, None);
                }
                json!([{"index": choice, "delta": {"content": text}, "logprobs": null, "finish_reason": reason}])
            }
        };
        self.push(chunk, None);
    }

    fn finish(&mut self) {
        self.done = true;
        if self.include_usage {
            let usage = self.answer.usage(self.sent.iter().sum());
            self.push(json!([]), Some(usage));
        }
        self.queue.push_back(Event::default().data("[DONE]"));
    }

    fn push(&mut self, choices: Value, usage: Option<Value>) {
        let object = match self.answer.api {
            Api::Completions => "text_completion",
            _ => "chat.completion.chunk",
        };
        let mut chunk = self.answer.object(object, choices);
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        self.queue.push_back(Event::default().data(chunk.to_string()));
    }
}
