//! One request: its phases and every transition between them.
//!
//! ```text
//! Idle --headers--> Gone                     not ours, or nothing to steer it by
//!   \--headers--> Collecting --end of body--> Asking --answer--> Gone
//!                      \--too large, unreadable, no keys--> Gone
//! any --log, done--> Over
//! ```
//!
//! While a request is in `Collecting` or `Asking`, Envoy holds what `Hold` says. Every way out of these two phases
//! goes through `Stream::go`, so a held request is released exactly once: by returning [`Flow::Go`] from the callback
//! that decides, or by `resume_request` when the answer decides, or by Envoy itself when the stream ends. A callback
//! that does not belong to the phase changes nothing and is counted.
//!
//! Which host calls are legal follows from the phase: request headers can be written in the headers callback and while
//! `Hold::Headers` lasts; filter state can be written until the stream is over.
//!
//! Here are the request's callbacks and the phases; `stream/ask.rs` makes the callout and reads its answer,
//! `stream/response.rs` follows the response for reports.

mod ask;
mod response;

pub use ask::AskEnd;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use warmpath_core::definition::Mode;
use warmpath_core::pass::PassReason;
use warmpath_core::request::Api;

use crate::config::{Config, Steer};
use crate::host::{Host, HostResult};
use crate::line::Asker;
use crate::metrics::{Counter, Histogram};
use crate::outcome::{Outcome, Reason};
use crate::vm::Vm;

/// Where Envoy's `override_host` policy looks for endpoints.
pub const ENDPOINT_HEADER: &str = "x-gateway-destination-endpoint";
/// Marks requests that the filter is done with, for the route that has long timeouts.
pub const MARK_HEADER: &str = "x-warmpath";
/// Which of the data-parallel ranks behind one HTTP port serves the request: vLLM's own header. A client's is replaced
/// where a pick names the rank, and otherwise left alone: it is the engine's API.
pub const RANK_HEADER: &str = "x-data-parallel-rank";
/// Filter state `wasm.warmpath_rank`: the same in `steer: filter_state`.
pub const RANK_STATE: &str = "warmpath_rank";
/// Filter state `wasm.kv_endpoint`: the endpoint list in `steer: filter_state`.
pub const ENDPOINT_STATE: &str = "kv_endpoint";
/// Filter state for access logs: [`Outcome::label`].
pub const REASON_STATE: &str = "warmpath_reason";
/// Filter state for access logs: matched blocks of the best endpoint, `/`, keys asked for.
pub const MATCH_STATE: &str = "warmpath_match";
/// Filter state for access logs: the best endpoint.
pub const PICKED_STATE: &str = "warmpath_endpoint";

/// Body copies that all observed requests of a VM may hold together, in bytes. A VM's memory never shrinks and ends
/// at 1 GiB. (Held bodies are Envoy's: the VM sees each only while its keys are made.)
pub const COPIED_BYTES_MAX: usize = 64 << 20;

/// What Envoy shall do with the request after a callback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Go on.
    Go,
    /// Wait.
    Hold,
}

/// What Envoy holds back until the filter is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hold {
    /// Headers and body (`steer: header`).
    Headers,
    /// The body; the headers wait in the `buffer` filter (`steer: filter_state`).
    Body,
    /// Nothing: the request is only observed.
    Nothing,
}

#[derive(Debug)]
enum Phase {
    /// No callback yet.
    Idle,
    /// The body arrives. `copy` is used when nothing is held; `bytes` is the body's length so far.
    Collecting { api: Api, hold: Hold, bytes: usize, copy: Vec<u8> },
    /// The sidecar has been asked for an endpoint by `keys` keys.
    Asking { id: u64, hold: Hold, keys: usize, asked: Duration, body_end: Duration },
    /// The request is on its way; nothing more is done to it.
    Gone,
    /// The stream has ended.
    Over,
}

impl Phase {
    fn holds(&self) -> Hold {
        match self {
            Self::Collecting { hold, .. } | Self::Asking { hold, .. } => *hold,
            Self::Idle | Self::Gone | Self::Over => Hold::Nothing,
        }
    }

    fn held(&self) -> bool {
        self.holds() != Hold::Nothing
    }
}

/// What has to be reported of a pick.
#[derive(Debug)]
struct Pick {
    id: u64,
    endpoint: String,
    status: u32,
    first_byte_us: u64,
}

/// What an ask passes on so that the sidecar's logs can be matched with the client's.
#[derive(Default, Debug)]
struct Trace {
    request_id: Vec<u8>,
    traceparent: Vec<u8>,
}

