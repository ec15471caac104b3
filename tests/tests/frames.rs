//! Frames as engines send them, over real ZMQ sockets to the real sidecar, and what `Pick` credits afterwards: every
//! release's layout, groups of layers that store sparsely, salts that only a first block shows, placeholders.
//!
//! The sidecar's own tests replay the captures of whole engine runs into its index.

mod common;
#[path = "../../indexer-sidecar/tests/common/pod.rs"]
#[allow(dead_code, reason = "its other users break things on purpose")]
mod pod;

use std::path::PathBuf;

use common::eventually;
use pod::{Framing, Pod};
use serde_json::{Value, json};
use tonic::transport::Channel;
use warmpath_core::block::{KeySpace, chain};
use warmpath_harness::programs::skipped;
use warmpath_harness::sidecar::SidecarFiles;
use warmpath_harness::{Endpoint, ModelFiles, Programs, Sidecar};
use warmpath_proto::v1::PickRequest;
use warmpath_proto::v1::indexer_client::IndexerClient;

/// The seed that the harness configures.
const SEED: u64 = 0x0123_4567_89ab_cdef;

/// A sidecar process and the publishers that it follows.
struct Followed {
    pods: Vec<Pod>,
    published: Vec<u64>,
    sidecar: Sidecar,
    picks: IndexerClient<Channel>,
    block: usize,
    _directory: tempfile::TempDir,
}

impl Followed {
    async fn start(programs: &Programs, pods: usize, block: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut model = ModelFiles::demo();
        model.block_tokens = block as u32;
        let (mut publishers, mut endpoints) = (Vec::new(), Vec::new());
        for index in 0..pods {
            let pod = Pod::start(if index % 2 == 0 { Framing::Bare } else { Framing::Topic }).await;
            endpoints.push(Endpoint {
                address: address(index).parse().unwrap(),
                model: common::MODEL.to_owned(),
                events: pod.events.clone(),
                replay: Some(pod.replays.clone()),
                ranks: 1,
            });
            publishers.push(pod);
        }
        let any = ([127, 0, 0, 1], 0).into();
        let files = SidecarFiles::write(directory.path(), &[model], &endpoints, any, &json!({})).unwrap();
        let sidecar = Sidecar::start(&programs.sidecar, "sidecar", &files).await.unwrap();
        let picks =
            IndexerClient::connect(format!("unix://{}", files.pick_socket().display())).await.unwrap();
        let published = vec![0; pods];
        let followed = Self { pods: publishers, published, sidecar, picks, block, _directory: directory };
        followed.metric("warmpath_events_streams_live", pods as f64).await;
        followed
    }

    /// Publishes a batch and does not wait for it.
    async fn publish(&mut self, pod: usize, payload: &[u8]) {
        self.pods[pod].publish(self.published[pod], payload).await;
        self.published[pod] += 1;
    }

    /// Publishes a batch of these events and waits until it is applied.
    async fn batch(&mut self, pod: usize, events: Value) {
        self.publish(pod, &rmp_serde::to_vec(&json!([1.5, events, 0])).unwrap()).await;
        self.applied().await;
    }

    /// Waits until everything published is applied.
    async fn applied(&self) {
        self.metric("warmpath_events_batches_total", self.published.iter().sum::<u64>() as f64).await;
    }

    async fn metric(&self, name: &str, value: f64) {
        eventually(name, async || self.sidecar.metrics().await.unwrap().sum(name) == value).await;
    }

    /// Leading blocks of a prompt that the pod is credited with.
    async fn credited(&mut self, pod: usize, tokens: &[u32], lora: Option<&str>, salt: Option<&str>) -> u32 {
        let root = KeySpace { seed: SEED, model: common::MODEL, lora, salt }.root();
        let keys = chain(root, tokens, self.block);
        let request = PickRequest {
            model: common::MODEL.to_owned(),
            block_keys: keys.iter().map(|key| key.0).collect(),
            token_count: tokens.len() as u64 + 1,
            block_tokens: self.block as u32,
            candidates: vec![address(pod)],
            observe: true,
            ..PickRequest::default()
        };
        let answer = self.picks.pick(request).await.unwrap().into_inner();
        assert_eq!(answer.endpoints.len(), 1, "{answer:?}");
        answer.endpoints[0].match_blocks
    }

    async fn skipped(&self, reason: &str) -> f64 {
        let metrics = self.sidecar.metrics().await.unwrap();
        metrics.sum_where("warmpath_index_skipped_blocks_total", &[("reason", reason)])
    }
}

fn address(pod: usize) -> String {
    format!("10.0.0.{}:8000", pod + 1)
}

