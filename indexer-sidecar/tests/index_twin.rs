//! The index against a naive twin that keeps a list of copies with their whole prefix, and compares tokens.

use std::hash::{DefaultHasher, Hash, Hasher};

use indexer_sidecar::events::decode::Batch;
use indexer_sidecar::events::event::{EngineHash, Event, ExtraKeys, GroupKind, Medium, Removed, Stored};
use indexer_sidecar::index::{EndpointMatch, KeyRules, SharedIndex, StreamId};
use proptest::prelude::*;
use warmpath_core::block::{KeySpace, chain};
use warmpath_core::definition::SaltRule;

const BLOCK: usize = 2;
const RULES: KeyRules = KeyRules { seed: 7, salt: SaltRule::Keyed, block_tokens: BLOCK as u32 };

/// A prompt, of which each entry of `path` is one block.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Prompt {
    lora: Option<&'static str>,
    salt: Option<&'static str>,
    path: Vec<u32>,
}

impl Prompt {
    fn tokens(&self) -> Vec<u32> {
        self.path.iter().flat_map(|block| [*block, *block + 100]).collect()
    }

    fn prefix(&self, blocks: usize) -> Self {
        Self { path: self.path[..blocks].to_vec(), ..self.clone() }
    }

    /// The engine's own hash of the last block.
    fn engine_hash(&self) -> EngineHash {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        EngineHash(u128::from(hasher.finish()))
    }
}

#[derive(Clone, Debug)]
enum Op {
    Store { rank: usize, group: Group, medium: Medium, prompt: Prompt, from: usize, to: usize },
    Remove { rank: usize, group: Group, medium: Medium, prompt: Prompt },
    Cleared { rank: usize },
    Lost { rank: usize },
}

/// Groups as publishers name them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Group {
    Full(u32),
    Sliding,
    /// No kind on the wire, and one store of it was sparse.
    Unnamed {
        sparse: bool,
    },
}

impl Group {
    fn id(self) -> Option<u32> {
        match self {
            Self::Full(id) => Some(id),
            Self::Sliding => Some(5),
            Self::Unnamed { .. } => Some(6),
        }
    }

    fn kind(self) -> Option<GroupKind> {
        match self {
            Self::Full(_) => Some(GroupKind::Full),
            Self::Sliding => Some(GroupKind::Partial),
            Self::Unnamed { .. } => None,
        }
    }
}

struct Copy {
    rank: usize,
    group: Option<u32>,
    medium: Medium,
    prompt: Prompt,
}

#[derive(Default)]
struct Twin {
    copies: Vec<Copy>,
    /// Groups that stored in GPU memory, by rank.
    on_gpu: Vec<(usize, Option<u32>)>,
    /// Ranks whose group without a kind was sparse once.
    sparse: Vec<usize>,
}

impl Twin {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Store { rank, group, medium, prompt, from, to } => {
                if let Group::Unnamed { sparse: true } = group {
                    self.sparse.push(*rank);
                    self.copies.retain(|copy| (copy.rank, copy.group) != (*rank, group.id()));
                }
                let unnamed = matches!(group, Group::Unnamed { .. });
                if *group == Group::Sliding || unnamed && self.sparse.contains(rank) {
                    return;
                }
                if *medium == Medium::Gpu {
                    self.on_gpu.push((*rank, group.id()));
                }
                let parent = prompt.prefix(*from);
                let known =
                    |copy: &Copy| (copy.rank, copy.group) == (*rank, group.id()) && copy.prompt == parent;
                if *from > 0 && !self.copies.iter().any(known) {
                    return;
                }
                for blocks in *from + 1..=*to {
                    let prompt = prompt.prefix(blocks);
                    self.copies.push(Copy { rank: *rank, group: group.id(), medium: *medium, prompt });
                }
            }
            Op::Remove { rank, group, medium, prompt } => {
                let gone = self.copies.iter().position(|copy| {
                    (copy.rank, copy.group, copy.medium) == (*rank, group.id(), *medium)
                        && copy.prompt == *prompt
                });
                if let Some(gone) = gone {
                    self.copies.swap_remove(gone);
                }
            }
            Op::Cleared { rank } | Op::Lost { rank } => self.copies.retain(|copy| copy.rank != *rank),
        }
    }

    fn leading(&self, rank: usize, prompt: &Prompt) -> u32 {
        let groups = self
            .on_gpu
            .iter()
            .filter(|(of, group)| *of == rank && !(*group == Some(6) && self.sparse.contains(&rank)));
        let held = |group: Option<u32>, blocks: usize| {
            let prefix = prompt.prefix(blocks);
            self.copies.iter().any(|copy| {
                (copy.rank, copy.group, copy.medium) == (rank, group, Medium::Gpu) && copy.prompt == prefix
            })
        };
        let leading =
            groups.map(|(_, group)| (1..=prompt.path.len()).take_while(|n| held(*group, *n)).count());
        leading.min().unwrap_or(0) as u32
    }
}

