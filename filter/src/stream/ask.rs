//! The callout of one request: from its body to the sidecar's answer, and what the answer makes Envoy do.

use std::time::Duration;

use warmpath_core::definition::{ModelDefinition, Overflow};
use warmpath_core::pass::Pass;
use warmpath_core::request::{self, Api};

use super::{ENDPOINT_HEADER, ENDPOINT_STATE, Hold, Phase, Pick, RANK_HEADER, RANK_STATE, Stream};
use crate::catalog::Serving;
use crate::config::Config;
use crate::host::{GrpcCall, Host};
use crate::metrics::{Counter, Histogram};
use crate::outcome::Reason;
use crate::pick::{self, Answer, Question};

/// gRPC status DEADLINE_EXCEEDED.
const DEADLINE_EXCEEDED: u32 = 4;
/// A failed callout counts as timed out from this share of `callout_timeout` on. Not from the whole: Envoy starts the
/// timer at the time at which its event loop woke up, and something may have been done before the body's end came.
const TIMED_OUT_SHARE: f64 = 0.75;

/// A callout that is ready to be sent.
struct Asking {
    method: &'static str,
    message: Vec<u8>,
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
        // Envoy's clock stands still while the keys are made: without them, a long prompt would leave the sidecar less.
        let timeout = config.callout_timeout + asked.saturating_sub(body_end);
        let token = self.send(host, &config, &asking, timeout)?;
        Ok(Phase::Asking { token, hold, keys: asking.keys, asked, body_end })
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
            let message = pick::encode_prompt(question, api, body);
            Ok(Asking { method: pick::PICK_PROMPT_METHOD, message, keys: 0 })
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
        let message = pick::encode(question, &prompt, config.keys_max);
        Ok(Asking { method: pick::PICK_METHOD, message, keys: prompt.keys.len().min(config.keys_max) })
    }

    fn send(
        &self,
        host: &dyn Host,
        config: &Config,
        asking: &Asking,
        timeout: Duration,
    ) -> Result<u32, Reason> {
        let service = pick::grpc_service(&config.pick_cluster).ok_or(Reason::ConfigError)?;
        let metadata = [("x-request-id", &self.trace.request_id), ("traceparent", &self.trace.traceparent)];
        let metadata = metadata.into_iter().filter(|(_, value)| !value.is_empty());
        let call = GrpcCall {
            service: &service,
            method: asking.method,
            metadata: metadata.map(|(name, value)| (name, value.as_slice())).collect(),
            message: &asking.message,
            timeout,
        };
        // Refused by Envoy: no such cluster, no endpoint, or its circuit breaker is full. No answer will come.
        host.grpc_call(&call).map_err(|error| {
            log::debug!("pick: {error}");
            Reason::CalloutError
        })
    }

    /// Whether the callout went well. Envoy gives UNAVAILABLE for its own timeouts as for refused connections, so the
    /// clock tells them apart.
    pub(super) fn judge_callout(
        &self,
        host: &dyn Host,
        config: &Config,
        status: u32,
        asked: Duration,
    ) -> Result<(), Reason> {
        let mut breaker = self.vm.breaker.borrow_mut();
        let now = host.now();
        if status == 0 {
            breaker.answered();
            return Ok(());
        }
        let waited = now.saturating_sub(asked);
        if status == DEADLINE_EXCEEDED || waited >= config.callout_timeout.mul_f64(TIMED_OUT_SHARE) {
            if breaker.timed_out(&config.breaker, now) {
                log::warn!("the sidecar does not answer; it is not asked for {:?}", config.breaker.open_for);
                self.vm.count(host, Counter::BreakerOpened);
            }
            return Err(Reason::CalloutTimeout);
        }
        breaker.answered();
        Err(Reason::CalloutError)
    }

    /// Reads the sidecar's answer and takes note of what has to be reported.
    pub(super) fn read_answer(&mut self, host: &dyn Host, bytes: usize) -> Result<Answer, Reason> {
        if bytes > pick::ANSWER_BYTES_MAX {
            return Err(Reason::CalloutError);
        }
        let message = match bytes {
            0 => Vec::new(),
            _ => host.grpc_message(bytes).map_err(|_| Reason::HostError)?,
        };
        let answer = pick::decode(&message)?;
        self.pick = (answer.pick_id != 0).then_some(Pick {
            id: answer.pick_id,
            endpoint: String::new(),
            status: 0,
            first_byte_us: 0,
        });
        Ok(answer)
    }

    /// Writes the endpoints where Envoy's load balancer will look for them.
    pub(super) fn steer(&self, host: &dyn Host, hold: Hold, answer: &Answer) -> Result<(), Reason> {
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
