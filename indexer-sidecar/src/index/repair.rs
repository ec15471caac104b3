//! A stream with a hole in it: what was told before the hole is set aside, brought forward in order by the replay, and
//! put back when nothing is missing.
//!
//! Meanwhile live events go on being applied, to blocks of their own: what they prove is credited, what is older is
//! not, and neither disturbs the order of the other.

use std::time::Duration;

use super::model::State;
use super::{SharedIndex, StreamId};
use crate::events::decode::Batch;

impl SharedIndex {
    /// Sets a stream's blocks aside. `same_process`: live events come from the process that told them, so that its
    /// hashes mean what they meant.
    pub fn begin_repair(&self, id: &StreamId, same_process: bool) {
        self.change(id, |state| {
            let fresh = state.fresh();
            let blocks = std::mem::replace(&mut state.blocks, fresh);
            state.blocks.set_repairing(same_process);
            match &state.older {
                // Another hole, in what came since the first one.
                Some(_) => state.retired.push(blocks),
                None => state.older = Some(blocks),
            }
        });
    }

    /// Applies a batch to what was set aside: it is its turn.
    pub fn apply_older(&self, id: &StreamId, batch: &Batch, now: Duration) {
        let room = self.blocks_max.saturating_sub(self.len());
        self.change(id, |state| state.apply_older(batch, now, room));
    }

    /// What was set aside cannot be relied on: batches behind it are missing for good.
    pub fn doubt_older(&self, id: &StreamId) {
        self.change(id, |state| {
            if let Some(older) = &mut state.older {
                older.doubt();
            }
        });
    }

    /// What was set aside is another process's.
    pub fn restart_older(&self, id: &StreamId) {
        self.change(id, |state| {
            let mut fresh = state.fresh();
            if let Some(older) = &mut state.older {
                fresh.tally = older.tally.clone();
                let older = std::mem::replace(older, fresh);
                state.retired.push(older);
                // Nor do its hashes mean anything to the live one.
                state.blocks.set_repairing(false);
            }
        });
    }

    /// What was set aside has been followed since its process began, or not.
    pub fn set_older_from_start(&self, id: &StreamId, from_start: bool) {
        self.change(id, |state| {
            if let Some(older) = &mut state.older {
                older.set_from_start(from_start);
            }
        });
    }

    /// Whether what was set aside is in doubt.
    pub fn is_older_doubtful(&self, id: &StreamId) -> bool {
        self.stream(id)
            .is_some_and(|stream| stream.lock().older.as_ref().is_some_and(|older| older.is_partial()))
    }

    /// Puts back what was set aside: nothing is missing any more.
    pub fn end_repair(&self, id: &StreamId) {
        self.change(id, |state: &mut State| {
            if let Some(mut older) = state.older.take() {
                older.touch();
                state.retired.push(std::mem::replace(&mut state.blocks, older));
            }
        });
    }
}