fn event(op: &Op) -> Option<Event> {
    Some(match op {
        Op::Store { group, medium, prompt, from, to, .. } => {
            let tokens = prompt.tokens();
            let end = if *group == (Group::Unnamed { sparse: true }) { to * BLOCK - 1 } else { to * BLOCK };
            let salt = prompt.salt.filter(|_| *from == 0);
            let lora = prompt.lora.iter();
            let first: Vec<Box<str>> = lora.clone().chain(salt.iter()).map(|text| Box::from(*text)).collect();
            let other: Vec<Box<str>> = lora.map(|text| Box::from(*text)).collect();
            Event::Stored(Stored {
                hashes: (*from + 1..=*to).map(|blocks| prompt.prefix(blocks).engine_hash()).collect(),
                parent: (*from > 0).then(|| prompt.prefix(*from).engine_hash()),
                tokens: tokens[from * BLOCK..end].to_vec(),
                block_tokens: BLOCK as u32,
                lora_id: prompt.lora.map(|_| 1),
                lora: prompt.lora.map(Box::from),
                medium: *medium,
                group: group.id(),
                kind: group.kind(),
                extra: std::iter::once(first)
                    .chain(std::iter::repeat_n(other, to - from - 1))
                    .map(|texts| if texts.is_empty() { ExtraKeys::None } else { ExtraKeys::Texts(texts) })
                    .collect(),
                salt: None,
                lookahead: false,
            })
        }
        Op::Remove { group, medium, prompt, .. } => {
            Event::Removed(Removed { hashes: vec![prompt.engine_hash()], medium: *medium, group: group.id() })
        }
        Op::Cleared { .. } => Event::Cleared,
        Op::Lost { .. } => return None,
    })
}

/// Spaces that must not mix, and the deepest prompt: small, so that random events meet the same blocks.
const SPACES: [(Option<&str>, Option<&str>); 3] = [(None, None), (Some("a"), None), (None, Some("s"))];
const DEPTH: usize = 3;

fn prompts() -> impl Strategy<Value = Prompt> {
    let path = prop::collection::vec(0..2u32, 1..=DEPTH);
    let space = prop_oneof![4 => Just(SPACES[0]), 1 => Just(SPACES[1]), 1 => Just(SPACES[2])];
    (space, path).prop_map(|((lora, salt), path)| Prompt { lora, salt, path })
}

/// Every prompt of the greatest depth, in every space.
fn all_prompts() -> Vec<Prompt> {
    let paths = |bits: u32| (0..DEPTH as u32).map(|block| bits >> block & 1).collect();
    let prompt = |(lora, salt)| (0..1 << DEPTH).map(move |bits| Prompt { lora, salt, path: paths(bits) });
    SPACES.into_iter().flat_map(prompt).collect()
}

/// The groups of one model: more than one full group dilutes what a random event can change.
fn models() -> impl Strategy<Value = Vec<Group>> {
    prop::sample::select(vec![
        vec![Group::Full(0)],
        vec![Group::Full(0), Group::Full(1)],
        vec![Group::Full(0), Group::Sliding],
        vec![Group::Unnamed { sparse: false }],
        vec![Group::Unnamed { sparse: false }; 40]
            .into_iter()
            .chain([Group::Unnamed { sparse: true }])
            .collect(),
    ])
}

fn steps() -> impl Strategy<Value = Vec<Op>> {
    models().prop_flat_map(|groups| prop::collection::vec(ops(groups), 0..100))
}

