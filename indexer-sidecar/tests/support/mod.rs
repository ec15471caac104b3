//! A sidecar in this process, on free ports and in a directory of its own, and what one asks it.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its part of it")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexer_sidecar::listeners::{Addresses, Listeners};
use indexer_sidecar::metrics::Metrics;
use indexer_sidecar::sidecar::{self, Loaded};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::transport::Channel;
use warmpath_proto::v1::ask_request::Ask;
use warmpath_proto::v1::indexer_client::IndexerClient;
use warmpath_proto::v1::{
    AskRequest, AskResponse, PickReport, PickRequest, PickResponse, ReportRequest, Stage,
};

/// How long a change may take to be in force: files are looked at once a second, and the machine may be busy.
const CHANGE_LIMIT: Duration = Duration::from_secs(60);

/// Test data of `core`: a small tokenizer and a chat template.
pub fn model_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/data").join(name)
}

/// A configuration on free ports, in JSON. The directory holds the endpoints file and the socket.
pub fn config() -> Value {
    json!({
        "pick": {"unix": "pick.sock", "tcp": "127.0.0.1:0"},
        "assets": {"listen": "127.0.0.1:0", "self_check_strings": 100},
        "admin": {"listen": "127.0.0.1:0"},
        "seed": "0123456789abcdef",
        "models": [{
            "name": "demo", "default": true, "block_tokens": 16,
            "tokenizer": model_file("tokenizer.json"), "chat_template": model_file("chat_template.jinja"),
        }],
        "endpoints": {"file": "endpoints.yaml", "resolve_every": "200ms"},
    })
}

/// An endpoints file of the model `demo`. Nothing listens at the addresses' event ports.
pub fn endpoints(addresses: &[&str]) -> Value {
    let entry = |address| json!({"address": address, "model": "demo", "events": ":9", "replay": null});
    json!({"endpoints": addresses.iter().map(entry).collect::<Vec<_>>()})
}

/// Writes through a rename, as editors and Kubernetes do.
pub fn write(file: &Path, value: &Value) {
    let part = file.with_extension("part");
    std::fs::write(&part, value.to_string()).unwrap();
    std::fs::rename(&part, file).unwrap();
}

pub struct Sidecar {
    pub dir: TempDir,
    pub addresses: Addresses,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<anyhow::Result<()>>,
    /// Ends it with the test: its picks have a thread that the test's runtime would wait for.
    _end: DropGuard,
}

impl Sidecar {
    /// Boots with `config` and, where given, an endpoints file.
    pub async fn boot(config: &Value, endpoints: Option<&Value>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("config.json"), config);
        if let Some(endpoints) = endpoints {
            write(&dir.path().join("endpoints.yaml"), endpoints);
        }
        let loaded = Loaded::read(dir.path().join("config.json")).unwrap();
        let listeners = Listeners::bind(&loaded.config).await.unwrap();
        let addresses = listeners.addresses().unwrap();
        let shutdown = CancellationToken::new();
        let run = sidecar::run(loaded, listeners, Arc::new(Metrics::default()), shutdown.clone());
        let end = shutdown.clone().drop_guard();
        Self { dir, addresses, shutdown, task: tokio::spawn(run), _end: end }
    }

    /// Boots with the pods of the model `demo` at `addresses`, and waits until they are listed.
    pub async fn with_pods(addresses: &[&str]) -> Self {
        let sidecar = Self::boot(&config(), Some(&endpoints(addresses))).await;
        sidecar.wait_for_pods(addresses).await;
        sidecar
    }

    /// Waits until exactly `addresses` are listed.
    pub async fn wait_for_pods(&self, addresses: &[&str]) {
        let mut client = self.tcp().await;
        let mut expected = addresses.to_vec();
        expected.sort_unstable();
        let start = Instant::now();
        loop {
            let answer = pick(&mut client, PickRequest { observe: true, ..request() }).await;
            let mut listed: Vec<&str> =
                answer.endpoints.iter().map(|endpoint| endpoint.address.as_str()).collect();
            listed.sort_unstable();
            if listed == expected {
                return;
            }
            assert!(start.elapsed() < CHANGE_LIMIT, "{listed:?} are listed, not {expected:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn tcp(&self) -> IndexerClient<Channel> {
        let address = self.addresses.pick_tcp.unwrap();
        IndexerClient::connect(format!("http://{address}")).await.unwrap()
    }

    pub async fn unix(&self) -> IndexerClient<Channel> {
        let path = self.addresses.pick_unix.as_ref().unwrap();
        IndexerClient::connect(format!("unix://{}", path.display())).await.unwrap()
    }

    pub async fn catalog(&self) -> Value {
        let (status, body) = http(self.addresses.assets, "GET", "/v1/catalog", "").await;
        assert_eq!(status, 200);
        serde_json::from_slice(&body).unwrap()
    }

    pub async fn admin(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (status, body) = http(self.addresses.admin, method, path, body).await;
        (status, String::from_utf8(body).unwrap())
    }

    pub async fn metrics(&self) -> String {
        let (status, text) = self.admin("GET", "/metrics", "").await;
        assert_eq!(status, 200);
        text
    }

    /// Waits until a line of the metrics is `line`.
    pub async fn wait_for_metric(&self, line: &str) {
        let start = Instant::now();
        loop {
            let text = self.metrics().await;
            if text.lines().any(|seen| seen == line) {
                return;
            }
            assert!(start.elapsed() < CHANGE_LIMIT, "no line {line:?} in\n{text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the catalog's `field` is `value`.
    pub async fn wait_for_catalog(&self, pointer: &str, value: &Value) {
        let start = Instant::now();
        loop {
            let catalog = self.catalog().await;
            if catalog.pointer(pointer) == Some(value) {
                return;
            }
            assert!(start.elapsed() < CHANGE_LIMIT, "{pointer} is not {value} in {catalog}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A pick of the model `demo` without keys.
pub fn request() -> PickRequest {
    PickRequest { model: "demo".into(), block_tokens: 16, ..PickRequest::default() }
}

pub async fn pick(client: &mut IndexerClient<Channel>, request: PickRequest) -> PickResponse {
    client.pick(request).await.unwrap().into_inner()
}

/// Asks on a stream of its own, numbered from 1, and waits for its end: the answers, as they came.
pub async fn ask(
    client: &mut IndexerClient<Channel>,
    asks: impl IntoIterator<Item = Ask>,
) -> Result<Vec<AskResponse>, Status> {
    let asks = asks.into_iter().zip(1..);
    let asks: Vec<_> =
        asks.map(|(ask, id)| AskRequest { id, ask: Some(ask), ..AskRequest::default() }).collect();
    let mut stream = client.ask(tokio_stream::iter(asks)).await?.into_inner();
    let mut answers = Vec::new();
    while let Some(answer) = stream.message().await? {
        answers.push(answer);
    }
    Ok(answers)
}

pub fn listed(answer: &PickResponse) -> Vec<&str> {
    answer.endpoints.iter().map(|endpoint| endpoint.address.as_str()).collect()
}

pub async fn report(client: &mut IndexerClient<Channel>, pick_id: u64, endpoint: &str, stage: Stage) {
    let report =
        PickReport { pick_id, endpoint: endpoint.into(), stage: stage.into(), ..PickReport::default() };
    client.report(ReportRequest { reports: vec![report] }).await.unwrap();
}

/// One HTTP/1 request on a connection of its own: status and body.
pub async fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("no end of headers");
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer.split_off(end + 4))
}
