//! `cargo xtask fuzz TARGET --seconds N`: a fuzz target under libFuzzer, on the toolchain that everything else is built with.
//!
//! What `cargo fuzz` does, without it: its sanitizers need a nightly compiler, and `core` forbids unsafe code, so that
//! coverage is all that is wanted here.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::envoy::on_path;
use crate::run::{output, run as run_loudly, say, shown};
use crate::workspace::Workspace;

/// Checks that an optimised build leaves out.
const CHECKS: &str = "-Cdebug-assertions --cfg fuzzing";
/// What libFuzzer reads its coverage and its compared values from.
const COVERAGE: &str = " -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Ccodegen-units=1";
/// How inputs are found without libFuzzer.
const BLIND: &str = "blindly (no C++ compiler for libFuzzer)";
/// An input that takes longer is a finding, in seconds: on an idle machine nothing here takes a tenth of one.
const SLOWEST: u32 = 25;
/// Longest input, in bytes. (libFuzzer's own default is 4096.)
const LONGEST: u32 = 65_536;

/// What every test run fuzzes, and how long each, in seconds. Longer runs are somebody's who looks at them.
pub(crate) const SHORT: (&[&str], u32) = (&["request_body", "tokenizer_asset"], 10);

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// One of fuzz/fuzz_targets, for example `request_body` or `tokenizer_asset`
    target: String,
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Seed of libFuzzer's random numbers; without it, one from the clock
    #[arg(long)]
    seed: Option<u32>,
}

/// Build the target and run it, until the time is over or something is found.
///
/// # Errors
/// When something cannot be built, or an input was found that panics or hangs: it is in `target/fuzz/artifacts`.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let target = &options.target;
    let source = workspace.root.join("fuzz/fuzz_targets").join(format!("{target}.rs"));
    if !source.is_file() {
        bail!("{} does not exist", source.display());
    }
    let programs = build(workspace, &[target])?;
    fuzz(workspace, target, &programs.join(target), options.seconds, options.seed).map(drop)
}

/// The short run of [`SHORT`]; what each target did, as text.
///
/// # Errors
/// As [`run`].
pub(crate) fn short(workspace: &Workspace) -> Result<Vec<String>> {
    let (targets, seconds) = SHORT;
    let programs = build(workspace, targets)?;
    targets.iter().map(|target| fuzz(workspace, target, &programs.join(target), seconds, None)).collect()
}

/// Whether libFuzzer can be built: it is C++. Without a compiler for that, inputs are mutated blindly.
fn guided() -> bool {
    std::env::var_os("CXX").is_some() || on_path("c++").is_some()
}

/// Build these targets; the directory with their programs.
fn build(workspace: &Workspace, targets: &[&str]) -> Result<PathBuf> {
    let guided = guided();
    say(&format!("building {} {}", targets.join(" and "), if guided { "with coverage" } else { BLIND }));
    let host = host(workspace)?;
    let directory = workspace.target.join("fuzz");
    let mut command = workspace.cargo();
    // With a target named, build scripts and procedural macros are built without these flags.
    command.args(["build", "--release", "--target", &host, "--manifest-path"]);
    command.arg(workspace.root.join("fuzz/Cargo.toml")).arg("--target-dir").arg(&directory);
    command.args(targets.iter().flat_map(|target| ["--bin", target]));
    if targets.iter().any(|target| needs_sidecar(target)) {
        command.args(["--features", "sidecar"]);
    }
    let mut flags = OsString::from(CHECKS);
    if guided {
        command.args(["--features", "libfuzzer"]);
        flags.push(COVERAGE);
    }
    if let Some(more) = std::env::var_os("RUSTFLAGS") {
        flags.push(" ");
        flags.push(more);
    }
    run_loudly(command.env("RUSTFLAGS", flags))?;
    Ok(directory.join(host).join("release"))
}

