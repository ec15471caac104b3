//! The whole way with real vLLM: what we predict of a request's cache hits is what vLLM counts for it, to the token.
//!
//! Two vLLM servers on CPU, the sidecar, and Envoy with the filter. Requests go one after the other, so that what one
//! server's `vllm:prefix_cache_hits_total` moves by belongs to one request. `cargo xtask test --vllm` runs it.

mod ledger;
mod workload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use warmpath_core::definition::{CATALOG_PATH, Catalog};
use warmpath_core::model::Model;
use warmpath_core::tokenizer::HfTokenizer;
use warmpath_harness::client::{Client, whole};
use warmpath_harness::process::POLL;
use warmpath_harness::vllm::{PrefixCache, Vllm, VllmSetup};
use warmpath_harness::{Endpoint, ModelFiles, Programs, Stack};

use crate::ledger::{Decision, Ledger, Outcome};
use crate::workload::{Request, Workload};

const REQUESTS: usize = 320;
/// After so many requests the busier server's cache is emptied: nothing of it may be predicted any more.
const RESET_AFTER: usize = 200;
/// The smallest that vLLM has on CPU.
const BLOCK_TOKENS: u32 = 32;
/// So few that distinct prompts push each other out all the time. vLLM keeps one for itself.
const GPU_BLOCKS: u32 = 64;
/// Must fit into the blocks; room for one block more is left.
const MAX_MODEL_LEN: u32 = (GPU_BLOCKS - 2) * BLOCK_TOKENS;
/// Longest time until the sidecar has applied a batch that its publisher has sent: milliseconds when all is well.
const APPLY_LIMIT: Duration = Duration::from_secs(10);
/// Longest time until Envoy has written its access log: it flushes every 10 s.
const LOG_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks at the access log.
const LOG_POLL: Duration = Duration::from_millis(500);
/// Longest callout. This test is about what is predicted, on a machine that may be busy; how long it takes is not its
/// matter.
const CALLOUT_TIMEOUT: &str = "10s";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a vLLM installation of 6 GB and some minutes: cargo xtask test --vllm"]
async fn predicted_hits_are_vllms_to_the_token() -> Result<()> {
    let seed = match std::env::var("WARMPATH_SEED") {
        Ok(seed) => seed.parse().with_context(|| format!("WARMPATH_SEED={seed:?} is not a number"))?,
        Err(_) => fastrand::u64(..),
    };
    println!("{REQUESTS} requests from WARMPATH_SEED={seed}");
    let mut run = Run::start(seed).await?;
    let outcomes = run.requests().await?;
    let decisions = run.decisions().await?;
    let mut ledger = Ledger::default();
    for outcome in &outcomes {
        let decision =
            decisions.get(&outcome.id).with_context(|| format!("no access log entry of {}", outcome.id))?;
        ledger.add(outcome, *decision, BLOCK_TOKENS.into());
    }
    println!("\n{ledger}");
    let preemptions: u64 = run.counters.iter().map(|counters| counters.preemptions).sum();
    let evictions = run.stack.sidecar_metrics().await?.sum("warmpath_index_evictions_total");
    let (published, applied) = (run.published.iter().sum::<u64>(), run.applied().await?);
    println!("event batches published: {published}, applied: {applied}; preemptions: {preemptions}");
    println!("blocks evicted by vLLM, as the sidecar counted them: {evictions}");

    assert!(ledger.differences.is_empty(), "seed {seed}: {:#?}", ledger.differences);
    // Equal numbers prove nothing where there was nothing to predict.
    assert!(ledger.all.zero >= 50, "few misses: {:?}", ledger.all);
    assert!(ledger.all.part >= 30, "few hits of a part: {:?}", ledger.all);
    assert!(ledger.all.full >= 50, "few hits of all: {:?}", ledger.all);
    assert!(
        ledger.by_relation.len() == 8 && ledger.by_relation.values().all(|row| row.requests >= 5),
        "{ledger}"
    );
    assert!(
        ledger.by_form.len() == 3 && ledger.by_form.values().all(|row| row.part + row.full >= 5),
        "{ledger}"
    );
    assert!(ledger.salted.part + ledger.salted.full >= 10 && ledger.salted.zero >= 10, "{:?}", ledger.salted);
    assert!(ledger.by_server.values().all(|row| row.requests >= 50), "{ledger}");
    assert!(ledger.whole_blocks.part + ledger.whole_blocks.full >= 10, "{:?}", ledger.whole_blocks);
    assert!(evictions >= 500.0, "{evictions} evictions");
    // A preempted request looks its prompt up twice; none is, as long as they go one after the other.
    assert_eq!(preemptions, 0);
    assert_eq!(applied, published, "each batch is applied once");
    Ok(())
}

