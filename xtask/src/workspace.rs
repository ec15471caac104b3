//! Where things are: the workspace, cargo's target directory and the tools that xtask fetches.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run;

/// Paths that every recipe needs. Built once per run.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// Directory of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where cargo builds (`CARGO_TARGET_DIR` and cargo's own configuration are respected).
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Ask cargo where the workspace builds.
    ///
    /// # Errors
    /// When `cargo metadata` fails, with its own message on stderr.
    pub(crate) fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(&manifest);
        let metadata: serde_json::Value = serde_json::from_str(&run::output(&mut command)?)
            .context("reading the output of cargo metadata")?;
        let path = |key: &str| {
            metadata[key].as_str().map(PathBuf::from).with_context(|| format!("cargo metadata has no {key}"))
        };
        Ok(Workspace { root: path("workspace_root")?, target: path("target_directory")? })
    }

    /// Fetched tools live in `target/` of the workspace, also when cargo builds elsewhere: they are large and
    /// do not depend on what is built.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join("target")
    }

    /// A cargo command that runs in the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }

    /// A binary of the dev profile, as `cargo build` leaves it.
    pub(crate) fn binary(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// Version of a package in `Cargo.lock`.
    ///
    /// # Errors
    /// When the lock file cannot be read or does not have the package.
    pub(crate) fn locked_version(&self, package: &str) -> Result<String> {
        let path = self.root.join("Cargo.lock");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let entry = format!("name = \"{package}\"\nversion = \"");
        let start =
            text.find(&entry).with_context(|| format!("{} has no {package}", path.display()))? + entry.len();
        let version = text[start..].split('"').next().unwrap_or_default();
        Ok(version.to_owned())
    }
}

/// The cargo that runs this xtask.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
