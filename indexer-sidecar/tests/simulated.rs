//! Seeded runs in virtual time: an engine that caches prompts and publishes events, a link that loses, reorders and
//! breaks, a process that restarts, a replay buffer that reaches back or not. Prints what was credited of what was
//! held, by class of fault, beside what dropping everything at each fault would have credited.
//!
//! `WARMPATH_RUNS` sets the number of runs, `WARMPATH_SEED` the first seed; `WARMPATH_DRAWS` shifts what
//! the follower does by chance. By default 240, forty of each kind of fault, so
//! that all tests stay within minutes; 1,000 take a minute and a half.

mod engine;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{BLOCK, Engine, Path, Purged, prompts};
use indexer_sidecar::events::EventMetrics;
use indexer_sidecar::events::follower::{Action, Follower};
use indexer_sidecar::events::frames::{Frame, Reply};
use indexer_sidecar::events::metrics::Reason as Label;
use indexer_sidecar::index::{KeyRules, SharedIndex, StreamId, TrustState};
use warmpath_core::block::{BlockKey, KeySpace, chain};
use warmpath_core::definition::SaltRule;

const RULES: KeyRules = KeyRules { seed: 5, salt: SaltRule::Keyed, block_tokens: BLOCK as u32 };
const STEP: Duration = Duration::from_millis(10);

/// What goes wrong in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    Loss,
    Reorder,
    Disconnect,
    Restart,
    ReplayHoles,
    All,
}

const FAULTS: [Fault; 6] =
    [Fault::Loss, Fault::Reorder, Fault::Disconnect, Fault::Restart, Fault::ReplayHoles, Fault::All];

struct Run {
    seed: u64,
    random: fastrand::Rng,
    fault: Fault,
    faulty: bool,
    engine: Engine,
    /// The engine's replay buffer, and how many batches it holds.
    buffer: VecDeque<(u64, Bytes)>,
    buffer_steps: usize,
    follower: Follower,
    index: Arc<SharedIndex>,
    metrics: Arc<EventMetrics>,
    now: Duration,
    connected: bool,
    reconnect_at: Duration,
    held_back: Option<Frame>,
    /// Frames that are still lost with the last one.
    losing: u32,
    /// Replies under way, and whether the replay fails after them.
    replies: VecDeque<Reply>,
    /// Numbers that arrived on the live connection that is up.
    delivered: HashSet<u64>,
    purged: Purged,
    credited: u64,
    purge_credited: u64,
    held: u64,
}

fn id() -> StreamId {
    StreamId { model: "m".into(), address: "10.0.0.1:8000".into(), rank: 0 }
}

fn keys(path: &Path) -> Vec<BlockKey> {
    let root = KeySpace { seed: RULES.seed, model: "m", lora: None, salt: None }.root();
    chain(root, &engine::tokens(path), BLOCK)
}

