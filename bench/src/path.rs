//! `path`: what filter and callout add to a request through Envoy.
//!
//! Two gateways of one worker each, one plain (round robin) and one with the filter and its sidecar, each before
//! its own instant pods. The filter has a tokenizer of real size; the pods have the demo's, so that they do not take
//! the machine from the gateways. (So no prompt is found in a cache, which changes nothing here: each is sent once.)
//!
//! Two ways to ask, one after the other: one client that sends its next request when the last one is answered, and an
//! open loop at a rate. In both the gateways take turns of a hundred requests or a second, so that both see the same
//! machine. Latency is from sending the request to the end of the answer. CPU is what the processes used over the
//! whole open loop, per request of theirs: the idle work of the gateway whose turn it is not is in it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use warmpath_core::tokenizer::{HfTokenizer, Limits, Tokenizer};
use warmpath_harness::load::{Job, Sample, closed_loop, open_loop};
use warmpath_harness::model::ModelFiles;
use warmpath_harness::pod::PodOptions;
use warmpath_harness::programs::Programs;
use warmpath_harness::stack::Stack;

use warmpath_bench::figures::Figures;
use crate::vocabulary::{common_words, prose, tokenizer_json};

/// Seed of the made-up vocabulary; prompts take the numbers after it.
const SEED: u64 = 1;

/// Requests of one turn of the single client.
const TURN_REQUESTS: usize = 100;

/// Path of the requests.
const CHATS: &str = "/v1/chat/completions";

