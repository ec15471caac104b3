//! The Unix socket on which Envoy asks for picks.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

/// Anyone who reaches the directory may connect: Envoy often runs as another user than the sidecar, without a group
/// in common. The directory (in Kubernetes a volume of the pod) decides who reaches it, and picks tell no secret.
const SOCKET_MODE: u32 = 0o666;

/// How long a process behind a socket file that is already there has to accept.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);

/// Why there is no Unix socket.
#[derive(Debug, thiserror::Error)]
#[error("pick.unix: {}: {message}", path.display())]
pub struct SocketError {
    path: PathBuf,
    message: String,
}

/// A listening Unix socket and its file, which goes when this is dropped.
#[derive(Debug)]
pub struct PickSocket {
    /// Where connections come in.
    pub listener: UnixListener,
    /// Its file.
    pub file: SocketFile,
}

/// The file of a socket; removed when dropped, unless another process has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            // It is gone already, or the directory is: either way nothing is left to do.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl PickSocket {
    /// Listens at `path`. A socket file that a dead process has left there is replaced; one that is answered, and a
    /// file of any other kind, is not.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let fail = |message: String| SocketError { path: path.to_owned(), message };
        make_room(path).await.map_err(fail)?;
        let hint = "give a path in a directory that exists and can be written, or pick.unix: null";
        let listener =
            UnixListener::bind(path).map_err(|error| fail(format!("cannot listen: {error}; {hint}")))?;
        let prepared = || -> io::Result<u64> {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
            Ok(std::fs::symlink_metadata(path)?.ino())
        };
        let inode = prepared().map_err(|error| fail(format!("cannot be opened to Envoy: {error}")))?;
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), inode } })
    }
}

async fn make_room(path: &Path) -> Result<(), String> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err("there is a file that is no socket: move it away or choose another path".into());
        }
        Ok(_) => {}
    }
    match tokio::time::timeout(PROBE_DEADLINE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| format!("a stale socket cannot be removed: {error}"))
        }
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) | Err(_) => Err("another process listens there: stop it or choose another path".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pick.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = PickSocket::bind(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let error = PickSocket::bind(&path).await.unwrap_err().to_string();
        assert!(error.contains("another process listens"), "{error}");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, "data").unwrap();
        let error = PickSocket::bind(&path).await.unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
    }

    #[tokio::test]
    async fn a_successors_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pick.sock");
        let first = PickSocket::bind(&path).await.unwrap();
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        let _second = PickSocket::bind(&path).await.unwrap();
        drop(first);
        assert!(path.exists());
    }
}
