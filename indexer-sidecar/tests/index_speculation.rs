//! Marks of picks: beside what is proven, until their deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indexer_sidecar::index::budget::Budget;
use indexer_sidecar::index::chains::{Chains, Matches};
use indexer_sidecar::index::speculation::Speculation;
use proptest::prelude::*;
use warmpath_core::block::{BlockKey, child};

const SECOND: Duration = Duration::from_secs(1);

fn chains() -> Chains {
    Chains::new(Arc::new(Budget::new(usize::MAX)))
}

fn keys(path: &[u8]) -> Vec<BlockKey> {
    let mut parent = BlockKey(1);
    let next = |choice: &u8| {
        parent = child(parent, &[u32::from(*choice)]);
        parent
    };
    path.iter().map(next).collect()
}

fn marked(chains: &Chains, speculation: &Speculation, address: &str, keys: &[BlockKey]) -> u32 {
    let mut matches = Matches::default();
    chains.lookup(keys, &mut matches);
    speculation.holder(address).map_or(0, |holder| matches.of(holder))
}

#[test]
fn an_event_confirms_and_the_deadline_removes() {
    let (chains, speculation, start) = (chains(), Speculation::new(2 * SECOND), Instant::now());
    let (proven, keys) = (chains.add_holder().unwrap(), keys(&[0, 1, 2, 3]));
    assert!(speculation.mark(&chains, &"a".into(), &keys, start));
    assert_eq!(marked(&chains, &speculation, "a", &keys), 4);
    assert_eq!(marked(&chains, &speculation, "b", &keys), 0);
    chains.credit(proven, None, &keys[..2], &mut Vec::new());
    assert_eq!(speculation.expire(&chains, start + SECOND), 4);
    assert_eq!(speculation.expire(&chains, start + 2 * SECOND), 0);
    assert_eq!(marked(&chains, &speculation, "a", &keys), 0);
    let mut matches = Matches::default();
    chains.lookup(&keys, &mut matches);
    assert_eq!(matches.of(proven), 2, "what an event has told stays");
}

#[test]
fn an_endpoint_that_goes_takes_its_marks_along() {
    let (chains, speculation, start) = (chains(), Speculation::new(SECOND), Instant::now());
    let keys = keys(&[0, 0]);
    for address in ["a", "b"] {
        speculation.mark(&chains, &address.into(), &keys, start);
    }
    speculation.forget(&chains, "a");
    assert_eq!(
        (marked(&chains, &speculation, "a", &keys), marked(&chains, &speculation, "b", &keys)),
        (0, 2)
    );
    assert_eq!(speculation.expire(&chains, start), 2);
}

#[test]
fn without_a_duration_nothing_is_marked() {
    let (chains, speculation) = (chains(), Speculation::new(Duration::ZERO));
    assert!(speculation.mark(&chains, &"a".into(), &keys(&[0]), Instant::now()));
    assert_eq!(chains.segments(), 0);
}

#[test]
fn a_full_budget_takes_no_marks() {
    let budget = Arc::new(Budget::new(0));
    let (chains, speculation) = (Chains::new(budget), Speculation::new(SECOND));
    assert!(!speculation.mark(&chains, &"a".into(), &keys(&[0]), Instant::now()));
}

proptest! {
    /// Each block is marked from the first pick that names it until that pick's deadline; then by the next one.
    #[test]
    fn equals_a_plain_list_of_deadlines(
        picks in prop::collection::vec((0..2_usize, prop::collection::vec(0..2_u8, 1..8), 0..900_u64), 1..40),
    ) {
        let (chains, speculation, start) = (chains(), Speculation::new(SECOND), Instant::now());
        let addresses: [Arc<str>; 2] = ["a".into(), "b".into()];
        let mut deadlines = [const { std::collections::BTreeMap::new() }; 2];
        let mut now = start;
        for (endpoint, path, wait) in picks {
            now += Duration::from_millis(wait);
            speculation.expire(&chains, now);
            deadlines.iter_mut().for_each(|marked| marked.retain(|_, deadline| *deadline > now));
            let keys = keys(&path);
            speculation.mark(&chains, &addresses[endpoint], &keys, now);
            for key in &keys {
                deadlines[endpoint].entry(*key).or_insert(now + SECOND);
            }
            for (address, marks) in addresses.iter().zip(&deadlines) {
                let leading = keys.iter().take_while(|key| marks.contains_key(key)).count();
                prop_assert_eq!(marked(&chains, &speculation, address, &keys), leading as u32);
            }
        }
        speculation.expire(&chains, now + SECOND);
        prop_assert_eq!(chains.segments(), 0);
    }
}