fn needs_sidecar(target: &str) -> bool {
    ["kv_events", "zmtp"].contains(&target)
}

/// The compiler's own triple.
fn host(workspace: &Workspace) -> Result<String> {
    let said = output(Command::new("rustc").arg("-vV").current_dir(&workspace.root))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// Run a target; what it did, as text.
fn fuzz(
    workspace: &Workspace,
    target: &str,
    program: &Path,
    seconds: u32,
    seed: Option<u32>,
) -> Result<String> {
    let seed = seed.unwrap_or_else(clock_seed);
    let directory = |name: &str| -> Result<PathBuf> {
        let path = workspace.target.join("fuzz").join(name).join(target);
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    };
    let artifacts = directory("artifacts")?;
    let seeds = directory("seeds")?;
    write_seeds(workspace, target, &seeds)?;
    let mut command = Command::new(program);
    // New inputs go into the first directory.
    command.arg(directory("corpus")?).arg(&seeds);
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-seed={seed}"),
        format!("-max_len={LONGEST}"),
    ]);
    command.args([format!("-timeout={SLOWEST}"), "-print_final_stats=1".to_owned()]);
    say(&format!("fuzzing {target} for {seconds} s, seed {seed}"));
    let line = shown(&command);
    let mut child = command.stderr(Stdio::piped()).spawn().with_context(|| format!("starting `{line}`"))?;
    let mut executions = None;
    if let Some(stderr) = child.stderr.take() {
        for text in BufReader::new(stderr).split(b'\n') {
            let text = text.with_context(|| format!("reading what `{line}` prints"))?;
            let text = String::from_utf8_lossy(&text);
            // A line for every new input or word is too much; those that only say how far it is are welcome.
            if !text.starts_with(['#', '"'])
                || ["INITED", "pulse", "DONE"].iter().any(|word| text.contains(word))
            {
                println!("{text}");
            }
            if let Some(count) = text.strip_prefix("stat::number_of_executed_units:") {
                executions = count.trim().parse::<u64>().ok();
            }
        }
    }
    let status = child.wait().with_context(|| format!("waiting for `{line}`"))?;
    if !status.success() {
        bail!("{target}: found after seed {seed} ({status}); the input is in {}", artifacts.display());
    }
    let executions = executions.with_context(|| format!("`{line}` did not say how much it executed"))?;
    let how = if guided() { "guided by coverage" } else { BLIND };
    let said =
        format!("{target}: {executions} executions in {seconds} s without a finding, {how}, seed {seed}");
    println!("{said}");
    Ok(said)
}

fn clock_seed() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // 0 would make libFuzzer take one of its own.
    (now.as_nanos() as u32).max(1)
}

/// Inputs to begin with: the bodies whose answers by vLLM are test data of `core`; for assets, a byte of the right one
/// changed and 64 bytes of text.
fn write_seeds(workspace: &Workspace, target: &str, directory: &Path) -> Result<()> {
    if target == "tokenizer_asset" {
        let text = "Hello there, it's 2024! <|im_end|>\n e\u{301} \u{1f600} the quick brown fox";
        let seed = [&[1, 200, 0, 0, 0, 7][..], &text.as_bytes()[..64]].concat();
        let file = directory.join("a-changed-byte");
        return std::fs::write(&file, seed).with_context(|| format!("writing {}", file.display()));
    }
    if target != "request_body" {
        return Ok(());
    }
    for name in ["messages", "responses", "generate"] {
        let path = workspace.root.join(format!("core/tests/data/apis/{name}.jsonl"));
        let rows = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        for (at, row) in rows.lines().enumerate() {
            let row: Value =
                serde_json::from_str(row).with_context(|| format!("reading {}", path.display()))?;
            let seed = directory.join(format!("{name}-{at}.json"));
            std::fs::write(&seed, row["body"].to_string())
                .with_context(|| format!("writing {}", seed.display()))?;
        }
    }
    Ok(())
}