/// Conditions of a run.
#[derive(clap::Args)]
pub struct Options {
    /// Requests per second to the gateway whose turn it is
    #[arg(long, default_value_t = 100)]
    rate: usize,
    /// Seconds of open loop for each gateway
    #[arg(long, default_value_t = 60)]
    seconds: usize,
    /// Requests of the single client to each gateway, in hundreds
    #[arg(long, default_value_t = 20)]
    turns: usize,
    /// Requests to each gateway before anything is measured, in hundreds (more than 5 seconds)
    #[arg(long, default_value_t = 15)]
    warmup_turns: usize,
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

/// How requests are sent.
#[derive(Clone, Copy)]
enum Way {
    OneClient,
    OpenLoop { rate: usize },
}

impl Way {
    /// One turn of one gateway.
    async fn turn(self, stack: &Stack, prompts: &mut Prompts) -> Vec<Sample> {
        let client = stack.client();
        match self {
            Self::OneClient => closed_loop(&client, prompts.chats(TURN_REQUESTS), 1, |_| ()).await,
            Self::OpenLoop { rate } => open_loop(&client, prompts.chats(rate), rate as f64, |_| ()).await,
        }
    }
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
    let tokenizer = directory.path().join("tokenizer.json");
    fs::write(&tokenizer, serde_json::to_vec(&tokenizer_json(options.vocabulary, SEED))?)?;
    let stack = || {
        Stack::builder(programs.clone())
            .concurrency(1)
            .pods(options.pods, PodOptions::default())
            .sidecar(json!({"models": [model(&tokenizer)]}))
    };
    let mut arms = [
        Arm { name: "plain", stack: stack().round_robin().start().await?, samples: Vec::new() },
        Arm { name: "warmpath", stack: stack().start().await?, samples: Vec::new() },
    ];
    let mut prompts = Prompts { next: SEED, bytes: options.prompt_bytes, words: common_words(SEED) };
    let open = Way::OpenLoop { rate: options.rate };
    load(&mut arms, Way::OneClient, options.warmup_turns, &mut prompts, "warming up").await;
    let tokens = mean_tokens(&fs::read(&tokenizer)?, &mut prompts)?;
    let mut figures = Figures::new("path", setting(options));
    figures.add("prompt_tokens_mean", tokens, "");
    load(&mut arms, Way::OneClient, options.turns, &mut prompts, "one client").await;
    latency(&arms, "one_client", &mut figures);
    histograms(&arms[1].stack, &mut figures).await?;
    let before = [arms[0].cpu()?, arms[1].cpu()?];
    load(&mut arms, open, options.seconds, &mut prompts, "open loop").await;
    latency(&arms, "open_loop", &mut figures);
    cpu(&mut arms, &before, &mut figures)?;
    let stats = arms[1].stack.envoy.metrics().await?;
    figures.add("warmpath_picks", stats.sum("warmpath_picks"), "");
    Ok(figures)
}

/// So many turns for each arm; their samples replace those of the load before.
async fn load(arms: &mut [Arm; 2], way: Way, turns: usize, prompts: &mut Prompts, what: &'static str) {
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len}, {eta} left");
    let bar = ProgressBar::new(2 * turns as u64).with_message(what);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    arms.iter_mut().for_each(|arm| arm.samples.clear());
    for _ in 0..turns {
        for arm in arms.iter_mut() {
            arm.samples.extend(way.turn(&arm.stack, prompts).await);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
}

/// Chats that nobody has sent before.
struct Prompts {
    next: u64,
    bytes: usize,
    words: Vec<String>,
}

impl Prompts {
    fn text(&mut self) -> String {
        self.next += 1;
        prose(self.bytes, self.next, &self.words)
    }

    fn chats(&mut self, count: usize) -> Vec<Job> {
        (0..count).map(|_| self.chat()).collect()
    }

    fn chat(&mut self) -> Job {
        let messages = json!([{"role": "user", "content": self.text()}]);
        Job { path: CHATS, body: json!({"messages": messages, "max_tokens": 1}) }
    }
}

/// Tokens of a prompt's text, on average.
fn mean_tokens(tokenizer: &[u8], prompts: &mut Prompts) -> Result<f64> {
    const TEXTS: u32 = 50;
    let tokenizer = HfTokenizer::from_json(tokenizer).map_err(anyhow::Error::msg)?;
    let mut tokens = 0;
    for _ in 0..TEXTS {
        let text = prompts.text();
        tokens += tokenizer.encode(&text, false, &Limits::NONE).map_err(anyhow::Error::msg)?.ids.len();
    }
    Ok(tokens as f64 / f64::from(TEXTS))
}

fn setting(options: &Options) -> Value {
    json!({
        "rate_per_s": options.rate, "open_loop_s": options.seconds, "warmup_requests": options.warmup_turns * TURN_REQUESTS,
        "one_client_requests": options.turns * TURN_REQUESTS, "prompt_bytes": options.prompt_bytes,
        "tokenizer_entries": options.vocabulary, "pods": options.pods, "envoy_workers": 1,
    })
}

fn latency(arms: &[Arm; 2], way: &str, figures: &mut Figures) {
    for arm in arms {
        let name = arm.name;
        figures.add(format!("{way}_{name}_requests"), arm.samples.len() as f64, "");
        figures.add(format!("{way}_{name}_failed"), arm.failed() as f64, "");
        figures.add(format!("{way}_{name}_p50"), arm.quantile_ms(0.5), "ms");
        figures.add(format!("{way}_{name}_p99"), arm.quantile_ms(0.99), "ms");
    }
    let [plain, warm] = arms;
    for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
        figures.add(format!("{way}_added_{name}"), warm.quantile_ms(q) - plain.quantile_ms(q), "ms");
    }
}

fn cpu(arms: &mut [Arm; 2], before: &[Cpu; 2], figures: &mut Figures) -> Result<()> {
    for (arm, before) in arms.iter_mut().zip(before) {
        let after = arm.cpu()?;
        let requests = arm.samples.len() as f64;
        let per_request = |time: Duration| time.as_secs_f64() * 1e3 / requests;
        figures.add(
            format!("{}_envoy_cpu_per_request", arm.name),
            per_request(after.envoy - before.envoy),
            "ms",
        );
        if arm.stack.sidecar.is_some() {
            let sidecar = per_request(after.sidecar - before.sidecar);
            figures.add(format!("{}_sidecar_cpu_per_request", arm.name), sidecar, "ms");
        }
    }
    Ok(())
}

/// What the filter itself has measured so far.
async fn histograms(stack: &Stack, figures: &mut Figures) -> Result<()> {
    let histograms = [
        ("one_client_callout_p50", "callout_us", "P50"),
        ("one_client_callout_p99", "callout_us", "P99"),
        ("one_client_keys_p50", "keys_us", "P50"),
        ("asset_load_p50", "asset_load_us", "P50"),
    ];
    for (name, histogram, quantile) in histograms {
        let path = format!("/stats?filter=warmpath.{histogram}$");
        let text = stack.envoy.admin_client().get(&path).await?.ok()?.text();
        figures.add(name, histogram_us(&text, quantile)? / 1e3, "ms");
    }
    Ok(())
}

/// A quantile as Envoy's admin port prints it, over the whole life of the process:
/// `name: P0(nan,100) P25(nan,102.5) P50(nan,105) …`.
fn histogram_us(text: &str, quantile: &str) -> Result<f64> {
    let found = text.split_whitespace().find_map(|word| word.strip_prefix(quantile)?.strip_prefix('('));
    let pair = found.and_then(|word| word.strip_suffix(')')).and_then(|word| word.split_once(','));
    let (_, value) = pair.with_context(|| format!("Envoy's statistics show no {quantile}: {text:?}"))?;
    value.parse().with_context(|| format!("{quantile} is {value:?}"))
}

/// The sidecar's definition of the demo's model, with another tokenizer.
fn model(tokenizer: &Path) -> Value {
    let demo = ModelFiles::demo();
    json!({
        "name": demo.name, "default": true, "block_tokens": demo.block_tokens, "tokenizer": tokenizer,
        "tokenizer_config": demo.tokenizer_config, "config": demo.config, "chat_template": demo.chat_template,
    })
}
