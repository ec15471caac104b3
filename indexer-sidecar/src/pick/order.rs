//! The order of the endpoints of one pick.
//!
//! Most worth first: a block in GPU memory counts whole, one behind it that another medium holds by that medium's weight
//! (`weights.rs`); blocks that recent picks will bring (`index/speculation.rs`) count as if they were there. Of equals the
//! one that proves more; ties by fewest outstanding picks; what is still tied takes turns. Without a match anywhere that is least
//! outstanding first. What is only coming is never reported as a match. Cost: one sort of the model's endpoints.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use super::weights::{WHOLE, Weights};
use crate::events::event::Medium;
use crate::index::EndpointMatch;

/// An endpoint that may be listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// "ip:port".
    pub address: Arc<str>,
    /// Leading blocks of the request that it holds in GPU memory.
    pub match_blocks: u32,
    /// The same on each medium, in the order of [`Medium::ALL`].
    pub lengths: [u32; Medium::ALL.len()],
    /// Its data-parallel rank that holds them, where the engine is to be told.
    pub rank: Option<u32>,
    /// Leading blocks that recent picks will bring there, the held ones counted again.
    pub coming_blocks: u32,
    /// Picks outstanding on it.
    pub outstanding: u32,
    /// The turn in which it was last picked; 0 if never. Smaller is longer ago.
    pub last_turn: u64,
}

/// Endpoints that were not considered although they serve the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeftOutCounts {
    /// A block size that is no multiple of the keys'.
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
    kept.retain(|found| {
        block_tokens == 0 || found.block_tokens.is_none_or(|engine| engine.is_multiple_of(block_tokens))
    });
    left_out.block_size = (before - kept.len()) as u64;
    if kept.iter().any(|found| found.live) {
        let before = kept.len();
        kept.retain(|found| found.live);
        left_out.stream_down = (before - kept.len()) as u64;
    } else {
        kept.iter_mut().for_each(|found| (found.blocks, found.coming, found.lengths) = (0, 0, [0; 5]));
    }
    (kept, left_out)
}

/// Puts `candidates` in order; among equals the one whose last turn is longest ago comes first.
///
/// Not the next one of a list of the equals: the busy one drops out of that list, and with three pods and one request
/// at a time a rotation over the other two can pass one of them over for ever.
pub fn order(candidates: &mut [Candidate], weights: &Weights) {
    candidates.sort_by_cached_key(|candidate| {
        let worth = weights.worth(&candidate.lengths);
        let expected = worth.max(u64::from(candidate.coming_blocks) * u64::from(WHOLE));
        (Reverse((expected, worth)), candidate.outstanding, candidate.last_turn)
    });
}

/// The ranks that picks may name: those that every endpoint of the model has. One of them may be where a retry goes.
pub fn rank_limit(matches: &[EndpointMatch]) -> u32 {
    matches.iter().map(|found| found.ranks).min().unwrap_or(0)
}

