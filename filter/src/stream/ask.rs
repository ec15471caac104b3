//! The callout of one request: from its body to the sidecar's answer, and what the answer makes Envoy do.

use prost::Message;
use warmpath_core::definition::{ModelDefinition, Overflow};
use warmpath_core::pass::Pass;
use warmpath_core::request::{self, Api};
use warmpath_proto::v1::ask_request::Ask;
use warmpath_proto::v1::{AskRequest, AskResponse, PickResponse};

use super::{
    ENDPOINT_HEADER, ENDPOINT_STATE, Hold, MATCH_STATE, PICKED_STATE, Phase, Pick, RANK_HEADER, RANK_STATE,
    REASON_STATE, Stream,
};
use crate::catalog::Serving;
use crate::config::Config;
use crate::host::Host;
use crate::metrics::{Counter, Histogram};
use crate::outcome::{Outcome, Reason};
use crate::pick::{self, Answer, Question};

/// gRPC status DEADLINE_EXCEEDED.
const DEADLINE_EXCEEDED: u32 = 4;

/// How an ask ended.
#[derive(Debug)]
pub enum AskEnd {
    /// With a message of the sidecar.
    Answered(AskResponse),
    /// At its deadline.
    Overdue,
    /// With the stream, which the sidecar or Envoy closed.
    Closed,
    /// With the stream, which the filter gave up.
    GivenUp,
}

/// A callout that is ready to be sent.
struct Asking {
    ask: Ask,
    /// Keys in it; 0 where the sidecar makes them.
    keys: usize,
}

impl Stream {
    /// Makes the keys and sends the pick; the phase that waits for its answer.
    pub(super) fn ask(&mut self, host: &dyn Host) -> Result<Phase, Reason> {
        let config = self.config.clone().ok_or(Reason::ConfigError)?;
        let Phase::Collecting { api, hold, bytes, copy } = &mut self.phase else {
            return Err(Reason::HostError);
        };
        let body_end = host.now();
        // Before the breaker is asked, which lets one through: nothing could be sent.
        if !self.vm.line.borrow().is_open() {
            let breaker_open = self.vm.breaker.borrow().is_open();
            return Err(if breaker_open { Reason::BreakerOpen } else { Reason::CalloutError });
        }
        if !self.vm.breaker.borrow_mut().allow(&config.breaker, body_end) {
            return Err(Reason::BreakerOpen);
        }
        let (api, hold) = (*api, *hold);
        let body = match hold {
            Hold::Nothing => std::mem::take(copy),
            _ if *bytes == 0 => Vec::new(),
            _ => host.request_body(*bytes).map_err(|_| Reason::HostError)?,
        };
        self.give_back(if hold == Hold::Nothing { body.len() } else { 0 });
        let asking = self.question(host, &config, api, &body, hold == Hold::Nothing)?;
        self.vm.record_stall(host, Histogram::KeysUs, body_end);
        let asked = host.now();
        let Asking { ask, keys } = asking;
        let traceparent = String::from_utf8_lossy(&self.trace.traceparent).into_owned();
        let encode = |id| AskRequest { id, ask: Some(ask), traceparent }.encode_to_vec();
        let deadline = asked + config.callout_timeout;
        let id = self.vm.line.borrow_mut().ask(host, self.asker.clone(), deadline, encode)?;
        Ok(Phase::Asking { id, hold, keys, asked, body_end })
    }

    /// What to ask about a body: its keys, or, where the model says so, the body itself.
    fn question(
        &self,
        host: &dyn Host,
        config: &Config,
        api: Api,
        body: &[u8],
        observe: bool,
    ) -> Result<Asking, Reason> {
        let request_id = String::from_utf8_lossy(&self.trace.request_id);
        let unkeyed = |pass: Pass| {
            log::debug!("request {request_id}: {pass}");
            Reason::Prompt(pass.reason)
        };
        let request = request::parse(api, body).map_err(unkeyed)?;
        let models = self.vm.models.borrow();
        let output_tokens_max = request.output_tokens_max;
        let hand_over = |definition: &ModelDefinition| {
            self.vm.count(host, Counter::PromptsSent);
            let question = Question::new(definition, &request_id, output_tokens_max, observe);
            Ok(Asking { ask: pick::by_prompt(question, api, body), keys: 0 })
        };
        let model = match models.serving(request.model.as_deref())? {
            Serving::Here(model) => model,
            Serving::Sidecar(definition) => return hand_over(definition),
        };
        let definition = model.definition();
        let overflows = definition.overflow == Overflow::Sidecar;
        if overflows && body.len() as u64 > definition.limits.bytes_max {
            return hand_over(definition);
        }
        let before = model.stats();
        let prompt = model.keys(&request, Some(host.unix_seconds())).map_err(unkeyed);
        self.vm.count_caches(host, before, model.stats());
        let prompt = prompt?;
        if !prompt.complete && overflows {
            return hand_over(definition);
        }
        if !prompt.complete {
            self.vm.count(host, Counter::PromptsCut);
        }
        if prompt.keys.len() > config.keys_max {
            self.vm.count(host, Counter::KeysTruncated);
        }
        let question = Question::new(definition, &request_id, output_tokens_max, observe);
        let ask = pick::by_keys(question, &prompt, config.keys_max);
        Ok(Asking { ask, keys: prompt.keys.len().min(config.keys_max) })
    }

