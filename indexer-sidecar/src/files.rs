//! Files that may change while the sidecar runs.
//!
//! They are polled: a stat per file and second costs nothing, and works where change notifications do not, such as
//! Kubernetes' symlinked volumes and network file systems.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Time between two looks at the watched files.
pub const POLL_EVERY: Duration = Duration::from_secs(1);

/// What a set of files looked like: differs when one of them was written, replaced, removed or came to be.
///
/// Times and lengths are compared, not contents; an edit that keeps the length within the file system's time
/// resolution (nanoseconds where it counts) goes unseen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Stamps {
    /// What `files` look like now. Symbolic links are followed.
    pub fn of(files: impl IntoIterator<Item = impl AsRef<Path>>) -> Self {
        let stamps = files.into_iter().map(|file| (file.as_ref().to_owned(), Stamp::of(file.as_ref())));
        Self(stamps.collect())
    }

    /// What the same files look like now.
    pub fn again(&self) -> Self {
        Self::of(self.0.iter().map(|(file, _)| file))
    }
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(file).ok()?;
        Some(Self { modified: metadata.modified().ok(), bytes: metadata.len(), inode: metadata.ino() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_comes_changes_or_goes_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let absent = Stamps::of([&file]);
        std::fs::write(&file, "one").unwrap();
        let written = absent.again();
        assert_ne!(absent, written);
        assert_eq!(written, written.again());
        std::fs::write(&file, "other").unwrap();
        assert_ne!(written, written.again());
        std::fs::remove_file(&file).unwrap();
        assert_eq!(absent, absent.again());
    }
}
