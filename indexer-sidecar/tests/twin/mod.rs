//! Random events, and a naive twin of the index that keeps lists of copies with their whole prefix.
#![allow(dead_code, reason = "each test file uses its part")]

mod windows;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use indexer_sidecar::events::decode::Batch;
use indexer_sidecar::events::event::{EngineHash, Event, ExtraKeys, GroupKind, Medium, Removed, Stored};
use indexer_sidecar::index::{EndpointMatch, KeyRules, Reason, SharedIndex, StreamId, Trust, TrustState};
use proptest::prelude::*;
use warmpath_core::block::{KeySpace, chain};
use warmpath_core::definition::SaltRule;

use windows::Windows;

pub(crate) const BLOCK: usize = 2;
/// Two blocks are needed before a hit's end.
const WINDOW_TOKENS: u32 = 2 * BLOCK as u32;
pub(crate) const RULES: KeyRules = KeyRules { seed: 7, salt: SaltRule::Keyed, block_tokens: BLOCK as u32 };

/// A prompt, of which each entry of `path` is one block.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Prompt {
    pub(crate) lora: Option<&'static str>,
    pub(crate) salt: Option<&'static str>,
    pub(crate) path: Vec<u32>,
}

impl Prompt {
    pub(crate) fn tokens(&self) -> Vec<u32> {
        self.path.iter().flat_map(|block| [*block, *block + 100]).collect()
    }

    pub(crate) fn prefix(&self, blocks: usize) -> Self {
        Self { path: self.path[..blocks].to_vec(), ..self.clone() }
    }

    /// The engine's own hash of the last block.
    pub(crate) fn engine_hash(&self) -> EngineHash {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        EngineHash(u128::from(hasher.finish()))
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Store { rank: usize, group: Group, medium: Medium, prompt: Prompt, from: usize, to: usize },
    Remove { rank: usize, group: Group, medium: Medium, prompt: Prompt },
    Cleared { rank: usize },
    Lost { rank: usize },
}

/// Groups as publishers name them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
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
            Self::Sliding => Some(GroupKind::Sliding { window_tokens: WINDOW_TOKENS }),
            Self::Unnamed { .. } => None,
        }
    }
}

/// A naive twin of the index: for each rank, group and medium a list of copies with their whole prefix, and a list of
/// every prompt that was ever named there.
#[derive(Default)]
pub(crate) struct Twin {
    ranks: [Rank; 2],
}

type Place = (Option<u32>, Medium);

#[derive(Default)]
pub(crate) struct Rank {
    copies: Vec<(Place, Prompt)>,
    /// Stored while their parent had no name.
    waiting: Vec<(Place, Prompt)>,
    names: Vec<(Place, Prompt)>,
    /// Credited only because a later store proved their chain.
    proven: Vec<(Place, Prompt)>,
    on_gpu: Vec<Option<u32>>,
    sparse: bool,
    doubtful: bool,
    windows: Windows,
}

impl Rank {
    fn named(&self, prompt: &Prompt) -> bool {
        prompt.path.is_empty() || self.names.iter().any(|(_, name)| name == prompt)
    }

    fn store(&mut self, group: Group, medium: Medium, prompt: &Prompt, from: usize, to: usize) {
        let place = (group.id(), medium);
        if group == (Group::Unnamed { sparse: true }) {
            self.sparse = true;
            for list in [&mut self.copies, &mut self.names, &mut self.proven] {
                list.retain(|((id, _), _)| *id != group.id());
            }
        }
        self.windows.seen |= group == Group::Sliding && medium == Medium::Gpu;
        if group == Group::Sliding && medium == Medium::Gpu && !self.windows.unknown {
            for blocks in from + 1..=to {
                let block = prompt.prefix(blocks);
                let named = self.named(&block);
                self.windows.copies.push((block.clone(), named));
                let same = self.windows.copies.iter_mut().filter(|(other, _)| *other == block);
                same.for_each(|(_, is_named)| *is_named |= named);
            }
        }
        if group == Group::Sliding || matches!(group, Group::Unnamed { .. }) && self.sparse {
            return;
        }
        if medium == Medium::Gpu {
            self.on_gpu.push(group.id());
        }
        let parent = prompt.prefix(from);
        let blocks = (from + 1..=to).map(|blocks| (place, prompt.prefix(blocks)));
        if !self.named(&parent) {
            self.waiting.extend(blocks);
            return;
        }
        for block in blocks {
            self.admit(block);
        }
        let held =
            |this: &Self, block: &(Place, Prompt)| this.copies.contains(block) || this.proven.contains(block);
        if self.doubtful && medium == Medium::Gpu && from > 0 && !held(self, &(place, parent.clone())) {
            for blocks in 1..=from {
                let block = (place, parent.prefix(blocks));
                if self.names.contains(&block) && !held(self, &block) {
                    self.proven.push(block);
                }
            }
        }
        // What waited for one of these, and what waited for that.
        while let Some(at) =
            self.waiting.iter().position(|(_, block)| self.named(&block.prefix(block.path.len() - 1)))
        {
            let block = self.waiting.remove(at);
            self.admit(block);
        }
    }

    fn admit(&mut self, block: (Place, Prompt)) {
        self.proven.retain(|other| *other != block);
        self.names.push(block.clone());
        self.copies.push(block);
    }

    fn remove(&mut self, place: Place, prompt: &Prompt) {
        if place == (Group::Sliding.id(), Medium::Gpu)
            && let Some(at) = self.windows.copies.iter().position(|(other, _)| other == prompt)
        {
            self.windows.copies.remove(at);
        }
        let block = (place, prompt.clone());
        for list in [&mut self.copies, &mut self.proven, &mut self.waiting] {
            if let Some(at) = list.iter().position(|other| *other == block) {
                list.remove(at);
                return;
            }
        }
    }

