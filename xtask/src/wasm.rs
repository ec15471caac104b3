//! The filter module: build, replace imports that old Envoys lack, check what is left.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use walrus::{FunctionId, ImportKind, Module, ValType};

use crate::run::{run, say};
use crate::workspace::Workspace;

/// Largest module in bytes. Envoy compiles about 1 MB per second before it listens, so size is start-up time.
const MODULE_BYTES_MAX: u64 = 1_600_000;

/// WASI calls that every Envoy since 1.30 offers (its Wasm runtime registers exactly these). One import that is not
/// there, called or not, and Envoy refuses the module: "missing import".
const WASI: &[&str] = &[
    "args_get",
    "args_sizes_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_close",
    "fd_fdstat_get",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_read",
    "fd_seek",
    "fd_write",
    "path_open",
    "proc_exit",
    "random_get",
];
const WASI_MODULE: &str = "wasi_snapshot_preview1";
/// The module's file name in the target directory.
const FILE: &str = "warmpath_filter.wasm";

/// Build the module into the target directory; its path.
///
/// # Errors
/// When the build fails, the module imports what Envoy does not offer, or it is too large.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    say("building the filter module");
    run(workspace.cargo().args([
        "build",
        "--package",
        "warmpath-filter",
        "--lib",
        "--profile",
        "wasm",
        "--target",
        "wasm32-wasip1",
    ]))
    .context("the target is installed by: rustup target add wasm32-wasip1")?;
    let built = workspace.target.join("wasm32-wasip1/wasm").join(FILE);
    let finished = workspace.target.join(FILE);
    let bytes = std::fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    let (bytes, stubs) = stub_imports(&bytes)?;
    check_imports(&bytes)?;
    check_size(bytes.len() as u64)?;
    replace(&finished, &bytes)?;
    let stubbed = if stubs.is_empty() { "none".to_owned() } else { stubs.join(", ") };
    println!(
        "{}: {} bytes of {MODULE_BYTES_MAX} allowed; imports stubbed: {stubbed}",
        finished.display(),
        bytes.len()
    );
    Ok(finished)
}

/// Write through a rename: an Envoy that is starting reads the old module or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, bytes).with_context(|| format!("writing {}", part.display()))?;
    std::fs::rename(&part, path).with_context(|| format!("writing {}", path.display()))
}

fn check_size(bytes: u64) -> Result<()> {
    if bytes > MODULE_BYTES_MAX {
        bail!("the module has {bytes} bytes, more than the {MODULE_BYTES_MAX} allowed");
    }
    Ok(())
}

/// Whether Envoy offers this function to a module.
fn offered(module: &str, name: &str) -> bool {
    match module {
        "env" => name.starts_with("proxy_"),
        WASI_MODULE => WASI.contains(&name),
        _ => false,
    }
}

/// Replace WASI imports that Envoy may lack by functions that return an error number; the names replaced.
fn stub_imports(bytes: &[u8]) -> Result<(Vec<u8>, Vec<String>)> {
    let mut module = Module::from_buffer(bytes).context("parsing the filter module")?;
    let missing: Vec<(FunctionId, String)> = module
        .imports
        .iter()
        .filter(|import| import.module == WASI_MODULE && !offered(&import.module, &import.name))
        .filter_map(|import| match import.kind {
            ImportKind::Function(id) => Some((id, import.name.clone())),
            _ => None,
        })
        .collect();
    for (id, name) in &missing {
        let results = module.types.get(module.funcs.get(*id).ty()).results();
        if results != [ValType::I32] {
            bail!("cannot replace the import {name}: it returns {results:?} and not one error number");
        }
        module.replace_imported_func(*id, |(body, _)| {
            body.i32_const(errno(name));
        })?;
    }
    let names = missing.into_iter().map(|(_, name)| name).collect();
    Ok((module.emit_wasm(), names))
}

/// What the stub of a WASI call returns: giving up the processor may do nothing, all else is not supported.
fn errno(name: &str) -> i32 {
    const SUCCESS: i32 = 0;
    /// `nosys` of WASI preview 1.
    const NOSYS: i32 = 52;
    if name == "sched_yield" { SUCCESS } else { NOSYS }
}

/// Fail on any import that Envoy does not offer. Reads the bytes with another parser than the one that wrote them.
fn check_imports(bytes: &[u8]) -> Result<()> {
    let mut refused = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        let wasmparser::Payload::ImportSection(imports) = payload.context("parsing the finished module")?
        else {
            continue;
        };
        for import in imports.into_imports() {
            let import = import.context("reading the import section")?;
            let function =
                matches!(import.ty, wasmparser::TypeRef::Func(_) | wasmparser::TypeRef::FuncExact(_));
            if !function || !offered(import.module, import.name) {
                refused.push(format!("{}.{}", import.module, import.name));
            }
        }
    }
    if !refused.is_empty() {
        bail!("the module imports what Envoy does not offer: {}", refused.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn importing(names: &[(&str, &str)]) -> Vec<u8> {
        let mut module = Module::default();
        let ty = module.types.add(&[ValType::I32], &[ValType::I32]);
        for (from, name) in names {
            let (id, _) = module.add_import_func(from, name, ty);
            module.exports.add(name, id);
        }
        module.emit_wasm()
    }

    #[test]
    fn stubs_what_envoy_lacks_and_keeps_the_rest() {
        let bytes = importing(&[
            (WASI_MODULE, "fd_write"),
            (WASI_MODULE, "sched_yield"),
            (WASI_MODULE, "fd_filestat_get"),
            ("env", "proxy_log"),
        ]);
        assert!(check_imports(&bytes).is_err());
        let (bytes, names) = stub_imports(&bytes).unwrap();
        assert_eq!(names, ["sched_yield", "fd_filestat_get"]);
        check_imports(&bytes).unwrap();
        assert_eq!(Module::from_buffer(&bytes).unwrap().imports.iter().count(), 2);
    }

    #[test]
    fn refuses_imports_of_other_hosts() {
        let bytes = importing(&[("__wbindgen_placeholder__", "now"), ("env", "then")]);
        let (bytes, names) = stub_imports(&bytes).unwrap();
        assert_eq!(names, Vec::<String>::new());
        let message = check_imports(&bytes).unwrap_err().to_string();
        assert!(message.ends_with("__wbindgen_placeholder__.now, env.then"), "{message}");
    }

    #[test]
    fn refuses_a_module_above_the_limit() {
        assert!(check_size(MODULE_BYTES_MAX).is_ok());
        assert!(check_size(MODULE_BYTES_MAX + 1).is_err());
    }
}