/// One request.
pub struct Stream {
    vm: Rc<Vm>,
    /// By which the line to the sidecar finds it again.
    asker: Asker,
    /// The configuration that was in force when the request came; none if it is bad.
    config: Option<Rc<Config>>,
    phase: Phase,
    headers_end: Duration,
    trace: Trace,
    pick: Option<Pick>,
}

impl Stream {
    /// A request of which nothing is known yet, with the number of its context in Envoy.
    pub fn new(vm: Rc<Vm>, context: u32) -> Rc<RefCell<Self>> {
        Rc::new_cyclic(|stream| {
            RefCell::new(Self {
                config: vm.config(),
                vm,
                asker: Asker { context, stream: stream.clone() },
                phase: Phase::Idle,
                headers_end: Duration::ZERO,
                trace: Trace::default(),
                pick: None,
            })
        })
    }

    /// Whether Envoy waits for the filter.
    #[cfg(test)]
    pub(crate) fn is_held(&self) -> bool {
        self.phase.held()
    }

    /// The request's headers. Here every header may be read and written.
    pub fn on_request_headers(&mut self, host: &dyn Host, end_of_stream: bool) -> Flow {
        if !matches!(self.phase, Phase::Idle) {
            return self.wrong_phase(host, "request headers");
        }
        self.headers_end = host.now();
        for header in [ENDPOINT_HEADER, MARK_HEADER] {
            self.strip(host, header);
        }
        let marks = self.config.as_ref().is_none_or(|config| config.steer == Steer::Header);
        match self.admit(host, end_of_stream) {
            Ok((api, hold)) => {
                if marks && hold == Hold::Nothing {
                    self.mark(host, "passed");
                }
                self.go(host, Phase::Collecting { api, hold, bytes: 0, copy: Vec::new() });
                if hold == Hold::Headers { Flow::Hold } else { Flow::Go }
            }
            Err(reason) => {
                if marks {
                    self.mark(host, "passed");
                }
                self.pass(host, reason)
            }
        }
    }

    /// Part of the body. `bytes` is the whole body so far while it is held, else this part alone.
    pub fn on_request_body(&mut self, host: &dyn Host, bytes: usize, end_of_stream: bool) -> Flow {
        match &self.phase {
            Phase::Collecting { .. } => {}
            Phase::Gone => return Flow::Go,
            _ => return self.wrong_phase(host, "request body"),
        }
        if let Err(reason) = self.collect(host, bytes) {
            return self.pass(host, reason);
        }
        match end_of_stream {
            true => self.ask_or_pass(host),
            false => self.flow(),
        }
    }

    /// The request's trailers: the body before them had no end of its own.
    pub fn on_request_trailers(&mut self, host: &dyn Host) -> Flow {
        match &self.phase {
            Phase::Collecting { .. } => self.ask_or_pass(host),
            Phase::Gone => Flow::Go,
            _ => self.wrong_phase(host, "request trailers"),
        }
    }