    fn forget(&mut self, doubtful: bool) {
        self.doubtful = doubtful;
        self.windows.forget(doubtful);
        for list in [&mut self.copies, &mut self.proven, &mut self.waiting] {
            list.clear();
        }
    }
}

impl Twin {
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Store { rank, group, medium, prompt, from, to } => {
                self.ranks[*rank].store(*group, *medium, prompt, *from, *to);
            }
            Op::Remove { rank, group, medium, prompt } => {
                self.ranks[*rank].remove((group.id(), *medium), prompt);
            }
            Op::Cleared { rank } => self.ranks[*rank].forget(false),
            Op::Lost { rank } => self.ranks[*rank].forget(true),
        }
    }

    /// Leading blocks of a prompt on the GPU and on the host.
    pub(crate) fn leading(&self, rank: usize, prompt: &Prompt) -> (u32, u32) {
        let rank = &self.ranks[rank];
        let length = |place: Place| {
            let held = |blocks: &usize| {
                let block = (place, prompt.prefix(*blocks));
                rank.copies.contains(&block) || rank.proven.contains(&block)
            };
            (1..=prompt.path.len()).take_while(held).count() as u32
        };
        let groups = rank.on_gpu.iter().filter(|group| !(**group == Some(6) && rank.sparse));
        let gpu = groups.map(|group| length((*group, Medium::Gpu))).min().unwrap_or(0);
        let gpu = rank.windows.fit(prompt, gpu);
        let cpu = [Some(0), Some(1), Some(6)].map(|group| length((group, Medium::Cpu))).into_iter().max();
        (gpu, cpu.unwrap_or(0))
    }

    /// Whether no engine does that: it stores behind a block that it holds without one of that block's own ancestors. Where
    /// the block's copy was forgotten for room, such a store would prove the ancestor.
    pub(crate) fn is_torn(&self, op: &Op) -> bool {
        let Op::Store { rank, group, medium, prompt, from, .. } = op else { return false };
        let place = (group.id(), *medium);
        let rank = &self.ranks[*rank];
        let held = |blocks: usize| {
            let block = (place, prompt.prefix(blocks));
            rank.copies.contains(&block) || rank.proven.contains(&block)
        };
        held(*from) && !(1..*from).all(held)
    }

    /// Distinct (group, medium, block) with a copy.
    pub(crate) fn counted(&self) -> usize {
        let distinct = |rank: &Rank| {
            let windows: HashSet<_> = rank.windows.copies.iter().collect();
            rank.copies.iter().collect::<HashSet<_>>().len() + windows.len()
        };
        self.ranks.iter().map(distinct).sum()
    }
}

pub(crate) fn event(op: &Op) -> Option<Event> {
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
pub(crate) const SPACES: [(Option<&str>, Option<&str>); 3] =
    [(None, None), (Some("a"), None), (None, Some("s"))];
pub(crate) const DEPTH: usize = 3;

pub(crate) fn prompts() -> impl Strategy<Value = Prompt> {
    let path = prop::collection::vec(0..2u32, 1..=DEPTH);
    let space = prop_oneof![4 => Just(SPACES[0]), 1 => Just(SPACES[1]), 1 => Just(SPACES[2])];
    (space, path).prop_map(|((lora, salt), path)| Prompt { lora, salt, path })
}

/// Every prompt of the greatest depth, in every space.
pub(crate) fn all_prompts() -> Vec<Prompt> {
    let paths = |bits: u32| (0..DEPTH as u32).map(|block| bits >> block & 1).collect();
    let prompt = |(lora, salt)| (0..1 << DEPTH).map(move |bits| Prompt { lora, salt, path: paths(bits) });
    SPACES.into_iter().flat_map(prompt).collect()
}

/// The groups of one model: more than one full group dilutes what a random event can change.
pub(crate) fn models() -> impl Strategy<Value = Vec<Group>> {
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

pub(crate) fn steps() -> impl Strategy<Value = Vec<Op>> {
    models().prop_flat_map(|groups| prop::collection::vec(ops(groups), 0..100))
}

pub(crate) fn ops(groups: Vec<Group>) -> impl Strategy<Value = Op> {
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

pub(crate) fn stream(rank: usize) -> StreamId {
    StreamId { model: "m".into(), address: format!("10.0.0.{rank}:8000").into(), rank: 0 }
}

pub(crate) fn batch(event: Event) -> Batch {
    Batch { ts: 0.0, events: vec![Ok(event)], rank: None }
}

pub(crate) fn ask(index: &SharedIndex, prompt: &Prompt) -> Vec<EndpointMatch> {
    let space = KeySpace { seed: RULES.seed, model: "m", lora: prompt.lora, salt: prompt.salt };
    index.lookup("m", &chain(space.root(), &prompt.tokens(), BLOCK))
}

pub(crate) fn index_of_two(blocks_max: usize) -> SharedIndex {
    let index = SharedIndex::new(blocks_max);
    for rank in 0..2 {
        open(&index, &stream(rank), RULES);
    }
    index
}

/// Begins a stream that can be trusted.
pub(crate) fn open(index: &SharedIndex, id: &StreamId, rules: KeyRules) {
    index.open(id, rules);
    index.set_from_start(id, true);
    trust(index, id, TrustState::Live);
}

pub(crate) fn trust(index: &SharedIndex, id: &StreamId, state: TrustState) {
    index.set_trust(id, Trust { state, reason: Reason::InOrder, since: index.now() });
}

pub(crate) fn apply(index: &SharedIndex, id: &StreamId, event: Event) {
    index.apply(id, &batch(event), index.now());
}
