//! `cargo xtask test`: every check, step by step, with the runners' own output and a summary at the end.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::programs::Programs;
use crate::run::{self, say};
use crate::runner::{self, Counts, Findings};
use crate::workspace::Workspace;
use crate::{demo_bars, envoy, fuzz, node, oracle, vllm};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this step; may be repeated
    #[arg(long, value_name = "STEP")]
    only: Vec<Step>,
    /// Also the end-to-end test with two real vLLM servers on CPU (about 6 GB are fetched once)
    #[arg(long)]
    vllm: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting
    Fmt,
    /// Lints, natively and for Wasm
    Clippy,
    /// Unit and property tests
    Native,
    /// The core's unit tests, and recorded answers of vLLM, in Node
    Wasm,
    /// A short run of the fuzz targets of request bodies and of tokenizer assets
    Fuzz,
    /// End-to-end tests in the default Envoy
    E2e,
    /// End-to-end tests in the oldest Envoy
    E2eOldest,
    /// The demo, and whether its figures are what it promises
    Demo,
    /// End-to-end test of the filter with the crate `tokenizers` inside (not among the steps that run by default)
    HfTokenizers,
    /// End-to-end test with real vLLM servers
    Vllm,
}

/// What CI runs.
const DEFAULT: [Step; 8] =
    [Step::Fmt, Step::Clippy, Step::Native, Step::Wasm, Step::Fuzz, Step::E2e, Step::E2eOldest, Step::Demo];

/// Run the steps, all of them even when one fails.
///
/// # Errors
/// When any step failed.
pub(crate) fn run_all(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut steps = options.only.clone();
    if steps.is_empty() {
        steps = DEFAULT.to_vec();
    }
    if options.vllm && !steps.contains(&Step::Vllm) {
        steps.push(Step::Vllm);
    }
    let mut reports = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let name = step.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        say(&format!("test step {} of {}: {name}", index + 1, steps.len()));
        let start = Instant::now();
        let mut findings = Findings::default();
        let result = run_step(workspace, *step, &mut findings);
        if let Err(error) = &result {
            eprintln!("{name} failed: {error:#}");
        }
        reports.push(Report { name, seconds: start.elapsed(), findings, result });
    }
    summarise(&reports)
}

/// End-to-end tests at a time: they mostly wait, for Envoy to compile the module and for deadlines to pass.
const E2E_THREADS: usize = 3;

struct Report {
    name: String,
    seconds: Duration,
    findings: Findings,
    result: Result<()>,
}

