//! Recent picks by endpoint: what can prove the unknown parent of a block.
//!
//! A sidecar that comes late never hears of the oldest blocks of a pod, and everything chained onto them would stay
//! without keys for ever. But a request that was just picked for the pod is likely the one whose blocks are stored
//! there now: if hashing the stored tokens onto one of its keys gives its next key, that key is the parent's, up to a
//! collision of 64 bits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use warmpath_core::block::{self, BlockKey};

/// Picks remembered for an endpoint: those of a second or two on a busy pod.
const PICKS_MAX: usize = 16;
/// Keys remembered of one pick: 32 KB, prompts of 65,000 tokens at 16 in a block.
const KEYS_MAX: usize = 4096;
/// Hashes tried for one orphan, at some 50 ns each.
const TRIES_MAX: usize = 4096;

/// Keys of each pick, the latest first, by address.
type ByEndpoint = HashMap<Arc<str>, VecDeque<Arc<[BlockKey]>>>;

/// The picks of one model's endpoints whose streams have blocks of unknown parents.
#[derive(Default, Debug)]
pub(super) struct Picks {
    by_endpoint: Mutex<ByEndpoint>,
}

/// Keys from a prompt's beginning to the block whose hash was unknown.
pub(super) type Proof = Vec<BlockKey>;

impl Picks {
    /// Remembers that a request with these keys goes to `address`.
    pub(super) fn note(&self, address: &Arc<str>, keys: &[BlockKey]) {
        let mut all = self.lock();
        let picks = all.entry(Arc::clone(address)).or_default();
        if picks.len() >= PICKS_MAX {
            picks.pop_back();
        }
        picks.push_front(keys.iter().copied().take(KEYS_MAX).collect());
    }

    /// Forgets an endpoint's picks.
    pub(super) fn forget(&self, address: &str) {
        self.lock().remove(address);
    }

    /// The keys up to and with the parent of a block, given that block's tokens cut into key blocks. `ratio`: keys of
    /// one engine block.
    pub(super) fn prove(
        &self,
        address: &str,
        tokens: &[u32],
        block_tokens: usize,
        ratio: usize,
    ) -> Option<Proof> {
        let first = tokens.get(..block_tokens)?;
        let all = self.lock();
        let mut tries = TRIES_MAX;
        for keys in all.get(address)? {
            for (at, pair) in keys.windows(2).enumerate().rev() {
                if !(at + 1).is_multiple_of(ratio) {
                    continue;
                }
                tries = tries.checked_sub(1)?;
                if block::child(pair[0], first) == pair[1] {
                    return Some(keys[..=at].to_vec());
                }
            }
        }
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ByEndpoint> {
        self.by_endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
