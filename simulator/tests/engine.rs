//! The engine: what its events say is what it has, blocks are conserved, and vLLM's corner cases.

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use warmpath_simulator::engine::{
    Digest, Engine, EngineRequest, Event, HashAlgorithm, Limits, RequestId, Scope, StepOutcome, SubmitError,
    hash::NONE_HASH_SEED,
};

const BLOCK: usize = 4;

fn request(prompt: &[u32], output_tokens: usize) -> EngineRequest {
    EngineRequest { prompt: prompt.into(), output_tokens, scope: Arc::default() }
}

fn salted(prompt: &[u32], salt: Option<&str>, output_tokens: usize) -> EngineRequest {
    let scope = Arc::new(Scope { cache_salt: salt.map(str::to_owned), ..Scope::default() });
    EngineRequest { prompt: prompt.into(), output_tokens, scope }
}

/// A subscriber: copies by hash.
#[derive(Default)]
struct Subscriber(HashMap<Digest, usize>);

impl Subscriber {
    fn read(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Stored(stored) => {
                    assert_eq!(stored.tokens.len(), stored.digests.len() * BLOCK);
                    if let Some(parent) = &stored.parent {
                        assert!(self.0.contains_key(parent), "a parent that was never stored");
                    }
                    stored.digests.iter().for_each(|digest| *self.0.entry(*digest).or_default() += 1);
                }
                Event::Removed(digest) => {
                    let copies = self.0.get_mut(digest).expect("a removed block was stored");
                    *copies -= 1;
                    if *copies == 0 {
                        self.0.remove(digest);
                    }
                }
                Event::Cleared => self.0.clear(),
            }
        }
    }
}

/// Leading full blocks of a prompt that the subscriber knows, without the block of the last token, in tokens.
fn known(subscriber: &Subscriber, request: &EngineRequest) -> usize {
    let mut hasher = common::hasher(HashAlgorithm::Xxhash, NONE_HASH_SEED);
    let mut parent = None;
    let mut known = 0;
    for block in request.prompt.chunks_exact(BLOCK).take((request.prompt.len() - 1) / BLOCK) {
        let salt = request.scope.cache_salt.as_deref();
        let digest = hasher.block(parent.as_ref(), block.iter().copied(), None, salt);
        if !subscriber.0.contains_key(&digest) {
            break;
        }
        known += BLOCK;
        parent = Some(digest);
    }
    known
}

fn drain(engine: &mut Engine, subscriber: &mut Subscriber) -> Vec<StepOutcome> {
    let steps: Vec<_> = std::iter::from_fn(|| engine.step()).take(10_000).collect();
    steps.iter().for_each(|step| subscriber.read(&step.events));
    assert!(engine.step().is_none(), "the engine never comes to rest");
    steps
}

/// Prompts that share prefixes: few tokens, few lengths, three salts.
fn requests() -> impl Strategy<Value = Vec<EngineRequest>> {
    let one = (0..3u32, 1..30usize, 0..3usize, 1..14usize, 0..6u32);
    let one = one.prop_map(|(family, shared, salt, output, own)| {
        let prompt: Vec<u32> = (0..shared as u32).map(|at| at * 3 + family).chain([own + 1000]).collect();
        salted(&prompt, [None, Some("a"), Some("b")][salt], output)
    });
    prop::collection::vec(one, 1..30)
}

