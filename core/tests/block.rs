//! Block keys against a naive twin, and what two keys being equal must mean.
#![cfg(not(target_arch = "wasm32"))]

use proptest::prelude::*;
use warmpath_core::block::{self, BlockKey, KeySpace};

/// The layout of a key, spelled out over one buffer.
fn naive_chain(root: u64, tokens: &[u32], block_tokens: usize) -> Vec<BlockKey> {
    let mut keys = Vec::new();
    let mut parent = root;
    let mut start = 0;
    while block_tokens > 0 && start + block_tokens <= tokens.len() {
        let mut bytes = parent.to_le_bytes().to_vec();
        for token in &tokens[start..start + block_tokens] {
            bytes.extend(token.to_le_bytes());
        }
        parent = xxhash_rust::xxh3::xxh3_64(&bytes);
        keys.push(BlockKey(parent));
        start += block_tokens;
    }
    keys
}

fn tokens() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![0_u32..4, any::<u32>()], 0..300)
}

proptest! {
    #[test]
    fn chain_equals_the_naive_twin(root in any::<u64>(), tokens in tokens(), block_tokens in 0_usize..130) {
        let keys = block::chain(BlockKey(root), &tokens, block_tokens);
        prop_assert_eq!(&keys, &naive_chain(root, &tokens, block_tokens));
        let expected = tokens.len().checked_div(block_tokens).unwrap_or(0);
        prop_assert_eq!(keys.len(), expected);
    }

    /// Keys are equal up to the first token that differs, and no further.
    #[test]
    fn keys_name_prefixes(tokens in tokens(), at in any::<prop::sample::Index>(), block_tokens in 1_usize..20) {
        prop_assume!(!tokens.is_empty());
        let at = at.index(tokens.len());
        let mut other = tokens.clone();
        other[at] ^= 1;
        let (a, b) = (block::chain(BlockKey(7), &tokens, block_tokens), block::chain(BlockKey(7), &other, block_tokens));
        let same = at / block_tokens;
        for block in 0..a.len() {
            prop_assert_eq!(a[block] == b[block], block < same, "block {}", block);
        }
    }

    /// Parts of a key space cannot run into each other.
    #[test]
    fn spaces_do_not_collide(a in space(), b in space()) {
        let root = |(seed, model, lora, salt): &(u64, String, Option<String>, Option<String>)| {
            KeySpace { seed: *seed, model, lora: lora.as_deref(), salt: salt.as_deref() }.root()
        };
        prop_assert_eq!(a == b, root(&a) == root(&b));
    }

    /// floor((n - 1) / B): one token always remains to be computed.
    #[test]
    fn the_last_token_is_never_matched(count in 1_usize..10_000, block_tokens in 1_usize..300) {
        let blocks = block::matchable_blocks(count, block_tokens);
        prop_assert!(blocks * block_tokens < count);
        prop_assert!((blocks + 1) * block_tokens >= count);
    }
}

fn space() -> impl Strategy<Value = (u64, String, Option<String>, Option<String>)> {
    let part = || prop::option::of("[msl]{0,2}");
    (0_u64..2, "[msl]{0,2}", part(), part())
}

#[test]
fn nothing_matches_without_tokens_or_blocks() {
    assert_eq!(block::matchable_blocks(0, 16), 0);
    assert_eq!(block::matchable_blocks(10, 0), 0);
    assert_eq!(block::matchable_blocks(16, 16), 0);
    assert_eq!(block::matchable_blocks(17, 16), 1);
}