/// The rank to be named to the engine: the one that holds the match, if there are others behind the same port.
pub fn rank(found: &EndpointMatch, limit: u32) -> Option<u32> {
    let held = found.lengths.iter().any(|blocks| *blocks > 0);
    (held && found.ranks > 1 && found.rank < limit).then_some(found.rank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::TrustState;
    use proptest::prelude::*;

    fn found(address: &str, blocks: u32, live: bool, block_tokens: Option<u32>) -> EndpointMatch {
        let trust = if live { TrustState::Live } else { TrustState::Lost };
        let lengths = [blocks, 0, 0, 0, 0];
        EndpointMatch {
            address: address.into(),
            rank: 0,
            ranks: 1,
            blocks,
            coming: 0,
            lengths,
            live,
            trust,
            block_tokens,
        }
    }

    fn names(kept: &[EndpointMatch]) -> Vec<(&str, u32)> {
        kept.iter().map(|found| (&*found.address, found.blocks)).collect()
    }

    #[test]
    fn other_block_sizes_are_left_out_and_multiples_and_unknown_ones_stay() {
        let all =
            vec![found("a", 3, true, Some(48)), found("b", 2, true, Some(64)), found("c", 0, true, None)];
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
    fn naive(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        let mut ordered = Vec::new();
        while !candidates.is_empty() {
            let mut best = 0;
            for (at, other) in candidates.iter().enumerate() {
                let first = &candidates[best];
                // Block by block: a whole one on the GPU, nine tenths on the host.
                let worth = |it: &Candidate| {
                    (0..10)
                        .map(|block| match it.lengths {
                            [gpu, ..] if block < gpu => 10,
                            [_, cpu, ..] if block < cpu => 9,
                            _ => 0,
                        })
                        .sum::<u32>()
                };
                let length = |it: &Candidate| 1000 * worth(it).max(10 * it.coming_blocks) + worth(it);
                let better = length(other) > length(first)
                    || length(other) == length(first)
                        && (other.outstanding < first.outstanding
                            || other.outstanding == first.outstanding && other.last_turn < first.last_turn);
                if better {
                    best = at;
                }
            }
            ordered.push(candidates.remove(best));
        }
        ordered
    }

    proptest! {
        #[test]
        fn equals_the_naive_order(loads in prop::collection::vec((0_u32..4, 0_u32..6, 0_u32..6, 0_u32..3, 0_u64..5), 0..40)) {
            let mut candidates: Vec<Candidate> = loads.into_iter().enumerate().map(|(position, (match_blocks, cpu, coming_blocks, outstanding, last_turn))| {
                let address = position.to_string().into();
                // A shared store says nothing for one pod.
                let lengths = [match_blocks, cpu, 0, 9, 0];
                Candidate { address, match_blocks, lengths, rank: None, coming_blocks, outstanding, last_turn }
            }).collect();
            let expected = naive(candidates.clone());
            order(&mut candidates, &Weights::default());
            prop_assert_eq!(candidates, expected);
        }
    }

    /// Picks in a row, of which the last `late` are still outstanding; how often each endpoint came first.
    fn firsts(names: &[&str], picks: u64, late: u64) -> Vec<usize> {
        let mut last_turns = vec![0; names.len()];
        let mut counts = vec![0; names.len()];
        for turn in 1..=picks {
            let mut candidates: Vec<Candidate> = (0..names.len())
                .map(|at| Candidate {
                    address: names[at].into(),
                    match_blocks: 0,
                    lengths: [0; 5],
                    rank: None,
                    coming_blocks: 0,
                    outstanding: u32::from(last_turns[at] > 0 && last_turns[at] + late >= turn),
                    last_turn: last_turns[at],
                })
                .collect();
            order(&mut candidates, &Weights::default());
            let first = names.iter().position(|name| *name == &*candidates[0].address).unwrap();
            last_turns[first] = turn;
            counts[first] += 1;
        }
        counts
    }

    #[test]
    fn equals_take_turns_evenly_also_while_the_last_one_picked_counts_as_busy() {
        assert_eq!(firsts(&["a", "b", "c"], 30, 0), [10, 10, 10]);
        assert_eq!(firsts(&["a", "b", "c"], 30, 1), [10, 10, 10]);
        assert_eq!(firsts(&["a", "b", "c", "d"], 40, 2), [10, 10, 10, 10]);
    }

    #[test]
    fn what_the_host_has_further_counts_by_its_weight() {
        let host = |cpu| Candidate { lengths: [2, cpu, 0, 0, 0], ..candidate(2) };
        let mut candidates = vec![candidate(3), host(3), host(5)];
        order(&mut candidates, &Weights::default());
        assert_eq!(candidates.iter().map(|it| it.lengths[1]).collect::<Vec<_>>(), [5, 0, 3]);
    }

    fn candidate(match_blocks: u32) -> Candidate {
        Candidate {
            address: "a".into(),
            match_blocks,
            lengths: [match_blocks, 0, 0, 0, 0],
            rank: None,
            coming_blocks: 0,
            outstanding: 0,
            last_turn: 0,
        }
    }

    #[test]
    fn a_rank_is_named_only_where_every_endpoint_has_it() {
        let ranks = |rank, ranks, blocks| EndpointMatch { rank, ranks, ..found("a", blocks, true, None) };
        let mut all = vec![ranks(1, 2, 3), ranks(0, 4, 1), ranks(3, 4, 1), ranks(1, 2, 0)];
        let named = |all: &[EndpointMatch]| -> Vec<_> {
            all.iter().map(|found| rank(found, rank_limit(all))).collect()
        };
        assert_eq!(named(&all), [Some(1), Some(0), None, None]);
        all.push(ranks(0, 1, 2));
        assert_eq!(named(&all), [None, Some(0), None, None, None]);
    }
}