/// Everything that runs, and what was last seen of it.
struct Run {
    stack: Stack,
    servers: [Vllm; 2],
    counters: [PrefixCache; 2],
    /// Batches of events that each server had published.
    published: [u64; 2],
    workload: Workload,
    client: Client,
    /// The servers' logs; shown when one ends or does not start.
    _logs: TempDir,
}

impl Run {
    async fn start(seed: u64) -> Result<Self> {
        let python = std::env::var_os("WARMPATH_VLLM_PYTHON").map(PathBuf::from);
        let python = python.context("WARMPATH_VLLM_PYTHON is not set: cargo xtask test --vllm does that")?;
        ensure!(python.is_file(), "WARMPATH_VLLM_PYTHON={}: no such file", python.display());
        let mut files = ModelFiles::demo();
        files.block_tokens = BLOCK_TOKENS;
        files.max_model_len = MAX_MODEL_LEN;
        let setup = VllmSetup {
            python: &python,
            model: files.tokenizer.parent().context("the model's files have no directory")?,
            served_name: &files.name,
            block_tokens: BLOCK_TOKENS,
            gpu_blocks: GPU_BLOCKS,
            max_model_len: MAX_MODEL_LEN,
        };
        let logs = tempfile::tempdir()?;
        let started = Instant::now();
        println!("starting two vLLM servers (one to two minutes)");
        let (first, second) = tokio::try_join!(
            Vllm::start(&setup, "vllm-0", logs.path()),
            Vllm::start(&setup, "vllm-1", logs.path())
        )?;
        println!("both are healthy after {:.0?}", started.elapsed());
        let mut servers = [first, second];
        let endpoints = servers.iter().map(|server| endpoint(server, &files.name)).collect();
        let stack = Stack::builder(Programs::from_env()?)
            .external_pods(endpoints)
            .models(vec![files.clone()])
            .plugin(json!({ "callout_timeout": CALLOUT_TIMEOUT }))
            .start()
            .await?;
        let model = load_model(&stack, &files).await?;
        let counters = [servers[0].prefix_cache().await?, servers[1].prefix_cache().await?];
        let client = stack.client();
        Ok(Self {
            stack,
            servers,
            counters,
            published: [0; 2],
            workload: Workload::new(seed, model),
            client,
            _logs: logs,
        })
    }

    async fn requests(&mut self) -> Result<Vec<Outcome>> {
        let started = Instant::now();
        let mut outcomes = Vec::with_capacity(REQUESTS);
        for index in 0..REQUESTS {
            if index == RESET_AFTER {
                self.empty_busier_server().await?;
            }
            let request = self.workload.next()?;
            let id = format!("request-{index}");
            let outcome = self.exchange(&id, request).await.with_context(|| id.clone())?;
            outcomes.push(outcome);
            if (index + 1) % 40 == 0 {
                println!("{} of {REQUESTS} requests after {:.0?}", index + 1, started.elapsed());
            }
        }
        Ok(outcomes)
    }

    /// One request through Envoy, until its events are in the index.
    async fn exchange(&mut self, id: &str, request: Request) -> Result<Outcome> {
        let tokens = self.workload.tokens(&request)?;
        let post = self.client.json_request(request.path()).header("x-request-id", id);
        let answer = self.client.send(post, whole(request.body().to_string())).await?.ok()?.json()?;
        // Chats have the prompt's ids once, completions beside each choice.
        let prompt_ids = match token_ids(&answer["prompt_token_ids"]) {
            Some(ids) => ids,
            None => token_ids(&answer["choices"][0]["prompt_token_ids"]).context("no prompt_token_ids")?,
        };
        let output_ids = token_ids(&answer["choices"][0]["token_ids"]).context("no token_ids")?;
        ensure!(
            prompt_ids == tokens,
            "the prompt's token ids differ: ours {tokens:?}, vLLM's {prompt_ids:?}"
        );

        let (at, queries, hits) = self.counted().await?;
        let server = self.servers[at].address();
        self.settle(at).await?;
        let outcome = Outcome::new(id.to_owned(), &request, tokens.len(), server, queries, hits);
        self.workload.answered(request, prompt_ids, output_ids);
        Ok(outcome)
    }

