//! Picks over an index that holds something: events are decoded and applied, requests come in over gRPC.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use indexer_sidecar::catalog::Library;
use indexer_sidecar::config::{self, PromptsConfig};
use indexer_sidecar::events::decode::decode;
use indexer_sidecar::index::{Reason, SharedIndex, StreamId, Trust, TrustState};
use indexer_sidecar::metrics::Metrics;
use indexer_sidecar::pick::Picker;
use indexer_sidecar::pick::prompt::Prompts;
use indexer_sidecar::state::StateHandle;
use support::{pick, report, request};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use warmpath_core::block::{KeySpace, chain};
use warmpath_core::definition::Mode;
use warmpath_proto::v1::indexer_client::IndexerClient;
use warmpath_proto::v1::indexer_server::IndexerServer;
use warmpath_proto::v1::{PickRequest, PickResponse, Stage};

const SEED: u64 = 0x0123_4567_89ab_cdef;
const BLOCK_TOKENS: usize = 16;
const KEYS_MAX: usize = 4;

struct Pods {
    index: Arc<SharedIndex>,
    library: Library,
    client: IndexerClient<Channel>,
}

impl Pods {
    /// Live pods of the model `demo` behind a picker.
    async fn live(names: &[&str]) -> Self {
        Self::speculating(names, Duration::ZERO).await
    }

    /// The same; what a pick will bring counts for so long.
    async fn speculating(names: &[&str], speculate_for: Duration) -> Self {
        let file = std::path::Path::new("config.json");
        let config = config::parse(&support::config().to_string(), file).unwrap();
        let library = Library::load(&config, file, &Library::default()).unwrap();
        let index = Arc::new(SharedIndex::new(10_000).speculating(speculate_for));
        let state = StateHandle::new(library.clone(), Mode::Steer, false);
        let picker = Picker::new(
            Arc::clone(&index),
            state,
            Arc::new(Metrics::default()),
            KEYS_MAX,
            Prompts::new(&PromptsConfig::default()),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder().add_service(IndexerServer::new(picker));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let client = IndexerClient::connect(uri).await.unwrap();
        let pods = Self { index, library, client };
        for name in names {
            pods.index.open(&stream(name), pods.library.key_rules()["demo"]);
            pods.trust(name, TrustState::Live);
        }
        pods
    }

    fn trust(&self, name: &str, state: TrustState) {
        let trust = Trust { state, reason: Reason::InOrder, since: self.index.now() };
        self.index.set_trust(&stream(name), trust);
    }

    /// The pod publishes that it holds the full blocks of `tokens`.
    fn stores(&self, name: &str, tokens: &[u32], block_tokens: usize) {
        self.stores_on("GPU", &stream(name), tokens, block_tokens);
    }

    fn stores_on(&self, medium: &str, stream: &StreamId, tokens: &[u32], block_tokens: usize) {
        let hashes: Vec<u64> = (1..=(tokens.len() / block_tokens) as u64).collect();
        let tokens = &tokens[..hashes.len() * block_tokens];
        let event =
            ("BlockStored", hashes, None::<u64>, tokens, block_tokens, None::<u64>, medium, None::<String>);
        let payload = rmp_serde::to_vec(&(0.5, [event], 0)).unwrap();
        self.index.apply(stream, &decode(&payload).unwrap(), self.index.now());
    }

    async fn ask(&mut self, tokens: &[u32]) -> PickResponse {
        pick(&mut self.client, PickRequest { block_keys: keys(tokens), observe: true, ..request() }).await
    }
}

fn stream(name: &str) -> StreamId {
    StreamId { model: "demo".into(), address: name.into(), rank: 0 }
}

fn keys(tokens: &[u32]) -> Vec<u64> {
    let root = KeySpace { seed: SEED, model: "demo", lora: None, salt: None }.root();
    chain(root, tokens, BLOCK_TOKENS).into_iter().map(|key| key.0).collect()
}

fn found(answer: &PickResponse) -> Vec<(&str, u32, f32)> {
    answer.endpoints.iter().map(|found| (found.address.as_str(), found.match_blocks, found.score)).collect()
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).collect()
}

#[tokio::test]
async fn what_lies_on_the_host_counts_by_its_weight_and_is_told() {
    let mut pods = Pods::live(&["a", "b", "c"]).await;
    pods.stores("a", &tokens(32), BLOCK_TOKENS);
    pods.stores_on("CPU", &stream("b"), &tokens(48), BLOCK_TOKENS);
    pods.stores_on("SHARED_STORAGE", &stream("c"), &tokens(64), BLOCK_TOKENS);
    let answer = pods.ask(&tokens(64)).await;
    assert_eq!(found(&answer), [("b", 0, 0.0), ("a", 2, 0.5), ("c", 0, 0.0)]);
    let told: Vec<_> = answer.endpoints.iter().map(|found| found.medium_blocks.clone()).collect();
    let only = |medium: &str, blocks| HashMap::from([(medium.to_owned(), blocks)]);
    assert_eq!(told, [only("cpu", 3), HashMap::new(), only("shared", 4)]);
    assert!(answer.endpoints.iter().all(|found| found.data_parallel_rank.is_none()));
}

