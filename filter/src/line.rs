//! The line to the sidecar: one gRPC stream per VM, on which every request asks.
//!
//! Opening a stream costs Envoy more than everything else about a pick, so the root context opens one and keeps it. A
//! request's ask goes out under a number, its answer comes back to the root under the same one, in any order; the root then
//! acts for that request. What was asked ends in exactly one of these ways: answered, overdue (the root's tick looks), the
//! stream closed, or its request gone. Here is what waits and for how long; `root.rs` has the callbacks.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use hashbrown::HashMap;

use crate::clock::Clock;
use crate::host::{Host, HostResult};
use crate::outcome::Reason;
use crate::stream::Stream;

/// Method of [`warmpath_proto::v1::INDEXER_SERVICE`].
pub const METHOD: &str = "Ask";

/// Asks of a VM that have no answer yet, at most: at half a millisecond each, 8 would wait at 16,000 requests a second, so
/// this many wait only for a sidecar that has stopped, and then for [`crate::config::CALLOUT_TIMEOUT`]. Counted as passes
/// with the reason `line_full`.
pub const ASKS_MAX: usize = 1024;

/// Their bytes, which Envoy may have to keep: 16 bodies of the largest kind. Counted in the same way.
pub const ASKED_BYTES_MAX: usize = 16 << 20;

/// Pauses before a closed line is opened again: the first, doubled after each failure up to the last, and up to half of it
/// more by chance, so that workers do not come together. The last one is how much later than it could a gateway steers
/// again when its sidecar is back.
const REOPEN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// An ask whose answer has not come so long after its deadline is lost, though the stream lives: a fault of the sidecar, for
/// which the stream is opened anew. Longer than anything the sidecar works on.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// Who asks.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The request's context in Envoy.
    pub context: u32,
    /// The request.
    pub stream: Weak<RefCell<Stream>>,
}

/// An ask without an answer.
#[derive(Debug)]
struct Waiting {
    /// None when nobody waits any more; its bytes count all the same, until an answer shows that they have left Envoy.
    asker: Option<Asker>,
    deadline: Duration,
    bytes: usize,
}

/// Somebody who waited for an answer.
pub struct Waiter {
    /// Of the ask.
    pub id: u64,
    /// The request's context in Envoy.
    pub context: u32,
    /// The request.
    pub stream: Rc<RefCell<Stream>>,
}

/// One per VM.
#[derive(Default, Debug)]
pub struct Line {
    /// The root's, by which asks end that have no answer.
    pub clock: Clock,
    /// The context that owns the stream: only it may send.
    root: u32,
    token: Option<u32>,
    last_id: u64,
    waiting: HashMap<u64, Waiting>,
    bytes: usize,
    /// Closings without an answer in between.
    failures: u32,
    reopen_at: Duration,
}

impl Line {
    /// A closed line of this root context.
    pub fn of(root: u32) -> Self {
        Self { root, ..Self::default() }
    }

    /// Whether something can be sent.
    pub fn is_open(&self) -> bool {
        self.token.is_some()
    }

    /// Whether this is the stream's token.
    pub fn is(&self, token: u32) -> bool {
        self.token == Some(token)
    }

    /// Opens the stream, if it is closed and its pause is over. To be called in a callback of the root context: the
    /// stream's callbacks go to the context that opened it.
    ///
    /// # Errors
    /// When Envoy refuses: no such cluster, no endpoint, its circuit breaker is full.
    pub fn open(&mut self, host: &dyn Host, service: &str) -> HostResult<()> {
        let now = host.now();
        if self.is_open() || now < self.reopen_at {
            return Ok(());
        }
        match host.open_stream(service, METHOD) {
            Ok(token) => {
                self.token = Some(token);
                Ok(())
            }
            Err(error) => {
                self.pause(now);
                Err(error)
            }
        }
    }

