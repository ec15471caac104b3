//! What blocks are worth by the medium that they lie on.

use std::cmp::Reverse;

use serde::Deserialize;

use crate::events::event::Medium;
use crate::index::report::medium_name;

/// What one block in GPU memory is worth.
pub(super) const WHOLE: u32 = 1000;

/// What a block that an endpoint holds elsewhere than in its GPU's memory is worth, of one that is there: from 0, as if it
/// were not there, to 1.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MediumWeights {
    /// The host's memory.
    pub cpu: f64,
    /// A disk or object store of the pod's own.
    pub disk: f64,
    /// A store that pods share.
    pub shared: f64,
    /// A medium whose name is not known.
    pub other: f64,
}

impl Default for MediumWeights {
    fn default() -> Self {
        Self {
            // What is saved by not computing a block, less what loading it costs. 16 tokens of an 8B model with 128 KiB of
            // KV cache a token are 2 MiB: 0.1 ms over PCIe at 20 GB/s, 0.7 ms from a disk at 3 GB/s; computing them takes
            // 1 to 2 ms at 10,000 tokens/s.
            cpu: 0.9,
            disk: 0.5,
            // Every pod can load it, so it says nothing for this one.
            shared: 0.0,
            // Nobody knows what it costs, or whether it is the pod's own.
            other: 0.0,
        }
    }
}

impl MediumWeights {
    /// Each with its name, in the order of [`Medium::ALL`], without the GPU's.
    pub fn named(&self) -> [(&'static str, f64); 4] {
        let of = [self.cpu, self.disk, self.shared, self.other];
        std::array::from_fn(|at| (medium_name(Medium::ALL[at + 1]), of[at]))
    }
}

/// Weights in thousandths, so that sums are exact; the heaviest medium first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weights([(usize, u32); 4]);

impl Weights {
    /// Of checked weights.
    pub fn new(weights: &MediumWeights) -> Self {
        let named = weights.named();
        let mut weights: [(usize, u32); 4] =
            std::array::from_fn(|at| (at + 1, (named[at].1 * f64::from(WHOLE)).round() as u32));
        weights.sort_by_key(|(_, weight)| Reverse(*weight));
        Self(weights)
    }

    /// What an endpoint's leading blocks by medium are worth together: those that the GPU holds, then what each medium,
    /// the heaviest first, holds further than those before.
    pub(super) fn worth(&self, lengths: &[u32; Medium::ALL.len()]) -> u64 {
        let mut reached = lengths[0];
        let mut worth = u64::from(reached) * u64::from(WHOLE);
        for (medium, weight) in self.0.iter().filter(|(_, weight)| *weight > 0) {
            let more = lengths[*medium].saturating_sub(reached);
            worth += u64::from(more) * u64::from(*weight);
            reached += more;
        }
        worth
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self::new(&MediumWeights::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_medium_counts_first_and_only_what_it_has_further() {
        let weights = Weights::new(&MediumWeights { cpu: 0.5, disk: 0.9, shared: 0.1, other: 0.0 });
        assert_eq!(weights.worth(&[2, 5, 4, 7, 9]), 2000 + 2 * 900 + 500 + 2 * 100);
        assert_eq!(weights.worth(&[3, 3, 0, 0, 0]), 3000);
    }
}