proptest! {
    /// Requests that come in while others run, with little memory: every one gets all its tokens, blocks are neither
    /// lost nor made up, and events tell exactly what is cached, copies included.
    #[test]
    fn events_tell_what_is_cached(
        requests in requests(), gpu_blocks in 14..30usize, tokens in 1..20usize, sequences in 1..6usize, gap in 0..4usize,
    ) {
        let mut engine = Engine::new(common::engine(gpu_blocks, Limits { tokens, sequences }));
        let mut subscriber = Subscriber::default();
        let mut wanted: HashMap<RequestId, usize> = HashMap::new();
        let mut steps = vec![];
        for request in requests {
            let output = request.output_tokens;
            wanted.insert(engine.submit(request).expect("it fits"), output);
            for step in (0..gap).filter_map(|_| engine.step()) {
                subscriber.read(&step.events);
                steps.push(step);
            }
            prop_assert_eq!(engine.pool().cached().collect::<HashMap<_, _>>(), subscriber.0.clone());
        }
        steps.extend(drain(&mut engine, &mut subscriber));
        for step in &steps {
            prop_assert!(step.work.prefill_tokens + step.work.decoding <= tokens);
            prop_assert!(step.work.kv_tokens_distinct <= (gpu_blocks - 1) * BLOCK);
            for (id, _) in &step.tokens {
                let left = wanted.get_mut(id).expect("a request that was submitted");
                *left -= 1;
                prop_assert_eq!(*left == 0, step.finished.contains(id));
            }
        }
        prop_assert!(wanted.values().all(|left| *left == 0));
        prop_assert_eq!(engine.pool().used(), 0);
        prop_assert_eq!(engine.pool().cached().collect::<HashMap<_, _>>(), subscriber.0);
    }

    /// One request after the other: the cached tokens are what a subscriber of the events expects.
    #[test]
    fn reuse_is_what_the_events_promise(requests in requests(), gpu_blocks in 14..30usize) {
        let mut engine = Engine::new(common::engine(gpu_blocks, Limits::default()));
        let mut subscriber = Subscriber::default();
        for request in requests {
            let expected = known(&subscriber, &request);
            engine.submit(request).expect("it fits");
            let steps = drain(&mut engine, &mut subscriber);
            let admitted: Vec<_> = steps.iter().flat_map(|step| &step.admitted).collect();
            prop_assert_eq!(admitted.len(), 1);
            prop_assert_eq!(admitted[0].1, expected);
        }
    }
}

fn run(engine: &mut Engine, prompt: &[u32], output_tokens: usize) -> (usize, Vec<Event>) {
    engine.submit(request(prompt, output_tokens)).expect("it fits");
    let steps: Vec<_> = std::iter::from_fn(|| engine.step()).collect();
    let cached = steps.iter().flat_map(|step| &step.admitted).map(|(_, cached)| *cached).sum();
    (cached, steps.into_iter().flat_map(|step| step.events).collect())
}

fn stored(events: &[Event]) -> Vec<usize> {
    let blocks = |event: &Event| match event {
        Event::Stored(stored) => Some(stored.digests.len()),
        _ => None,
    };
    events.iter().filter_map(blocks).collect()
}

#[test]
fn only_full_blocks_are_stored_and_repeats_say_nothing() {
    let mut engine = Engine::new(common::engine(50, Limits::default()));
    let prompt: Vec<u32> = (0..10).collect();
    let (cached, events) = run(&mut engine, &prompt, 1);
    assert_eq!((cached, stored(&events)), (0, vec![2]));
    assert_eq!(run(&mut engine, &prompt, 1), (8, vec![]));
    assert_eq!(run(&mut engine, &prompt[..3], 1), (0, vec![]));
}

#[test]
fn a_prompt_of_whole_blocks_stores_its_last_block_again() {
    let mut engine = Engine::new(common::engine(50, Limits::default()));
    let prompt: Vec<u32> = (0..8).collect();
    let (_, first) = run(&mut engine, &prompt, 1);
    let (cached, again) = run(&mut engine, &prompt, 1);
    assert_eq!((cached, stored(&again)), (4, vec![1]));
    let (Event::Stored(first), Event::Stored(again)) = (&first[0], &again[0]) else { panic!("stores") };
    assert_eq!(first.digests[1], again.digests[0]);
    assert_eq!(again.parent, Some(first.digests[0]));
    assert!(engine.pool().cached().any(|(digest, copies)| digest == first.digests[1] && copies == 2));
}

