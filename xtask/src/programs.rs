//! The programs that demo, end-to-end tests and benchmarks start, handed over in environment variables.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::run::{run, say};
use crate::workspace::Workspace;
use crate::{envoy, wasm};

/// Everything that a stack on loopback needs.
pub(crate) struct Programs {
    envoy: PathBuf,
    filter: PathBuf,
    sidecar: PathBuf,
    simulator: PathBuf,
}

impl Programs {
    /// Build what is ours in the dev profile, with the whole workspace's features, so that tests reuse it.
    ///
    /// # Errors
    /// When a build fails or Envoy cannot be provided.
    pub(crate) fn build(workspace: &Workspace) -> Result<Self> {
        let envoy = envoy::provide(workspace)?;
        let filter = wasm::build(workspace, wasm::DEFAULT)?;
        say("building the sidecar, the simulator and the demo");
        run(workspace.cargo().args(["build", "--workspace", "--bins"]))?;
        Ok(Programs::of(workspace, "debug", envoy, filter))
    }

    /// As [`Programs::build`], optimised: for benchmarks.
    ///
    /// # Errors
    /// As [`Programs::build`].
    pub(crate) fn build_release(workspace: &Workspace) -> Result<Self> {
        let envoy = envoy::provide(workspace)?;
        let filter = wasm::build(workspace, wasm::DEFAULT)?;
        say("building the sidecar and the simulator, optimised");
        run(workspace.cargo().args([
            "build",
            "--release",
            "--bins",
            "--package",
            "warmpath-indexer-sidecar",
            "--package",
            "warmpath-simulator",
        ]))?;
        Ok(Programs::of(workspace, "release", envoy, filter))
    }

    fn of(workspace: &Workspace, profile: &str, envoy: PathBuf, filter: PathBuf) -> Self {
        Programs {
            envoy,
            filter,
            sidecar: workspace.binary(profile, "indexer-sidecar"),
            simulator: workspace.binary(profile, "warmpath-simulator"),
        }
    }

    /// The same with the filter that has the crate `tokenizers` inside.
    ///
    /// # Errors
    /// When its build fails.
    pub(crate) fn with_hf_tokenizers(mut self, workspace: &Workspace) -> Result<Self> {
        self.filter = wasm::build(workspace, wasm::HF_TOKENIZERS)?;
        Ok(self)
    }

    /// The same with another Envoy.
    pub(crate) fn on(&self, envoy: PathBuf) -> Self {
        Programs {
            envoy,
            filter: self.filter.clone(),
            sidecar: self.sidecar.clone(),
            simulator: self.simulator.clone(),
        }
    }

    /// Tell a command where they are.
    pub(crate) fn export<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("WARMPATH_ENVOY", &self.envoy)
            .env("WARMPATH_FILTER", &self.filter)
            .env("WARMPATH_SIDECAR", &self.sidecar)
            .env("WARMPATH_SIMULATOR", &self.simulator)
    }
}
