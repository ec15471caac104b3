//! Other media than the GPU's memory, and parents that only a recent pick can prove.

mod twin;

use indexer_sidecar::events::event::{Event, Medium, Removed, Stored};
use indexer_sidecar::index::{SharedIndex, TrustState};
use twin::{BLOCK, Group, Op, Prompt, RULES, apply, ask, event, index_of_two, stream, trust};
use warmpath_core::block::{KeySpace, chain};

fn prompt() -> Prompt {
    Prompt { lora: None, salt: None, path: vec![0, 1, 0, 1] }
}

fn store(from: usize, to: usize) -> Event {
    event(&Op::Store { rank: 0, group: Group::Full(0), medium: Medium::Gpu, prompt: prompt(), from, to })
        .unwrap()
}

/// An offloading connector's note: hashes alone.
fn offloaded(medium: Medium, blocks: usize) -> Event {
    let Event::Stored(stored) = store(0, blocks) else { unreachable!() };
    let nothing = Stored { parent: None, tokens: vec![], block_tokens: 0, extra: vec![], medium, ..stored };
    Event::Stored(nothing)
}

fn remove(medium: Medium, block: usize) -> Event {
    let hashes = vec![prompt().prefix(block).engine_hash()];
    Event::Removed(Removed { hashes, medium, group: Some(0) })
}

fn lengths(index: &SharedIndex) -> (u32, u32, u32) {
    let found = &ask(index, &prompt())[0];
    (found.lengths[0], found.lengths[Medium::Cpu as usize], found.lengths[Medium::Disk as usize])
}

#[test]
fn a_block_that_has_left_the_gpu_is_known_by_its_hash_on_the_host_and_the_disk() {
    let index = index_of_two(100);
    apply(&index, &stream(0), offloaded(Medium::Cpu, 2));
    assert_eq!((lengths(&index), index.metrics().skipped("placeholder")), ((0, 0, 0), 2), "never told of");
    apply(&index, &stream(0), store(0, 4));
    for block in (1..=4).rev() {
        apply(&index, &stream(0), remove(Medium::Gpu, block));
    }
    assert_eq!(lengths(&index), (0, 0, 0));
    apply(&index, &stream(0), offloaded(Medium::Cpu, 3));
    apply(&index, &stream(0), offloaded(Medium::Disk, 1));
    assert_eq!(lengths(&index), (0, 3, 1));
    // Back on the GPU by its hash's chain, while the host has it as well.
    apply(&index, &stream(0), store(0, 2));
    assert_eq!(lengths(&index), (2, 3, 1));
    apply(&index, &stream(0), remove(Medium::Cpu, 2));
    assert_eq!(lengths(&index), (2, 1, 1), "a hole ends what is usable");
    apply(&index, &stream(0), Event::Cleared);
    assert_eq!(lengths(&index), (0, 0, 0));
}

/// What is remembered of blocks that are gone is bounded: the oldest of many is forgotten.
#[test]
fn tombstones_are_bounded() {
    let index = index_of_two(usize::MAX);
    let prompt = |number: u32| Prompt { lora: None, salt: None, path: vec![1000 + number] };
    let store = |number| {
        let op = Op::Store {
            rank: 0,
            group: Group::Full(0),
            medium: Medium::Gpu,
            prompt: prompt(number),
            from: 0,
            to: 1,
        };
        event(&op).unwrap()
    };
    for number in 0..20_000 {
        apply(&index, &stream(0), store(number));
        let hashes = vec![prompt(number).engine_hash()];
        apply(&index, &stream(0), Event::Removed(Removed { hashes, medium: Medium::Gpu, group: Some(0) }));
        assert!(index.streams()[0].remembered < 10_000);
    }
    let by_hash = |number| {
        let Event::Stored(stored) = store(number) else { unreachable!() };
        let event = Stored { tokens: vec![], block_tokens: 0, extra: vec![], medium: Medium::Cpu, ..stored };
        apply(&index, &stream(0), Event::Stored(event));
        ask(&index, &prompt(number))[0].lengths[Medium::Cpu as usize]
    };
    assert_eq!((by_hash(0), by_hash(19_999)), (0, 1));
}

#[test]
fn a_late_start_is_linked_by_a_recent_pick() {
    let keys = {
        let space = KeySpace { seed: RULES.seed, model: "m", lora: None, salt: None };
        chain(space.root(), &prompt().tokens(), BLOCK)
    };
    let late = |picked: bool, state: TrustState| {
        let index = index_of_two(100);
        trust(&index, &stream(0), state);
        if picked {
            index.note_pick("m", &stream(0).address, &keys);
        }
        // Its first two blocks were told of before we came.
        apply(&index, &stream(0), store(2, 4));
        let waiting = index.streams()[0].waiting;
        (ask(&index, &prompt())[0].blocks, waiting)
    };
    assert_eq!(late(false, TrustState::Partial), (0, 2), "nothing proves what the parent is");
    assert_eq!(late(true, TrustState::Partial), (4, 0));
    assert_eq!(late(true, TrustState::Live), (0, 2), "a live stream has told of all that it holds");
}

#[test]
fn a_pick_of_another_prompt_proves_nothing() {
    let index = index_of_two(100);
    trust(&index, &stream(0), TrustState::Partial);
    let other = Prompt { path: vec![0, 1, 1, 1], ..prompt() };
    let space = KeySpace { seed: RULES.seed, model: "m", lora: None, salt: None };
    index.note_pick("m", &stream(0).address, &chain(space.root(), &other.tokens(), BLOCK));
    apply(&index, &stream(0), store(2, 4));
    assert_eq!((ask(&index, &prompt())[0].blocks, index.streams()[0].waiting), (0, 2));
}