    /// Which server's counters have moved since they were last looked at, and by how many tokens (queries, hits).
    async fn counted(&mut self) -> Result<(usize, u64, u64)> {
        let mut moved = Vec::new();
        for (at, server) in self.servers.iter_mut().enumerate() {
            let now = server.prefix_cache().await?;
            let before = std::mem::replace(&mut self.counters[at], now);
            if now != before {
                moved.push((at, now.queries - before.queries, now.hits - before.hits));
            }
        }
        match moved.as_slice() {
            [one] => Ok(*one),
            _ => bail!("one request moved the counters of {} servers: {moved:?}", moved.len()),
        }
    }

    /// Wait until the sidecar has applied everything that a server has published.
    ///
    /// Both sides count batches, so nothing is guessed: the server says on its replay socket how many it has sent, the
    /// sidecar on `/metrics` how many it has applied, of both servers together. (A batch that was applied twice would
    /// end the wait too early; the count is compared once more at the end.)
    async fn settle(&mut self, at: usize) -> Result<()> {
        self.published[at] = self.servers[at].published(self.published[at]).await?;
        let published: u64 = self.published.iter().sum();
        let deadline = Instant::now() + APPLY_LIMIT;
        loop {
            let applied = self.applied().await?;
            if applied >= published {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{published} batches are published, the sidecar has applied {applied}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn applied(&self) -> Result<u64> {
        Ok(self.stack.sidecar_metrics().await?.sum("warmpath_events_batches_total") as u64)
    }

    /// What was decided about each request, by its id, from Envoy's access log.
    async fn decisions(&mut self) -> Result<BTreeMap<String, Decision>> {
        let deadline = Instant::now() + LOG_LIMIT;
        loop {
            let decisions = ledger::decisions(&self.stack.envoy.process().stdout())?;
            if decisions.len() >= REQUESTS || Instant::now() > deadline {
                return Ok(decisions);
            }
            tokio::time::sleep(LOG_POLL).await;
        }
    }

    /// Empty the prefix cache of the server that has been asked more. Its event comes with the server's next step, so
    /// a request is sent past Envoy.
    async fn empty_busier_server(&mut self) -> Result<()> {
        let at = usize::from(self.counters[1].queries > self.counters[0].queries);
        let server = &self.servers[at];
        server.reset_prefix_cache().await?;
        let body = json!({"model": "demo", "prompt": [1000, 1001], "max_tokens": 1});
        server.client().post_json("/v1/completions", &body).await?.ok()?;
        println!("the prefix cache of {} was emptied", server.address());
        let (moved, _, hits) = self.counted().await?;
        ensure!((moved, hits) == (at, 0), "another server's counters moved, or two tokens were a hit");
        self.settle(at).await
    }
}

fn endpoint(server: &Vllm, model: &str) -> Endpoint {
    Endpoint {
        address: server.address(),
        model: model.to_owned(),
        events: server.events().to_string(),
        replay: Some(server.replay().to_string()),
        ranks: 1,
    }
}

/// The model as the sidecar defines it, loaded as the filter loads it.
async fn load_model(stack: &Stack, files: &ModelFiles) -> Result<Model> {
    let sidecar = stack.sidecar.as_ref().context("no sidecar")?;
    let catalog = Client::http1(sidecar.assets).get(CATALOG_PATH).await?.ok()?;
    let catalog: Catalog = serde_json::from_slice(&catalog.body())?;
    let definition = catalog.models.into_iter().next().context("the catalog is empty")?;
    let template = std::fs::read_to_string(&files.chat_template)?;
    let tokenizer = HfTokenizer::from_json(&std::fs::read(&files.tokenizer)?).map_err(anyhow::Error::msg)?;
    Ok(Model::load(definition, Box::new(tokenizer), Some(&template))?)
}

fn token_ids(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}
