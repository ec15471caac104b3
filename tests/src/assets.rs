//! Stands between Envoy and a sidecar's asset port, and spoils what passes when a test asks for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, Result};
use axum::{Router, extract::Request, http::StatusCode};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use warmpath_core::definition::{ASSET_PATH_PREFIX, AssetRef, CATALOG_PATH};
use warmpath_harness::Client;

/// What happens to tokenizers on their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Twist {
    /// Nothing.
    None,
    /// A byte in their midst is another one: damage on the way, which the catalog knows nothing of.
    Damaged,
    /// They are of a later version, and the catalog says so: another sidecar than the filter knows.
    OtherVersion,
}

/// A running server on a free port; it ends when dropped.
#[derive(Debug)]
pub struct AssetProxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    sidecar: OnceLock<SocketAddr>,
    twist: Mutex<Twist>,
}

impl AssetProxy {
    /// Start it. Until [`AssetProxy::wire`] it answers 503.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { sidecar: OnceLock::new(), twist: Mutex::new(Twist::None) });
        let handler = {
            let shared = Arc::clone(&shared);
            move |request: Request| {
                let shared = Arc::clone(&shared);
                async move {
                    answer(&shared, request.uri().path()).await.map_err(|error| {
                        eprintln!("asset proxy: {}: {error:#}", request.uri());
                        StatusCode::SERVICE_UNAVAILABLE
                    })
                }
            }
        };
        let router = Router::new().fallback(handler);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("asset proxy {address}: {error}");
            }
        });
        Ok(Self { address, shared, task })
    }

    /// What edits Envoy's configuration so that assets come through here.
    pub fn wire(&self) -> impl FnOnce(&mut Value) -> Result<()> + Send + 'static + use<> {
        let (shared, own) = (Arc::clone(&self.shared), self.address);
        move |config| {
            let clusters = config["static_resources"]["clusters"].as_array_mut().context("no clusters")?;
            let cluster = clusters.iter_mut().find(|cluster| cluster["name"] == "warmpath_assets");
            let port = cluster.context("no cluster warmpath_assets")?.pointer_mut(
                "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value",
            );
            let port = port.context("warmpath_assets has no endpoint")?;
            let sidecar = port.as_u64().and_then(|port| u16::try_from(port).ok()).context("no port")?;
            shared.sidecar.set(([127, 0, 0, 1], sidecar).into()).ok().context("wired twice")?;
            *port = own.port().into();
            Ok(())
        }
    }

    /// Spoil what passes from now on, or stop that.
    pub fn twist(&self, twist: Twist) {
        *self.shared.twist.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = twist;
    }
}

impl Drop for AssetProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(shared: &Shared, path: &str) -> Result<Vec<u8>> {
    let twist = *shared.twist.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let sidecar = Client::http1(*shared.sidecar.get().context("not wired yet")?);
    let body = sidecar.get(path).await?.ok()?.body().to_vec();
    if path == CATALOG_PATH && twist == Twist::OtherVersion {
        return other_catalog(&sidecar, &body).await;
    }
    Ok(if path.starts_with(ASSET_PATH_PREFIX) { spoiled(body, twist) } else { body })
}

/// Where a tokenizer asset says its version, after 8 bytes that say what it is.
const VERSION_AT: usize = 8;

fn spoiled(mut asset: Vec<u8>, twist: Twist) -> Vec<u8> {
    // Templates pass as they are.
    let tokenizer = std::str::from_utf8(&asset).is_err();
    let at = match twist {
        Twist::Damaged if tokenizer => asset.len() / 2,
        Twist::OtherVersion if tokenizer => VERSION_AT,
        _ => return asset,
    };
    if let Some(byte) = asset.get_mut(at) {
        *byte = byte.wrapping_add(1);
    }
    asset
}

/// The catalog of a sidecar whose tokenizers are all of another version: with their checksums, and digests of its own.
async fn other_catalog(sidecar: &Client, body: &[u8]) -> Result<Vec<u8>> {
    let mut catalog: Value = serde_json::from_slice(body)?;
    for model in catalog["models"].as_array_mut().context("no models")? {
        let reference: AssetRef = serde_json::from_value(model["tokenize"]["inline"].clone())?;
        let asset = sidecar.get(&reference.path()).await?.ok()?.body().to_vec();
        let other = AssetRef::new(reference.sha256, &spoiled(asset, Twist::OtherVersion));
        model["tokenize"]["inline"] = serde_json::to_value(other)?;
        model["digest"] = Value::from(format!("{}-other", model["digest"].as_str().unwrap_or_default()));
    }
    catalog["digest"] = Value::from(format!("{}-other", catalog["digest"].as_str().unwrap_or_default()));
    Ok(serde_json::to_vec(&catalog)?)
}
