//! `path`: what filter, callout and sidecar add to a request through Envoy.
//!
//! Two gateways of one worker each, one plain (round robin) and one with the filter and its sidecar, each before its
//! own instant pods (`pods`): they answer at once and publish afterwards, as vLLM does, what blocks the prompt brought
//! and drove out. In the plain gateway's arm nobody listens to that; in the other it is work of the sidecar, and counts.
//! The tokenizer has real size, and the pods' tokens are the filter's, so that prompts with a prefix seen before are
//! matched and steered.
//!
//! Cases (`prompts`): a chat of 2 KB, and completions of 30 kB and 400 kB, either 5/6 of them a prefix that is one of a
//! few (`shared`) or nothing in common with any before (`new`). Every prompt is sent once, to one gateway.
//!
//! Requests come in an open loop at a rate; the chat also from one client that sends its next request when the last one
//! is answered. The gateways take turns of a hundred requests, a second or four, so that both see the same machine.
//! Latency is from sending the request to the end of the answer. `added` is the difference of the two gateways' quantiles.
//! CPU is what the processes used in their own turns, each with 150 ms after the last answer, for one request.

mod arm;
mod pods;
mod prompts;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use warmpath_harness::metrics::Metrics;
use warmpath_harness::model::ModelFiles;
use warmpath_harness::programs::Programs;
use warmpath_harness::stack::Stack;

use self::arm::{Arm, Way};
use self::pods::{Pods, Shelf};
use self::prompts::{CASES, Case, Prompts, SEED, definition};
use crate::vocabulary::tokenizer_json;
use warmpath_bench::figures::Figures;

/// Requests of one turn of the single client.
const TURN_REQUESTS: usize = 100;

/// Envoy shows what its histograms hold every 5 seconds, and later where the machine is busy.
const SHOWN_WITHIN: Duration = Duration::from_secs(20);

/// How often it is asked meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Conditions of a run.
#[derive(clap::Args)]
pub struct Options {
    /// Only this case; may be given several times
    #[arg(long = "case", value_name = "NAME", value_parser = CASES.map(|case| case.name))]
    cases: Vec<String>,
    /// Seconds of open loop for each gateway and case
    #[arg(long, default_value_t = 60)]
    seconds: usize,
    /// Requests of the single client to each gateway, in hundreds
    #[arg(long, default_value_t = 20)]
    turns: usize,
    /// Chats to each gateway before anything is measured, in hundreds (more than 5 seconds)
    #[arg(long, default_value_t = 15)]
    warmup_turns: usize,
    /// Prefixes that prompts of 30 kB share
    #[arg(long, default_value_t = 8)]
    prefixes: usize,
    /// Entries of the tokenizer
    #[arg(long, default_value_t = 150_000)]
    vocabulary: usize,
    /// Instant pods behind each gateway
    #[arg(long, default_value_t = 8)]
    pods: usize,
}

impl Options {
    fn cases(&self) -> Vec<Case> {
        let wanted = |case: &Case| self.cases.is_empty() || self.cases.iter().any(|name| name == case.name);
        let cases = CASES.into_iter().filter(wanted);
        cases
            .map(|case| if case.prefixes > 1 { Case { prefixes: self.prefixes, ..case } } else { case })
            .collect()
    }
}

/// Runs the benchmark.
pub async fn run(options: &Options, programs: &Programs) -> Result<Figures> {
    let directory = tempfile::tempdir().context("making a directory for the model")?;
    eprintln!("making a tokenizer of {} entries and starting two gateways …", options.vocabulary);
    let tokenizer = directory.path().join("tokenizer.json");
    fs::write(&tokenizer, serde_json::to_vec(&tokenizer_json(options.vocabulary, SEED))?)?;
    let shelf = Shelf::default();
    let demo = ModelFiles::demo();
    let pods = [
        Pods::start(options.pods, &demo.name, demo.block_tokens, &shelf).await?,
        Pods::start(options.pods, &demo.name, demo.block_tokens, &shelf).await?,
    ];
    let stack = |pods: &Pods| {
        Stack::builder(programs.clone())
            .concurrency(1)
            .external_pods(pods.endpoints.clone())
            .sidecar(json!({"models": [definition(&tokenizer)]}))
    };
    let mut arms = [
        Arm::new("plain", stack(&pods[0]).round_robin().start().await?),
        Arm::new("warmpath", stack(&pods[1]).start().await?),
    ];
    let mut prompts = Prompts::new(&tokenizer, shelf)?;
    let mut figures = Figures::new("path", setting(options));
    let [chat, ..] = CASES;
    load(&mut arms, &chat, Way::OneClient, options.warmup_turns, &mut prompts, "warming up").await?;
    for case in options.cases() {
        measure(options, &case, &mut arms, &mut prompts, &mut figures).await?;
    }
    let load = quantile_ms(&arms[1].stack, "asset_load_us", "P50").await?;
    figures.add("asset_load_p50", load, "ms");
    Ok(figures)
}

