//! Sequence numbers and frames.

use bytes::{BufMut, Bytes, BytesMut};
use indexer_sidecar::events::frames::{FrameError, Reply, parse, request};
use indexer_sidecar::events::order::{Order, Same, Verdict};
use indexer_sidecar::events::zmtp::fuzz_messages;
use proptest::prelude::*;

#[test]
fn verdicts() {
    let mut order = Order::default();
    assert_eq!((order.due(), order.last()), (0, None));
    assert_eq!(order.place(40), Verdict::Apply, "anything may come first");
    for seq in 40..=41 {
        order.applied(seq, Bytes::from(seq.to_string()));
    }
    assert_eq!((order.place(42), order.place(41)), (Verdict::Apply, Verdict::Before));
    assert_eq!(order.place(44), Verdict::Gap { from: 42 });
    assert_eq!(order.last(), Some((41, &Bytes::from("41"))));
    assert_eq!((order.same(40, b"40"), order.same(40, b"4")), (Same::Yes, Same::No));
    assert_eq!(order.same(39, b"39"), Same::Unknown);
    order.jump(50);
    assert_eq!((order.due(), order.place(49)), (50, Verdict::Before));
    for seq in 50..=305 {
        order.applied(seq, Bytes::new());
    }
    assert_eq!(
        (order.same(41, b"other"), order.same(50, b"")),
        (Same::Unknown, Same::Yes),
        "digests are bounded"
    );
}

fn frames(frames: &[&[u8]]) -> Vec<Bytes> {
    frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect()
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
    let asked: Vec<Vec<u8>> = request(258).iter().map(|frame| frame.to_vec()).collect();
    assert_eq!(asked, [vec![], vec![0, 0, 0, 0, 0, 0, 1, 2]]);
}

proptest! {
    /// Frames of random flags and lengths, cut anywhere.
    #[test]
    fn messages_do_not_depend_on_how_their_bytes_are_cut(
        frames in prop::collection::vec((0u8..8, prop::collection::vec(any::<u8>(), 0..300)), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..12),
        cut in 0usize..2000,
    ) {
        let mut bytes = BytesMut::new();
        for (flags, body) in &frames {
            let long = body.len() > 255;
            bytes.put_u8(flags & !2 | if long { 2 } else { 0 });
            if long { bytes.put_u64(body.len() as u64) } else { bytes.put_u8(body.len() as u8) }
            bytes.extend_from_slice(body);
        }
        bytes.extend_from_slice(&noise);
        fuzz_messages(&bytes, cut);
    }
}
