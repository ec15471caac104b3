//! One stream of asks: read, answered and written by one task, without a channel in between.
//!
//! A pick is answered while its message is read, so that it costs one turn of the task. A prompt is keyed on other threads
//! and answered when that is done; picks go on meanwhile.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::task::JoinSet;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status, Streaming};
use warmpath_proto::v1::ask_request::Ask;
use warmpath_proto::v1::{AskRequest, AskResponse, PickResponse};

use super::Picker;

/// Prompts of one stream that are under way. Each holds a body, and more than a few wait for a thread anyway: a prompt
/// over the limit is answered RESOURCE_EXHAUSTED at once, and counted as `busy` in `warmpath_prompts`.
pub const PROMPTS_MAX: usize = 64;

/// The answers to what comes on one stream.
pub struct Asks {
    picker: Picker,
    asked: Streaming<AskRequest>,
    prompts: JoinSet<AskResponse>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The process ends: what has arrived is answered, nothing more is waited for.
    stopping: bool,
    /// Nothing more will be asked.
    ended: bool,
}

impl Asks {
    pub(super) fn new(picker: Picker, asked: Streaming<AskRequest>) -> Self {
        let stop = Box::pin(picker.shutdown.clone().cancelled_owned());
        Self { picker, asked, prompts: JoinSet::new(), stop, stopping: false, ended: false }
    }

    /// The answer, if there is one now.
    fn take(&mut self, request: AskRequest) -> Option<AskResponse> {
        let id = request.id;
        match request.ask {
            Some(Ask::Pick(pick)) => Some(answered(id, Ok(self.picker.answer(pick)))),
            Some(Ask::Reports(reports)) => {
                self.picker.note_reports(reports);
                None
            }
            Some(Ask::Prompt(_)) if self.prompts.len() >= PROMPTS_MAX => {
                self.picker.prompts.refused(&self.picker.metrics);
                Some(answered(id, Err(Status::resource_exhausted("prompts"))))
            }
            Some(Ask::Prompt(prompt)) => {
                let picker = self.picker.clone();
                self.prompts.spawn(async move { answered(id, picker.answer_prompt(prompt).await) });
                None
            }
            // Of a later version.
            None => Some(answered(id, Err(Status::unimplemented("ask")))),
        }
    }
}

fn answered(id: u64, answer: Result<PickResponse, Status>) -> AskResponse {
    match answer {
        Ok(pick) => AskResponse { id, status: Code::Ok as u32, pick: Some(pick) },
        Err(status) => AskResponse { id, status: status.code() as u32, pick: None },
    }
}

impl Stream for Asks {
    type Item = Result<AskResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match this.prompts.poll_join_next(context) {
                Poll::Ready(Some(Ok(answer))) => return Poll::Ready(Some(Ok(answer))),
                // It panicked: its asker gives up at a deadline of its own.
                Poll::Ready(Some(Err(error))) => {
                    log::error!("a prompt's answer was lost: {error}");
                    continue;
                }
                Poll::Ready(None) if this.ended => return Poll::Ready(None),
                Poll::Pending if this.ended => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => {}
            }
            this.stopping = this.stopping || this.stop.as_mut().poll(context).is_ready();
            match Pin::new(&mut this.asked).poll_next(context) {
                Poll::Ready(Some(Ok(request))) => {
                    if let Some(answer) = this.take(request) {
                        return Poll::Ready(Some(Ok(answer)));
                    }
                }
                Poll::Ready(Some(Err(status))) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(status)));
                }
                Poll::Ready(None) => this.ended = true,
                Poll::Pending if this.stopping => this.ended = true,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
