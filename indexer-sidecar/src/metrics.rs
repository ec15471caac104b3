//! Counters of the outer half: picks, reports, endpoints, configuration. All are named `warmpath_indexer_*`.
//!
//! The index and the event streams bring their own. Gauges that are only worth knowing when someone looks are filled
//! in at the scrape ([`Metrics::refresh`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use warmpath_core::definition::Mode;

/// Everything that the outer half counts.
#[derive(Debug)]
pub struct Metrics {
    /// Picks by what they came to.
    pub picks: Family<PickLabels, Counter>,
    pick_seconds: Histogram,
    /// Sum (nanoseconds) and count of `pick_seconds`: the library's histogram does not tell its own.
    pick_nanos: AtomicU64,
    pick_count: AtomicU64,
    /// Endpoints that a pick did not list although they serve the model.
    pub left_out: Family<LeftOutLabels, Counter>,
    /// Picks whose keys were cut at `pick.keys_max`.
    pub keys_cut: Counter,
    /// Connections beyond [`crate::pick::serve::CONNECTIONS_MAX`].
    pub connections_refused: Counter,
    /// Prompts that were turned into keys here, by what became of them.
    pub prompts: Family<PromptLabels, Counter>,
    /// Time from a decoded prompt to its keys, in seconds.
    pub prompt_seconds: Histogram,
    /// Reports by stage and by what was known of their pick.
    pub reports: Family<ReportLabels, Counter>,
    /// Time from the end of a request's headers to its first byte, as reported, in seconds.
    pub first_byte_seconds: Histogram,
    /// Time from the end of a request's headers to the end of its stream, as reported, in seconds.
    pub request_seconds: Histogram,
    /// Picks that stopped counting because no report came in time.
    pub outstanding_expired: Counter,
    /// Picks that were forgotten because too many were outstanding.
    pub outstanding_forgotten: Counter,
    /// Endpoints beyond the most that are followed.
    pub endpoints_cut: Counter,
    /// DNS names that could not be resolved.
    pub resolve_failures: Counter,
    /// Reads of watched files.
    pub reloads: Family<ReloadLabels, Counter>,
    /// Log lines dropped because the writer was behind.
    pub log_lines_dropped: Counter,
    outstanding: Family<EndpointLabels, Gauge>,
    endpoints: Family<ModelLabels, Gauge>,
    endpoints_live: Family<ModelLabels, Gauge>,
    mode: Family<ModeLabels, Gauge>,
    models: Family<ModelInfoLabels, Gauge>,
}

/// What a pick came to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// The best endpoint holds at least one block.
    Matched,
    /// Endpoints were listed, none holds a block.
    Unmatched,
    /// No endpoint of the model could be listed.
    NoEndpoint,
    /// No such model.
    UnknownModel,
    /// The mode is `off`.
    Off,
}

impl Outcome {
    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Unmatched => "unmatched",
            Self::NoEndpoint => "no_endpoint",
            Self::UnknownModel => "unknown_model",
            Self::Off => "off",
        }
    }
}

/// Labels of a pick.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct PickLabels {
    /// An [`Outcome`]'s name.
    pub outcome: &'static str,
    /// Traffic does not follow it.
    pub observed: bool,
}

/// Labels of a prompt that was to be turned into keys here.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct PromptLabels {
    /// `keyed`, `deadline`, or the reason for which it passes, as the filter's metrics spell it.
    pub outcome: &'static str,
}

/// Labels of an endpoint that was not listed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct LeftOutLabels {
    /// `block_size`: its engine's is not that of the keys; `stream_down`: its events are lost while others' are not.
    pub reason: &'static str,
}

/// Labels of a report.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct ReportLabels {
    /// `first_byte`, `end` or `unspecified`.
    pub stage: &'static str,
    /// `followed`, `moved` or `unknown`.
    pub pick: &'static str,
}

/// What a look at a changed file came to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reloaded {
    /// It is in force.
    Applied,
    /// It could not be used; the last one stays in force.
    Rejected,
}

/// Labels of a reload.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct ReloadLabels {
    /// `config` or `endpoints`.
    pub file: &'static str,
    /// `applied` or `rejected`.
    pub result: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ModelLabels {
    model: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ModeLabels {
    mode: &'static str,
}

/// How a model is served.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct ModelInfoLabels {
    /// Its name.
    pub model: String,
    /// `inline`, `sidecar` or `refused`.
    pub tokenize: &'static str,
    /// `template`, `none` or `refused`.
    pub chat: &'static str,
}

/// What is filled in at a scrape.
#[derive(Debug, Default)]
pub struct Seen {
    /// The mode in force.
    pub mode: Mode,
    /// How each model is served.
    pub served: Vec<ModelInfoLabels>,
    /// Model, its endpoints, and those with a live event stream.
    pub models: Vec<(String, usize, usize)>,
    /// Endpoint and its outstanding picks.
    pub outstanding: Vec<(String, u32)>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            picks: Family::default(),
            // 10 us to 80 ms.
            pick_seconds: Histogram::new(exponential_buckets(10e-6, 2.0, 14)),
            pick_nanos: AtomicU64::new(0),
            pick_count: AtomicU64::new(0),
            left_out: Family::default(),
            keys_cut: Counter::default(),
            connections_refused: Counter::default(),
            prompts: Family::default(),
            // 50 us to 400 ms.
            prompt_seconds: Histogram::new(exponential_buckets(50e-6, 2.0, 14)),
            reports: Family::default(),
            // 1 ms to 33 s.
            first_byte_seconds: Histogram::new(exponential_buckets(1e-3, 2.0, 16)),
            // 10 ms to 5 min.
            request_seconds: Histogram::new(exponential_buckets(10e-3, 2.0, 16)),
            outstanding_expired: Counter::default(),
            outstanding_forgotten: Counter::default(),
            endpoints_cut: Counter::default(),
            resolve_failures: Counter::default(),
            reloads: Family::default(),
            log_lines_dropped: Counter::default(),
            outstanding: Family::default(),
            endpoints: Family::default(),
            endpoints_live: Family::default(),
            mode: Family::default(),
            models: Family::default(),
        }
    }
}

