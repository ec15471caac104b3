//! The filter module: build, replace imports that old Envoys lack, check what is left.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use walrus::{FunctionId, ImportKind, Module, ValType};

use crate::run::{run, say};
use crate::workspace::Workspace;

/// A way to build the module.
#[derive(Clone, Copy)]
pub(crate) struct Flavour {
    /// Features of the filter.
    features: &'static [&'static str],
    /// The finished module's file name in the target directory.
    file: &'static str,
    /// Its largest size. Envoy compiles about 1 MB per second before it listens, so size is start-up time.
    bytes_max: u64,
}

/// What is shipped.
pub(crate) const DEFAULT: Flavour =
    Flavour { features: &[], file: "warmpath_filter.wasm", bytes_max: 1_600_000 };
/// With the crate `tokenizers`, for kinds of tokenizers that our own runtime does not know.
pub(crate) const HF_TOKENIZERS: Flavour =
    Flavour { features: &["hf-tokenizers"], file: "warmpath_filter_hf.wasm", bytes_max: 4_000_000 };

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
/// What cargo calls the module.
const BUILT: &str = "warmpath_filter.wasm";

/// Build the module into the target directory; its path.
///
/// # Errors
/// When the build fails, the module imports what Envoy does not offer, or it is too large.
pub(crate) fn build(workspace: &Workspace, flavour: Flavour) -> Result<PathBuf> {
    say("building the filter module");
    let mut command = workspace.cargo();
    command.args(["build", "--package", "warmpath-filter", "--lib"]);
    command.args([
        "--profile",
        "wasm",
        "--target",
        "wasm32-wasip1",
        "--features",
        &flavour.features.join(","),
    ]);
    run(&mut command).context("the target is installed by: rustup target add wasm32-wasip1")?;
    let built = workspace.target.join("wasm32-wasip1/wasm").join(BUILT);
    let finished = workspace.target.join(flavour.file);
    let bytes = std::fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    let (bytes, stubs) = stub_imports(&bytes)?;
    check_imports(&bytes)?;
    check_size(bytes.len() as u64, flavour.bytes_max)?;
    replace(&finished, &bytes)?;
    let stubbed = if stubs.is_empty() { "none".to_owned() } else { stubs.join(", ") };
    println!(
        "{}: {} bytes of {} allowed; imports stubbed: {stubbed}",
        finished.display(),
        bytes.len(),
        flavour.bytes_max
    );
    Ok(finished)
}

/// Write through a rename: an Envoy that is starting reads the old module or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, bytes).with_context(|| format!("writing {}", part.display()))?;
    std::fs::rename(&part, path).with_context(|| format!("writing {}", path.display()))
}

fn check_size(bytes: u64, max: u64) -> Result<()> {
    if bytes > max {
        bail!("the module has {bytes} bytes, more than the {max} allowed");
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
        assert!(check_size(1_000, 1_000).is_ok());
        assert!(check_size(1_001, 1_000).is_err());
    }
}