    /// Whether a request is taken on, or why not.
    fn admit(&mut self, host: &dyn Host, end_of_stream: bool) -> Result<(Api, Hold), Reason> {
        let config = self.config.as_deref().ok_or(Reason::ConfigError)?;
        let header = |name| host.request_header(name).map_err(|_| Reason::HostError);
        if header(":method")?.as_deref() != Some(b"POST") {
            return Err(Reason::Method);
        }
        let path = header(":path")?.unwrap_or_default();
        let path = std::str::from_utf8(&path).map_err(|_| Reason::Path)?;
        let path = path.split('?').next().unwrap_or(path);
        let api = Api::from_path(path).filter(|_| config.paths.iter().any(|held| held == path));
        let api = api.ok_or(Reason::Path)?;
        let mode = self.vm.mode(config);
        if mode == Mode::Off {
            return Err(Reason::ModeOff);
        }
        if !self.vm.models.borrow().ready() {
            return Err(Reason::NotReady);
        }
        match header("content-encoding")? {
            Some(encoding) if !encoding.eq_ignore_ascii_case(b"identity") => {
                return Err(Reason::ContentEncoding);
            }
            _ => {}
        }
        if end_of_stream {
            // No body is no JSON either.
            return Err(Reason::Prompt(PassReason::MalformedJson));
        }
        let length = header("content-length")?.unwrap_or_default();
        let length = std::str::from_utf8(&length).ok().and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length > config.body_bytes_max.as_u64()) {
            return Err(Reason::BodyTooLarge);
        }
        self.trace = Trace {
            request_id: header("x-request-id")?.unwrap_or_default(),
            traceparent: header("traceparent")?.unwrap_or_default(),
        };
        let hold = match (mode, config.steer) {
            (Mode::Steer, Steer::Header) => Hold::Headers,
            (Mode::Steer, Steer::FilterState) => Hold::Body,
            (Mode::Observe | Mode::Off, _) => Hold::Nothing,
        };
        Ok((api, hold))
    }

    /// Takes note of the body so far.
    fn collect(&mut self, host: &dyn Host, seen: usize) -> Result<(), Reason> {
        let config = self.config.clone().ok_or(Reason::ConfigError)?;
        let Phase::Collecting { hold, bytes, copy, .. } = &mut self.phase else {
            return Err(Reason::HostError);
        };
        let total = if *hold == Hold::Nothing { bytes.saturating_add(seen) } else { seen };
        if total as u64 > config.body_bytes_max.as_u64() {
            return Err(Reason::BodyTooLarge);
        }
        if *hold == Hold::Nothing && seen > 0 {
            if self.vm.copied_bytes.get().saturating_add(seen) > COPIED_BYTES_MAX {
                return Err(Reason::CopyLimit);
            }
            let part = host.request_body(seen).map_err(|_| Reason::HostError)?;
            self.vm.copied_bytes.set(self.vm.copied_bytes.get() + part.len());
            copy.extend_from_slice(&part);
        }
        *bytes = total;
        Ok(())
    }

    /// The body is complete.
    fn ask_or_pass(&mut self, host: &dyn Host) -> Flow {
        match self.ask(host) {
            Ok(asking) => {
                self.go(host, asking);
                self.flow()
            }
            Err(reason) => self.pass(host, reason),
        }
    }

    /// Lets the request go on unsteered. (After an answer, the caller resumes it.)
    fn pass(&mut self, host: &dyn Host, reason: Reason) -> Flow {
        if self.phase.holds() == Hold::Headers {
            self.mark(host, "passed");
        }
        if reason == Reason::HostError {
            self.vm.count(host, Counter::HostErrors);
        }
        self.vm.count_pass(host, reason);
        self.set_state(host, REASON_STATE, Outcome::Passed(reason).label());
        self.go(host, Phase::Gone);
        Flow::Go
    }

    /// The only place where the phase changes.
    fn go(&mut self, host: &dyn Host, next: Phase) {
        let old = std::mem::replace(&mut self.phase, next);
        if let Phase::Asking { id, .. } = &old {
            self.vm.line.borrow_mut().forget(*id);
        }
        if let Phase::Collecting { copy, .. } = &old {
            self.give_back(copy.len());
        }
        match (old.held(), self.phase.held()) {
            (false, true) => self.vm.count(host, Counter::Held),
            (true, false) => {
                self.vm.count(host, Counter::Released);
                if let Phase::Asking { body_end, .. } = old {
                    self.vm.record_since(host, Histogram::HeldUs, body_end);
                }
            }
            _ => {}
        }
    }

    /// What the phase means for the callback that has just run.
    fn flow(&self) -> Flow {
        if self.phase.held() { Flow::Hold } else { Flow::Go }
    }

    fn wrong_phase(&self, host: &dyn Host, callback: &str) -> Flow {
        log::debug!("{callback} in phase {:?}: ignored", self.phase);
        self.vm.count(host, Counter::WrongPhase);
        self.flow()
    }

    fn give_back(&self, copied: usize) {
        self.vm.copied_bytes.set(self.vm.copied_bytes.get().saturating_sub(copied));
    }

    /// A client could choose its own endpoint or route by sending our headers.
    fn strip(&self, host: &dyn Host, header: &str) {
        // Looked up first: every write makes Envoy look for the route anew.
        if let Some(Some(_)) = self.checked(host, host.request_header(header)) {
            let removed = host.set_request_header(header, None);
            self.checked(host, removed);
        }
    }

    fn mark(&self, host: &dyn Host, value: &str) {
        let marked = host.set_request_header(MARK_HEADER, Some(value));
        self.checked(host, marked);
    }

    fn set_state(&self, host: &dyn Host, key: &str, value: &str) {
        let set = host.set_property(key, value);
        self.checked(host, set);
    }

    /// A result whose failure changes nothing but a counter.
    fn checked<T>(&self, host: &dyn Host, result: HostResult<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                log::warn!("{error}");
                self.vm.count(host, Counter::HostErrors);
            })
            .ok()
    }
}