impl Run {
    fn new(seed: u64) -> Self {
        fastrand::seed(seed);
        for _ in 0..setting("WARMPATH_DRAWS", 0) {
            fastrand::u64(..);
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let index = Arc::new(SharedIndex::new(10_000));
        let metrics = Arc::new(EventMetrics::default());
        let follower = Follower::open(id(), RULES, true, Arc::clone(&index), Arc::clone(&metrics));
        Self {
            seed,
            fault: FAULTS[random.usize(..FAULTS.len())],
            buffer_steps: if random.bool() { 10_000 } else { random.usize(1..30) },
            random,
            faulty: false,
            engine: Engine::new(1),
            buffer: VecDeque::new(),
            follower,
            index,
            metrics,
            now: Duration::ZERO,
            connected: false,
            reconnect_at: Duration::ZERO,
            held_back: None,
            losing: 0,
            replies: VecDeque::new(),
            delivered: HashSet::new(),
            purged: Purged::default(),
            credited: 0,
            purge_credited: 0,
            held: 0,
        }
    }

    fn happens(&mut self, fault: Fault, percent: u32) -> bool {
        // A replay shows its holes only where something is asked of it.
        let asked = self.fault == Fault::ReplayHoles && fault == Fault::Loss;
        let due = asked || self.fault == fault || self.fault == Fault::All;
        self.faulty && due && self.random.u32(..100) < percent
    }

    fn step(&mut self, prompt: Option<&Path>) {
        self.now += STEP;
        if self.happens(Fault::Restart, 1) {
            self.engine = Engine::new(self.engine.process + 1);
            self.buffer.clear();
            self.delivered.clear();
            self.disconnect();
        } else if self.happens(Fault::Disconnect, 2) {
            self.disconnect();
        }
        if !self.connected && self.now >= self.reconnect_at {
            self.connected = true;
            self.purged.forget();
            self.follower.connected(self.now);
        }
        if let Some(prompt) = prompt {
            self.index.note_pick("m", &id().address, &keys(prompt));
        }
        if let Some(prompt) = prompt
            && let Some((seq, payload)) = self.engine.request(prompt)
        {
            self.buffer.push_back((seq, payload.clone()));
            while self.buffer.len() > self.buffer_steps {
                self.buffer.pop_front();
            }
            self.deliver(Frame { topic: Bytes::new(), seq, payload });
        }
        for _ in 0..4 {
            match self.replies.pop_front() {
                Some(reply) => self.follower.replayed(reply, self.now),
                None => break,
            }
            self.act();
        }
        if self.follower.wake_at().is_some_and(|at| at <= self.now) {
            self.follower.tick(self.now);
        }
        self.act();
        self.check();
    }

    fn disconnect(&mut self) {
        if self.connected {
            self.connected = false;
            self.held_back = None;
            self.replies.clear();
            // Which process a connection belonged to may show only on the next one, and a replay may lack its last
            // batches: what came before counts from here on as far as it comes again.
            self.delivered.clear();
            self.follower.disconnected(self.now);
            self.act();
        }
        self.reconnect_at = self.now + STEP * self.random.u32(1..30);
    }

    fn deliver(&mut self, frame: Frame) {
        if !self.connected || self.losing > 0 {
            self.losing = self.losing.saturating_sub(1);
            return;
        }
        if self.happens(Fault::Loss, 5) {
            // A replay of one batch has no room for a hole.
            self.losing = if self.fault == Fault::ReplayHoles { self.random.u32(..6) } else { 0 };
            return;
        }
        if self.held_back.is_none() && self.happens(Fault::Reorder, 10) {
            self.held_back = Some(frame);
            return;
        }
        let late = self.held_back.take();
        for frame in [Some(frame), late].into_iter().flatten() {
            self.delivered.insert(frame.seq);
            self.purged.take(frame.seq, self.engine.told(frame.seq));
            self.follower.live(frame, self.now);
            self.act();
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.follower.next_action() {
            match action {
                Action::Ask { from } => {
                    self.replies.clear();
                    if self.happens(Fault::ReplayHoles, 10) {
                        self.follower.replay_failed("simulated", self.now);
                        continue;
                    }
                    let hole = self.happens(Fault::ReplayHoles, 50).then(|| from + self.random.u64(..3));
                    let kept = self.buffer.iter().filter(|(seq, _)| *seq >= from && Some(*seq) != hole);
                    let batch = |(seq, payload): &(u64, Bytes)| {
                        Reply::Batch(Frame { topic: Bytes::new(), seq: *seq, payload: payload.clone() })
                    };
                    self.replies = kept.map(batch).chain([Reply::End]).collect();
                }
                Action::StopAsking => self.replies.clear(),
                Action::Reconnect => self.disconnect(),
            }
        }
    }

    /// Leading blocks that the index credits.
    fn leading(&self, path: &Path) -> usize {
        let found = self.index.lookup("m", &keys(path));
        found.first().map_or(0, |found| found.blocks as usize)
    }

    /// Nothing is credited whose removal has arrived; counts what is credited.
    fn check(&mut self) {
        let mut credited = HashSet::new();
        for prompt in prompts() {
            credited.extend((1..=self.leading(&prompt)).map(|blocks| prompt[..blocks].to_vec()));
        }
        for path in credited.iter().filter(|path| !self.engine.holds(path)) {
            let told = match self.engine.removed.get(path) {
                Some(seq) => self.delivered.contains(seq),
                None => !self.delivered.is_empty(),
            };
            assert!(
                !told,
                "seed {} {:?}: {path:?} is credited, and its end was told of in {:?} of process {}; {:?} at {:?}",
                self.seed,
                self.fault,
                self.engine.removed.get(path),
                self.engine.process,
                self.follower.trust(),
                self.now,
            );
        }
        if self.faulty {
            self.held += self.engine.len() as u64;
            self.credited += credited.iter().filter(|path| self.engine.holds(path)).count() as u64;
            self.purge_credited += self.purged.held(&self.engine) as u64;
        }
    }
}

/// What a run, or several, came to.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// Blocks that the engine held, summed over time; credited of them; what dropping everything would have credited.
    held: u64,
    credited: u64,
    purge_credited: u64,
    /// Blocks that were proven again in the last pass and are held; credited of them.
    proven: u64,
    again: u64,
    /// Replays that had a hole.
    holes: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.held += other.held;
        self.credited += other.credited;
        self.purge_credited += other.purge_credited;
        self.proven += other.proven;
        self.again += other.again;
        self.holes += other.holes;
    }
}

