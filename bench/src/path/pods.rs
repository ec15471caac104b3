//! Instant pods: each answers as soon as a request's body is there, then does to its cache what vLLM would have done.
//!
//! A pod that tokenizes for itself takes the machine from the gateway it stands behind, and longer for an answer than the
//! gateway does for the whole request. So these are told the tokens of every prompt before it is sent (by a digest of
//! its body) and answer without looking at them. After the answer the simulator's engine stores and evicts blocks, and
//! publishes what vLLM 0.33 would: that is the work that the sidecar has in production.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use warmpath_harness::pod::Endpoint;
use warmpath_simulator::config::GPU_BLOCKS;
use warmpath_simulator::driver::{Pace, Rank};
use warmpath_simulator::engine::hash::NONE_HASH_SEED;
use warmpath_simulator::engine::{
    BlockHasher, EngineConfig, EngineRequest, HashAlgorithm, Limits, Scope, StepTime,
};
use warmpath_simulator::publisher::{EventsAt, PublisherConfig};
use warmpath_simulator::wire::{HashForm, Layout, Translator};
use xxhash_rust::xxh3::xxh3_64;

/// Batches kept for replay; nothing is lost here.
const BUFFER_STEPS: usize = 64;
/// Prompts that wait for a pod's engine; it takes a millisecond or so for one.
const QUEUED_PROMPTS: usize = 1024;
/// A port that is free.
const ANY: &str = "127.0.0.1:0";

/// Token ids of prompts that are about to be sent, by a digest of the request's body. Each is taken once.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<HashMap<u64, Arc<[u32]>>>>);

impl Shelf {
    /// Puts a prompt there.
    pub fn put(&self, body: &[u8], ids: Vec<u32>) {
        self.lock().insert(xxh3_64(body), ids.into());
    }

    fn take(&self, body: &[u8]) -> Option<Arc<[u32]>> {
        self.lock().remove(&xxh3_64(body))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<[u32]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pods on a thread of their own, which ends when this is dropped.
pub struct Pods {
    /// As gateways and sidecars know them.
    pub endpoints: Vec<Endpoint>,
    _end: oneshot::Sender<()>,
}

impl Pods {
    /// Starts `count` pods of `model` that find their prompts on `shelf`.
    ///
    /// # Errors
    /// When a socket cannot be bound.
    pub async fn start(count: usize, model: &str, block_tokens: u32, shelf: &Shelf) -> Result<Self> {
        let (end, ended) = oneshot::channel::<()>();
        let (ready, started) = oneshot::channel();
        let (model, shelf) = (model.to_owned(), shelf.clone());
        thread::Builder::new().name("pods".to_owned()).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error.into()))),
            };
            runtime.block_on(async {
                let mut endpoints = Vec::new();
                for _ in 0..count {
                    match pod(&model, block_tokens, &shelf).await {
                        Ok(endpoint) => endpoints.push(endpoint),
                        Err(error) => return drop(ready.send(Err(error))),
                    }
                }
                if ready.send(Ok(endpoints)).is_ok() {
                    // Ends with an error when the handle is dropped.
                    let _ = ended.await;
                }
            });
        })?;
        Ok(Self { endpoints: started.await.context("the pods' thread has ended")??, _end: end })
    }
}

/// One pod; it lives as long as the runtime.
async fn pod(model: &str, block_tokens: u32, shelf: &Shelf) -> Result<Endpoint> {
    let block_size = block_tokens as usize;
    let layout = Layout::vllm("vllm-0.33", 33, 0);
    let algorithm = HashAlgorithm::Sha256;
    let engine = EngineConfig {
        block_size,
        gpu_blocks: GPU_BLOCKS,
        limits: Limits::default(),
        step_time: StepTime::QWEN3_32B_2XH100,
        hasher: BlockHasher::new(algorithm, layout.extra_form, algorithm.none_hash(NONE_HASH_SEED)),
        events: true,
        output_vocabulary: [0].into(),
    };
    let publisher = PublisherConfig {
        events: EventsAt::Bind(ANY.to_owned()),
        replay: Some(ANY.to_owned()),
        topic: String::new(),
        buffer: BUFFER_STEPS,
        rank: 0,
        translator: Translator { layout, hash_form: HashForm::Int, block_size },
    };
    let (hung, not_hung) = watch::channel(false);
    let rank = Rank::start(engine, Some(publisher), Pace::Instant, not_hung).await?;
    let sockets = rank.publisher.as_ref().map(|at| (at.events.clone(), at.replay.clone()));
    let (events, replay) = sockets.context("a publisher was asked for")?;
    let listener = TcpListener::bind(ANY).await.context("binding a pod")?;
    let address: SocketAddr = listener.local_addr()?;
    let (prompts, waiting) = mpsc::channel(QUEUED_PROMPTS);
    let router = Router::new().fallback(answer).with_state((shelf.clone(), prompts));
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    tokio::spawn(async move {
        work(rank, waiting).await;
        drop(hung);
    });
    Ok(Endpoint { address, model: model.to_owned(), events, replay, ranks: 1 })
}

type Waiting = mpsc::Sender<Arc<[u32]>>;

/// Answers at once; what the prompt does to the cache comes after.
async fn answer(
    State((shelf, prompts)): State<(Shelf, Waiting)>,
    body: Bytes,
) -> ([(&'static str, &'static str); 1], &'static str) {
    if let Some(ids) = shelf.take(&body) {
        // A queue that is full would mean engines that do not keep up: their events are not sent then.
        let _ = prompts.try_send(ids);
    }
    const ANSWER: &str = r#"{"id":"0","object":"text_completion","created":0,"model":"demo","choices":[{"index":0,"text":" the","logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":1,"total_tokens":2,"completion_tokens":1}}"#;
    ([("content-type", "application/json")], ANSWER)
}

/// One prompt after the other through the engine, one output token each.
async fn work(rank: Rank, mut waiting: mpsc::Receiver<Arc<[u32]>>) {
    while let Some(prompt) = waiting.recv().await {
        let request = EngineRequest { prompt, output_tokens: 1, scope: Arc::new(Scope::default()) };
        // A prompt that does not fit is refused, as by vLLM.
        if let Ok(mut progress) = rank.submit(request).await {
            let _ = progress.recv().await;
        }
    }
}
