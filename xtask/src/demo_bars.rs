//! What the demo promises, checked on the figures that it writes.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::programs::Programs;
use crate::run;
use crate::workspace::Workspace;

/// Run the demo and check its figures.
///
/// # Errors
/// When it fails, or a figure is not what is promised; all such figures are named.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let programs = Programs::build(workspace)?;
    let file = workspace.target.join("demo.json");
    let mut command = std::process::Command::new(workspace.binary("debug", "warmpath-demo"));
    run::run(programs.export(&mut command).arg("--json").arg(&file))?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let figures: Value =
        serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
    let broken = broken(&figures["policies"]);
    if !broken.is_empty() {
        bail!("{}", broken.join("; "));
    }
    Ok(())
}

/// The promises that do not hold. A figure that is missing breaks its promise.
fn broken(policies: &Value) -> Vec<String> {
    let figure = |policy: &str, name: &str| policies[policy][name].as_f64().unwrap_or(f64::NAN);
    let (ours, plain) = ("warmpath", "round_robin");
    let p90 = "ttft_p90_ms";
    let promises = [
        ("cached_share under Warmpath is at least 0.9", figure(ours, "cached_share") >= 0.9),
        ("cached_share under round robin is below 0.6", figure(plain, "cached_share") < 0.6),
        ("ttft_p90_ms is lower under Warmpath", figure(ours, p90) < figure(plain, p90)),
        ("no pod gets more than 0.45 of the requests", figure(ours, "max_pod_share") <= 0.45),
        ("no request fails under Warmpath", figure(ours, "failed") == 0.0),
        ("no request fails under round robin", figure(plain, "failed") == 0.0),
    ];
    promises.into_iter().filter(|(_, holds)| !holds).map(|(text, _)| format!("not so: {text}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::broken;

    #[test]
    fn every_promise_can_be_broken() {
        let good = json!({
            "round_robin": {"cached_share": 0.5, "ttft_p90_ms": 200.0, "max_pod_share": 0.34, "failed": 0},
            "warmpath": {"cached_share": 0.95, "ttft_p90_ms": 100.0, "max_pod_share": 0.4, "failed": 0},
        });
        assert_eq!(broken(&good), Vec::<String>::new());
        assert_eq!(broken(&json!({})).len(), 6);
        for (policy, name, value) in [
            ("warmpath", "cached_share", 0.89),
            ("round_robin", "cached_share", 0.6),
            ("warmpath", "ttft_p90_ms", 200.0),
            ("warmpath", "max_pod_share", 0.46),
            ("warmpath", "failed", 1.0),
            ("round_robin", "failed", 1.0),
        ] {
            let mut bad = good.clone();
            bad[policy][name] = value.into();
            assert_eq!(broken(&bad).len(), 1, "{policy} {name}");
        }
    }
}
