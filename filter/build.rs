//! Puts the git hash into the module: the line it logs at start then names the code that runs.

use std::path::Path;
use std::process::Command;

fn main() {
    // Written at every commit and checkout. Absent outside a git checkout (a source archive): the hash is unknown then.
    let moves = "../.git/logs/HEAD";
    if Path::new(moves).exists() {
        println!("cargo:rerun-if-changed={moves}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=WARMPATH_GIT_HASH={}", git_hash().unwrap_or_else(|| "unknown".into()));
}

fn git_hash() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let hash = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !hash.is_empty()).then_some(hash)
}
