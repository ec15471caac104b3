//! What all requests of one VM share. A VM belongs to one worker thread and runs one callback at a time; Envoy defers
//! whatever a callback sets off (resume, local replies) until it has returned. So plain cells do, and a borrow that
//! spans no call into another module cannot meet a second one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use warmpath_core::definition::Mode;
use warmpath_core::tokenizer::Stats;

use crate::breaker::Breaker;
use crate::catalog::Models;
use crate::config::Config;
use crate::host::Host;
use crate::line::Line;
use crate::metrics::{Counter, Gauge, Histogram, Metrics};
use crate::outcome::Reason;
use crate::report::Reports;

/// Shared by the root and the streams of a VM.
#[derive(Default)]
pub struct Vm {
    /// None until configured, or when the configuration is bad.
    config: RefCell<Option<Rc<Config>>>,
    /// The models that can be keyed.
    pub models: RefCell<Models>,
    /// Stops asking a sidecar that does not answer.
    pub breaker: RefCell<Breaker>,
    /// The stream to the sidecar.
    pub line: RefCell<Line>,
    /// Reports for the sidecar.
    pub reports: RefCell<Reports>,
    /// Bytes of bodies that streams hold copies of (`mode: observe`).
    pub copied_bytes: Cell<usize>,
    /// Of this VM.
    longest_stall_us: Cell<u64>,
    metrics: RefCell<Metrics>,
}

impl Vm {
    /// The configuration; none when it is bad.
    pub fn config(&self) -> Option<Rc<Config>> {
        self.config.borrow().clone()
    }

    /// Replaces the configuration.
    pub fn set_config(&self, config: Option<Config>) {
        *self.config.borrow_mut() = config.map(Rc::new);
    }

    /// What shall be done with requests: the more careful of the plugin's setting and the sidecar's.
    pub fn mode(&self, config: &Config) -> Mode {
        config.mode.min(self.models.borrow().mode())
    }

    /// Makes the metrics known to Envoy.
    pub fn define_metrics(&self, host: &dyn Host) {
        *self.metrics.borrow_mut() = Metrics::define(host);
    }

    /// Counts one.
    pub fn count(&self, host: &dyn Host, counter: Counter) {
        self.metrics.borrow().add(host, counter, 1);
    }

    /// Counts many.
    pub fn count_many(&self, host: &dyn Host, counter: Counter, by: usize) {
        self.metrics.borrow().add(host, counter, by as u64);
    }

    /// Counts what a tokenizer's caches have done between two looks at them.
    pub fn count_caches(&self, host: &dyn Host, before: Stats, now: Stats) {
        let counts = [
            (Counter::WordHits, now.word_hits - before.word_hits),
            (Counter::WordMisses, now.word_misses - before.word_misses),
            (Counter::ReusedBytes, now.segment_hit_bytes - before.segment_hit_bytes),
            (Counter::TokenizedBytes, now.segment_miss_bytes - before.segment_miss_bytes),
        ];
        for (counter, by) in counts {
            self.metrics.borrow().add(host, counter, by);
        }
    }

    /// Counts a request that goes on unsteered.
    pub fn count_pass(&self, host: &dyn Host, reason: Reason) {
        self.metrics.borrow().pass(host, reason);
    }

    /// Records the time since `start`.
    pub fn record_since(&self, host: &dyn Host, histogram: Histogram, start: Duration) {
        self.metrics.borrow().record(host, histogram, micros_since(host, start));
    }

    /// Records work that kept the worker since `start`.
    pub fn record_stall(&self, host: &dyn Host, histogram: Histogram, start: Duration) {
        let micros = micros_since(host, start);
        self.metrics.borrow().record(host, histogram, micros);
        if micros > self.longest_stall_us.get() {
            self.longest_stall_us.set(micros);
            self.metrics.borrow().raise(host, Gauge::LongestStallUs, micros);
        }
    }
}

fn micros_since(host: &dyn Host, start: Duration) -> u64 {
    u64::try_from(host.now().saturating_sub(start).as_micros()).unwrap_or(u64::MAX)
}