impl Metrics {
    /// Makes them visible in `registry`, under their full names.
    pub fn register(&self, registry: &mut Registry) {
        let own = registry.sub_registry_with_prefix("warmpath_indexer");
        own.register("picks", "Picks by what they came to", self.picks.clone());
        own.register("pick_seconds", "Time from a decoded pick to its answer", self.pick_seconds.clone());
        own.register(
            "endpoints_left_out",
            "Endpoints of the model that a pick did not list",
            self.left_out.clone(),
        );
        own.register("keys_cut", "Picks whose keys were cut at pick.keys_max", self.keys_cut.clone());
        let refused = self.connections_refused.clone();
        own.register("connections_refused", "Connections for picks beyond what is served at once", refused);
        own.register("prompts", "Prompts turned into keys here", self.prompts.clone());
        own.register("prompt_seconds", "Time from a decoded prompt to its keys", self.prompt_seconds.clone());
        own.register("reports", "Reports by stage and by what was known of their pick", self.reports.clone());
        own.register(
            "first_byte_seconds",
            "Reported time to the first byte",
            self.first_byte_seconds.clone(),
        );
        own.register(
            "request_seconds",
            "Reported time to the end of the stream",
            self.request_seconds.clone(),
        );
        own.register("outstanding", "Picks outstanding on an endpoint", self.outstanding.clone());
        own.register(
            "outstanding_expired",
            "Picks that no report ended in time",
            self.outstanding_expired.clone(),
        );
        own.register(
            "outstanding_forgotten",
            "Picks forgotten because too many were outstanding",
            self.outstanding_forgotten.clone(),
        );
        own.register("endpoints", "Endpoints of a model", self.endpoints.clone());
        own.register(
            "endpoints_live",
            "Endpoints of a model with a live event stream",
            self.endpoints_live.clone(),
        );
        own.register(
            "endpoints_cut",
            "Endpoints beyond the most that are followed",
            self.endpoints_cut.clone(),
        );
        own.register(
            "resolve_failures",
            "DNS names that could not be resolved",
            self.resolve_failures.clone(),
        );
        own.register("reloads", "Reads of watched files", self.reloads.clone());
        own.register(
            "log_lines_dropped",
            "Log lines dropped, the writer being behind",
            self.log_lines_dropped.clone(),
        );
        own.register(
            "models",
            "1 for each model, by how its prompts are turned into keys",
            self.models.clone(),
        );
        own.register("mode", "1 for the mode in force", self.mode.clone());
    }

    /// Counts a pick that took `time` from its decoded request to its answer.
    pub fn picked(&self, labels: &PickLabels, time: Duration) {
        self.picks.get_or_create(labels).inc();
        self.pick_seconds.observe(time.as_secs_f64());
        self.pick_nanos.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        self.pick_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Mean time of a pick.
    pub fn pick_mean(&self) -> Duration {
        let nanos = self.pick_nanos.load(Ordering::Relaxed);
        Duration::from_nanos(nanos.checked_div(self.pick_count.load(Ordering::Relaxed)).unwrap_or(0))
    }

    /// Counts a look at a changed file.
    pub fn reloaded(&self, file: &'static str, result: Reloaded) {
        let result = match result {
            Reloaded::Applied => "applied",
            Reloaded::Rejected => "rejected",
        };
        self.reloads.get_or_create(&ReloadLabels { file, result }).inc();
    }

    /// Fills in the gauges.
    pub fn refresh(&self, seen: Seen) {
        self.mode.clear();
        self.mode.get_or_create(&ModeLabels { mode: mode_name(seen.mode) }).set(1);
        self.models.clear();
        for labels in &seen.served {
            self.models.get_or_create(labels).set(1);
        }
        self.outstanding.clear();
        for (endpoint, count) in seen.outstanding {
            self.outstanding.get_or_create(&EndpointLabels { endpoint }).set(count.into());
        }
        self.endpoints.clear();
        self.endpoints_live.clear();
        for (model, endpoints, live) in seen.models {
            let labels = ModelLabels { model };
            self.endpoints.get_or_create(&labels).set(endpoints as i64);
            self.endpoints_live.get_or_create(&labels).set(live as i64);
        }
    }

    /// Picks that were looked up in the index, and those of them that matched.
    pub fn lookups_and_hits(&self) -> (u64, u64) {
        let count = |outcome: Outcome| {
            let outcome = outcome.name();
            let of = |observed| self.picks.get_or_create(&PickLabels { outcome, observed }).get();
            of(false) + of(true)
        };
        let hits = count(Outcome::Matched);
        (hits + count(Outcome::Unmatched) + count(Outcome::NoEndpoint), hits)
    }
}

/// The mode's name, as the configuration spells it.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Observe => "observe",
        Mode::Steer => "steer",
    }
}