    /// Sends an ask on behalf of a request; its number, which `encode` puts into the message.
    ///
    /// # Errors
    /// When it cannot be sent; no answer will come.
    pub fn ask(
        &mut self,
        host: &dyn Host,
        asker: Asker,
        deadline: Duration,
        encode: impl FnOnce(u64) -> Vec<u8>,
    ) -> Result<u64, Reason> {
        let token = self.token.ok_or(Reason::CalloutError)?;
        self.last_id = self.last_id.wrapping_add(1);
        let id = self.last_id;
        let message = encode(id);
        let bytes = message.len();
        if self.waiting.len() >= ASKS_MAX || self.bytes.saturating_add(bytes) > ASKED_BYTES_MAX {
            return Err(Reason::LineFull);
        }
        let context = asker.context;
        let clock = &mut self.clock;
        let sent = host
            .act_for(self.root)
            .and_then(|()| clock.quicken(host))
            .and_then(|()| host.send(token, &message));
        host.act_for(context).map_err(|_| Reason::HostError)?;
        sent.map_err(|error| {
            log::debug!("pick: {error}");
            Reason::CalloutError
        })?;
        self.bytes = self.bytes.saturating_add(bytes);
        self.waiting.insert(id, Waiting { asker: Some(asker), deadline, bytes });
        Ok(id)
    }

    /// Sends what has no answer. In a callback of the root context.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn tell(&self, host: &dyn Host, message: &[u8]) -> Result<(), Reason> {
        let token = self.token.ok_or(Reason::CalloutError)?;
        host.send(token, message).map_err(|_| Reason::CalloutError)
    }

    /// Lets the clock go slowly if it may: the line is open, nobody waits, and nobody has of late. Not at a turn of the clock.
    ///
    /// # Errors
    /// When Envoy refuses; the clock goes on as it did.
    pub fn rest(&mut self, host: &dyn Host) -> HostResult<()> {
        match self.is_open() && self.waiting.is_empty() {
            true => self.clock.rest(host),
            false => Ok(()),
        }
    }

    /// Nobody waits for this answer any more.
    pub fn forget(&mut self, id: u64) {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.asker = None;
        }
    }

    /// An answer has come; who waits for it.
    pub fn answered(&mut self, id: u64) -> Option<Waiter> {
        self.failures = 0;
        let waiting = self.waiting.remove(&id)?;
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        waiter(id, waiting.asker)
    }

    /// Those who have waited long enough, the oldest ask first.
    pub fn overdue(&mut self, now: Duration) -> Vec<Waiter> {
        let late = self.waiting.iter_mut().filter(|(_, waiting)| waiting.deadline <= now);
        let mut waiters: Vec<_> =
            late.filter_map(|(id, waiting)| waiter(*id, waiting.asker.take())).collect();
        waiters.sort_unstable_by_key(|waiter| waiter.id);
        waiters
    }

    /// Whether an answer is so late that it will not come.
    pub fn lost(&self, now: Duration) -> bool {
        self.waiting.values().any(|waiting| waiting.deadline.saturating_add(LOST_AFTER) <= now)
    }

    /// The stream has closed, or is given up; who waited for answers on it.
    pub fn close(&mut self, host: &dyn Host) -> Vec<Waiter> {
        if let Some(token) = self.token.take() {
            // Also when the other side has closed: Envoy keeps its half otherwise, with a pointer to what is gone.
            let _ = host.cancel(token).inspect_err(|error| log::debug!("{error}"));
            self.pause(host.now());
        }
        self.bytes = 0;
        let waiting = self.waiting.drain();
        let mut waiters: Vec<_> = waiting.filter_map(|(id, waiting)| waiter(id, waiting.asker)).collect();
        waiters.sort_unstable_by_key(|waiter| waiter.id);
        waiters
    }

    fn pause(&mut self, now: Duration) {
        let (first, last) = REOPEN;
        let pause = first.saturating_mul(1 << self.failures.min(16)).min(last);
        self.failures = self.failures.saturating_add(1);
        self.reopen_at = now + pause.mul_f64(1.0 + fastrand::f64() / 2.0);
    }
}

fn waiter(id: u64, asker: Option<Asker>) -> Option<Waiter> {
    let Asker { context, stream } = asker?;
    Some(Waiter { id, context, stream: stream.upgrade()? })
}
