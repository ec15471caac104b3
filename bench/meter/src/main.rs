//! Measures tokenizing from inside one fresh instance: `meter ENGINE TOKENIZER TASK [FILE …]`.
//!
//! The same program runs natively and as a WASI module in V8, so that both measure the same. Each start is a fresh
//! instance with empty caches. It prints lines `name value unit`, and `ids name count hash` for the caller to see that
//! all engines made the same ids. Not here: which tasks are run on what, how often, and what is made of the values
//! (`bench/src/tokenize.rs`).

mod hostile;
mod tasks;

use std::time::Instant;

use anyhow::{Context, Result, bail};
use warmpath_core::tokenizer::{Runtime, Tokenizer};

/// Prints one value.
fn report(name: &str, value: f64, unit: &str) {
    println!("{name} {value} {unit}");
}

/// What `work` returns and how long it took, in milliseconds.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = std::hint::black_box(work());
    (result, start.elapsed().as_secs_f64() * 1e3)
}

/// A tokenizer of an engine: `runtime` reads a compiled asset, `tokenizers` a `tokenizer.json`.
fn load(engine: &str, file: &str) -> Result<(Box<dyn Tokenizer>, f64)> {
    let bytes = std::fs::read(file).with_context(|| format!("reading {file}"))?;
    match engine {
        "runtime" => {
            let (runtime, ms) = timed(|| Runtime::load(bytes));
            Ok((Box::new(runtime.map_err(|error| anyhow::anyhow!("{file}: {error}"))?), ms))
        }
        #[cfg(feature = "hf-tokenizers")]
        "tokenizers" => {
            let (tokenizer, ms) = timed(|| warmpath_core::tokenizer::HfTokenizer::from_json(&bytes));
            Ok((Box::new(tokenizer.map_err(anyhow::Error::msg)?), ms))
        }
        _ => bail!("no engine {engine} in this build"),
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (head, files) = arguments.split_at_checked(3).context("meter ENGINE TOKENIZER TASK [FILE …]")?;
    let [engine, tokenizer, task] = head else { bail!("three arguments at least") };
    let load = || load(engine, tokenizer);
    match task.as_str() {
        "texts" => tasks::texts(&load, files),
        "warm-other" => tasks::warm_other(&load, files),
        "chat" => tasks::chat(&load, files),
        "render" => tasks::render(&load, files),
        "worst" => hostile::worst(&load, files),
        "memory" => tasks::memory(&load, files),
        _ => bail!("no task {task}"),
    }
}
