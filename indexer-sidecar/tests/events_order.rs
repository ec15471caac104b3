//! Sequence numbers: every verdict, and a property over random delivery.

use bytes::Bytes;
use indexer_sidecar::events::frames::{FrameError, PAYLOAD_BYTES_MAX, Reply, parse, request};
use indexer_sidecar::events::order::{Order, Verdict};
use proptest::prelude::*;
use zeromq::ZmqMessage;

fn applied(order: &mut Order, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        order.applied(seq, Bytes::from(seq.to_string()));
    }
}

#[test]
fn verdicts() {
    let mut order = Order::default();
    assert_eq!((order.due(), order.last()), (0, None));
    assert_eq!(order.judge(40), Verdict::Apply, "anything may come first");
    applied(&mut order, 40..=40);
    assert_eq!(order.judge(41), Verdict::Apply);
    applied(&mut order, 41..=41);
    assert_eq!(order.judge(44), Verdict::Gap { from: 42 });
    applied(&mut order, 42..=46);
    assert_eq!(
        (order.place(44), order.judge(45), order.judge(46)),
        (Verdict::Duplicate, Verdict::Duplicate, Verdict::Duplicate)
    );
    assert_eq!(order.judge(47), Verdict::Apply);
    applied(&mut order, 47..=47);
    assert_eq!(order.judge(0), Verdict::Restart);
    order.reset();
    assert_eq!((order.due(), order.judge(1)), (0, Verdict::Apply));
    applied(&mut order, 1..=1);
    order.connected();
    assert_eq!(order.judge(1), Verdict::Duplicate, "a new connection may deliver what a replay brought");
    assert_eq!(order.last(), Some((1, &Bytes::from("1"))));
}

proptest! {
    /// Batches get lost and processes restart at 0: with every gap repaired, each batch is applied exactly once, in order.
    #[test]
    fn each_batch_is_applied_once(deliveries in prop::collection::vec(prop_oneof![
        6 => Just(Some(true)), 2 => Just(Some(false)), 1 => Just(None),
    ], 0..200)) {
        let mut order = Order::default();
        let (mut sent, mut process, mut got) = (0u64, 0, Vec::new());
        let mut wanted = Vec::new();
        let mut seen = false;
        for delivery in deliveries {
            let Some(arrives) = delivery else {
                // Only a restart after which the number goes back can be seen here.
                if seen && sent > 0 { (sent, process, seen) = (0, process + 1, false); got.clear(); wanted.clear(); }
                continue;
            };
            wanted.push((process, sent));
            // The first batch of a process always arrives: what is lost before it is the connection's affair.
            if arrives || !seen {
                seen = true;
                let verdict = order.judge(sent);
                if verdict == Verdict::Restart { order.reset(); }
                if let Verdict::Gap { from } = verdict {
                    for seq in from..sent { got.push((process, seq)); order.applied(seq, Bytes::new()); }
                }
                prop_assert_eq!(order.place(sent), Verdict::Apply);
                got.push((process, sent));
                order.applied(sent, Bytes::new());
                prop_assert_eq!(&got, &wanted);
            }
            sent += 1;
        }
    }
}

fn frames(frames: &[&[u8]]) -> ZmqMessage {
    let frames: Vec<Bytes> = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
    ZmqMessage::try_from(frames).unwrap()
}

#[test]
fn frames_are_read_from_their_end() {
    let seq = 5u64.to_be_bytes();
    let shapes: [(&[&[u8]], &[u8]); 4] = [
        (&[b"topic", &seq, b"payload"], b"topic"),
        (&[b"", b"topic", &seq, b"payload"], b"topic"),
        (&[b"", &seq, b"payload"], b""),
        (&[&seq, b"payload"], b""),
    ];
    for (shape, topic) in shapes {
        let Ok(Reply::Batch(frame)) = parse(frames(shape)) else { panic!("{shape:?}") };
        assert_eq!((frame.seq, &frame.payload[..], &frame.topic[..]), (5, &b"payload"[..], topic));
    }
    assert_eq!(parse(frames(&[b"", b"", &[0xff; 8], b""])), Ok(Reply::End));
    assert_eq!(parse(frames(&[b"", &[0xff; 8], b""])), Ok(Reply::End));
    assert_eq!(parse(frames(&[b"payload"])), Err(FrameError::Shape(1)));
    assert_eq!(parse(frames(&[b"topic", b"seven77", b"payload"])), Err(FrameError::Shape(3)));
    let large = vec![0; PAYLOAD_BYTES_MAX + 1];
    assert_eq!(parse(frames(&[&seq, &large])), Err(FrameError::TooLarge(large.len())));
    let asked: Vec<Vec<u8>> = request(258).iter().map(|frame| frame.to_vec()).collect();
    assert_eq!(asked, [vec![], vec![0, 0, 0, 0, 0, 0, 1, 2]]);
}