/// A fault, and whether the replay reached back to the beginning.
type Class = (Fault, bool);

/// Plays one seed to its end; panics where the index is wrong.
fn play(seed: u64) -> (Class, Sums) {
    let mut run = Run::new(seed);
    let prompts = prompts();
    let ask = |run: &mut Run| prompts[run.random.usize(..prompts.len())].clone();
    for _ in 0..40 {
        let prompt = ask(&mut run);
        run.step(Some(&prompt));
    }
    run.faulty = true;
    for _ in 0..200 {
        let prompt = ask(&mut run);
        let busy = run.random.u32(..3) > 0;
        run.step(Some(&prompt).filter(|_| busy));
    }
    run.faulty = false;
    // Whatever is still on its way arrives, and the next batch shows what is missing.
    for quiet in 0..200 {
        let prompt = ask(&mut run);
        run.step(Some(&prompt).filter(|_| quiet % 20 == 19));
    }
    run.engine.proven.clear();
    let mut pass = prompts.clone();
    run.random.shuffle(&mut pass);
    for prompt in &pass {
        run.step(Some(prompt));
    }
    for _ in 0..100 {
        run.step(None);
    }
    let trust = run.follower.trust();
    assert!(
        matches!(trust.state, TrustState::Live | TrustState::Partial),
        "seed {seed} {:?}: {trust:?}",
        run.fault
    );
    for prompt in &prompts {
        let (got, held) = (run.leading(prompt), run.engine.leading(prompt));
        assert!(got <= held, "seed {seed} {:?}: {prompt:?}: {got} of {held}", run.fault);
        if trust.state == TrustState::Live {
            assert_eq!(got, held, "seed {seed} {:?}: {prompt:?}", run.fault);
        }
    }
    let proven: Vec<&Path> = run.engine.proven.iter().filter(|path| run.engine.holds(path)).collect();
    let again = proven.iter().filter(|path| run.leading(path) == path.len()).count();
    let sums = Sums {
        held: run.held,
        credited: run.credited,
        purge_credited: run.purge_credited,
        proven: proven.len() as u64,
        again: again as u64,
        holes: run.metrics.replays.get_or_create(&Label::of("hole")).get(),
    };
    ((run.fault, run.buffer_steps >= 1000), sums)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Blocks that a run must have proven again for its share of them to say something: one of them is then less than what may
/// be missing.
const PROVEN_MIN: u64 = 20;

#[test]
fn after_the_last_fault_the_index_is_right_and_in_between_it_never_credits_what_is_gone() {
    let (first, runs) = (setting("WARMPATH_SEED", 0), setting("WARMPATH_RUNS", 240));
    let mut classes: BTreeMap<Class, Sums> = BTreeMap::new();
    let mut below = Vec::new();
    for seed in first..first + runs {
        let (class, sums) = play(seed);
        classes.entry(class).or_default().add(&sums);
        if sums.proven >= PROVEN_MIN && sums.again * 100 < sums.proven * 95 {
            below.push((seed, class, sums.again, sums.proven));
        }
    }
    println!(
        "{:<14}{:<12}{:>18}{:>18}{:>18}",
        "fault", "buffer", "credited / held", "purge-all / held", "again / proven"
    );
    for ((fault, covered), sums) in &classes {
        let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
        let (fault, buffer) = (format!("{fault:?}"), if *covered { "reaches" } else { "short" });
        let (credited, purged) = (share(sums.credited, sums.held), share(sums.purge_credited, sums.held));
        println!(
            "{fault:<14}{buffer:<12}{credited:>18.3}{purged:>18.3}{:>18.3}",
            share(sums.again, sums.proven)
        );
    }
    for (seed, (fault, covered), again, proven) in &below {
        println!("seed {seed}, {fault:?}: {again} of {proven} blocks that were proven again are credited");
        assert!(!covered, "nothing is missing where the replay reaches back to the beginning");
    }
    // Where it does not, the ancestors of a block that a pick proved have no hash: they end with that block.
    assert!(below.len() as u64 * 200 <= runs.max(200), "too many runs with less than 95 %: {below:?}");
    for (class, sums) in classes.iter().filter(|_| runs >= 100) {
        assert!(sums.credited > sums.purge_credited, "{class:?}: purging would have credited more");
        assert!(class.0 != Fault::ReplayHoles || sums.holes > 0, "{class:?}: no replay had a hole");
    }
}
