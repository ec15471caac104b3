//! Rules of the index one by one: what is not taken in, and what an endpoint is credited with.

mod twin;

use indexer_sidecar::events::decode::Batch;
use indexer_sidecar::events::event::{Event, ExtraKeys, Medium, Stored};
use indexer_sidecar::index::{KeyRules, SharedIndex, StreamId, TrustState};
use twin::{Group, Op, Prompt, RULES, apply, ask, batch, event, index_of_two, open, stream, trust};
use warmpath_core::definition::SaltRule;

fn store(prompt: &Prompt, change: impl FnOnce(&mut Stored)) -> Batch {
    let op = Op::Store {
        rank: 0,
        group: Group::Full(0),
        medium: Medium::Gpu,
        prompt: prompt.clone(),
        from: 0,
        to: prompt.path.len(),
    };
    let Some(Event::Stored(mut stored)) = event(&op) else { unreachable!() };
    change(&mut stored);
    batch(Event::Stored(stored))
}

const PLAIN: fn() -> Prompt = || Prompt { lora: None, salt: None, path: vec![0, 1, 0] };

fn blocks_after(batch: &Batch) -> (u32, SharedIndex) {
    let index = index_of_two(100);
    index.apply(&stream(0), batch, index.now());
    (ask(&index, &PLAIN())[0].blocks, index)
}

#[test]
fn what_cannot_be_keyed_is_left_out_and_counted() {
    let text = |text: &str| ExtraKeys::Texts(vec![text.into()]);
    type Edit = Box<dyn FnOnce(&mut Stored)>;
    let cases: [(&str, u32, u64, Edit); 6] = [
        ("none", 3, 0, Box::new(|_| ())),
        ("extra_keys", 1, 2, Box::new(|stored| stored.extra[1] = ExtraKeys::Unkeyable)),
        ("extra_keys", 2, 1, Box::new(move |stored| stored.extra[2] = text("image"))),
        ("lora_unnamed", 0, 3, Box::new(|stored| stored.lora_id = Some(1))),
        ("token_count", 0, 3, Box::new(|stored| stored.tokens.truncate(5))),
        ("placeholder", 0, 3, Box::new(|stored| (stored.tokens, stored.block_tokens) = (vec![], 0))),
    ];
    for (reason, blocks, skipped, change) in cases {
        let (got, index) = blocks_after(&store(&PLAIN(), change));
        assert_eq!((got, index.metrics().skipped(reason)), (blocks, skipped), "{reason}");
    }
}

#[test]
fn another_block_size_is_told_and_not_indexed() {
    let (blocks, index) = blocks_after(&store(&PLAIN(), |stored| {
        stored.block_tokens = 3;
        stored.hashes.pop();
    }));
    assert_eq!((blocks, index.metrics().skipped("block_size")), (0, 2));
    let told: Vec<_> = ask(&index, &PLAIN()).iter().map(|entry| entry.block_tokens).collect();
    assert_eq!(told, [Some(3), None]);
}

#[test]
fn a_salt_that_the_engine_should_ignore_is_not_indexed() {
    let salted = Prompt { salt: Some("s"), ..PLAIN() };
    let index = SharedIndex::new(100);
    open(&index, &stream(0), KeyRules { salt: SaltRule::Ignored, ..RULES });
    index.apply(&stream(0), &store(&salted, |_| ()), index.now());
    assert_eq!((index.len(), index.metrics().skipped("salt_unexpected")), (0, 3));
}

#[test]
fn with_lookahead_the_last_block_is_not_credited() {
    assert_eq!(blocks_after(&store(&PLAIN(), |stored| stored.lookahead = true)).0, 2);
}

#[test]
fn after_a_restart_the_groups_of_the_old_process_do_not_count() {
    let (_, index) = blocks_after(&store(&PLAIN(), |_| ()));
    let unnamed = store(&PLAIN(), |stored| (stored.group, stored.kind) = (None, None));
    index.doubt(&stream(0));
    index.apply(&stream(0), &unnamed, index.now());
    assert_eq!(ask(&index, &PLAIN())[0].blocks, 0, "group 0 is still needed and holds nothing");
    index.restart(&stream(0));
    assert_eq!((index.len(), ask(&index, &PLAIN())[0].block_tokens), (0, None));
    index.apply(&stream(0), &unnamed, index.now());
    assert_eq!(ask(&index, &PLAIN())[0].blocks, 3);
}

#[test]
fn an_endpoint_is_as_good_as_its_best_live_rank() {
    let index = SharedIndex::new(100);
    let rank = |rank| StreamId { rank, ..stream(0) };
    for id in 0..3 {
        index.open(&rank(id), RULES);
    }
    let short = Prompt { path: vec![0], ..PLAIN() };
    index.apply(&rank(1), &store(&PLAIN(), |_| ()), index.now());
    index.apply(&rank(2), &store(&short, |_| ()), index.now());
    let only = |index: &SharedIndex| {
        let entries = ask(index, &PLAIN());
        assert_eq!(entries.len(), 1);
        (entries[0].blocks, entries[0].live, entries[0].block_tokens)
    };
    assert_eq!(only(&index), (0, false, Some(2)), "lost");
    trust(&index, &rank(2), TrustState::Partial);
    assert_eq!(only(&index), (1, true, Some(2)));
    trust(&index, &rank(1), TrustState::Live);
    assert_eq!(only(&index), (3, true, Some(2)));
    index.close(&rank(1));
    assert_eq!((only(&index), index.len()), ((1, true, Some(2)), 1));
    assert_eq!(index.lookup("another model", &[]), []);
}

#[test]
fn metrics_are_written_out() {
    let (_, index) = blocks_after(&store(&PLAIN(), |stored| stored.extra[2] = ExtraKeys::Unkeyable));
    apply(&index, &stream(0), Event::Cleared);
    let mut registry = prometheus_client::registry::Registry::default();
    index.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "warmpath_index_admissions_total 2",
        "warmpath_index_evictions_total 2",
        "warmpath_index_blocks 0",
        "warmpath_index_blocks_max 100",
        "warmpath_index_skipped_blocks_total{reason=\"extra_keys\"} 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} not in\n{text}");
    }
}
