//! Load: how many picks are outstanding on each endpoint.
//!
//! A pick counts from its answer to its report's end. Reports may be late, lost or repeated: a pick that is never
//! reported stops counting after [`OUTSTANDING_FOR`], and a report about a pick that is not known changes nothing.
//! No clock of its own: the caller says what time it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a pick counts without a report of its end. Longer than almost every answer takes to stream; a lost
/// report makes an endpoint look busier than it is for this long.
pub const OUTSTANDING_FOR: Duration = Duration::from_secs(600);

/// Picks that are remembered at once, about 100 bytes each: 100 picks a second that each take ten minutes.
pub const OUTSTANDING_MAX: usize = 65_536;

/// Outstanding picks and their counts by endpoint.
///
/// Cost: one ordered-map step per pick and report; memory 100 bytes per outstanding pick, [`OUTSTANDING_MAX`] at most.
#[derive(Debug)]
pub struct Load {
    next_id: u64,
    /// By pick id. Ids grow with time, so the first entry is the oldest.
    picks: BTreeMap<u64, Outstanding>,
    /// Only endpoints with at least one outstanding pick.
    counts: HashMap<Arc<str>, u32>,
}

#[derive(Debug)]
struct Outstanding {
    endpoint: Arc<str>,
    until: Instant,
}

/// What a report came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// The pick is outstanding on the endpoint that it named first.
    Followed,
    /// Envoy used another endpoint than the pick's first; the count is there now.
    Moved,
    /// No such pick: over, expired, or never made.
    Unknown,
}

impl Load {
    /// No picks. `first_id` (not 0) should differ between runs, so that a late report of the last run finds nothing.
    pub fn new(first_id: u64) -> Self {
        Self { next_id: first_id.max(1), picks: BTreeMap::new(), counts: HashMap::new() }
    }

    /// Outstanding picks on `endpoint`.
    pub fn outstanding(&self, endpoint: &str) -> u32 {
        self.counts.get(endpoint).copied().unwrap_or(0)
    }

    /// Outstanding picks in all.
    pub fn len(&self) -> usize {
        self.picks.len()
    }

    /// No pick is outstanding.
    pub fn is_empty(&self) -> bool {
        self.picks.is_empty()
    }

    /// Counts by endpoint, of endpoints that have any.
    pub fn counts(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        self.counts.iter().map(|(endpoint, count)| (endpoint, *count))
    }

    /// Counts a pick on `endpoint` and returns its id, and whether the oldest had to be forgotten for it.
    pub fn add(&mut self, endpoint: Arc<str>, now: Instant) -> (u64, bool) {
        let full = self.picks.len() >= OUTSTANDING_MAX;
        if full {
            self.forget_oldest();
        }
        let id = self.next_id;
        self.next_id += 1;
        *self.counts.entry(Arc::clone(&endpoint)).or_default() += 1;
        self.picks.insert(id, Outstanding { endpoint, until: now + OUTSTANDING_FOR });
        (id, full)
    }

    /// Takes in that the pick `id` went to `endpoint` (empty: not said) and, with `ended`, is over.
    pub fn report(&mut self, id: u64, endpoint: &str, ended: bool) -> Known {
        let Some(pick) = self.picks.get_mut(&id) else { return Known::Unknown };
        let moved = !endpoint.is_empty() && *pick.endpoint != *endpoint;
        if moved {
            let from = std::mem::replace(&mut pick.endpoint, endpoint.into());
            *self.counts.entry(Arc::clone(&pick.endpoint)).or_default() += 1;
            release(&mut self.counts, &from);
        }
        if ended && let Some(pick) = self.picks.remove(&id) {
            release(&mut self.counts, &pick.endpoint);
        }
        if moved { Known::Moved } else { Known::Followed }
    }

    /// Forgets picks whose time is over and returns how many there were.
    pub fn expire(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        while self.picks.first_key_value().is_some_and(|(_, pick)| pick.until <= now) {
            self.forget_oldest();
            expired += 1;
        }
        expired
    }

    fn forget_oldest(&mut self) {
        if let Some((_, pick)) = self.picks.pop_first() {
            release(&mut self.counts, &pick.endpoint);
        }
    }
}

fn release(counts: &mut HashMap<Arc<str>, u32>, endpoint: &str) {
    if let Some(count) = counts.get_mut(endpoint) {
        *count -= 1;
        if *count == 0 {
            counts.remove(endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_releases_once_and_repeats_change_nothing() {
        let now = Instant::now();
        let mut load = Load::new(7);
        let (first, _) = load.add("a".into(), now);
        let (second, _) = load.add("a".into(), now);
        assert_eq!((first, second, load.outstanding("a")), (7, 8, 2));
        assert_eq!(load.report(first, "a", true), Known::Followed);
        assert_eq!(load.report(first, "a", true), Known::Unknown);
        assert_eq!(load.outstanding("a"), 1);
        assert_eq!(load.report(99, "a", true), Known::Unknown);
        assert_eq!(load.report(second, "", true), Known::Followed);
        assert!(load.is_empty() && load.counts().next().is_none());
    }

    #[test]
    fn the_count_moves_to_the_endpoint_that_served() {
        let mut load = Load::new(1);
        let (id, _) = load.add("a".into(), Instant::now());
        assert_eq!(load.report(id, "b", false), Known::Moved);
        assert_eq!((load.outstanding("a"), load.outstanding("b")), (0, 1));
        assert_eq!(load.report(id, "b", true), Known::Followed);
        assert_eq!((load.outstanding("a"), load.outstanding("b")), (0, 0));
    }

    #[test]
    fn a_lost_report_does_not_count_for_ever() {
        let start = Instant::now();
        let mut load = Load::new(1);
        load.add("a".into(), start);
        load.add("a".into(), start + Duration::from_secs(1));
        assert_eq!(load.expire(start + OUTSTANDING_FOR - Duration::from_nanos(1)), 0);
        assert_eq!(load.expire(start + OUTSTANDING_FOR), 1);
        assert_eq!(load.outstanding("a"), 1);
    }

    #[test]
    fn a_full_table_forgets_the_oldest() {
        let now = Instant::now();
        let mut load = Load::new(1);
        assert!((0..OUTSTANDING_MAX).all(|_| !load.add("a".into(), now).1));
        assert!(load.add("b".into(), now).1);
        assert_eq!(load.len(), OUTSTANDING_MAX);
        assert_eq!(load.outstanding("a") as usize, OUTSTANDING_MAX - 1);
        assert_eq!(load.report(1, "", true), Known::Unknown);
    }
}
