//! `/metrics` with the names, labels and units of vLLM 0.32.
//!
//! Written by hand: the text has to be vLLM's, byte for byte in names and label order, which a metrics library would
//! have opinions about.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::Pod;
use crate::config::PodConfig;
use crate::driver::Rank;
use crate::stats::RankStats;

pub(super) async fn metrics(State(state): Pod) -> impl IntoResponse {
    let ranks: Vec<Arc<Rank>> = state.ranks.read().await.clone();
    let stats: Vec<RankStats> = ranks.iter().map(|rank| rank.stats()).collect();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text(&state.config, &stats))
}

/// One metric of a rank.
struct Series {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    /// Labels beside engine and model, written between them (labels are sorted by name).
    labels: &'static str,
    value: fn(&RankStats) -> f64,
}

const SERIES: [Series; 12] = [
    gauge("vllm:num_requests_running", "Number of requests in model execution batches.", |s| {
        s.running as f64
    }),
    gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.", |s| s.waiting as f64),
    gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", |s| s.usage),
    counter(
        "vllm:prefix_cache_queries_total",
        "Prefix cache queries, in terms of number of queried tokens.",
        |s| s.prefix_queries as f64,
    ),
    counter("vllm:prefix_cache_hits_total", "Prefix cache hits, in terms of number of cached tokens.", |s| {
        s.prefix_hits as f64
    }),
    counter("vllm:num_preemptions_total", "Cumulative number of preemption from the engine.", |s| {
        s.preemptions as f64
    }),
    counter("vllm:prompt_tokens_total", "Number of prefill tokens processed.", |s| s.prompt_tokens as f64),
    counter("vllm:prompt_tokens_cached_total", "Number of cached prompt tokens (local + external).", |s| {
        s.prefix_hits as f64
    }),
    counter("vllm:generation_tokens_total", "Number of generation tokens processed.", |s| {
        s.generation_tokens as f64
    }),
    success("finished_reason=\"length\",", |s| s.finished as f64),
    success("finished_reason=\"abort\",", |s| s.aborted as f64),
    success("finished_reason=\"stop\",", |_| 0.0),
];

const fn gauge(name: &'static str, help: &'static str, value: fn(&RankStats) -> f64) -> Series {
    Series { name, kind: "gauge", help, labels: "", value }
}

const fn counter(name: &'static str, help: &'static str, value: fn(&RankStats) -> f64) -> Series {
    Series { name, kind: "counter", help, labels: "", value }
}

const fn success(labels: &'static str, value: fn(&RankStats) -> f64) -> Series {
    let help = "Count of successfully processed requests.";
    Series { name: "vllm:request_success_total", kind: "counter", help, labels, value }
}

const FIRST_TOKEN: &str = "vllm:time_to_first_token_seconds";

fn text(config: &PodConfig, ranks: &[RankStats]) -> String {
    let model = &config.model.config.name;
    let mut out = String::new();
    let mut named = "";
    for Series { name, kind, help, labels, value } in SERIES {
        if named != name {
            line(&mut out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
            named = name;
        }
        for (rank, stats) in ranks.iter().enumerate() {
            let value = value(stats);
            line(
                &mut out,
                format_args!("{name}{{engine=\"{rank}\",{labels}model_name=\"{model}\"}} {value:?}"),
            );
        }
    }
    first_token(&mut out, model, ranks);
    cache_config(&mut out, config, ranks.len());
    out
}

fn first_token(out: &mut String, model: &str, ranks: &[RankStats]) {
    line(out, format_args!("# HELP {FIRST_TOKEN} Histogram of time to first token in seconds."));
    line(out, format_args!("# TYPE {FIRST_TOKEN} histogram"));
    for (rank, stats) in ranks.iter().enumerate() {
        let histogram = &stats.first_token;
        let labels = format!("engine=\"{rank}\",model_name=\"{model}\"");
        let all = std::iter::once((f64::INFINITY, histogram.count));
        for (bound, count) in histogram.buckets().chain(all) {
            let bound = if bound.is_finite() { format!("{bound:?}") } else { "+Inf".to_owned() };
            let labels = format!("engine=\"{rank}\",le=\"{bound}\",model_name=\"{model}\"");
            line(out, format_args!("{FIRST_TOKEN}_bucket{{{labels}}} {count}.0"));
        }
        line(out, format_args!("{FIRST_TOKEN}_count{{{labels}}} {}.0", histogram.count));
        line(out, format_args!("{FIRST_TOKEN}_sum{{{labels}}} {:?}", histogram.sum));
    }
}

fn cache_config(out: &mut String, config: &PodConfig, ranks: usize) {
    let name = "vllm:cache_config_info";
    line(out, format_args!("# HELP {name} Information of the LLMEngine CacheConfig\n# TYPE {name} gauge"));
    for rank in 0..ranks {
        let PodConfig { block_size, gpu_blocks, hash_algorithm, .. } = config;
        let algorithm = hash_algorithm.name();
        line(
            out,
            format_args!(
                "{name}{{block_size=\"{block_size}\",enable_prefix_caching=\"True\",engine=\"{rank}\",\
                 num_gpu_blocks=\"{gpu_blocks}\",prefix_caching_hash_algo=\"{algorithm}\"}} 1.0"
            ),
        );
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = writeln!(out, "{text}");
}
