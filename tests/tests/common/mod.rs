//! What the end-to-end tests share: a stack, prompts of known length, and what became of a request.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its part of it")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use warmpath_harness::client::{Body, Response, whole};
use warmpath_harness::{Client, Metrics, Programs, Stack, StackBuilder, Steer};

/// Longest wait for something that must happen. Nothing is fast or slow by it: it only ends a test that failed.
pub const LIMIT: Duration = Duration::from_secs(90);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Model that every stack here serves.
pub const MODEL: &str = "demo";
/// Tokens in a block of it.
pub const BLOCK: usize = 64;

/// One test function for each wiring: `body: name_header, name_filter_state;`.
#[allow(unused_macros, reason = "every test file uses its part of it")]
macro_rules! in_both_wirings {
    ($($body:ident: $header:ident, $filter_state:ident;)+) => {$(
        #[tokio::test]
        async fn $header() {
            $body(warmpath_harness::Steer::Header).await;
        }

        #[tokio::test]
        async fn $filter_state() {
            $body(warmpath_harness::Steer::FilterState).await;
        }
    )+};
}

/// A stack in that wiring, with `change` made to it; none when there is no Envoy.
///
/// The filter waits for the sidecar for as long as a busy machine may need, unless `change` says otherwise.
pub async fn start(
    test: &str,
    steer: Steer,
    change: impl FnOnce(StackBuilder) -> StackBuilder,
) -> Option<Stack> {
    let programs = Programs::or_skip(&format!("{test} ({steer:?})"))?;
    let builder = Stack::builder(programs).steer(steer).plugin(json!({"callout_timeout": "10s"}));
    Some(change(builder).start().await.unwrap())
}

/// Token ids of that many full blocks and one token more, so that all the blocks are keyed. Prompts of different numbers
/// differ in their first block.
pub fn ids(number: u32, blocks: usize) -> Vec<u32> {
    let first = 300 + number % 1000;
    std::iter::once(first).chain((0..(blocks * BLOCK) as u32).map(|at| 300 + at % 700)).collect()
}

/// A completion of one token.
pub fn completion(prompt: impl Into<Value>) -> Value {
    json!({"model": MODEL, "prompt": prompt.into(), "max_tokens": 1})
}

/// What became of a request: the answer, and Envoy's access log line.
#[derive(Debug)]
pub struct Outcome {
    pub id: String,
    pub response: Response,
    log: Value,
}

impl Outcome {
    fn text(&self, key: &str) -> &str {
        self.log[key].as_str().unwrap_or_else(|| panic!("no {key} in {}", self.log))
    }

    /// "steered", or why not; empty when the request was over before that was known.
    pub fn reason(&self) -> &str {
        self.log["warmpath_reason"].as_str().unwrap_or_default()
    }

    /// Blocks that the best endpoint held, of those asked for.
    pub fn matched(&self) -> (usize, usize) {
        let (matched, keys) = self.text("warmpath_match").split_once('/').unwrap();
        (matched.parse().unwrap(), keys.parse().unwrap())
    }

    /// The best endpoint.
    pub fn endpoint(&self) -> &str {
        self.text("warmpath_endpoint")
    }

    /// The pod that answered, by its own word and Envoy's.
    pub fn pod(&self) -> &str {
        let pod = self.response.pod().unwrap_or_else(|| panic!("no pod answered: {}", self.response.text()));
        assert_eq!(pod, self.text("upstream"));
        pod
    }
}

/// A request id of its own.
pub fn new_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Envoy keeps an id from outside as it is.
    format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// POST JSON and wait for the access log.
pub async fn ask(stack: &Stack, path: &str, body: &Value) -> Outcome {
    let client = stack.client();
    let request = client.json_request(path);
    send(stack, &client, request, whole(body.to_string())).await
}

/// A completion by token ids, which must be answered with 200.
pub async fn complete(stack: &Stack, ids: &[u32]) -> Outcome {
    let outcome = ask(stack, "/v1/completions", &completion(ids)).await;
    assert_eq!(outcome.response.status, 200, "{}", outcome.response.text());
    outcome
}

/// Send through that client and wait for the access log.
pub async fn send(
    stack: &Stack,
    client: &Client,
    request: hyper::http::request::Builder,
    body: Body,
) -> Outcome {
    let id = new_id();
    let response = client.send(request.header("x-request-id", &id), body).await.unwrap();
    let log = logged(stack, &id).await;
    Outcome { id, response, log }
}

/// The line of that request in Envoy's access log.
pub async fn logged(stack: &Stack, id: &str) -> Value {
    let mut found = None;
    eventually(&format!("an access log line of {id}"), async || {
        found = access_log(stack).into_iter().find(|line| line["request_id"] == id);
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// Envoy's access log so far.
pub fn access_log(stack: &Stack) -> Vec<Value> {
    json_lines(stack, "envoy.stdout")
}

/// What the sidecar logged of the endpoints that it listed for that request.
pub fn scores(stack: &Stack, id: &str) -> Vec<Value> {
    let mut lines = json_lines(stack, "sidecar.stderr");
    lines.extend(json_lines(stack, "sidecar.stdout"));
    lines.retain(|line| line["msg"] == "Calculated score" && line["x-request-id"] == id);
    lines
}

fn json_lines(stack: &Stack, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(stack.directory().join(file)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The filter's and Envoy's metrics.
pub async fn metrics(stack: &Stack) -> Metrics {
    stack.envoy.metrics().await.unwrap()
}

/// Requests that went on unsteered for that reason.
pub fn passes(metrics: &Metrics, reason: &str) -> f64 {
    metrics.sum_where("warmpath_passes", &[("reason", reason)])
}

/// Waits until nothing is held in the filter.
pub async fn nothing_held(stack: &Stack) {
    eventually("no held request is left", async || {
        let metrics = metrics(stack).await;
        metrics.sum("warmpath_held") == metrics.sum("warmpath_released")
    })
    .await;
}

/// The VM that the stack began with is alive and steers.
pub async fn still_steers(stack: &Stack) {
    assert_eq!(complete(stack, &ids(999, 2)).await.reason(), "steered");
    nothing_held(stack).await;
    let metrics = metrics(stack).await;
    // A new VM would have loaded the model again.
    assert_eq!(metrics.sum("warmpath_asset_loads"), 2.0);
    assert_eq!(metrics.sum("warmpath_wrong_phase") + metrics.sum("warmpath_host_errors"), 0.0);
}

/// Waits until the sidecar has taken in everything that the pods have published. Not for pods that were restarted.
pub async fn events_arrive(stack: &Stack) {
    let mut published = 0.0;
    for pod in &stack.pods {
        let state = pod.client().get("/sim/state").await.unwrap().ok().unwrap().json().unwrap();
        let ranks = state["ranks"].as_array().unwrap();
        published += ranks.iter().map(|rank| rank["batches"].as_f64().unwrap()).sum::<f64>();
    }
    eventually("all published batches are applied", async || {
        stack.sidecar_metrics().await.unwrap().sum("warmpath_events_batches_total") >= published
    })
    .await;
}

/// Waits until `done`.
///
/// # Panics
/// After [`LIMIT`].
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}