fn golden() -> Option<Value> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
    let shared = std::env::var_os("WARMPATH_SHARED").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    let path = shared.join("kv-events/golden_synthetic_all_versions.json");
    match std::fs::read(&path) {
        Ok(text) => Some(serde_json::from_slice(&text).unwrap()),
        Err(error) => {
            skipped("every_layout_is_credited_alike", &format!("{}: {error}", path.display()));
            None
        }
    }
}

/// The file's payloads of hash 2222 made payloads of hash 333, the parent in its `full` case.
fn of_parent(payload: &[u8]) -> Vec<u8> {
    let (of_2222, of_333) = ([0xcd, 0x08, 0xae], [0xcd, 0x01, 0x4d]);
    let at = payload.windows(3).position(|bytes| bytes == of_2222).unwrap();
    [&payload[..at], &of_333, &payload[at + 3..]].concat()
}

/// Blocks that the `full` case brings on top of its parent: two blocks of a LoRA adapter.
fn credited_by_full(layout: &str) -> u32 {
    let release = layout.strip_prefix("vllm-0.").map(|release| release.split_once('.').unwrap().0);
    match release.map(|minor| minor.parse::<u32>().unwrap()) {
        // The adapter has only a number, which means nothing outside the process.
        Some(..14) => 0,
        // A salt on a block that is not a prompt's first: no engine sends that, it could be an image's id.
        Some(17..) => 0,
        // The adapter has its name and there are no extra keys.
        Some(_) | None => 2,
    }
}

/// Case of the file, whether its hash is changed to the parent's, and the blocks held afterwards.
fn script(layout: &str) -> Vec<(&'static str, bool, u32)> {
    let full = credited_by_full(layout);
    vec![
        ("minimal", true, 1),
        // The same block under a second hash: one of both may go.
        ("minimal", false, 1),
        ("removed", false, 1),
        ("removed", true, 0),
        ("removed", true, 0),
        ("minimal", true, 1),
        ("full", false, 1 + full),
        ("removed", false, 1 + full.saturating_sub(1)),
        ("cleared", false, 0),
        // Its parent is remembered, but not held.
        ("full", false, 0),
        // The parent's tokens are held again, under the hash of the second of the blocks that hang on it.
        ("minimal", false, 1 + full.saturating_sub(1)),
        // Removes, clears, and stores on a parent that is not held.
        ("mixed", false, 0),
        ("minimal", false, 1 + full.saturating_sub(1)),
        ("no_rank", false, 0),
        ("minimal", true, 1),
    ]
}

#[tokio::test]
async fn every_layout_is_credited_alike() {
    let Some(programs) = Programs::or_skip("every_layout_is_credited_alike") else { return };
    let Some(golden) = golden() else { return };
    let layouts: Vec<_> = golden.as_object().unwrap().iter().collect();
    assert!(layouts.len() >= 28, "{}", layouts.len());
    let mut followed = Followed::start(&programs, layouts.len(), 4).await;
    let prompt = [1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 70000];
    for step in 0..script("").len() {
        for (pod, (layout, cases)) in layouts.iter().enumerate() {
            let (case, parent, _) = script(layout)[step];
            let payload = hex::decode(cases[case].as_str().unwrap()).unwrap();
            followed.publish(pod, &if parent { of_parent(&payload) } else { payload }).await;
        }
        followed.applied().await;
        for (pod, (layout, _)) in layouts.iter().enumerate() {
            let (case, _, held) = script(layout)[step];
            assert_eq!(followed.credited(pod, &prompt, None, None).await, held, "{layout}: {step}: {case}");
        }
    }
    assert_eq!(followed.sidecar.metrics().await.unwrap().sum("warmpath_events_skipped_total"), 0.0);
}

/// Hashes of a prompt's blocks, in a range of their own.
fn hashes(blocks: std::ops::Range<u64>) -> Vec<u64> {
    blocks.map(|block| 9_000_000_000_000_000_000 + block).collect()
}

/// A store as vLLM has sent it since 0.24.
fn stored(hashes: &[u64], parent: Option<u64>, tokens: &[u32], group: u32, kind: &str) -> Value {
    json!({
        "type": "BlockStored", "block_hashes": hashes, "parent_block_hash": parent, "token_ids": tokens, "block_size": 32,
        "lora_id": null, "medium": "GPU", "lora_name": null, "group_idx": group, "kv_cache_spec_kind": kind,
    })
}

fn removed(hashes: &[u64], group: u32) -> Value {
    json!({"type": "BlockRemoved", "block_hashes": hashes, "medium": "GPU", "group_idx": group})
}

