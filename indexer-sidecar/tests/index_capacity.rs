//! The engine's memory as a cap on what a rank is credited with: an engine whose blocks are counted, that may report
//! hits as stores (`kv_cache_report_mode=full`) and copies blocks that are computed at the same time.

mod common;
mod twin;

use std::collections::BTreeMap;

use indexer_sidecar::events::capacity::num_gpu_blocks;
use indexer_sidecar::events::decode::{Batch, decode};
use indexer_sidecar::events::event::{Event, Medium};
use indexer_sidecar::index::SharedIndex;
use proptest::prelude::*;
use twin::{Group, Op, Prompt, all_prompts, ask, event, index_of_two, prompts, stream};

/// Blocks that the engine has memory for: less than half of what all prompts need, and enough for two of them.
const CAPACITY: usize = 6;

/// One request.
#[derive(Clone, Debug)]
struct Ask {
    prompt: Prompt,
    /// What it hits is stored again, without a copy.
    full: bool,
    /// It is computed beside another one, whose blocks it does not see yet.
    beside: bool,
}

fn asks(full: impl Strategy<Value = bool>) -> impl Strategy<Value = Vec<Ask>> {
    let ask = (prompts(), full, prop::bool::weighted(0.2));
    let ask = ask.prop_map(|(prompt, full, beside)| Ask { prompt, full, beside });
    prop::collection::vec(ask, 0..60)
}

/// Physical blocks, those used longest ago first.
#[derive(Default)]
struct Engine {
    blocks: Vec<Prompt>,
}

impl Engine {
    fn holds(&self, prompt: &Prompt) -> bool {
        self.blocks.contains(prompt)
    }

    fn leading(&self, prompt: &Prompt) -> u32 {
        (1..=prompt.path.len()).take_while(|blocks| self.holds(&prompt.prefix(*blocks))).count() as u32
    }

    /// What one step tells: what is evicted first, then what is stored.
    fn step(&mut self, ask: &Ask) -> Vec<Op> {
        let hits = if ask.beside { 0 } else { self.leading(&ask.prompt) as usize };
        let all = ask.prompt.path.len();
        for blocks in 1..=hits {
            let at = self.blocks.iter().position(|held| *held == ask.prompt.prefix(blocks)).unwrap();
            let used = self.blocks.remove(at);
            self.blocks.push(used);
        }
        let mut ops = Vec::new();
        while self.blocks.len() + all - hits > CAPACITY {
            let prompt = self.blocks.remove(0);
            ops.push(Op::Remove { rank: 0, group: Group::Full(0), medium: Medium::Gpu, prompt });
        }
        self.blocks.extend((hits + 1..=all).map(|blocks| ask.prompt.prefix(blocks)));
        let from = if ask.full { 0 } else { hits };
        if from < all {
            let (prompt, to) = (ask.prompt.clone(), all);
            ops.push(Op::Store { rank: 0, group: Group::Full(0), medium: Medium::Gpu, prompt, from, to });
        }
        ops
    }
}

/// Copies of one hash.
#[derive(Default)]
struct Counted {
    copies: usize,
    /// One was removed since it was stored last.
    shrunk: bool,
    surplus_since: Option<usize>,
}

impl Counted {
    fn surplus(&self) -> usize {
        self.copies.saturating_sub(usize::from(!self.shrunk))
    }
}

/// The rule, naively: copies by prompt, and the time at which each had surplus first.
#[derive(Default)]
struct Rule {
    counted: BTreeMap<String, (Prompt, Counted)>,
    time: usize,
}

impl Rule {
    fn apply(&mut self, op: &Op) {
        let name = |prompt: &Prompt| format!("{prompt:?}");
        match op {
            Op::Store { prompt, from, to, .. } => {
                for blocks in from + 1..=*to {
                    let prefix = prompt.prefix(blocks);
                    let new = (prefix.clone(), Counted::default());
                    let (_, counted) = self.counted.entry(name(&prefix)).or_insert(new);
                    self.time += 1;
                    (counted.copies, counted.shrunk) = (counted.copies + 1, false);
                    if counted.copies > 1 {
                        counted.surplus_since.get_or_insert(self.time);
                    }
                }
            }
            Op::Remove { prompt, .. } => {
                if let Some((_, counted)) = self.counted.get_mut(&name(prompt)) {
                    counted.copies = counted.copies.saturating_sub(1);
                    counted.shrunk = counted.copies > 0;
                }
            }
            _ => unreachable!(),
        }
    }

    fn cap(&mut self) {
        while self.copies() > CAPACITY {
            let waiting = self.counted.values_mut().map(|(_, counted)| counted);
            let first = waiting.filter(|counted| counted.surplus_since.is_some());
            let Some(first) = first.min_by_key(|counted| counted.surplus_since) else { return };
            if first.surplus() > 0 {
                first.copies -= 1;
            }
            if first.surplus() == 0 {
                first.surplus_since = None;
            }
        }
    }

    fn copies(&self) -> usize {
        self.counted.values().map(|(_, counted)| counted.copies).sum()
    }

    fn leading(&self, prompt: &Prompt) -> u32 {
        let held = |prefix: Prompt| {
            self.counted.values().any(|(held, counted)| *held == prefix && counted.copies > 0)
        };
        (1..=prompt.path.len()).take_while(|blocks| held(prompt.prefix(*blocks))).count() as u32
    }
}

fn apply(index: &SharedIndex, ops: &[Op]) {
    let events = ops.iter().filter_map(event).map(Ok).collect();
    index.apply(&stream(0), &Batch { ts: 0.0, events, rank: None }, index.now());
}

fn capped() -> SharedIndex {
    let index = index_of_two(1000);
    index.set_capacity(&stream(0), Some(CAPACITY as u64));
    index
}