#[test]
fn a_prefill_in_chunks_stores_a_block_when_all_of_it_is_scheduled() {
    let mut engine = Engine::new(common::engine(50, Limits { tokens: 6, sequences: 8 }));
    engine.submit(request(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 1)).expect("it fits");
    let first = engine.step().expect("work");
    assert_eq!((stored(&first.events), first.tokens.len()), (vec![1], 0));
    let second = engine.step().expect("work");
    assert_eq!((stored(&second.events), second.tokens.len()), (vec![1], 1));
}

#[test]
fn decoding_stores_a_block_when_its_last_token_is_computed() {
    let mut engine = Engine::new(common::engine(50, Limits::default()));
    // 3 + 6 tokens, of which the last is never computed: two full blocks, one store each.
    let (_, events) = run(&mut engine, &[7, 8, 9], 6);
    assert_eq!(stored(&events), vec![1, 1]);
    let mut engine = Engine::new(common::engine(50, Limits::default()));
    assert_eq!(stored(&run(&mut engine, &[7, 8, 9], 5).1), vec![1]);
}

#[test]
fn concurrent_equal_prompts_store_decoded_blocks_once_each() {
    let mut engine = Engine::new(common::engine(50, Limits::default()));
    for _ in 0..3 {
        engine.submit(request(&[1, 2, 3], 2)).expect("it fits");
    }
    let events: Vec<_> = std::iter::from_fn(|| engine.step()).flat_map(|step| step.events).collect();
    assert_eq!(stored(&events), vec![1, 1, 1]);
    assert_eq!(engine.pool().cached().map(|(_, copies)| copies).collect::<Vec<_>>(), vec![3]);
}

#[test]
fn a_reset_is_told_with_the_next_step_and_refused_while_busy() {
    let mut engine = Engine::new(common::engine(50, Limits::default()));
    run(&mut engine, &[1, 2, 3, 4, 5], 1);
    engine.submit(request(&[9], 5)).expect("it fits");
    engine.step().expect("work");
    assert!(!engine.reset_prefix_cache());
    while engine.step().is_some() {}
    assert!(engine.reset_prefix_cache());
    assert!(engine.step().is_none());
    let (cached, events) = run(&mut engine, &[1, 2, 3, 4, 5], 1);
    assert_eq!(cached, 0);
    assert_eq!(events[0], Event::Cleared);
}

#[test]
fn what_can_never_fit_is_refused() {
    let mut engine = Engine::new(common::engine(4, Limits::default()));
    assert_eq!(engine.submit(request(&[1; 10], 3)), Err(SubmitError::TooLong { tokens: 13, capacity: 12 }));
    assert_eq!(engine.submit(request(&[], 1)), Err(SubmitError::Empty));
    assert!(engine.submit(request(&[1; 10], 2)).is_ok());
}

#[test]
fn the_newest_request_is_preempted_and_still_gets_everything() {
    let mut engine = Engine::new(common::engine(7, Limits::default()));
    let first = engine.submit(request(&[1, 2, 3, 4, 5, 6, 7], 15)).expect("it fits");
    let second = engine.submit(request(&[11, 12, 13, 14, 15, 16, 17], 15)).expect("it fits");
    let steps: Vec<_> = std::iter::from_fn(|| engine.step()).collect();
    assert!(steps.iter().map(|step| step.preempted).sum::<usize>() > 0);
    let finished: Vec<_> = steps.iter().flat_map(|step| step.finished.clone()).collect();
    assert_eq!(finished, vec![first, second]);
    assert_eq!(steps.iter().map(|step| step.tokens.len()).sum::<usize>(), 30);
}

#[test]
fn shared_tokens_cost_less_than_their_sum() {
    let mut engine = Engine::new(common::engine(200, Limits::default()));
    let prefix: Vec<u32> = (0..40).collect();
    run(&mut engine, &prefix, 1);
    for own in 0..3 {
        let prompt: Vec<u32> = prefix.iter().copied().chain([100 + own]).collect();
        engine.submit(request(&prompt, 4)).expect("it fits");
    }
    let work = engine.step().expect("work").work;
    assert_eq!((work.prefill_tokens, work.decoding), (3, 0));
    assert_eq!((work.kv_tokens_summed, work.kv_tokens_distinct), (3 * 41, 40 + 3));
}
