//! What a naive twin knows of sliding windows.

use super::{BLOCK, Prompt, WINDOW_TOKENS};

/// What the group with sliding windows holds.
#[derive(Default)]
pub(super) struct Windows {
    /// Copies of blocks, and whether they had a name when they came.
    pub(super) copies: Vec<(Prompt, bool)>,
    pub(super) seen: bool,
    pub(super) unknown: bool,
}

impl Windows {
    pub(super) fn forget(&mut self, unknown: bool) {
        self.copies.clear();
        self.unknown = unknown;
    }

    /// As `SlidingWindowManager.find_longest_cache_hit` of vLLM 0.32 searches: from the right, for so many in a row.
    pub(super) fn fit(&self, prompt: &Prompt, blocks: u32) -> u32 {
        if self.unknown || !self.seen {
            return blocks;
        }
        let mut row = 0;
        for block in (0..blocks as usize).rev() {
            if self.copies.contains(&(prompt.prefix(block + 1), true)) {
                row += 1;
                if row >= (WINDOW_TOKENS as usize - 1).div_ceil(BLOCK) {
                    return (block + row) as u32;
                }
            } else {
                row = 0;
            }
        }
        row as u32
    }
}
