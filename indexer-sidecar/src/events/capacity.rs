//! How many blocks a rank's GPU has memory for: there cannot be more copies of blocks in it than that.
//!
//! The endpoints file says it (`num_gpu_blocks`), or the engine does, in the labels of `vllm:cache_config_info` on its
//! `/metrics`. It is asked when the stream comes up, because another process may be behind it then. An engine that
//! does not say it has no cap.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use log::{info, warn};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::jitter;
use super::metrics::{EventMetrics, Reason as Label};
use crate::endpoints::RankSource;
use crate::index::{SharedIndex, StreamId};

/// Longest time for one question, from connecting to the last byte. vLLM writes its metrics within milliseconds.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Largest answer that is read. vLLM 0.32 writes some 100 KiB.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Questions that may fail in a row. A vLLM publishes some seconds or minutes before it serves HTTP.
const ASKS_MAX: u32 = 8;
/// Shortest and longest wait before the next question, doubling, half of it random: three minutes in all.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// The metric that has it among its labels.
const CONFIG_METRIC: &str = "vllm:cache_config_info{";

/// Tells the index a rank's capacity, and then waits for ever.
pub(super) async fn learn(
    source: &RankSource,
    id: StreamId,
    index: Arc<SharedIndex>,
    metrics: Arc<EventMetrics>,
) -> Infallible {
    if source.num_gpu_blocks.is_some() {
        index.set_capacity(&id, source.num_gpu_blocks);
    } else if let Some(address) = &source.metrics {
        let blocks = ask(address, &id, &metrics).await;
        index.set_capacity(&id, blocks);
    }
    std::future::pending().await
}

/// Asks until there is an answer, or too often in vain.
async fn ask(address: &str, id: &StreamId, metrics: &EventMetrics) -> Option<u64> {
    let asked = |result| metrics.capacity_asks.get_or_create(&Label::of(result)).inc();
    let mut wait = RETRY_MIN;
    for _ in 0..ASKS_MAX {
        let answer = match timeout(ASK_MAX, scrape(address)).await {
            Ok(answer) => answer,
            Err(_) => Err(anyhow::anyhow!("no answer within {} s", ASK_MAX.as_secs())),
        };
        match answer {
            Ok(text) => {
                let blocks = num_gpu_blocks(&String::from_utf8_lossy(&text), id.rank);
                asked(if blocks.is_some() { "known" } else { "absent" });
                info!(endpoint = &*id.address, rank = id.rank, num_gpu_blocks = blocks; "engine asked for its memory");
                return blocks;
            }
            Err(error) => {
                asked("failed");
                warn!(endpoint = &*id.address, rank = id.rank; "http://{address}/metrics: {error:#}");
            }
        }
        sleep(jitter(wait)).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
    None
}

async fn scrape(address: &str) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/metrics").header(HOST, address).body(Empty::<Bytes>::new())?;
    let exchange = async move {
        // Ends with this block, and with it the connection.
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            bail!("answered {}", response.status());
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok(body.map_err(|error| anyhow::anyhow!(error)).context("reading the answer")?.to_bytes())
    };
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}

/// Blocks of the GPU of `rank` in the text of vLLM's metrics: the series of that engine, or the only one there is (a
/// rank with an HTTP port of its own numbers itself as the deployment does).
pub fn num_gpu_blocks(text: &str, rank: u32) -> Option<u64> {
    let series = text.lines().filter_map(|line| line.strip_prefix(CONFIG_METRIC));
    let told: Vec<(Option<u32>, u64)> = series
        .filter_map(|labels| {
            let blocks = label(labels, "num_gpu_blocks")?.parse().ok().filter(|blocks| *blocks > 0)?;
            Some((label(labels, "engine").and_then(|engine| engine.parse().ok()), blocks))
        })
        .collect();
    match (told.iter().find(|(engine, _)| *engine == Some(rank)), told.as_slice()) {
        (Some((_, blocks)), _) | (None, [(_, blocks)]) => Some(*blocks),
        _ => None,
    }
}

/// Value of a label, as it is written.
fn label<'a>(mut labels: &'a str, name: &str) -> Option<&'a str> {
    loop {
        let (this, rest) = labels.split_once("=\"")?;
        let mut escaped = false;
        let end = rest.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        if this.trim() == name {
            return rest.get(..end);
        }
        labels = rest.get(end + 1..)?.trim_start_matches(',');
    }
}
