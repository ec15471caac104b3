//! Brings a publisher's state up to date from its replay socket, or says that it cannot.
//!
//! Live messages are not read meanwhile: they wait in the TCP buffers and in the publisher's own queue (100,000
//! batches), and are judged afterwards; one that was dropped there shows as a gap like any other.

use std::time::Duration;

use log::warn;
use tokio::time::{Instant, sleep};

use super::frames::Reply;
use super::metrics::Reason;
use super::order::Verdict;
use super::publisher::{Loss, Publisher};
use super::replay::{Replay, ReplayError};
use super::{Frame, jitter};

/// Longest time for one repair with all its replays: a full buffer of 10,000 batches takes a few seconds.
const REPAIR_MAX: Duration = Duration::from_secs(30);
/// Replays in a row that bring nothing new before the repair is given up.
const FRUITLESS_MAX: u32 = 3;
/// Wait before the next replay, half of it random.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// How one replay ended.
enum Pass {
    /// Everything up to the publisher's last batch.
    Complete,
    /// Something is missing in the middle.
    Hole,
    /// The batch that we applied last is not the one that this process sent under its number.
    OtherProcess,
}

/// After a new connection: is it the same process, and what did we miss? Without a replay socket nothing can tell.
pub(super) async fn resume(publisher: &mut Publisher, replay: Option<&str>) {
    let known = publisher.order.last().is_some();
    match replay {
        Some(address) => run(publisher, address, known).await,
        None if known => publisher.forget(Loss::Disconnect),
        None => {}
    }
}

/// Takes a live message: applies it, or first repairs what is wrong before it.
pub(super) async fn take(publisher: &mut Publisher, frame: Frame, replay: Option<&str>) {
    match publisher.order.judge(frame.seq) {
        Verdict::Apply => return publisher.apply(frame),
        Verdict::Duplicate => {
            publisher.metrics.duplicates.inc();
            return;
        }
        Verdict::Gap { .. } => {
            publisher.metrics.gaps.inc();
        }
        Verdict::Restart => publisher.forget(Loss::Restart),
    }
    if let Some(address) = replay {
        publisher.set_live(false);
        run(publisher, address, false).await;
        publisher.set_live(true);
    }
    match publisher.order.place(frame.seq) {
        Verdict::Duplicate => {
            publisher.metrics.duplicates.inc();
        }
        verdict => {
            if verdict != Verdict::Apply {
                publisher.forget(Loss::Gap);
            }
            publisher.apply(frame);
        }
    }
}

/// Replays until nothing is missing; if that fails, drops the publisher's blocks.
async fn run(publisher: &mut Publisher, address: &str, mut verify: bool) {
    let deadline = Instant::now() + REPAIR_MAX;
    let mut fruitless = 0;
    while fruitless < FRUITLESS_MAX && Instant::now() < deadline {
        let due = publisher.order.due();
        let (label, wait) = match pass(publisher, address, &mut verify, deadline).await {
            Ok(Pass::Complete) => {
                publisher.metrics.replays.get_or_create(&Reason::of("complete")).inc();
                return;
            }
            Ok(Pass::OtherProcess) => {
                publisher.forget(Loss::Restart);
                verify = false;
                ("other_process", false)
            }
            Ok(Pass::Hole) => ("hole", true),
            Err(error) => {
                warn!(endpoint = &*publisher.id.address, rank = publisher.id.rank; "replay from {address}: {error}");
                ("failed", true)
            }
        };
        publisher.metrics.replays.get_or_create(&Reason::of(label)).inc();
        if wait {
            fruitless = if publisher.order.due() > due { 0 } else { fruitless + 1 };
            sleep(jitter(RETRY_AFTER)).await;
        }
    }
    publisher.forget(Loss::Gap);
}

/// One replay, applied as it comes. With `verify` it begins with the last batch that we applied, whose bytes must be
/// the same; cleared once they were.
async fn pass(
    publisher: &mut Publisher,
    address: &str,
    verify: &mut bool,
    deadline: Instant,
) -> Result<Pass, ReplayError> {
    let last = publisher.order.last().filter(|_| *verify).map(|(seq, payload)| (seq, payload.clone()));
    let from = last.as_ref().map_or(publisher.order.due(), |(seq, _)| *seq);
    let mut replay = Replay::ask(address, from, deadline).await?;
    if let Some((seq, payload)) = last {
        match replay.next().await? {
            Reply::Batch(frame) if frame.seq == seq && frame.payload == payload => *verify = false,
            _ => return Ok(Pass::OtherProcess),
        }
    }
    let mut first = true;
    while let Reply::Batch(frame) = replay.next().await? {
        let due = publisher.order.due();
        if frame.seq < due {
            continue;
        }
        if frame.seq > due {
            if !first || from < due {
                return Ok(Pass::Hole);
            }
            // The buffer begins later than asked: what came before is gone for good, what follows is still good.
            publisher.metrics.replays.get_or_create(&Reason::of("late_start")).inc();
            if due > 0 {
                publisher.forget(Loss::LateStart);
            }
        }
        first = false;
        publisher.metrics.replayed.inc();
        publisher.apply(frame);
    }
    Ok(Pass::Complete)
}
