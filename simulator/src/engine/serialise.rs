//! The two serialisations under vLLM's block hashes: Python's pickle protocol 5 and canonical CBOR, for exactly the
//! values that are hashed: `(bytes, tuple of ints, None or tuple)` and a string.

use super::hash::ExtraKey;

/// Writes `pickle.dumps((parent, tuple(tokens), extra or None), protocol=5)`.
pub(super) fn pickle_block(
    out: &mut Vec<u8>,
    parent: &[u8],
    tokens: impl ExactSizeIterator<Item = u32>,
    extra: &[ExtraKey<'_>],
) {
    framed(out, |out| {
        out.extend([b'C', parent.len() as u8]);
        out.extend(parent);
        out.push(MEMOIZE);
        pickle_tuple(out, tokens.len(), tokens, pickle_int);
        if extra.is_empty() {
            out.push(b'N');
        } else {
            pickle_tuple(out, extra.len(), extra.iter(), |out, key| match key {
                ExtraKey::Int(int) => pickle_int(out, *int),
                ExtraKey::Text(text) => pickle_str(out, text),
                ExtraKey::Tuple(items) => {
                    pickle_tuple(out, items.len(), items.iter(), |out, s| pickle_str(out, s))
                }
            });
        }
        out.extend([TUPLE_3, MEMOIZE]);
    });
}

/// Writes `pickle.dumps(text, protocol=5)`.
pub(super) fn pickle_text(out: &mut Vec<u8>, text: &str) {
    framed(out, |out| pickle_str(out, text));
}

const MEMOIZE: u8 = 0x94;
const TUPLE_3: u8 = 0x87;

/// Protocol 5 with one frame. Pickle starts a second frame beyond 64 KiB: blocks of over 10,000 tokens, which no
/// engine has.
fn framed(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend([0x80, 5, 0x95]);
    let length_at = out.len();
    out.extend([0; 8]);
    body(out);
    out.push(b'.');
    let length = (out.len() - length_at - 8) as u64;
    out[length_at..length_at + 8].copy_from_slice(&length.to_le_bytes());
}

/// Tuples of one to three items have an opcode each; longer ones are marked.
fn pickle_tuple<T>(
    out: &mut Vec<u8>,
    len: usize,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    if len > 3 {
        out.push(b'(');
    }
    for item in items {
        write(out, item);
    }
    out.push(match len {
        1 => 0x85,
        2 => 0x86,
        3 => TUPLE_3,
        _ => b't',
    });
    out.push(MEMOIZE);
}

fn pickle_int(out: &mut Vec<u8>, int: u32) {
    match int {
        0..=0xff => out.extend([b'K', int as u8]),
        0x100..=0xffff => {
            out.push(b'M');
            out.extend((int as u16).to_le_bytes());
        }
        // BININT is signed; ids of 2^31 and more, which no vocabulary has, would be written as LONG1.
        _ => {
            out.push(b'J');
            out.extend(int.to_le_bytes());
        }
    }
}

fn pickle_str(out: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(len) => out.extend([0x8c, len]),
        Err(_) => {
            out.push(b'X');
            out.extend((text.len() as u32).to_le_bytes());
        }
    }
    out.extend(text.as_bytes());
    out.push(MEMOIZE);
}

/// Writes canonical CBOR of `[parent, [tokens], null or [extra]]`.
pub(super) fn cbor_block(
    out: &mut Vec<u8>,
    parent: &[u8],
    tokens: impl ExactSizeIterator<Item = u32>,
    extra: &[ExtraKey<'_>],
) {
    cbor_head(out, ARRAY, 3);
    cbor_head(out, BYTES, parent.len());
    out.extend(parent);
    cbor_head(out, ARRAY, tokens.len());
    for token in tokens {
        cbor_head(out, UNSIGNED, token as usize);
    }
    if extra.is_empty() {
        out.push(0xf6);
        return;
    }
    cbor_head(out, ARRAY, extra.len());
    for key in extra {
        match key {
            ExtraKey::Int(int) => cbor_head(out, UNSIGNED, *int as usize),
            ExtraKey::Text(text) => cbor_text(out, text),
            ExtraKey::Tuple(items) => {
                cbor_head(out, ARRAY, items.len());
                items.iter().for_each(|text| cbor_text(out, text));
            }
        }
    }
}

/// Writes a CBOR text string.
pub(super) fn cbor_text(out: &mut Vec<u8>, text: &str) {
    cbor_head(out, TEXT, text.len());
    out.extend(text.as_bytes());
}

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;

fn cbor_head(out: &mut Vec<u8>, major: u8, value: usize) {
    let major = major << 5;
    match value {
        0..=23 => out.push(major | value as u8),
        24..=0xff => out.extend([major | 24, value as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend((value as u16).to_be_bytes());
        }
        _ => {
            out.push(major | 26);
            out.extend((value as u32).to_be_bytes());
        }
    }
}