    /// The end of ask `id`: the sidecar's answer, or why there is none. The line acts for this request.
    pub fn on_pick_answer(&mut self, host: &dyn Host, id: u64, end: AskEnd) {
        let Phase::Asking { id: expected, hold, keys, asked, .. } = self.phase else {
            self.wrong_phase(host, "pick answer");
            return;
        };
        let Some(config) = self.config.clone().filter(|_| expected == id) else {
            self.wrong_phase(host, "pick answer");
            return;
        };
        self.vm.record_since(host, Histogram::CalloutUs, asked);
        let answer = self
            .judge(host, &config, end)
            .and_then(|response| self.read_answer(response))
            .and_then(|answer| self.steer(host, hold, &answer).map(|()| answer));
        match answer {
            Ok(answer) => {
                let keys = keys.max(answer.prompt_keys);
                self.set_state(host, MATCH_STATE, &format!("{}/{keys}", answer.match_blocks));
                self.set_state(host, PICKED_STATE, &answer.first);
                let (outcome, counter) = match hold {
                    Hold::Nothing => (Outcome::Observed, Counter::Observed),
                    Hold::Headers | Hold::Body => (Outcome::Steered, Counter::Picks),
                };
                self.set_state(host, REASON_STATE, outcome.label());
                self.vm.count(host, counter);
                self.go(host, Phase::Gone);
            }
            Err(reason) => {
                self.pass(host, reason);
            }
        }
        if hold != Hold::Nothing {
            let resumed = host.resume_request();
            self.checked(host, resumed);
        }
    }

    /// Whether the sidecar answered, and what that says of it.
    fn judge(&self, host: &dyn Host, config: &Config, end: AskEnd) -> Result<PickResponse, Reason> {
        let mut breaker = self.vm.breaker.borrow_mut();
        match end {
            AskEnd::Answered(AskResponse { status: 0, pick: Some(pick), .. }) => {
                breaker.answered();
                Ok(pick)
            }
            AskEnd::Overdue | AskEnd::Answered(AskResponse { status: DEADLINE_EXCEEDED, .. }) => {
                if breaker.timed_out(&config.breaker, host.now()) {
                    log::warn!(
                        "the sidecar does not answer; it is not asked for {:?}",
                        config.breaker.open_for
                    );
                    self.vm.count(host, Counter::BreakerOpened);
                }
                Err(Reason::CalloutTimeout)
            }
            AskEnd::Answered(_) | AskEnd::Closed => {
                breaker.answered();
                Err(Reason::CalloutError)
            }
            // Says nothing of the sidecar that was not known.
            AskEnd::GivenUp => Err(Reason::CalloutError),
        }
    }

    /// Reads the sidecar's answer and takes note of what has to be reported.
    fn read_answer(&mut self, response: PickResponse) -> Result<Answer, Reason> {
        let answer = pick::read(response)?;
        self.pick = (answer.pick_id != 0).then_some(Pick {
            id: answer.pick_id,
            endpoint: String::new(),
            status: 0,
            first_byte_us: 0,
        });
        Ok(answer)
    }

    /// Writes the endpoints where Envoy's load balancer will look for them.
    fn steer(&self, host: &dyn Host, hold: Hold, answer: &Answer) -> Result<(), Reason> {
        let failed = |_| Reason::HostError;
        let rank = answer.rank.map(|rank| rank.to_string());
        match hold {
            Hold::Headers => {
                if let Some(rank) = &rank {
                    host.set_request_header(RANK_HEADER, Some(rank)).map_err(failed)?;
                }
                host.set_request_header(ENDPOINT_HEADER, Some(&answer.header)).map_err(failed)?;
                self.mark(host, "steered");
                Ok(())
            }
            Hold::Body => {
                if let Some(rank) = &rank {
                    host.set_property(RANK_STATE, rank).map_err(failed)?;
                }
                host.set_property(ENDPOINT_STATE, &answer.header).map_err(failed)
            }
            Hold::Nothing => Ok(()),
        }
    }
}