/// One case: its requests and its figures.
async fn measure(
    options: &Options,
    case: &Case,
    arms: &mut [Arm; 2],
    prompts: &mut Prompts,
    figures: &mut Figures,
) -> Result<()> {
    let (name, open) = (case.name, Way::OpenLoop { rate: case.rate });
    if case.chat {
        load(arms, case, Way::OneClient, options.turns, prompts, "chat_2kb, one client").await?;
        latency(arms, &format!("{name}_one_client"), figures);
        for (figure, histogram, quantile) in [
            ("callout_p50", "callout_us", "P50"),
            ("callout_p99", "callout_us", "P99"),
            ("keys_p50", "keys_us", "P50"),
        ] {
            let value = quantile_ms(&arms[1].stack, histogram, quantile).await?;
            figures.add(format!("{name}_one_client_{figure}"), value, "ms");
        }
    }
    // So that every prefix has been seen, and what is measured is the case's own.
    let warmup = usize::div_ceil(2 * case.prefixes, case.rate * case.turn_s).max(1);
    load(arms, case, open, warmup, prompts, name).await?;
    let before = arms[1].stack.envoy.metrics().await?;
    prompts.mean_tokens();
    load(arms, case, open, options.seconds.div_ceil(case.turn_s), prompts, name).await?;
    figures.add(format!("{name}_prompt_tokens_mean"), prompts.mean_tokens(), "");
    latency(arms, name, figures);
    cpu(arms, name, figures);
    inside(name, &before, &arms[1].stack.envoy.metrics().await?, figures);
    Ok(())
}

