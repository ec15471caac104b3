//! What the prefix cache tells about itself.

use std::sync::Arc;

use super::hash::{Digest, Lora};

/// One change of the prefix cache. The order of events matters.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// Blocks became full and are found by later requests from now on.
    Stored(Stored),
    /// One physical copy of a block is gone; others may remain.
    Removed(Digest),
    /// Everything is gone.
    Cleared,
}

/// Consecutive blocks of one request that became full in one step.
#[derive(Clone, PartialEq, Debug)]
pub struct Stored {
    /// One digest per block.
    pub digests: Vec<Digest>,
    /// The block before the first one.
    pub parent: Option<Digest>,
    /// Token ids of these blocks: `digests.len() * block_size`.
    pub tokens: Vec<u32>,
    /// What tells this request's blocks from others with the same tokens.
    pub scope: Arc<Scope>,
}

/// What a request's blocks depend on beside its tokens, and what else events say of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scope {
    /// The adapter.
    pub lora: Option<Lora>,
    /// The request's `cache_salt`.
    pub cache_salt: Option<String>,
    /// The request's `session_id`; only told, not hashed.
    pub session_id: Option<String>,
}
