//! Test runners: their output as it comes, and from it the counts, and the failed tests with what they said.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run::shown;

/// What test runners said, summed over their `test result:` lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// Lines in which a test says that it was skipped, for example because its data is missing.
    pub(crate) skipped: u64,
}

impl Counts {
    fn add_result(&mut self, result: &str) {
        self.passed += number_before(result, " passed");
        self.failed += number_before(result, " failed");
        self.ignored += number_before(result, " ignored");
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { passed, failed, ignored, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {ignored} ignored, {skipped} skipped")
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    let Some(end) = text.find(word) else { return 0 };
    text[..end].rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// A test that failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) name: String,
    /// What it printed from its panic on, or the end of it: at most [`MESSAGE_LINES`].
    pub(crate) message: Vec<String>,
}

/// Lines of a failed test that the summary repeats. The runner has shown all of them.
const MESSAGE_LINES: usize = 12;

/// What came of the tests of one step.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) counts: Counts,
    pub(crate) failures: Vec<Failure>,
    /// What a step says besides.
    pub(crate) notes: Vec<String>,
    reading: Reading,
}

/// Where in a runner's output we are.
#[derive(Debug, Default)]
enum Reading {
    #[default]
    Results,
    /// Between `failures:` and the list of names: what failed tests printed.
    Failed { name: String, printed: Vec<String> },
}

impl Findings {
    /// Add one line of a runner's output.
    fn add_line(&mut self, line: &str) {
        let text = line.trim();
        if let Some(result) = text.strip_prefix("test result: ") {
            self.end_of_test();
            self.reading = Reading::Results;
            self.counts.add_result(result);
        } else if text == "failures:" {
            // Once before what they printed, and once before the list of their names.
            let again = matches!(self.reading, Reading::Failed { .. });
            self.end_of_test();
            if !again {
                self.reading = Reading::Failed { name: String::new(), printed: Vec::new() };
            }
        } else if let Reading::Failed { name, printed } = &mut self.reading {
            match text.strip_prefix("---- ").and_then(|title| title.split(' ').next()) {
                Some(title) => {
                    let next = title.to_owned();
                    self.end_of_test();
                    self.reading = Reading::Failed { name: next, printed: Vec::new() };
                }
                None if !name.is_empty() => printed.push(line.to_owned()),
                None => {}
            }
        } else if text.starts_with("skipped") {
            self.counts.skipped += 1;
        }
    }

    /// Keep what the failed test printed whose lines end here.
    fn end_of_test(&mut self) {
        if let Reading::Failed { name, printed } = std::mem::take(&mut self.reading)
            && !name.is_empty()
        {
            self.failures.push(Failure { name, message: essence(&printed) });
        }
    }
}

/// The lines from the panic on, without those on backtraces; where nothing panicked, the last ones.
fn essence(printed: &[String]) -> Vec<String> {
    let said = |line: &&String| !line.trim().is_empty() && !line.contains("RUST_BACKTRACE");
    let lines: Vec<&String> = printed.iter().filter(said).collect();
    let panic = lines.iter().position(|line| line.contains("panicked at "));
    let start = panic.unwrap_or(lines.len().saturating_sub(MESSAGE_LINES));
    lines[start..].iter().take(MESSAGE_LINES).map(|line| line.trim_end().to_owned()).collect()
}

/// Run a test runner, show its output as it comes, and add to what was found.
///
/// # Errors
/// When it cannot be started or does not end with 0, or when no test was run: a runner that found none says "ok" too.
pub(crate) fn tests(command: &mut Command, findings: &mut Findings) -> Result<()> {
    let line = shown(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting `{line}`"))?;
    let before = findings.counts;
    if let Some(stdout) = child.stdout.take() {
        let mut out = std::io::stdout().lock();
        for text in BufReader::new(stdout).split(b'\n') {
            let text = text.with_context(|| format!("reading what `{line}` prints"))?;
            let text = String::from_utf8_lossy(&text);
            findings.add_line(&text);
            writeln!(out, "{text}")?;
        }
    }
    let status = child.wait().with_context(|| format!("waiting for `{line}`"))?;
    // A program that died in the middle of a list of failures.
    findings.end_of_test();
    findings.reading = Reading::Results;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    if findings.counts.passed == before.passed {
        bail!("`{line}` ran no test");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Counts, Failure, Findings, MESSAGE_LINES};

    fn read(output: &str) -> Findings {
        let mut findings = Findings::default();
        output.lines().for_each(|line| findings.add_line(line));
        findings
    }

    #[test]
    fn sums_the_runners_lines() {
        let found = read(
            "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out\n\
             skipped: no Envoy\n\
             test skipped_things ... ok\n\
             test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured",
        );
        assert_eq!(found.counts, Counts { passed: 13, failed: 2, ignored: 3, skipped: 1 });
        assert_eq!(found.failures, []);
    }

    /// What libtest prints with `--show-output`.
    const LIBTEST: &str = "\
test good ... ok
test bad ... FAILED

successes:

---- good stdout ----
thread 'good' panicked at nothing, it only says so

successes:
    good

failures:

---- bad stdout ----
before
thread 'bad' (77) panicked at tests/a.rs:5:9:
assertion `left == right` failed: why
  left: 1
 right: 2
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace

---- module::worse stdout ----
Error: \"returned\"


failures:
    bad
    module::worse

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out

skipped: of the next program
";

    #[test]
    fn repeats_what_failed_tests_said() {
        let found = read(LIBTEST);
        let bad = [
            "thread 'bad' (77) panicked at tests/a.rs:5:9:",
            "assertion `left == right` failed: why",
            "  left: 1",
            " right: 2",
        ];
        let failure = |name: &str, message: &[&str]| Failure {
            name: name.to_owned(),
            message: message.iter().map(|&line| line.to_owned()).collect(),
        };
        assert_eq!(
            found.failures,
            [failure("bad", &bad), failure("module::worse", &["Error: \"returned\""])]
        );
        assert_eq!(found.counts, Counts { passed: 1, failed: 2, ignored: 0, skipped: 1 });
    }

    /// What the runner of Wasm tests prints.
    #[test]
    fn reads_the_runner_of_wasm_tests() {
        let found = read(
            "failures:\n\n---- tokens::same output ----\n    error output:\n        panicked at core/tests/a.rs:1:1:\n        \
             no\n\nfailures:\n\n    tokens::same\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored",
        );
        assert_eq!(found.failures.len(), 1);
        assert_eq!(found.failures[0].name, "tokens::same");
        assert_eq!(found.failures[0].message, ["        panicked at core/tests/a.rs:1:1:", "        no"]);
    }

    #[test]
    fn a_long_message_is_cut() {
        let lines: String = (0..100).map(|at| format!("line {at}\n")).collect();
        let found = read(&format!("failures:\n---- a stdout ----\npanicked at x\n{lines}failures:\n    a\n"));
        assert_eq!(found.failures[0].message.len(), MESSAGE_LINES);
        assert_eq!(found.failures[0].message[1], "line 0");
    }
}