#[tokio::test]
async fn the_rank_behind_a_shared_port_is_named_while_every_endpoint_has_it() {
    let mut pods = Pods::live(&["a"]).await;
    let second = StreamId { rank: 1, ..stream("a") };
    pods.index.open(&second, pods.library.key_rules()["demo"]);
    let live = Trust { state: TrustState::Live, reason: Reason::InOrder, since: pods.index.now() };
    pods.index.set_trust(&second, live);
    let rank = |answer: PickResponse| answer.endpoints[0].data_parallel_rank;
    assert_eq!(rank(pods.ask(&tokens(48)).await), None, "nobody holds anything: the engine chooses");
    pods.stores_on("GPU", &second, &tokens(48), BLOCK_TOKENS);
    assert_eq!(rank(pods.ask(&tokens(48)).await), Some(1));
    pods.index.open(&stream("b"), pods.library.key_rules()["demo"]);
    assert_eq!(rank(pods.ask(&tokens(48)).await), None, "a retry may go to an engine of one rank");
}

#[tokio::test]
async fn the_longest_match_is_first_whatever_is_outstanding_there() {
    let mut pods = Pods::live(&["a", "b", "c"]).await;
    pods.stores("b", &tokens(32), BLOCK_TOKENS);
    pods.stores("c", &tokens(64), BLOCK_TOKENS);
    for _ in 0..3 {
        let steered = PickRequest { block_keys: keys(&tokens(64)), ..request() };
        let answer = pick(&mut pods.client, steered).await;
        assert_eq!(found(&answer), [("c", 4, 1.0), ("b", 2, 0.5), ("a", 0, 0.0)]);
    }
}

#[tokio::test]
async fn equal_matches_go_to_the_least_outstanding_and_then_take_turns() {
    let mut pods = Pods::live(&["a", "b", "c"]).await;
    pods.stores("a", &tokens(32), BLOCK_TOKENS);
    pods.stores("b", &tokens(32), BLOCK_TOKENS);
    let steered = PickRequest { block_keys: keys(&tokens(32)), ..request() };
    let first = pick(&mut pods.client, steered.clone()).await;
    let second = pick(&mut pods.client, steered).await;
    let (first_at, second_at) = (&first.endpoints[0].address, &second.endpoints[0].address);
    assert_ne!(first_at, second_at);
    report(&mut pods.client, second.pick_id, second_at, Stage::End).await;
    let mut firsts = Vec::new();
    for _ in 0..4 {
        firsts.push(pods.ask(&tokens(32)).await.endpoints[0].address.clone());
    }
    assert!(firsts.iter().all(|address| address == second_at), "{firsts:?} with {first_at} busy");
    report(&mut pods.client, first.pick_id, first_at, Stage::End).await;
    let mut firsts = Vec::new();
    for _ in 0..4 {
        firsts.push(pods.ask(&tokens(32)).await.endpoints[0].address.clone());
    }
    assert!(firsts[0] != firsts[1] && firsts[..2] == firsts[2..], "{firsts:?}");
}

#[tokio::test]
async fn a_pod_whose_stream_is_down_is_listed_only_when_all_are() {
    let mut pods = Pods::live(&["a", "b"]).await;
    pods.stores("b", &tokens(32), BLOCK_TOKENS);
    pods.trust("b", TrustState::Lost);
    assert_eq!(found(&pods.ask(&tokens(32)).await), [("a", 0, 0.0)]);
    pods.trust("a", TrustState::Lost);
    let answer = pods.ask(&tokens(32)).await;
    let mut listed = found(&answer);
    listed.sort_by_key(|(address, ..)| *address);
    assert_eq!(listed, [("a", 0, 0.0), ("b", 0, 0.0)]);
}

#[tokio::test]
async fn a_pod_with_another_block_size_is_left_out() {
    let mut pods = Pods::live(&["a", "b"]).await;
    pods.stores("b", &tokens(72), 24);
    assert_eq!(found(&pods.ask(&tokens(64)).await), [("a", 0, 0.0)]);
}

#[tokio::test]
async fn a_pod_with_a_multiple_of_the_block_size_is_credited_with_whole_blocks_of_its_own() {
    let mut pods = Pods::live(&["a"]).await;
    pods.stores("a", &tokens(96), 48);
    assert_eq!(found(&pods.ask(&tokens(64)).await), [("a", 3, 0.75)], "48 of its 64 tokens");
}

#[tokio::test]
async fn keys_beyond_the_bound_are_not_matched() {
    let mut pods = Pods::live(&["a"]).await;
    pods.stores("a", &tokens(128), BLOCK_TOKENS);
    assert_eq!(found(&pods.ask(&tokens(128)).await), [("a", 4, 0.5)]);
}

#[tokio::test]
async fn a_burst_of_one_new_prefix_stays_together_and_what_is_coming_is_no_match() {
    let mut pods = Pods::speculating(&["a", "b", "c"], Duration::from_secs(600)).await;
    let own = |request: u32| [tokens(32), vec![1_000 + request; 16]].concat();
    let mut firsts = Vec::new();
    for request in 0..4 {
        let asked = PickRequest { block_keys: keys(&own(request)), ..self::request() };
        let answer = pick(&mut pods.client, asked).await;
        assert!(found(&answer).iter().all(|(_, blocks, _)| *blocks == 0), "nobody has proven anything");
        firsts.push(answer.endpoints[0].address.clone());
    }
    assert!(firsts.iter().all(|first| *first == firsts[0]), "{firsts:?}");
    let other = ["a", "b", "c"].into_iter().find(|name| *name != firsts[0]).unwrap();
    pods.stores(other, &tokens(32), BLOCK_TOKENS);
    assert_eq!(pods.ask(&tokens(32)).await.endpoints[0].address, other, "of equals the one that proves more");
    // An observed pick is not followed: it brings nothing.
    let observed = pods.ask(&[7; 32]).await.endpoints[0].address.clone();
    assert_ne!(pods.ask(&[7; 32]).await.endpoints[0].address, observed);
}
