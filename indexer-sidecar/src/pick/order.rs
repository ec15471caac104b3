//! The order of the endpoints of one pick.
//!
//! Longest match first; ties by fewest outstanding picks; what is still tied takes turns. Without a match anywhere
//! that is least outstanding first. Cost: one sort of the model's endpoints.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use crate::index::EndpointMatch;

/// An endpoint that may be listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// "ip:port".
    pub address: Arc<str>,
    /// Leading blocks of the request that it holds.
    pub match_blocks: u32,
    /// Picks outstanding on it.
    pub outstanding: u32,
}

/// Endpoints that were not considered although they serve the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeftOutCounts {
    /// Other block size than the keys'.
    pub block_size: u64,
    /// Event stream down while others are live.
    pub stream_down: u64,
}

/// The matches that may be listed.
///
/// `block_tokens` is the block size of the keys, 0 if the request has not said; `subset` the addresses to choose
/// from, empty for all. An endpoint whose event stream is down is left out while another one's is live; if none is
/// live all stay, without credit: nobody can say any more what they hold.
pub fn eligible(
    matches: Vec<EndpointMatch>,
    block_tokens: u32,
    subset: &HashSet<&str>,
) -> (Vec<EndpointMatch>, LeftOutCounts) {
    let mut left_out = LeftOutCounts::default();
    let mut kept = matches;
    kept.retain(|found| subset.is_empty() || subset.contains(&*found.address));
    let before = kept.len();
    kept.retain(|found| block_tokens == 0 || found.block_tokens.is_none_or(|engine| engine == block_tokens));
    left_out.block_size = (before - kept.len()) as u64;
    if kept.iter().any(|found| found.live) {
        let before = kept.len();
        kept.retain(|found| found.live);
        left_out.stream_down = (before - kept.len()) as u64;
    } else {
        kept.iter_mut().for_each(|found| found.blocks = 0);
    }
    (kept, left_out)
}

/// Puts `candidates` in order; among equals the `turn`-th comes first, counted round.
pub fn order(candidates: &mut [Candidate], turn: usize) {
    let rank = |candidate: &Candidate| (Reverse(candidate.match_blocks), candidate.outstanding);
    candidates.sort_by_key(rank);
    for equals in candidates.chunk_by_mut(|a, b| rank(a) == rank(b)) {
        equals.rotate_left(turn % equals.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(address: &str, blocks: u32, live: bool, block_tokens: Option<u32>) -> EndpointMatch {
        EndpointMatch { address: address.into(), blocks, live, block_tokens }
    }

    fn names(kept: &[EndpointMatch]) -> Vec<(&str, u32)> {
        kept.iter().map(|found| (&*found.address, found.blocks)).collect()
    }

    #[test]
    fn other_block_sizes_are_left_out_and_unknown_ones_stay() {
        let all =
            vec![found("a", 3, true, Some(16)), found("b", 2, true, Some(32)), found("c", 0, true, None)];
        let (kept, left_out) = eligible(all, 32, &HashSet::new());
        assert_eq!(names(&kept), [("b", 2), ("c", 0)]);
        assert_eq!(left_out, LeftOutCounts { block_size: 1, stream_down: 0 });
    }

    #[test]
    fn a_down_stream_is_left_out_only_while_another_is_live() {
        let all = vec![found("a", 3, false, None), found("b", 1, true, None)];
        let (kept, left_out) = eligible(all.clone(), 16, &HashSet::new());
        assert_eq!((names(&kept), left_out.stream_down), (vec![("b", 1)], 1));
        let (kept, left_out) = eligible(all, 16, &HashSet::from(["a"]));
        assert_eq!((names(&kept), left_out.stream_down), (vec![("a", 0)], 0));
    }

    /// The same order, found by looking for the best one again and again.
    fn naive(mut candidates: Vec<Candidate>, turn: usize) -> Vec<Candidate> {
        let mut ordered = Vec::new();
        while !candidates.is_empty() {
            let longest = candidates.iter().map(|c| c.match_blocks).max().unwrap();
            let least =
                candidates.iter().filter(|c| c.match_blocks == longest).map(|c| c.outstanding).min().unwrap();
            let (mut best, rest): (Vec<_>, Vec<_>) =
                candidates.into_iter().partition(|c| c.match_blocks == longest && c.outstanding == least);
            candidates = rest;
            for _ in 0..turn % best.len() {
                let first = best.remove(0);
                best.push(first);
            }
            ordered.append(&mut best);
        }
        ordered
    }

    proptest! {
        #[test]
        fn equals_the_naive_order(loads in prop::collection::vec((0_u32..4, 0_u32..3), 0..40), turn: usize) {
            let mut candidates: Vec<Candidate> = loads.into_iter().enumerate().map(|(position, (match_blocks, outstanding))| {
                Candidate { address: position.to_string().into(), match_blocks, outstanding }
            }).collect();
            let expected = naive(candidates.clone(), turn);
            order(&mut candidates, turn);
            prop_assert_eq!(candidates, expected);
        }
    }

    #[test]
    fn equals_take_turns_evenly_whatever_else_is_there() {
        let make =
            |address: &str, outstanding| Candidate { address: address.into(), match_blocks: 0, outstanding };
        let firsts: Vec<String> = (0..4)
            .map(|turn| {
                let mut candidates = [make("busy", 1), make("a", 0), make("b", 0)];
                order(&mut candidates, turn);
                candidates[0].address.to_string()
            })
            .collect();
        assert_eq!(firsts, ["a", "b", "a", "b"]);
    }
}