fn summarise(reports: &[Report]) -> Result<()> {
    say("summary");
    for Report { name, seconds, findings, result } in reports {
        let mut said = Vec::new();
        if findings.counts != Counts::default() {
            said.push(findings.counts.to_string());
        }
        said.extend(findings.notes.iter().cloned());
        if let Err(error) = result {
            said.push(format!("{error:#}"));
        }
        let outcome = if result.is_ok() { "ok" } else { "FAILED" };
        println!(
            "{name:<11} {:>6.1} s  {outcome}{}{}",
            seconds.as_secs_f64(),
            if said.is_empty() { "" } else { ": " },
            said.join("; ")
        );
    }
    // The reader of a log begins at its end.
    for Report { name, findings, .. } in reports {
        for failure in &findings.failures {
            println!("\n{name}: {} FAILED", failure.name);
            failure.message.iter().for_each(|line| println!("    {line}"));
        }
    }
    let failed: Vec<&str> =
        reports.iter().filter(|report| report.result.is_err()).map(|report| report.name.as_str()).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn run_step(workspace: &Workspace, step: Step, findings: &mut Findings) -> Result<()> {
    match step {
        Step::Fmt => {
            run::run(workspace.cargo().args(["fmt", "--all", "--check"])).context("`cargo xtask fmt` formats")
        }
        Step::Clippy => clippy(workspace),
        Step::Native => native(workspace, findings),
        Step::Wasm => wasm(workspace, findings),
        Step::Fuzz => short_fuzz(workspace, findings),
        Step::E2e => end_to_end(workspace, envoy::provide(workspace)?, findings),
        Step::E2eOldest => end_to_end(workspace, envoy::OLDEST.program(workspace)?, findings),
        Step::Demo => demo_bars::run(workspace),
        Step::HfTokenizers => hf_tokenizers(workspace, findings),
        Step::Vllm => real_vllm(workspace, findings),
    }
}

/// Lint everything, and the filter once more as what it is built for.
///
/// # Errors
/// On any warning.
pub(crate) fn clippy(workspace: &Workspace) -> Result<()> {
    let deny = ["--", "-D", "warnings"];
    run::run(workspace.cargo().args(["clippy", "--workspace", "--all-targets"]).args(deny))?;
    run::run(
        workspace
            .cargo()
            .args(["clippy", "--package", "warmpath-filter", "--lib", "--target", "wasm32-wasip1"])
            .args(deny),
    )
}

/// Everything that cargo finds. The end-to-end tests are among it and say "skipped": they run in steps of their own.
fn native(workspace: &Workspace, findings: &mut Findings) -> Result<()> {
    let mut command = workspace.cargo();
    command.args(["test", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    runner::tests(command.env_remove("WARMPATH_ENVOY"), findings)
}

/// Where the filter's code runs, in Wasm: the core's own tests, and the recorded answers.
fn wasm(workspace: &Workspace, findings: &mut Findings) -> Result<()> {
    let runner = node::test_runner(workspace)?;
    let mut command = workspace.cargo();
    command
        .args(["test", "--package", "warmpath-core", "--target", "wasm32-unknown-unknown"])
        .args(["--test", "vectors", "--test", "tokens"])
        .env("PATH", node::path_with_node(workspace)?)
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner);
    let tests = runner::tests(&mut command, findings);
    let golden = oracle::golden_in_wasm(workspace, findings);
    tests.and(golden)
}

fn short_fuzz(workspace: &Workspace, findings: &mut Findings) -> Result<()> {
    findings.notes = fuzz::short(workspace)?;
    Ok(())
}

/// Programs of `tests/` that need more than Envoy, and have steps of their own.
const APART: [&str; 2] = ["vllm", "hf_tokenizers"];

fn end_to_end(workspace: &Workspace, envoy: PathBuf, findings: &mut Findings) -> Result<()> {
    let programs = Programs::build(workspace)?.on(envoy);
    let mut failed = Vec::new();
    for test in test_programs(workspace)?.iter().filter(|test| !APART.contains(&test.name.as_str())) {
        say(&format!("end-to-end: {}", test.name));
        let mut command = test.command();
        programs.export(&mut command).args(["--show-output", &format!("--test-threads={E2E_THREADS}")]);
        if let Err(error) = runner::tests(&mut command, findings) {
            failed.push(format!("{error:#}"));
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

fn hf_tokenizers(workspace: &Workspace, findings: &mut Findings) -> Result<()> {
    let programs = Programs::build(workspace)?.with_hf_tokenizers(workspace)?;
    let tests = test_programs(workspace)?;
    let test = tests.iter().find(|test| test.name == "hf_tokenizers").context("tests/ has no such test")?;
    let mut command = test.command();
    programs.export(&mut command).args(["--ignored", "--show-output"]);
    runner::tests(&mut command, findings)
}

fn real_vllm(workspace: &Workspace, findings: &mut Findings) -> Result<()> {
    let python = vllm::python(workspace)?;
    let programs = Programs::build(workspace)?;
    let tests = test_programs(workspace)?;
    let test = tests.iter().find(|test| test.name == "vllm").context("tests/ has no test named vllm")?;
    let mut command = test.command();
    programs.export(&mut command).args(["--ignored", "--nocapture"]).env("WARMPATH_VLLM_PYTHON", python);
    runner::tests(&mut command, findings)
}

/// An integration test of `tests/`, as built.
struct TestProgram {
    name: String,
    program: PathBuf,
    directory: PathBuf,
}

impl TestProgram {
    /// As cargo would start it.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory);
        command
    }
}

/// Build the end-to-end tests with the same features as everything else (`--package` alone would select others and
/// build half of the dependencies again), and find them in what cargo reports.
fn test_programs(workspace: &Workspace) -> Result<Vec<TestProgram>> {
    let mut command = workspace.cargo();
    command.args(["test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"]);
    let directory = workspace.root.join("tests");
    let mut programs = Vec::new();
    for line in run::output(&mut command)?.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("reading cargo's messages")?;
        let Some(program) = message["executable"].as_str() else { continue };
        let of_tests = message["manifest_path"].as_str() == directory.join("Cargo.toml").to_str();
        if of_tests && message["target"]["kind"][0] == "test" {
            programs.push(TestProgram {
                name: message["target"]["name"].as_str().unwrap_or_default().to_owned(),
                program: program.into(),
                directory: directory.clone(),
            });
        }
    }
    Ok(programs)
}
