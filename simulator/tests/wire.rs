//! Event bytes against those that each release's own definitions encode.

mod common;

use std::str::FromStr;

use warmpath_simulator::wire::{Layout, WireEvent, WireHash, WireStored, encode_batch};

const TIME: f64 = 1_700_000_000.5;
const RANK: Option<u32> = Some(3);

fn full() -> WireEvent {
    WireEvent::Stored(WireStored {
        hashes: vec![WireHash::Unsigned(11_111_111_111_111_111_111), WireHash::Unsigned(2222)],
        parent: Some(WireHash::Unsigned(333)),
        tokens: vec![1, 2, 3, 4, 5, 6, 7, 70000],
        block_size: 4,
        lora_id: Some(7),
        lora_name: Some("adapter-x".to_owned()),
        extra_keys: vec![vec!["adapter-x".to_owned(), "salt-1".to_owned()], vec!["adapter-x".to_owned()]],
        cache_salt: None,
        session_id: Some("sess-9".to_owned()),
    })
}

fn minimal(hash: WireHash, parent: Option<WireHash>) -> WireEvent {
    WireEvent::Stored(WireStored {
        hashes: vec![hash],
        parent,
        tokens: vec![1, 2, 3, 4],
        block_size: 4,
        extra_keys: vec![vec![]],
        ..WireStored::default()
    })
}

fn batch(case: &str) -> (Vec<WireEvent>, Option<u32>) {
    let removed = || WireEvent::Removed { hashes: vec![WireHash::Unsigned(2222)] };
    let events = match case {
        "full" => vec![full()],
        "minimal" => vec![minimal(WireHash::Unsigned(2222), None)],
        "removed" => vec![removed()],
        "cleared" => vec![WireEvent::Cleared],
        "mixed" => vec![removed(), WireEvent::Cleared, full()],
        "bytes_hash" => {
            vec![minimal(WireHash::Bytes((0..32).collect()), Some(WireHash::Bytes((32..64).collect())))]
        }
        "no_rank" => return (vec![WireEvent::Cleared], None),
        case => panic!("unknown case {case}"),
    };
    (events, RANK)
}

fn encode(layout: &str, case: &str) -> String {
    let (events, rank) = batch(case);
    let layout = Layout::from_str(layout).expect("a known layout");
    encode_batch(&layout, TIME, &events, rank).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_oldest_and_the_newest_array_and_map() {
    assert_eq!(
        encode("vllm-0.10.0", "minimal"),
        "93cb41d954fc402000009196ab426c6f636b53746f72656491cd08aec0940102030404c003"
    );
    assert_eq!(
        encode("vllm-0.23", "removed"),
        "93cb41d954fc402000009194ac426c6f636b52656d6f76656491cd08aea34750550003"
    );
    assert_eq!(
        encode("vllm-0.33", "cleared"),
        "93cb41d954fc402000009181a474797065b0416c6c426c6f636b73436c656172656403"
    );
}

#[test]
fn every_release_and_case() {
    let Some(golden) = common::shared("kv-events/golden_synthetic_all_versions.json") else { return };
    let mut checked = 0;
    for (release, cases) in golden.as_object().expect("releases") {
        for (case, expected) in cases.as_object().expect("cases") {
            assert_eq!(Some(encode(release, case).as_str()), expected.as_str(), "{release} {case}");
            checked += 1;
        }
    }
    println!("{checked} batches");
    assert!(checked >= 180, "only {checked} batches");
}

#[test]
fn layouts_that_do_not_exist_are_refused() {
    for name in ["vllm-0.9.2", "vllm-1.0", "vllm-0.x", "sglang-9", ""] {
        let error = Layout::from_str(name).expect_err(name);
        assert!(error.to_string().contains("is no event layout"), "{error}");
    }
}

#[test]
fn replies_to_a_replay_carry_the_topic_from_0_26_on() {
    for (name, topic) in [("vllm-0.25", false), ("vllm-0.26", true), ("sglang", true)] {
        assert_eq!(Layout::from_str(name).expect(name).replay_topic, topic, "{name}");
    }
}
