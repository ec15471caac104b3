//! The sockets of the sidecar, bound before anything else runs.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::pick::socket::PickSocket;

/// Bound sockets. Port 0 in the configuration takes a free port.
#[derive(Debug)]
pub struct Listeners {
    /// Picks, from Envoy in the same pod.
    pub pick_unix: Option<PickSocket>,
    /// Picks over TCP.
    pub pick_tcp: Option<TcpListener>,
    /// The asset port.
    pub assets: TcpListener,
    /// The admin port.
    pub admin: TcpListener,
}

/// Where the sidecar listens; printed when it starts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in the configuration")]
pub struct Addresses {
    pub pick_unix: Option<PathBuf>,
    pub pick_tcp: Option<SocketAddr>,
    pub assets: SocketAddr,
    pub admin: SocketAddr,
}

impl Listeners {
    /// Binds what `config` says; the error names the setting that cannot be had.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let pick_unix = match &config.pick.unix {
            Some(path) => Some(PickSocket::bind(path).await?),
            None => None,
        };
        let pick_tcp = match config.pick.tcp {
            Some(address) => Some(tcp("pick.tcp", address).await?),
            None => None,
        };
        let assets = tcp("assets.listen", config.assets.listen).await?;
        let admin = tcp("admin.listen", config.admin.listen).await?;
        Ok(Self { pick_unix, pick_tcp, assets, admin })
    }

    /// Where they are, with the ports that were taken for port 0.
    pub fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            pick_unix: self.pick_unix.as_ref().map(|socket| socket.file.path().to_owned()),
            pick_tcp: self.pick_tcp.as_ref().map(TcpListener::local_addr).transpose()?,
            assets: self.assets.local_addr()?,
            admin: self.admin.local_addr()?,
        })
    }
}

async fn tcp(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{key}: cannot listen on {address}: stop what is there or choose another port")
    })
}

impl Addresses {
    /// Warns of ports without authentication that others than this machine reach.
    pub fn warn_if_open(&self) {
        for (key, address, why) in [
            ("assets.listen", self.assets, "the catalog holds the seed of the key space"),
            ("admin.listen", self.admin, "whoever reaches it can switch the mode"),
        ] {
            if !address.ip().is_loopback() {
                log::warn!(key = key, address = address.to_string().as_str(), why = why; "listens beyond loopback");
            }
        }
    }
}
