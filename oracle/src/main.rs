//! The program behind `cargo xtask golden` and `cargo xtask differ`. It is also built as a WASI module, and then runs
//! in Node.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::{Value, json};
use warmpath_oracle::differ::{self, Differences};
use warmpath_oracle::files;
use warmpath_oracle::golden::{Golden, MAX_MODEL_LEN};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Core against what is known to be right")]
enum Task {
    /// Run every case of a folder of recorded answers of vLLM
    Golden {
        /// The folder: templates, conversations, renders, tokens, prompts; parts may be missing
        directory: PathBuf,
        /// Folder of the tokenizers, NAME.json or NAME.json.gz
        #[arg(long, value_name = "DIR")]
        tokenizers: PathBuf,
        /// --max-model-len of the servers that answered prompts/
        #[arg(long, default_value_t = MAX_MODEL_LEN)]
        max_model_len: u32,
        /// Also write all results to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Compare our tokenizer runtime with the crate tokenizers over generated strings
    Differ {
        /// Folder of the tokenizers, NAME.json or NAME.json.gz
        #[arg(long, value_name = "DIR")]
        tokenizers: PathBuf,
        /// Only these of them
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Strings for each tokenizer
        #[arg(long, default_value_t = 100_000)]
        strings: usize,
        /// Seed of the strings; without it, one from the clock
        #[arg(long)]
        seed: Option<u64>,
        /// Threads; without it, one for each core
        #[arg(long)]
        threads: Option<usize>,
        /// Also write the results to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Golden { directory, tokenizers, max_model_len, json } => {
            golden(&Golden { directory: &directory, tokenizers: &tokenizers, max_model_len }, json.as_deref())
        }
        Task::Differ { tokenizers, only, strings, seed, threads, json } => {
            let seed = seed.unwrap_or_else(clock_seed);
            let threads = threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
            let options = differ::Options { strings, seed, threads: threads.unwrap_or(1) };
            differ_all(&tokenizers, &only, options, json.as_deref())
        }
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn golden(golden: &Golden, json: Option<&Path>) -> Result<()> {
    let report = golden.run()?;
    println!("{}", report.text());
    write(json, &report.json())?;
    match report.different() {
        0 => Ok(()),
        count => bail!("{count} cases differ"),
    }
}

fn differ_all(
    directory: &Path,
    only: &[String],
    options: differ::Options,
    json: Option<&Path>,
) -> Result<()> {
    let mut all: Vec<Differences> = Vec::new();
    for (name, path) in files::list(directory, "json")? {
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        let start = Instant::now();
        // A line every tenth of the way: no long step is silent.
        let tenth = (options.strings / 10).max(1);
        let progress = |done: usize| {
            if done % tenth < 1_000 {
                eprintln!("{name}: {done} of {}, {:.0} s", options.strings, start.elapsed().as_secs_f64());
            }
        };
        let found = differ::run(&name, &files::read(&path)?, options, &progress)
            .map_err(anyhow::Error::msg)
            .with_context(|| path.display().to_string())?;
        println!("{}", found.text());
        all.push(found);
    }
    if all.is_empty() {
        bail!("{} has no tokenizer that was asked for", directory.display());
    }
    write(json, &Value::from(all.iter().map(Differences::json).collect::<Vec<_>>()))?;
    match all.iter().map(|one| one.count).sum::<usize>() {
        0 if all.iter().all(|one| one.refused.is_some()) => bail!("nothing was compared"),
        0 => Ok(()),
        count => bail!("{count} strings differ"),
    }
}

fn clock_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| now.as_nanos() as u64)
}

fn write(file: Option<&Path>, document: &Value) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_vec_pretty(&json!(document))?;
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