/// A model with sliding windows stores each step twice, under the same hashes; only the windows' group is sparse.
#[tokio::test]
async fn sparse_groups_neither_add_nor_take_credit() {
    let Some(programs) = Programs::or_skip("sparse_groups_neither_add_nor_take_credit") else { return };
    let mut followed = Followed::start(&programs, 1, 32).await;
    let tokens: Vec<u32> = (1000..1352).collect();
    let (prefill, all) = (hashes(0..10), hashes(0..11));
    // The window keeps the last two of ten blocks, for which the event still has all tokens.
    let window = stored(&prefill[8..], None, &tokens[..320], 0, "sliding_window");
    let full = stored(&prefill, None, &tokens[..320], 1, "full_attention");
    followed.batch(0, json!([window, full])).await;
    assert_eq!(followed.credited(0, &tokens, None, None).await, 10);
    // A step whose window blocks are not stored at all.
    let window = stored(&[], Some(all[9]), &tokens[320..], 0, "sliding_window");
    let full = stored(&all[10..], Some(all[9]), &tokens[320..], 1, "full_attention");
    followed.batch(0, json!([window, full])).await;
    assert_eq!(followed.credited(0, &tokens, None, None).await, 11);
    // The windows' copies of a hash are not the full group's.
    followed.batch(0, json!([removed(&prefill[8..], 0)])).await;
    assert_eq!(followed.credited(0, &tokens, None, None).await, 11);
    followed.batch(0, json!([removed(&all[9..], 1)])).await;
    assert_eq!(followed.credited(0, &tokens, None, None).await, 9);
    assert_eq!(followed.skipped("group_not_indexed").await, 2.0);
}

/// Placeholders of offloaded blocks have no tokens and a block size of 0.
#[tokio::test]
async fn placeholders_change_nothing() {
    let Some(programs) = Programs::or_skip("placeholders_change_nothing") else { return };
    let mut followed = Followed::start(&programs, 1, 32).await;
    let tokens: Vec<u32> = (1000..1064).collect();
    let mut placeholder = stored(&hashes(5..6), None, &[], 0, "full_attention");
    placeholder["block_size"] = json!(0);
    placeholder["medium"] = json!("CPU");
    let on_it = stored(&hashes(6..7), Some(hashes(5..6)[0]), &tokens[..32], 0, "full_attention");
    let good = stored(&hashes(0..2), None, &tokens, 0, "full_attention");
    followed.batch(0, json!([placeholder, on_it, good])).await;
    assert_eq!(followed.credited(0, &tokens, None, None).await, 2);
    assert_eq!(followed.skipped("placeholder").await, 1.0);
    // It has no content, so what is chained over it waits for a store that has.
    let streams = followed.sidecar.client().get("/v1/streams").await.unwrap().text();
    assert_eq!(serde_json::from_str::<Value>(&streams).unwrap()[0]["waiting"], 1, "{streams}");
}

/// Only the first block's event shows the salt; the blocks that follow it belong to the same tenant.
#[tokio::test]
async fn salts_and_adapters_are_inherited_from_the_parent() {
    let Some(programs) = Programs::or_skip("salts_and_adapters_are_inherited_from_the_parent") else {
        return;
    };
    let mut followed = Followed::start(&programs, 1, 32).await;
    let tokens: Vec<u32> = (1000..1128).collect();
    let tenants =
        [(None, None), (None, Some("a")), (None, Some("b")), (Some("poet"), None), (Some("poet"), Some("a"))];
    for (number, (lora, salt)) in tenants.into_iter().enumerate() {
        let hashes = hashes(number as u64 * 10..number as u64 * 10 + 4);
        let with = |mut event: Value, first: bool| {
            let keys = |first: bool| {
                let keys: Vec<&str> = lora.into_iter().chain(salt.filter(|_| first)).collect();
                if keys.is_empty() { Value::Null } else { json!(keys) }
            };
            event["extra_keys"] = json!([keys(first), keys(false)]);
            event["lora_name"] = json!(lora);
            event["lora_id"] = json!(lora.map(|_| 1));
            event
        };
        let head = with(stored(&hashes[..2], None, &tokens[..64], 0, "full_attention"), true);
        let tail = with(stored(&hashes[2..], Some(hashes[1]), &tokens[64..], 0, "full_attention"), false);
        followed.batch(0, json!([head])).await;
        followed.batch(0, json!([tail])).await;
        for (other, (lora, salt)) in tenants.into_iter().enumerate() {
            let credited = followed.credited(0, &tokens, lora, salt).await;
            assert_eq!(credited, if other <= number { 4 } else { 0 }, "{number}: {lora:?} {salt:?}");
        }
    }
    // The salted copy of the base model goes, from its second half on.
    followed.batch(0, json!([removed(&hashes(12..14), 0)])).await;
    let held = [4, 2, 4, 4, 4];
    for ((lora, salt), held) in tenants.into_iter().zip(held) {
        assert_eq!(followed.credited(0, &tokens, lora, salt).await, held, "{lora:?} {salt:?}");
    }
}
