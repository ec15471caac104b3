//! Running other programs: loudly when it takes long, with their whole message when they fail.

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

/// The command as one would type it, without the directory of its program.
pub(crate) fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut line = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
