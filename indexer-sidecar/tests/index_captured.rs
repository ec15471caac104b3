//! Streams of real engines over real sockets: the index equals a naive reading of the captures, block by block.

mod common;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use common::pod::{Framing, Pod};
use common::{CAPTURES, Message, captured};
use indexer_sidecar::endpoints::{Endpoint, RankSource};
use indexer_sidecar::events::{self, EventMetrics};
use indexer_sidecar::index::{KeyRules, SharedIndex};
use serde_json::Value as Json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warmpath_core::block::{KeySpace, chain};
use warmpath_core::definition::SaltRule;

const SEED: u64 = 3;

/// A block with everything before it: LoRA adapter, salt, all tokens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Prefix {
    lora: Option<String>,
    salt: Option<String>,
    tokens: Vec<u64>,
}

/// What the capture says, by the capturing program's own decoder.
#[derive(Default)]
struct Naive {
    held: HashMap<String, (Prefix, u32)>,
    seen: HashSet<Prefix>,
    orphans: u64,
    block: usize,
}

impl Naive {
    fn apply(&mut self, event: &Json) {
        let tag = event.get("type").or(event.get(0)).unwrap().as_str().unwrap();
        let field = |name: &str, index: usize| event.get(name).or(event.get(index)).unwrap_or(&Json::Null);
        match tag {
            "AllBlocksCleared" => self.held.clear(),
            "BlockRemoved" => {
                for hash in field("block_hashes", 1).as_array().unwrap() {
                    let Some((_, copies)) = self.held.get_mut(&hash.to_string()) else { continue };
                    *copies -= 1;
                    if *copies == 0 {
                        self.held.remove(&hash.to_string());
                    }
                }
            }
            _ => self.store(&field),
        }
    }

    fn store<'a>(&mut self, field: &dyn Fn(&str, usize) -> &'a Json) {
        let hashes = field("block_hashes", 1).as_array().unwrap();
        let tokens: Vec<u64> = serde_json::from_value(field("token_ids", 3).clone()).unwrap();
        let lora = field("lora_name", 7).as_str().map(str::to_owned);
        let mut prefix = match field("parent_block_hash", 2) {
            Json::Null => {
                let texts = field("extra_keys", 8)[0].as_array().cloned().unwrap_or_default();
                let mut texts: Vec<_> = texts.iter().map(|text| text.as_str().unwrap().to_owned()).collect();
                texts.retain(|text| Some(text) != lora.as_ref());
                Prefix { lora, salt: texts.pop(), tokens: vec![] }
            }
            parent => match self.held.get(&parent.to_string()) {
                Some((parent, _)) => parent.clone(),
                None => {
                    self.orphans += hashes.len() as u64;
                    return;
                }
            },
        };
        self.block = field("block_size", 4).as_u64().unwrap() as usize;
        assert_eq!(tokens.len(), hashes.len() * self.block);
        for (hash, tokens) in hashes.iter().zip(tokens.chunks(self.block)) {
            prefix.tokens.extend(tokens);
            self.seen.insert(prefix.clone());
            self.held.entry(hash.to_string()).or_insert((prefix.clone(), 0)).1 += 1;
        }
    }

    /// Leading blocks of `prefix` that are held.
    fn leading(&self, prefix: &Prefix, held: &HashSet<&Prefix>) -> u32 {
        let until = |blocks: &usize| {
            let tokens = prefix.tokens[..blocks * self.block].to_vec();
            held.contains(&Prefix { tokens, ..prefix.clone() })
        };
        (1..=prefix.tokens.len() / self.block).take_while(until).count() as u32
    }
}

/// Compares the index with the capture for every prefix that ever was; returns how many were held and how many not.
fn compare(index: &SharedIndex, naive: &Naive, name: &str) -> (usize, usize) {
    let held: HashSet<&Prefix> = naive.held.values().map(|(prefix, _)| prefix).collect();
    let mut counts = (0, 0);
    for prefix in &naive.seen {
        let space =
            KeySpace { seed: SEED, model: "m", lora: prefix.lora.as_deref(), salt: prefix.salt.as_deref() };
        let tokens: Vec<u32> = prefix.tokens.iter().map(|token| *token as u32).collect();
        let entry = index.lookup("m", &chain(space.root(), &tokens, naive.block)).pop().unwrap();
        assert_eq!(entry.blocks, naive.leading(prefix, &held), "{name}: {prefix:?}");
        assert_eq!(entry.block_tokens, Some(naive.block as u32));
        if held.contains(prefix) { counts.0 += 1 } else { counts.1 += 1 }
    }
    assert_eq!(index.len(), naive.held.len(), "{name}: entries");
    counts
}

