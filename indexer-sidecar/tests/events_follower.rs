//! What the follower wants done, event by event, without sockets: probes of silent publishers, and replays that nobody
//! answers.

mod twin;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use indexer_sidecar::events::EventMetrics;
use indexer_sidecar::events::follower::{Action, Follower};
use indexer_sidecar::events::frames::{Frame, Reply};
use indexer_sidecar::events::metrics::Reason as Label;
use indexer_sidecar::index::{Reason, SharedIndex, TrustState};
use serde_json::json;
use twin::{BLOCK, RULES, stream};

/// Longer than any wait of the follower.
const LATER: Duration = Duration::from_secs(40);

struct Test {
    follower: Follower,
    index: Arc<SharedIndex>,
    metrics: Arc<EventMetrics>,
    now: Duration,
}

/// One block behind another, `number` of them before it.
fn store(number: u64) -> Frame {
    let event = json!({
        "type": "BlockStored", "block_hashes": [1000 + number],
        "parent_block_hash": number.checked_sub(1).map(|before| 1000 + before),
        "token_ids": [number, number + 1], "block_size": BLOCK, "medium": "GPU",
    });
    let payload = rmp_serde::to_vec(&json!([number as f64, [event], 0])).unwrap();
    Frame { topic: Bytes::new(), seq: number, payload: payload.into() }
}

impl Test {
    fn new() -> Self {
        let index = Arc::new(SharedIndex::new(1000));
        let metrics = Arc::new(EventMetrics::default());
        let follower = Follower::open(stream(0), RULES, true, Arc::clone(&index), Arc::clone(&metrics));
        let mut test = Self { follower, index, metrics, now: Duration::ZERO };
        test.follower.connected(test.now);
        test
    }

    /// In order, with blocks 0 to 2 told.
    fn live() -> Self {
        let mut test = Self::new();
        assert_eq!(test.wait(), [Action::Ask { from: 0 }]);
        for number in 0..3 {
            test.follower.replayed(Reply::Batch(store(number)), test.now);
        }
        test.follower.replayed(Reply::End, test.now);
        assert_eq!(test.actions(), [Action::StopAsking]);
        assert_eq!((test.state(), test.index.len()), ((TrustState::Live, Reason::InOrder), 3));
        test
    }

    fn state(&self) -> (TrustState, Reason) {
        (self.follower.trust().state, self.follower.trust().reason)
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.follower.next_action()).collect()
    }

    /// Waits for whatever the follower waits for.
    fn wait(&mut self) -> Vec<Action> {
        let at = self.follower.wake_at().expect("it waits for nothing");
        assert!(at < self.now + Duration::from_secs(3600), "it waits for {at:?}");
        self.now = self.now.max(at);
        self.follower.tick(self.now);
        self.actions()
    }

    /// As [`Self::wait`], past probes, which are answered.
    fn wait_past_probes(&mut self) -> Vec<Action> {
        for _ in 0..1000 {
            match self.wait()[..] {
                [Action::Ask { from: from @ 1.. }] => {
                    self.follower.replayed(Reply::Batch(store(from)), self.now);
                    self.follower.replayed(Reply::End, self.now);
                    assert_eq!(self.actions(), [Action::StopAsking]);
                }
                ref actions => return actions.to_vec(),
            }
        }
        vec![]
    }

    fn probes(&self, answer: &'static str) -> u64 {
        self.metrics.probes.get_or_create(&Label::of(answer)).get()
    }

    fn replays(&self, end: &'static str) -> u64 {
        self.metrics.replays.get_or_create(&Label::of(end)).get()
    }
}

#[test]
fn a_silent_publisher_is_asked_for_its_last_batch_and_silence_is_no_loss() {
    let mut test = Test::live();
    for alive in 1..4 {
        let before = test.now;
        assert_eq!(test.wait(), [Action::Ask { from: 2 }]);
        assert!(test.now > before + Duration::from_secs(10) && test.now < before + LATER);
        test.follower.replayed(Reply::Batch(store(2)), test.now);
        test.follower.replayed(Reply::End, test.now);
        assert_eq!(test.actions(), [Action::StopAsking]);
        assert_eq!(test.probes("alive"), alive);
    }
    assert_eq!((test.state().0, test.index.len()), (TrustState::Live, 3));
}

#[test]
fn a_publisher_that_answers_nothing_is_lost_and_connected_to_again() {
    let mut test = Test::live();
    for _ in 0..2 {
        assert_eq!(test.wait(), [Action::Ask { from: 2 }]);
        test.follower.replay_failed("no reply", test.now);
        assert_eq!((test.actions(), test.state().0), (vec![], TrustState::Live));
    }
    assert_eq!(test.wait(), [Action::Ask { from: 2 }]);
    test.follower.replay_failed("no reply", test.now);
    assert_eq!(test.actions(), [Action::Reconnect]);
    assert_eq!(test.state(), (TrustState::Lost, Reason::Silent));
    assert_eq!(test.probes("no_answer"), 3);
}

