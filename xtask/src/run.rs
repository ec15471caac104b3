//! Running other programs: loudly when it takes long, with their whole message when they fail.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Print a line about what is being done, so that no long step is silent.
pub(crate) fn say(text: &str) {
    println!("\x1b[1m==> {text}\x1b[0m");
}

/// Run a command with our own stdout and stderr.
///
/// # Errors
/// When it cannot be started or does not end with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    let status = command.status().with_context(|| format!("starting `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Run a command and take its stdout.
///
/// # Errors
/// As [`run`]; the command's stderr is shown as it comes.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("starting `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed something that is not UTF-8"))
}

/// What a test runner said, summed over its `test result:` lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// Lines in which a test says that it was skipped, for example because its data is missing.
    pub(crate) skipped: u64,
}

impl Counts {
    /// Add one line of a test runner's output.
    pub(crate) fn add_line(&mut self, line: &str) {
        if let Some(result) = line.trim_start().strip_prefix("test result: ") {
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
            self.ignored += number_before(result, " ignored");
        } else if line.trim_start().starts_with("skipped") {
            self.skipped += 1;
        }
    }

    /// Add another run's figures.
    pub(crate) fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.skipped += other.skipped;
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

/// Run a test runner, show its output as it comes, and count.
///
/// # Errors
/// When it cannot be started or does not end with 0.
pub(crate) fn tests(command: &mut Command) -> Result<Counts> {
    let line = shown(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting `{line}`"))?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        let mut out = std::io::stdout().lock();
        for text in BufReader::new(stdout).lines() {
            let text = text.with_context(|| format!("reading what `{line}` prints"))?;
            counts.add_line(&text);
            writeln!(out, "{text}")?;
        }
    }
    let status = child.wait().with_context(|| format!("waiting for `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status}): {counts}");
    }
    Ok(counts)
}

/// The command as one would type it, without the directory of its program.
fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut line = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn sums_the_runners_lines() {
        let mut counts = Counts::default();
        counts.add_line("test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out");
        counts.add_line("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured");
        counts.add_line("skipped: no Envoy");
        counts.add_line("test skipped_things ... ok");
        assert_eq!(counts, Counts { passed: 13, failed: 2, ignored: 3, skipped: 1 });
    }
}