async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within a minute: {what}");
}

/// Publishes a capture, its first half before the sidecar comes, and compares after every message from there on.
async fn play(name: &str, messages: &[Message], framing: Framing) {
    let mut naive = Naive::default();
    let mut pod = Pod::start(framing).await;
    let (early, live) = messages.split_at(messages.len() / 2);
    let events = |naive: &mut Naive, message: &Message| {
        message.decoded[1].as_array().unwrap().iter().for_each(|event| naive.apply(event));
    };
    for message in early {
        pod.keep(message.seq, &message.payload);
        events(&mut naive, message);
    }
    let rank =
        RankSource { events: pod.events.clone(), replay: Some(pod.replays.clone()), ..RankSource::default() };
    let endpoint = Endpoint { address: "10.0.0.1:8000".into(), model: "m".into(), ranks: vec![rank] };
    let endpoints = watch::Sender::new(Arc::new(vec![endpoint]));
    let rules = KeyRules { seed: SEED, salt: SaltRule::Keyed, block_tokens: naive.block as u32 };
    let rules = watch::Sender::new(Arc::new(HashMap::from([(Arc::from("m"), rules)])));
    let index = Arc::new(SharedIndex::new(100_000));
    let metrics = Arc::new(EventMetrics::default());
    let shutdown = CancellationToken::new();
    let run = events::run(
        endpoints.subscribe(),
        rules.subscribe(),
        None,
        Arc::clone(&index),
        Arc::clone(&metrics),
        shutdown.clone(),
    );
    let task = tokio::spawn(run);
    until("the replay", || metrics.streams_live.get() == 1).await;
    compare(&index, &naive, name);
    let mut counts = (0, 0);
    for (sent, message) in live.iter().enumerate() {
        pod.publish(message.seq, &message.payload).await;
        events(&mut naive, message);
        let applied = (early.len() + sent + 1) as u64;
        until("a live batch", || metrics.batches.get() == applied).await;
        counts = compare(&index, &naive, name);
    }
    assert_eq!(metrics.replayed.get(), early.len() as u64);
    let orphans: u64 = index.streams()[0].groups.iter().map(|group| group.counts.orphans).sum();
    assert_eq!(orphans, naive.orphans);
    assert!(counts.0 > 0, "{name}: nothing held at the end");
    println!(
        "{name} {framing:?}: {} batches, {counts:?} prefixes held and not, {} orphans",
        messages.len(),
        naive.orphans
    );
    shutdown.cancel();
    task.await.unwrap();
    pod.stop().await;
}

#[tokio::test]
async fn captured_streams_arrive_block_by_block() {
    for name in CAPTURES {
        let Some(messages) = captured(name) else { continue };
        for framing in [Framing::Bare, Framing::Topic] {
            play(name, &messages, framing).await;
        }
    }
}

#[test]
fn a_captured_replay_is_the_live_stream_and_its_end() {
    use indexer_sidecar::events::frames::{Reply, parse};
    let Some(messages) = captured("a_v0.32_default.json") else { return };
    for (name, from) in
        [("replay_v0.32_from0.json", 0), ("replay_v0.32_from14.json", 14), ("replay_v0.32_from999.json", 999)]
    {
        let Some(file) = common::shared_json(name) else { continue };
        let frames = |reply: &Json| -> Vec<Vec<u8>> {
            let frames = reply.as_array().unwrap().iter();
            frames.map(|frame| hex::decode(frame.as_str().unwrap()).unwrap()).collect()
        };
        let asked = indexer_sidecar::events::frames::request(from);
        assert_eq!(
            frames(&file["request_frames_hex"]),
            asked.iter().map(|frame| frame.to_vec()).collect::<Vec<_>>()
        );
        let mut wanted = messages.iter().filter(|message| message.seq >= from);
        let mut ended = false;
        for reply in file["reply_messages"].as_array().unwrap() {
            let frames = frames(reply);
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            match parse(frames.iter().map(|frame| bytes::Bytes::copy_from_slice(frame)).collect()).unwrap() {
                Reply::Batch(frame) => {
                    let message = wanted.next().unwrap();
                    assert_eq!(
                        (frame.seq, &frame.payload[..]),
                        (message.seq, &message.payload[..]),
                        "{name}"
                    );
                }
                Reply::End => ended = true,
            }
        }
        assert!(ended && wanted.next().is_none(), "{name}");
    }
}
