//! Files of golden folders, plain or gzip'ed.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use serde::de::DeserializeOwned;

/// The file's bytes, inflated when its name ends with `.gz`.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let at = || format!("reading {}", path.display());
    let bytes = fs::read(path).with_context(at)?;
    if path.extension().is_none_or(|extension| extension != "gz") {
        return Ok(bytes);
    }
    let mut inflated = Vec::new();
    GzDecoder::new(bytes.as_slice()).read_to_end(&mut inflated).with_context(at)?;
    Ok(inflated)
}

/// `directory/NAME.SUFFIX` or `directory/NAME.SUFFIX.gz`, whichever is there.
pub fn find(directory: &Path, name: &str, suffix: &str) -> Option<PathBuf> {
    let plain = directory.join(format!("{name}.{suffix}"));
    let packed = directory.join(format!("{name}.{suffix}.gz"));
    [plain, packed].into_iter().find(|path| path.is_file())
}

/// Names and paths of all `NAME.SUFFIX` and `NAME.SUFFIX.gz` in a directory, by name; none when it is not there.
pub fn list(directory: &Path, suffix: &str) -> Result<Vec<(String, PathBuf)>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = file.strip_suffix(".gz").unwrap_or(&file).strip_suffix(&format!(".{suffix}"));
        if let Some(name) = stem
            && path.is_file()
        {
            found.push((name.to_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}

/// The rows of a file of JSON lines.
pub fn rows<Row: DeserializeOwned>(path: &Path) -> Result<Vec<Row>> {
    let bytes = read(path)?;
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(at, line)| {
            serde_json::from_slice(line).with_context(|| format!("{}, line {}", path.display(), at + 1))
        })
        .collect()
}
