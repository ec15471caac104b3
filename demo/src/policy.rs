//! One run of the workload under one policy, on pods that start with empty caches.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use warmpath_harness::load::{Sample, Summary, closed_loop};
use warmpath_harness::{PodOptions, Programs, Stack, StackBuilder};

use crate::workload::{GPU_BLOCKS, TEAMS, Workload};

/// Pods behind the gateway.
const PODS: usize = 3;
/// Clients, each with one request at a time.
const CLIENTS: usize = 4;
/// Steps of a pod take this much of what the step model says (a 32B model on two large GPUs).
const TIME_SCALE: f64 = 0.5;

/// Twenty times the filter's default: here gateway, sidecar, pods and clients share one machine's processors, perhaps with
/// a build beside them, and what is to be seen is steering, not who is late.
const CALLOUT_TIMEOUT: &str = "1s";

/// How Envoy chooses the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// In turn, as if Warmpath were not there.
    RoundRobin,
    /// By cache content.
    Warmpath,
}

impl Policy {
    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Policy::RoundRobin => "round robin",
            Policy::Warmpath => "Warmpath",
        }
    }

    fn stack(self, programs: &Programs) -> StackBuilder {
        let options = PodOptions {
            gpu_blocks: GPU_BLOCKS,
            time_scale: TIME_SCALE,
            instant: false,
            ..PodOptions::default()
        };
        let builder = Stack::builder(programs.clone()).pods(PODS, options);
        match self {
            Policy::RoundRobin => builder.round_robin(),
            Policy::Warmpath => builder.plugin(json!({"callout_timeout": CALLOUT_TIMEOUT})),
        }
    }
}

/// What a run showed. The names are those in the file of `--json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    /// Prompt tokens served from cache (the pods' own counters) over the shareable ones, 0..=1.
    pub(crate) cached_share: f64,
    /// Median time to first token in milliseconds.
    pub(crate) ttft_p50_ms: f64,
    /// 90th percentile of the time to first token in milliseconds.
    pub(crate) ttft_p90_ms: f64,
    /// Requests sent.
    pub(crate) requests: usize,
    /// Requests without a complete 2xx answer.
    pub(crate) failed: usize,
    /// Requests that the filter steered.
    pub(crate) steered: usize,
    /// Largest share of the requests that one pod got, 0..=1.
    pub(crate) max_pod_share: f64,
    /// Good answers of each pod.
    pub(crate) requests_per_pod: Vec<usize>,
}

/// Moves the bar, and shows what failed.
fn counting(bar: &ProgressBar) -> impl Fn(&Sample) + Send + Sync + 'static {
    let bar = bar.clone();
    move |sample| {
        if let Some(error) = &sample.error {
            bar.println(format!("a request failed: {error}"));
        }
        bar.inc(1);
    }
}

/// Boot, run the workload, read the pods' counters. The stack still runs when this returns.
///
/// # Errors
/// When a part does not come up or does not answer. Failed requests are counted, not errors.
pub(crate) async fn run(
    policy: Policy,
    programs: &Programs,
    workload: &Workload,
) -> Result<(Figures, Stack)> {
    println!("{}: starting {PODS} pods with empty caches and Envoy ...", policy.title());
    let stack = policy.stack(programs).start().await?;
    let bar = ProgressBar::new(workload.jobs.len() as u64).with_style(ProgressStyle::with_template(
        "{prefix:>12} [{bar:40}] {pos}/{len} requests, {elapsed} {wide_msg}",
    )?);
    bar.set_prefix(policy.title());
    // Each team's first request goes alone: on empty caches only turns decide, and no pod is behind by chance.
    let (first, rest) = workload.jobs.split_at(TEAMS);
    let client = stack.client();
    let mut samples = closed_loop(&client, first.to_vec(), 1, counting(&bar)).await;
    samples.extend(closed_loop(&client, rest.to_vec(), CLIENTS, counting(&bar)).await);
    bar.finish();
    let summary = Summary::of(&samples);
    let mut hits = 0.0;
    let mut per_pod = Vec::new();
    for pod in &stack.pods {
        hits += pod.metrics().await?.sum("vllm:prefix_cache_hits_total");
        per_pod.push(summary.per_pod.get(&pod.address().to_string()).copied().unwrap_or(0));
    }
    let figures = Figures {
        cached_share: hits / workload.shareable_tokens as f64,
        ttft_p50_ms: summary.ttft(0.5).as_secs_f64() * 1e3,
        ttft_p90_ms: summary.ttft(0.9).as_secs_f64() * 1e3,
        requests: summary.requests,
        failed: summary.failed,
        steered: stack.envoy.metrics().await?.sum("warmpath_picks") as usize,
        max_pod_share: summary.max_pod_share(),
        requests_per_pod: per_pod,
    };
    Ok((figures, stack))
}
