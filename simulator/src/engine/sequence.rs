//! One request inside the engine.

use std::sync::Arc;

use super::blocks::BlockId;
use super::event::Scope;
use super::hash::{BlockHasher, Digest};

/// Names a request within its engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// What is asked of the engine.
#[derive(Clone, PartialEq, Debug)]
pub struct EngineRequest {
    /// Token ids; at least one.
    pub prompt: Arc<[u32]>,
    /// Tokens to generate; at least one.
    pub output_tokens: usize,
    /// Adapter, salt, session.
    pub scope: Arc<Scope>,
}

/// A request with its progress.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    pub(super) id: RequestId,
    pub(super) request: EngineRequest,
    /// Tokens generated so far. The last one is not computed yet.
    pub(super) outputs: usize,
    /// Tokens whose KV is in `blocks`.
    pub(super) computed: usize,
    /// Tokens that this step computes.
    pub(super) scheduled: usize,
    pub(super) blocks: Vec<BlockId>,
    /// Digests of all full blocks of prompt and output so far.
    pub(super) digests: Vec<Digest>,
    /// Leading blocks that are findable: reused or stored by this request.
    pub(super) stored: usize,
    /// Prompt tokens found in the cache at first admission.
    pub(super) cached_tokens: Option<usize>,
    output: OutputTokens,
}

impl Sequence {
    pub(super) fn new(id: RequestId, request: EngineRequest, vocabulary: &Arc<[u32]>) -> Self {
        let output = OutputTokens { seed: content_seed(&request.prompt), vocabulary: vocabulary.clone() };
        Self {
            id,
            request,
            outputs: 0,
            computed: 0,
            scheduled: 0,
            blocks: Vec::new(),
            digests: Vec::new(),
            stored: 0,
            cached_tokens: None,
            output,
        }
    }

    /// Tokens known: prompt and what was generated.
    pub(super) fn tokens(&self) -> usize {
        self.request.prompt.len() + self.outputs
    }

    /// Whether the step only computes the token generated last.
    pub(super) fn is_decoding(&self) -> bool {
        self.outputs > 0 && self.computed + 1 == self.tokens()
    }

    /// Token ids in a range of prompt and output.
    pub(super) fn token_range(&self, start: usize, end: usize) -> impl ExactSizeIterator<Item = u32> + '_ {
        let prompt = &self.request.prompt;
        (start..end).map(move |at| match prompt.get(at) {
            Some(token) => *token,
            None => self.output.at(at - prompt.len()),
        })
    }

    /// Generates the next token.
    pub(super) fn sample(&mut self) -> u32 {
        let token = self.output.at(self.outputs);
        self.outputs += 1;
        token
    }

    /// Hashes the blocks that became full.
    pub(super) fn extend_digests(&mut self, block_size: usize, hasher: &mut BlockHasher) {
        for block in self.digests.len()..self.tokens() / block_size {
            let tokens = self.token_range(block * block_size, (block + 1) * block_size);
            let scope = &self.request.scope;
            let parent = self.digests.last();
            let digest = hasher.block(parent, tokens, scope.lora.as_ref(), scope.cache_salt.as_deref());
            self.digests.push(digest);
        }
    }

    /// Back to the start, as after a preemption; what was generated stays and is recomputed.
    pub(super) fn restart(&mut self) {
        self.blocks.clear();
        (self.computed, self.scheduled, self.stored) = (0, 0, 0);
    }
}

/// Made-up output: the same prompt always continues in the same way, as under greedy decoding.
#[derive(Clone, Debug)]
struct OutputTokens {
    seed: u64,
    vocabulary: Arc<[u32]>,
}

impl OutputTokens {
    /// The token at an output position. Positions are independent, so nothing has to be kept.
    fn at(&self, position: usize) -> u32 {
        let mixed = split_mix(self.seed.wrapping_add(position as u64));
        self.vocabulary[(mixed % self.vocabulary.len() as u64) as usize]
    }
}

fn content_seed(prompt: &[u32]) -> u64 {
    prompt.iter().fold(0, |seed, token| split_mix(seed ^ u64::from(*token)))
}

/// SplitMix64's output function (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn split_mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
