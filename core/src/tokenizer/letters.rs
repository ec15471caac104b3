//! The letters of byte-level BPE: each byte is spelled as a character of its own (`bytes_to_unicode` in
//! <https://github.com/openai/gpt-2>, `encoder.py`).

use std::collections::HashMap;

/// By byte: those that can be printed are themselves, the others U+0100 and on, in their order.
pub(super) fn letters() -> Vec<char> {
    let mut others = 256..;
    let mut letter = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => others.next().and_then(char::from_u32).unwrap_or_default(),
    };
    (0..=u8::MAX).map(&mut letter).collect()
}

/// The byte that each letter stands for.
pub(super) fn bytes() -> HashMap<char, u8> {
    letters().into_iter().zip(0..=u8::MAX).collect()
}