fn ops(groups: Vec<Group>) -> impl Strategy<Value = Op> {
    let place = || {
        let medium = prop_oneof![4 => Just(Medium::Gpu), 1 => Just(Medium::Cpu)];
        (0..2usize, prop::sample::select(groups.clone()), medium)
    };
    let store = (place(), prompts(), any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let store = store.prop_map(|((rank, group, medium), prompt, from, to)| {
        let from = from.index(prompt.path.len());
        let to = from + 1 + to.index(prompt.path.len() - from);
        Op::Store { rank, group, medium, prompt, from, to }
    });
    let remove = (place(), prompts()).prop_map(|((rank, group, medium), prompt)| Op::Remove {
        rank,
        group,
        medium,
        prompt,
    });
    prop_oneof![
        20 => store,
        20 => remove,
        1 => (0..2usize).prop_map(|rank| Op::Cleared { rank }),
        1 => (0..2usize).prop_map(|rank| Op::Lost { rank }),
    ]
}

fn stream(rank: usize) -> StreamId {
    StreamId { model: "m".into(), address: format!("10.0.0.{rank}:8000").into(), rank: 0 }
}

fn batch(event: Event) -> Batch {
    Batch { ts: 0.0, events: vec![Ok(event)], rank: None }
}

fn ask(index: &SharedIndex, prompt: &Prompt) -> Vec<EndpointMatch> {
    let space = KeySpace { seed: RULES.seed, model: "m", lora: prompt.lora, salt: prompt.salt };
    index.lookup("m", &chain(space.root(), &prompt.tokens(), BLOCK))
}

fn index_of_two(blocks_max: usize) -> SharedIndex {
    let index = SharedIndex::new(blocks_max);
    for rank in 0..2 {
        index.open(&stream(rank), RULES);
    }
    index
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_index_equals_its_twin(steps in steps()) {
        let index = index_of_two(1_000_000);
        let mut twin = Twin::default();
        for op in steps {
            let (Op::Store { rank, .. } | Op::Remove { rank, .. } | Op::Cleared { rank } | Op::Lost { rank }) = op;
            match event(&op) {
                Some(event) => index.apply(&stream(rank), &batch(event)),
                None => index.clear(&stream(rank)),
            }
            twin.apply(&op);
            for query in all_prompts() {
                let got: Vec<u32> = ask(&index, &query).iter().map(|entry| entry.blocks).collect();
                prop_assert_eq!(got, [twin.leading(0, &query), twin.leading(1, &query)], "{:?} after {:?}", query, op);
            }
        }
        for rank in 0..2 {
            index.clear(&stream(rank));
        }
        prop_assert_eq!(index.len(), 0);
    }

    #[test]
    fn a_full_index_only_credits_less(
        steps in steps(),
        blocks_max in 0..10usize,
    ) {
        let index = index_of_two(blocks_max);
        let mut twin = Twin::default();
        for op in steps {
            let (Op::Store { rank, .. } | Op::Remove { rank, .. } | Op::Cleared { rank } | Op::Lost { rank }) = op;
            match event(&op) {
                Some(event) => index.apply(&stream(rank), &batch(event)),
                None => index.clear(&stream(rank)),
            }
            twin.apply(&op);
            prop_assert!(index.len() <= blocks_max);
            for query in all_prompts() {
                for (rank, entry) in ask(&index, &query).iter().enumerate() {
                    prop_assert!(entry.blocks <= twin.leading(rank, &query), "{:?} after {:?}", query, op);
                }
            }
        }
    }
}

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
    index.apply(&stream(0), batch);
    (ask(&index, &PLAIN())[0].blocks, index)
}

#[test]
fn what_cannot_be_keyed_is_left_out_and_counted() {
    let text = |text: &str| ExtraKeys::Texts(vec![text.into()]);
    type Edit = Box<dyn FnOnce(&mut Stored)>;
    let cases: [(&str, u32, u64, Edit); 7] = [
        ("none", 3, 0, Box::new(|_| ())),
        ("extra_keys", 1, 2, Box::new(|stored| stored.extra[1] = ExtraKeys::Unkeyable)),
        ("extra_keys", 2, 1, Box::new(move |stored| stored.extra[2] = text("image"))),
        ("lora_unnamed", 0, 3, Box::new(|stored| stored.lora_id = Some(1))),
        ("token_count", 0, 3, Box::new(|stored| stored.tokens.truncate(5))),
        ("placeholder", 0, 3, Box::new(|stored| (stored.tokens, stored.block_tokens) = (vec![], 0))),
        ("parent_unknown", 0, 3, Box::new(|stored| stored.parent = Some(EngineHash(1)))),
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
    index.open(&stream(0), KeyRules { salt: SaltRule::Ignored, ..RULES });
    index.apply(&stream(0), &store(&salted, |_| ()));
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
    index.clear(&stream(0));
    index.apply(&stream(0), &unnamed);
    assert_eq!(ask(&index, &PLAIN())[0].blocks, 0, "group 0 is still needed and holds nothing");
    index.restart(&stream(0));
    assert_eq!((index.len(), ask(&index, &PLAIN())[0].block_tokens), (0, None));
    index.apply(&stream(0), &unnamed);
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
    index.apply(&rank(1), &store(&PLAIN(), |_| ()));
    index.apply(&rank(2), &store(&short, |_| ()));
    let only = |index: &SharedIndex| {
        let entries = ask(index, &PLAIN());
        assert_eq!(entries.len(), 1);
        (entries[0].blocks, entries[0].live, entries[0].block_tokens)
    };
    assert_eq!(only(&index), (3, false, Some(2)));
    index.set_live(&rank(2), true);
    assert_eq!(only(&index), (1, true, Some(2)));
    index.set_live(&rank(1), true);
    assert_eq!(only(&index), (3, true, Some(2)));
    index.close(&rank(1));
    assert_eq!((only(&index), index.len()), ((1, true, Some(2)), 1));
    assert_eq!(index.lookup("another model", &[]), []);
}

#[test]
fn metrics_are_written_out() {
    let (_, index) = blocks_after(&store(&PLAIN(), |stored| stored.extra[2] = ExtraKeys::Unkeyable));
    index.apply(&stream(0), &batch(Event::Cleared));
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
