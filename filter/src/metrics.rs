//! Counters and histograms. Each is defined once per VM and shows on Envoy's `/stats/prometheus` under its name here
//! with `_` for `.`. Gauges that go down are avoided: Envoy keeps the last value of a gauge whose VM has died; `held -
//! released` says how many requests are held.

use hashbrown::HashMap;

use crate::host::{Host, MetricKind};
use crate::outcome::Reason;

macro_rules! metrics {
    ($(#[$of:meta])* $kind:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$of])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $kind { $($(#[$doc])* $variant,)+ }

        impl $kind {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The metric's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

metrics! {
    /// What is counted, besides passes by [`Reason`].
    Counter {
        /// Requests steered to a picked endpoint.
        Picks = "warmpath.picks",
        /// Picks that were only logged (`mode: observe`).
        Observed = "warmpath.observed",
        /// Requests that began to wait in the filter.
        Held = "warmpath.held",
        /// Requests that stopped waiting in the filter.
        Released = "warmpath.released",
        /// Prompts with more keys than `keys_max`; their first `keys_max` keys were used.
        KeysTruncated = "warmpath.keys_truncated",
        /// Prompts of which a limit left only a prefix; its keys were used.
        PromptsCut = "warmpath.prompts_cut",
        /// Prompts whose body was sent to the sidecar (`tokenize: sidecar`, `overflow: sidecar`).
        PromptsSent = "warmpath.prompts_sent",
        /// Words that were found in a tokenizer's cache.
        WordHits = "warmpath.word_hits",
        /// Words that were not.
        WordMisses = "warmpath.word_misses",
        /// Bytes of prompts that were reused from earlier ones.
        ReusedBytes = "warmpath.prompt_bytes_reused",
        /// Bytes of prompts that were tokenized.
        TokenizedBytes = "warmpath.prompt_bytes_tokenized",
        /// Times the breaker opened.
        BreakerOpened = "warmpath.breaker_opened",
        /// Bad plugin configurations.
        ConfigErrors = "warmpath.config_errors",
        /// Failed fetches of the catalog.
        CatalogErrors = "warmpath.catalog_errors",
        /// Failed fetches or loads of a model's assets.
        AssetErrors = "warmpath.asset_errors",
        /// Models loaded.
        AssetLoads = "warmpath.asset_loads",
        /// Times the stream to the sidecar was opened.
        LineOpened = "warmpath.line_opened",
        /// Times it closed, or was given up because the sidecar did not answer.
        LineClosed = "warmpath.line_closed",
        /// Answers of the sidecar that nobody waited for any more, or that could not be read.
        AnswersUnused = "warmpath.answers_unused",
        /// Reports given to the sidecar.
        ReportsSent = "warmpath.reports_sent",
        /// Reports lost: the queue was full or the sidecar could not be reached.
        ReportsDropped = "warmpath.reports_dropped",
        /// Host calls that Envoy refused.
        HostErrors = "warmpath.host_errors",
        /// Callbacks that came in a phase that does not know them (ignored).
        WrongPhase = "warmpath.wrong_phase",
    }
}

metrics! {
    /// What is recorded as a distribution, in microseconds.
    Histogram {
        /// From sending a pick to its answer, its error or its timeout.
        CalloutUs = "warmpath.callout_us",
        /// Reading, rendering, tokenizing and hashing one request.
        KeysUs = "warmpath.keys_us",
        /// From the end of the body, or the hold if later, until the request goes on: what the filter adds.
        HeldUs = "warmpath.held_us",
        /// Checking and loading one model; the worker serves nothing meanwhile.
        AssetLoadUs = "warmpath.asset_load_us",
    }
}

metrics! {
    /// What only grows, over all VMs.
    Gauge {
        /// The longest time that one callback kept a worker: keys of a request, or the load of a model. Microseconds.
        LongestStallUs = "warmpath.longest_stall_us",
    }
}

/// The metrics' ids in this VM.
#[derive(Default, Debug)]
pub struct Metrics {
    gauges: HashMap<Gauge, u32>,
    counters: HashMap<Counter, u32>,
    histograms: HashMap<Histogram, u32>,
    passes: HashMap<Reason, u32>,
}

impl Metrics {
    /// Makes all metrics known to Envoy. One that Envoy refuses is logged and stays silent.
    pub fn define(host: &dyn Host) -> Self {
        let define = |kind, name: &str| {
            host.define_metric(kind, name).inspect_err(|error| log::error!("metric {name}: {error}")).ok()
        };
        let counters = Counter::ALL.iter().filter_map(|c| Some((*c, define(MetricKind::Counter, c.name())?)));
        let histograms =
            Histogram::ALL.iter().filter_map(|h| Some((*h, define(MetricKind::Histogram, h.name())?)));
        let passes = Reason::all().filter_map(|reason| {
            let name = format!("warmpath.passes.{}", reason.label());
            Some((reason, define(MetricKind::Counter, &name)?))
        });
        let gauges = Gauge::ALL.iter().filter_map(|g| Some((*g, define(MetricKind::Gauge, g.name())?)));
        let (gauges, counters, histograms) = (gauges.collect(), counters.collect(), histograms.collect());
        Self { gauges, counters, histograms, passes: passes.collect() }
    }

    /// Adds `by` to a counter.
    pub fn add(&self, host: &dyn Host, counter: Counter, by: u64) {
        self.increment(host, self.counters.get(&counter), by);
    }

    /// Counts a request that goes on unsteered.
    pub fn pass(&self, host: &dyn Host, reason: Reason) {
        self.increment(host, self.passes.get(&reason), 1);
    }

    /// Records a duration in microseconds.
    pub fn record(&self, host: &dyn Host, histogram: Histogram, micros: u64) {
        if let Some(id) = self.histograms.get(&histogram) {
            let _ = host.record_metric(*id, micros).inspect_err(|error| log::debug!("{error}"));
        }
    }

    /// Raises a gauge to `value`. Two workers that do so at once may leave the smaller value.
    pub fn raise(&self, host: &dyn Host, gauge: Gauge, value: u64) {
        let Some(id) = self.gauges.get(&gauge) else { return };
        let raised = host.metric(*id).and_then(|known| match value > known {
            true => host.record_metric(*id, value),
            false => Ok(()),
        });
        let _ = raised.inspect_err(|error| log::debug!("{error}"));
    }

    fn increment(&self, host: &dyn Host, id: Option<&u32>, by: u64) {
        if let (Some(id), true) = (id, by > 0) {
            let _ = host.increment_metric(*id, by).inspect_err(|error| log::debug!("{error}"));
        }
    }
}
