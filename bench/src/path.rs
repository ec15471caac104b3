//! `path`: what filter and callout add to a request through Envoy.
//!
//! Two gateways of one worker each, one plain (round robin) and one with the filter and its sidecar, each before
//! its own instant pods. The load goes to both in turn, a second here and a second there, so that both see the same
//! machine; every request has a prompt of its own. Latency is from sending the request to the end of the answer.
//! CPU is what the processes used over the whole run, per request: the warm gateway's idle work is in it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use warmpath_harness::load::{Job, Sample, open_loop};
use warmpath_harness::model::ModelFiles;
use warmpath_harness::pod::PodOptions;
use warmpath_harness::programs::Programs;
use warmpath_harness::stack::Stack;

use crate::figures::Figures;
use crate::vocabulary::{prose, tokenizer_json};

/// Seed of the made-up vocabulary; prompts take the numbers after it.
const SEED: u64 = 1;

/// Conditions of a run.
#[derive(clap::Args)]
pub struct Options {
    /// Requests per second to the gateway whose turn it is
    #[arg(long, default_value_t = 100)]
    rate: usize,
    /// Seconds of load for each gateway
    #[arg(long, default_value_t = 60)]
    seconds: usize,
    /// Seconds of load for each gateway before anything is measured
    #[arg(long, default_value_t = 5)]
    warmup_seconds: usize,
    /// Bytes of prose in a chat
    #[arg(long, default_value_t = 2048)]
    prompt_bytes: usize,
    /// Entries of the tokenizer
    #[arg(long, default_value_t = 150_000)]
    vocabulary: usize,
    /// Instant pods behind each gateway
    #[arg(long, default_value_t = 8)]
    pods: usize,
}

/// One gateway under test and what came of its requests.
struct Arm {
    name: &'static str,
    stack: Stack,
    samples: Vec<Sample>,
}

/// CPU time so far.
struct Cpu {
    envoy: Duration,
    sidecar: Duration,
}

impl Arm {
    fn cpu(&mut self) -> Result<Cpu> {
        let envoy = self.stack.envoy.process().cpu_time()?;
        let sidecar = match &mut self.stack.sidecar {
            Some(sidecar) => sidecar.process().cpu_time()?,
            None => Duration::ZERO,
        };
        Ok(Cpu { envoy, sidecar })
    }