#[test]
fn a_publisher_that_has_sent_more_shows_that_our_connection_is_dead() {
    let mut test = Test::live();
    test.wait();
    test.follower.replayed(Reply::Batch(store(2)), test.now);
    test.follower.replayed(Reply::Batch(store(3)), test.now);
    test.follower.replayed(Reply::End, test.now);
    assert_eq!(test.actions(), [Action::StopAsking]);
    // It may still be on its way.
    assert_eq!(test.wait(), [Action::Reconnect]);
    assert_eq!(test.probes("connection_dead"), 1);

    let mut test = Test::live();
    test.wait();
    test.follower.replayed(Reply::Batch(store(3)), test.now);
    test.follower.replayed(Reply::End, test.now);
    test.actions();
    test.follower.live(store(3), test.now);
    assert_eq!((test.wait(), test.probes("connection_dead")), (vec![], 0));
}

#[test]
fn other_bytes_under_the_last_number_are_another_process() {
    let mut test = Test::live();
    test.wait();
    test.follower.replayed(Reply::Batch(Frame { seq: 2, ..store(7) }), test.now);
    assert_eq!(test.actions(), [Action::StopAsking, Action::Reconnect]);
    assert_eq!(test.probes("other_process"), 1);
}

/// A stream whose replay socket is gone while a batch is missing: block 3 is lost, block 4 waits for it.
fn unanswered() -> Test {
    let mut test = Test::live();
    test.follower.live(store(4), test.now);
    let mut asked = 0;
    while test.state().0 == TrustState::Recovering {
        assert_eq!(test.wait(), [Action::Ask { from: 3 }]);
        asked += 1;
        test.follower.replay_failed("refused", test.now);
        test.follower.next_action();
    }
    assert!((2..10).contains(&asked), "{asked}");
    assert_eq!(test.state(), (TrustState::Partial, Reason::Gap));
    test.actions();
    test
}

#[test]
fn a_hole_is_filled_later_if_the_replay_reaches_back_to_the_beginning() {
    let mut test = unanswered();
    let before = test.now;
    assert_eq!(test.wait_past_probes(), [Action::Ask { from: 0 }]);
    assert!(test.now >= before + Duration::from_secs(30));
    test.follower.replay_failed("refused", test.now);
    assert_eq!(test.wait_past_probes(), [Action::Ask { from: 0 }]);
    for number in 0..5 {
        test.follower.replayed(Reply::Batch(store(number)), test.now);
    }
    test.follower.replayed(Reply::End, test.now);
    assert_eq!((test.state(), test.index.len()), ((TrustState::Live, Reason::InOrder), 5));
    assert_eq!(test.replays("again"), 1);
}

#[test]
fn a_later_replay_that_begins_late_changes_nothing() {
    let mut test = unanswered();
    let held = test.index.len();
    test.wait_past_probes();
    test.follower.replayed(Reply::Batch(store(1)), test.now);
    assert_eq!(test.actions(), [Action::StopAsking]);
    assert_eq!((test.state(), test.index.len()), ((TrustState::Partial, Reason::Gap), held));
    assert_eq!(test.wait_past_probes(), [], "nobody asks again");
    assert_eq!(test.replays("again"), 0);
}

#[test]
fn nobody_asks_for_ever() {
    let mut test = unanswered();
    let mut asked = 0;
    while test.wait_past_probes() == [Action::Ask { from: 0 }] {
        asked += 1;
        assert!(asked < 100);
        test.follower.replay_failed("refused", test.now);
    }
    assert_eq!(asked, 5);
}

/// The buffer has rolled past what we applied last while we were away: nothing older is credited, but what its hashes
/// stand for is remembered, so that the next store proves its chain.
#[test]
fn after_a_long_absence_a_store_proves_its_chain_again() {
    let mut test = Test::live();
    test.follower.disconnected(test.now);
    test.actions();
    test.follower.connected(test.now);
    assert_eq!(test.wait(), [Action::Ask { from: 2 }]);
    // Number 3 follows ours, but whose is it?
    let other = Frame { seq: 3, ..store(0) };
    test.follower.replayed(Reply::Batch(other), test.now);
    test.follower.replayed(Reply::End, test.now);
    assert_eq!(test.state(), (TrustState::Partial, Reason::Gap));
    assert_eq!(test.index.len(), 1);
    test.follower.live(Frame { seq: 4, ..store(3) }, test.now);
    let prompt: Vec<u32> = (0..4).flat_map(|number| [number, number + 1]).collect();
    let space = warmpath_core::block::KeySpace { seed: RULES.seed, model: "m", lora: None, salt: None };
    let keys = warmpath_core::block::chain(space.root(), &prompt, BLOCK);
    assert_eq!(test.index.lookup("m", &keys)[0].blocks, 4);
}

/// Nothing was applied before the connection broke, so nothing tells whose numbers were seen on it.
#[test]
fn numbers_that_another_process_may_have_sent_are_not_waited_for() {
    let mut test = Test::new();
    assert_eq!(test.wait(), [Action::Ask { from: 0 }]);
    // Behind a hole that the replay had no time to fill.
    test.follower.live(store(40), test.now);
    test.follower.disconnected(test.now);
    test.actions();
    test.follower.connected(test.now);
    assert_eq!(test.wait(), [Action::Ask { from: 0 }]);
    for number in 0..3 {
        test.follower.replayed(Reply::Batch(store(number)), test.now);
    }
    test.follower.replayed(Reply::End, test.now);
    assert_eq!(test.state(), (TrustState::Live, Reason::InOrder));
    test.follower.live(store(3), test.now);
    assert_eq!((test.index.len(), test.state().0), (4, TrustState::Live));
}
