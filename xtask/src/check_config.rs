//! `cargo xtask check-config`: the same parsers that run, on a file, before it is applied.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::run;
use crate::workspace::Workspace;

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The configuration: JSON of the filter plugin, YAML or JSON of the sidecar
    file: PathBuf,
    /// Whose configuration it is; found out from its keys when not given
    #[arg(long)]
    kind: Option<Kind>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    /// The Wasm plugin in Envoy
    Filter,
    /// The indexer sidecar
    Sidecar,
}

/// Check one file.
///
/// # Errors
/// When the file cannot be read or its parser refuses it (with the path of the key).
pub(crate) fn check(workspace: &Workspace, options: &Options) -> Result<()> {
    let file = std::path::absolute(&options.file)?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let kind = options.kind.unwrap_or_else(|| kind_of(&text));
    let mut build = workspace.cargo();
    build.args(["build", "--quiet", "--package"]);
    let mut check = match kind {
        Kind::Sidecar => {
            run::run(build.args(["warmpath-indexer-sidecar", "--bin", "indexer-sidecar"]))?;
            let mut check = Command::new(workspace.binary("debug", "indexer-sidecar"));
            check.arg("--check-config");
            check
        }
        Kind::Filter => {
            run::run(build.args(["warmpath-filter", "--example", "check-plugin-config"]))?;
            Command::new(workspace.binary("debug/examples", "check-plugin-config"))
        }
    };
    let status = check.arg(&file).status().context("starting the check")?;
    if !status.success() {
        bail!("{} is not a valid configuration of the {}", file.display(), name(kind));
    }
    Ok(())
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Filter => "filter plugin",
        Kind::Sidecar => "sidecar",
    }
}

/// A sidecar has models or endpoints, as keys at the start of a line (YAML) or quoted (JSON); a filter has neither.
fn kind_of(text: &str) -> Kind {
    let key = |name: &str| {
        text.contains(&format!("\"{name}\""))
            || text.lines().any(|line| line.starts_with(&format!("{name}:")))
    };
    if key("models") || key("endpoints") { Kind::Sidecar } else { Kind::Filter }
}

#[cfg(test)]
mod tests {
    use super::{Kind, kind_of};

    #[test]
    fn tells_the_two_configurations_apart() {
        assert_eq!(kind_of("mode: steer\nmodels:\n  - name: demo\n"), Kind::Sidecar);
        assert_eq!(kind_of(r#"{"endpoints": {"file": "x"}}"#), Kind::Sidecar);
        assert_eq!(kind_of(r#"{"steer": "header", "paths": ["/v1/models"]}"#), Kind::Filter);
    }
}