/// So many turns for each arm; what they gave replaces what the load before gave.
async fn load(
    arms: &mut [Arm; 2],
    case: &Case,
    way: Way,
    turns: usize,
    prompts: &mut Prompts,
    what: &'static str,
) -> Result<()> {
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len}, {eta} left");
    let bar = ProgressBar::new(2 * turns as u64).with_message(what);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    arms.iter_mut().for_each(Arm::clear);
    let requests = match way {
        Way::OneClient => TURN_REQUESTS,
        Way::OpenLoop { rate } => rate * case.turn_s,
    };
    for _ in 0..turns {
        for arm in arms.iter_mut() {
            arm.turn(way, prompts.jobs(case, requests)?).await?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn setting(options: &Options) -> Value {
    let cases: Vec<Value> = options
        .cases()
        .iter()
        .map(|case| {
            json!({"name": case.name, "bytes": case.bytes, "prefixes": case.prefixes, "rate_per_s": case.rate})
        })
        .collect();
    json!({
        "cases": cases, "open_loop_s": options.seconds, "warmup_requests": options.warmup_turns * TURN_REQUESTS,
        "one_client_requests": options.turns * TURN_REQUESTS, "tokenizer_entries": options.vocabulary,
        "pods": options.pods, "envoy_workers": 1,
    })
}

fn latency(arms: &[Arm; 2], name: &str, figures: &mut Figures) {
    for arm in arms {
        let of = arm.name;
        figures.add(format!("{name}_{of}_requests"), arm.samples.len() as f64, "");
        figures.add(format!("{name}_{of}_failed"), arm.failed() as f64, "");
        figures.add(format!("{name}_{of}_p50"), arm.quantile_ms(0.5), "ms");
        figures.add(format!("{name}_{of}_p99"), arm.quantile_ms(0.99), "ms");
    }
    let [plain, warm] = arms;
    for (figure, q) in [("p50", 0.5), ("p99", 0.99)] {
        figures.add(format!("{name}_added_{figure}"), warm.quantile_ms(q) - plain.quantile_ms(q), "ms");
    }
}

fn cpu(arms: &[Arm; 2], name: &str, figures: &mut Figures) {
    let [plain, warm] = arms;
    let [envoy, plain_envoy] = [warm, plain].map(|arm| arm.per_request_ms(arm.envoy));
    let sidecar = warm.per_request_ms(warm.sidecar);
    figures.add(format!("{name}_plain_envoy_cpu"), plain_envoy, "ms");
    figures.add(format!("{name}_warmpath_envoy_cpu"), envoy, "ms");
    figures.add(format!("{name}_warmpath_sidecar_cpu"), sidecar, "ms");
    figures.add(format!("{name}_added_cpu"), envoy + sidecar - plain_envoy, "ms");
}

/// What the filter itself has measured between two looks at its metrics.
fn inside(name: &str, before: &Metrics, after: &Metrics, figures: &mut Figures) {
    let grown = |metric: &str| after.sum(metric) - before.sum(metric);
    for (figure, histogram) in [("callout", "callout_us"), ("keys", "keys_us"), ("held", "held_us")] {
        let mean =
            grown(&format!("warmpath_{histogram}_sum")) / grown(&format!("warmpath_{histogram}_count"));
        figures.add(format!("{name}_{figure}_mean"), mean / 1e3, "ms");
    }
    let reused = grown("warmpath_prompt_bytes_reused");
    let share = reused / (reused + grown("warmpath_prompt_bytes_tokenized"));
    figures.add(format!("{name}_reused_share"), share, "");
    figures.add(format!("{name}_picks"), grown("warmpath_picks"), "");
}

/// A quantile of one of the filter's histograms over the whole life of the process, in milliseconds. Not a number, and said
/// on stderr, when nothing was recorded: then no request came so far.
async fn quantile_ms(stack: &Stack, histogram: &str, quantile: &str) -> Result<f64> {
    let path = format!("/stats?filter=warmpath.{histogram}$");
    let deadline = Instant::now() + SHOWN_WITHIN;
    loop {
        let text = stack.envoy.admin_client().get(&path).await?.ok()?.text();
        if let Some(micros) = quantile_us(&text, quantile)? {
            return Ok(micros / 1e3);
        }
        if Instant::now() >= deadline {
            eprintln!("{histogram}: the filter has recorded nothing, so there is no {quantile}");
            return Ok(f64::NAN);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A quantile as Envoy's admin port prints it, `name: P0(nan,100) P25(nan,102.5) P50(nan,105) …`; none for a histogram
/// without values, which it shows in other words or not at all.
fn quantile_us(text: &str, quantile: &str) -> Result<Option<f64>> {
    let found = text.split_whitespace().find_map(|word| word.strip_prefix(quantile)?.strip_prefix('('));
    let Some(found) = found else { return Ok(None) };
    let pair = found.strip_suffix(')').and_then(|word| word.split_once(','));
    let (_, value) = pair.with_context(|| format!("Envoy's {quantile} cannot be read: {text:?}"))?;
    value.parse().map(Some).with_context(|| format!("{quantile} is {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::quantile_us;

    #[test]
    fn quantiles_are_read_where_there_are_any() {
        let shown = "warmpath.callout_us: P0(nan,100) P50(nan,105) P99(120,130.5) P99.9(1,2)";
        assert_eq!(quantile_us(shown, "P50").unwrap(), Some(105.0));
        assert_eq!(quantile_us(shown, "P99").unwrap(), Some(130.5));
        for nothing in ["", "warmpath.callout_us: No recorded values"] {
            assert_eq!(quantile_us(nothing, "P50").unwrap(), None);
        }
        assert!(quantile_us("warmpath.callout_us: P50(1,x)", "P50").is_err());
        assert!(quantile_us("warmpath.callout_us: P50(1;2)", "P50").is_err());
    }
}