    fn quantile_ms(&self, q: f64) -> f64 {
        let mut times: Vec<Duration> =
            self.samples.iter().filter(|sample| sample.ok()).map(|sample| sample.total).collect();
        times.sort_unstable();
        let rank = (q * times.len() as f64).ceil() as usize;
        times.get(rank.saturating_sub(1)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    fn failed(&self) -> usize {
        self.samples.iter().filter(|sample| !sample.ok()).count()
    }
}

/// Runs the benchmark.
pub async fn run(options: &Options, programs: &Programs) -> Result<Figures> {
    let directory = tempfile::tempdir().context("making a directory for the model")?;
    eprintln!("making a tokenizer of {} entries and starting two gateways …", options.vocabulary);
    let model = model_files(directory.path(), options.vocabulary)?;
    let stack = || {
        Stack::builder(programs.clone())
            .concurrency(1)
            .models(vec![model.clone()])
            .pods(options.pods, PodOptions::default())
    };
    let mut arms = [
        Arm { name: "plain", stack: stack().round_robin().start().await?, samples: Vec::new() },
        Arm { name: "warmpath", stack: stack().start().await?, samples: Vec::new() },
    ];
    let mut prompts = SEED + 1;
    load(&mut arms, options, options.warmup_seconds, &mut prompts, "warming up").await;
    for arm in &mut arms {
        arm.samples.clear();
    }
    let before = [arms[0].cpu()?, arms[1].cpu()?];
    load(&mut arms, options, options.seconds, &mut prompts, "measuring").await;
    figures(&mut arms, &before, options).await
}

/// `seconds` of load for each arm, a second at a time.
async fn load(arms: &mut [Arm; 2], options: &Options, seconds: usize, prompts: &mut u64, what: &'static str) {
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} s, {eta} left");
    let bar = ProgressBar::new(2 * seconds as u64).with_message(what);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    for _ in 0..seconds {
        for arm in arms.iter_mut() {
            let jobs = (0..options.rate).map(|_| job(options.prompt_bytes, prompts)).collect();
            arm.samples.extend(open_loop(&arm.stack.client(), jobs, options.rate as f64, |_| ()).await);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
}

/// A chat that nobody has sent before.
fn job(bytes: usize, prompts: &mut u64) -> Job {
    *prompts += 1;
    let messages = json!([{"role": "user", "content": prose(bytes, *prompts)}]);
    Job { path: "/v1/chat/completions", body: json!({"messages": messages, "max_tokens": 1}) }
}

async fn figures(arms: &mut [Arm; 2], before: &[Cpu; 2], options: &Options) -> Result<Figures> {
    let setting = json!({
        "rate_per_s": options.rate, "seconds_per_gateway": options.seconds, "warmup_s": options.warmup_seconds,
        "prompt_bytes": options.prompt_bytes, "tokenizer_entries": options.vocabulary, "pods": options.pods,
        "envoy_workers": 1,
    });
    let mut figures = Figures::new("path", setting);
    for (arm, before) in arms.iter_mut().zip(before) {
        let cpu = arm.cpu()?;
        let requests = arm.samples.len() as f64;
        let per_request = |time: Duration| time.as_secs_f64() * 1e3 / requests;
        figures.add(format!("{}_requests", arm.name), requests, "");
        figures.add(format!("{}_failed", arm.name), arm.failed() as f64, "");
        figures.add(format!("{}_p50", arm.name), arm.quantile_ms(0.5), "ms");
        figures.add(format!("{}_p99", arm.name), arm.quantile_ms(0.99), "ms");
        figures.add(
            format!("{}_envoy_cpu_per_request", arm.name),
            per_request(cpu.envoy - before.envoy),
            "ms",
        );
        if arm.stack.sidecar.is_some() {
            let sidecar = per_request(cpu.sidecar - before.sidecar);
            figures.add(format!("{}_sidecar_cpu_per_request", arm.name), sidecar, "ms");
        }
    }
    let [plain, warm] = arms;
    figures.add("added_p50", warm.quantile_ms(0.5) - plain.quantile_ms(0.5), "ms");
    figures.add("added_p99", warm.quantile_ms(0.99) - plain.quantile_ms(0.99), "ms");
    for (name, quantile) in [("callout_p50", "P50"), ("callout_p99", "P99")] {
        let text = warm.stack.envoy.admin_client().get("/stats?filter=callout_us").await?.ok()?.text();
        figures.add(name, histogram_us(&text, quantile)? / 1e3, "ms");
    }
    let stats = warm.stack.envoy.metrics().await?;
    figures.add("warmpath_picks", stats.sum("warmpath_picks"), "");
    Ok(figures)
}

/// A quantile as Envoy's admin port prints it, over the whole life of the process:
/// `name: P0(nan,100) P25(nan,102.5) P50(nan,105) …`.
fn histogram_us(text: &str, quantile: &str) -> Result<f64> {
    let found = text.split_whitespace().find_map(|word| word.strip_prefix(quantile)?.strip_prefix('('));
    let pair = found.and_then(|word| word.strip_suffix(')')).and_then(|word| word.split_once(','));
    let (_, value) =
        pair.with_context(|| format!("Envoy's statistics show no {quantile} of the callout: {text:?}"))?;
    value.parse().with_context(|| format!("{quantile} of the callout is {value:?}"))
}

/// A model with a made-up tokenizer and the demo's chat template.
fn model_files(directory: &Path, entries: usize) -> Result<ModelFiles> {
    let files = ModelFiles::in_directory("bench", directory);
    let demo = ModelFiles::demo();
    fs::write(&files.tokenizer, serde_json::to_vec(&tokenizer_json(entries, SEED))?)?;
    fs::copy(&demo.chat_template, &files.chat_template)?;
    fs::copy(&demo.tokenizer_config, &files.tokenizer_config)?;
    Ok(files)
}