fn over_capacity(index: &SharedIndex) -> u64 {
    index.metrics().skipped("over_capacity")
}

proptest! {
    /// An engine that tells the truth never meets the cap, however full it is.
    #[test]
    fn what_an_honest_engine_holds_is_credited_to_the_last_block(asks in asks(Just(false))) {
        let (index, mut engine) = (capped(), Engine::default());
        for request in asks {
            apply(&index, &engine.step(&request));
            for query in all_prompts() {
                prop_assert_eq!(ask(&index, &query)[0].blocks, engine.leading(&query));
            }
        }
        prop_assert_eq!(over_capacity(&index), 0);
        prop_assert!(!index.is_doubtful(&stream(0)));
    }

    /// One that reports hits as stores is credited by the rule, and never beyond its memory.
    #[test]
    fn surplus_goes_by_the_rule_and_credit_stays_within_memory(asks in asks(prop::bool::weighted(0.5))) {
        let (index, mut engine, mut rule) = (capped(), Engine::default(), Rule::default());
        for request in asks {
            let ops = engine.step(&request);
            apply(&index, &ops);
            ops.iter().for_each(|op| rule.apply(op));
            rule.cap();
            for query in all_prompts() {
                prop_assert_eq!(ask(&index, &query)[0].blocks, rule.leading(&query), "{:?}", query);
            }
            prop_assert!(index.len() <= CAPACITY);
            prop_assert!(rule.copies() <= CAPACITY);
            // As the engine stores a chain in full when it hits none of it, its own copies alone always fit.
            prop_assert!(!index.is_doubtful(&stream(0)));
        }
    }

    #[test]
    fn any_text_is_read_to_its_end(text in ".{0,300}", rank in any::<u32>()) {
        num_gpu_blocks(&text, rank);
        num_gpu_blocks(&format!("vllm:cache_config_info{{{text}"), rank);
    }
}

/// With hits reported as stores, the cap credits fewer blocks that are gone than counting alone does.
#[test]
fn the_cap_takes_wrong_credit_away() {
    let mut random = fastrand::Rng::with_seed(7);
    let (capped, counted) = (capped(), index_of_two(1000));
    let mut engine = Engine::default();
    let all = all_prompts();
    let mut wrong = [0, 0];
    let mut right = [0, 0];
    for _ in 0..2000 {
        let prompt = all[random.usize(..all.len())].clone();
        let ops = engine.step(&Ask { prompt, full: random.bool(), beside: random.u8(..10) == 0 });
        for (at, index) in [&capped, &counted].into_iter().enumerate() {
            apply(index, &ops);
            for query in &all {
                let (got, held) = (ask(index, query)[0].blocks, engine.leading(query));
                wrong[at] += got.saturating_sub(held);
                right[at] += got.min(held);
            }
        }
    }
    println!("credited wrongly {wrong:?}, rightly {right:?}, with the cap and without");
    assert!(over_capacity(&capped) > 0);
    assert!(wrong[0] * 4 < wrong[1], "{wrong:?}");
    assert!(right[0] * 10 > right[1] * 8, "{right:?}");
}

/// Removals that are lost without a gap: the stream is in doubt, and says so.
#[test]
fn more_distinct_blocks_than_memory_put_the_stream_in_doubt() {
    let index = capped();
    for prompt in all_prompts().into_iter().take(4) {
        let to = prompt.path.len();
        apply(
            &index,
            &[Op::Store { rank: 0, group: Group::Full(0), medium: Medium::Gpu, prompt, from: 0, to }],
        );
    }
    assert!(index.is_doubtful(&stream(0)));
    assert!(index.len() <= CAPACITY);
}

#[test]
fn the_engine_says_how_many_blocks_it_has() {
    let text = "# TYPE vllm:cache_config_info gauge\n\
        vllm:cache_config_info{a=\"x\\\",num_gpu_blocks=\\\"9\",num_gpu_blocks_override=\"5\",engine=\"0\",num_gpu_blocks=\"48\"} 1.0\n\
        vllm:cache_config_info{engine=\"1\",num_gpu_blocks=\"50\"} 1.0\n";
    assert_eq!([0, 1, 2].map(|rank| num_gpu_blocks(text, rank)), [Some(48), Some(50), None]);
    let only = "vllm:cache_config_info{num_gpu_blocks=\"7\",engine=\"3\"} 1.0";
    assert_eq!(num_gpu_blocks(only, 0), Some(7));
    assert_eq!(num_gpu_blocks(&only.replace('7', "None"), 0), None);
    assert_eq!(num_gpu_blocks("", 0), None);
}

/// Capture b: an engine of 24 blocks that reports hits as stores. Counting alone ends at more than it can hold.
#[test]
fn the_captured_engine_stays_within_its_memory() {
    let Some(messages) = common::captured("b_v0.32_evict_24blocks.json") else { return };
    let play = |capacity: Option<u64>| {
        let index = index_of_two(1000);
        index.set_capacity(&stream(0), capacity);
        let mut most = 0;
        for message in &messages {
            index.apply(&stream(0), &decode(&message.payload).unwrap(), index.now());
            most = most.max(index.len());
        }
        assert!(messages.iter().any(|message| {
            decode(&message.payload)
                .unwrap()
                .events
                .iter()
                .any(|event| matches!(event, Ok(Event::Removed(_))))
        }));
        (most, index)
    };
    let (most, _) = play(None);
    assert!(most > 24, "{most}: the capture does not show what this test is about");
    let (most, index) = play(Some(24));
    assert!(most <= 24, "{most}");
    assert!(!index.is_doubtful(&stream(0)) && over_capacity(&index) > 0);
}
