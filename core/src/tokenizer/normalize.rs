//! The normalizer: text to the text that is cut into words.
//!
//! Normalization forms come from `unicode-normalization-alignments`, whose tables are Unicode 9's: the crate `tokenizers`
//! 0.2x normalizes with these, and later tables differ for some hundred characters. Only the places are normalized that
//! a form can change at all: a run of characters with the flag [`UNSTABLE`], with the one character before it, which they
//! may join. Everything else starts anew at every character without the flag.

use std::borrow::Cow;

use unicode_normalization_alignments::char::canonical_combining_class;
use unicode_normalization_alignments::{
    IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfd_quick, is_nfkc_quick, is_nfkd_quick,
};

use super::classes::{Classes, UNSTABLE, decode, leading_ascii};
use super::meta::{Form, Step};

/// Applies `steps` to a text. Cost: one pass over it per step; text that no step changes is not copied.
pub(super) fn normalize<'t>(text: &'t str, steps: &[Step], classes: &Classes<'_>) -> Cow<'t, str> {
    let mut text = Cow::Borrowed(text);
    for step in steps {
        match step {
            Step::Form(form) => {
                if let Some(normal) = to_form(&text, *form, classes) {
                    text = Cow::Owned(normal);
                }
            }
            // Character by character: no rule for a final sigma, as in the crate `tokenizers`.
            Step::Lowercase => text = Cow::Owned(text.chars().flat_map(char::to_lowercase).collect()),
            Step::Replace(from, to) => {
                if text.contains(from.as_str()) {
                    text = Cow::Owned(text.replace(from.as_str(), to));
                }
            }
            Step::Prepend(prefix) => {
                if !text.is_empty() {
                    text = Cow::Owned(format!("{prefix}{text}"));
                }
            }
        }
    }
    text
}

/// The text in a form; `None` if it has no character that the form could change.
fn to_form(text: &str, form: Form, classes: &Classes<'_>) -> Option<String> {
    let unstable = |character: char| {
        // No form changes ASCII.
        !character.is_ascii() && classes.of(character.into()) & UNSTABLE != 0
    };
    let first = next_unstable(text.as_bytes(), 0, classes)?;
    let mut normal = String::with_capacity(text.len() + 16);
    let (mut done, mut at) = (0, first);
    while let Some((before, from)) = text.get(done..at).zip(text.get(at..)) {
        let stable = before.chars().next_back().map_or(0, char::len_utf8);
        let end = at + from.find(|character| !unstable(character)).unwrap_or(from.len());
        normal.push_str(before.get(..before.len() - stable).unwrap_or_default());
        push(&mut normal, text.get(at - stable..end).unwrap_or_default(), form);
        done = end;
        match next_unstable(text.as_bytes(), end, classes) {
            Some(next) => at = next,
            None => break,
        }
    }
    normal.push_str(text.get(done..).unwrap_or_default());
    Some(normal)
}

/// The first character from `at` on that a form could change. ASCII is passed over eight bytes at a time.
fn next_unstable(bytes: &[u8], mut at: usize, classes: &Classes<'_>) -> Option<usize> {
    while let Some(byte) = bytes.get(at) {
        if byte.is_ascii() {
            let block = bytes.get(at..).and_then(<[u8]>::first_chunk);
            at += block.map_or(1, |block| leading_ascii(*block));
            continue;
        }
        let (code, length) = decode(bytes, at);
        if classes.of(code) & UNSTABLE != 0 {
            return Some(at);
        }
        at += length;
    }
    None
}

fn push(normal: &mut String, part: &str, form: Form) {
    match form {
        Form::Nfc => normal.extend(part.nfc().map(|(character, _)| character)),
        Form::Nfd => normal.extend(part.nfd().map(|(character, _)| character)),
        Form::Nfkc => normal.extend(part.nfkc().map(|(character, _)| character)),
        Form::Nfkd => normal.extend(part.nfkd().map(|(character, _)| character)),
    }
}

/// Whether a form may change the character, or join it to the one before it. For the compiler.
///
/// A character without this starts anew: it is its own form, it has combining class 0, and it is the second of no
/// composition (the crate's quick check says "maybe" to those that are). So the form of a text is that of its parts, cut
/// in front of such characters.
pub(super) fn is_unstable(character: char, form: Form) -> bool {
    let alone = std::iter::once(character);
    let checked = match form {
        Form::Nfc => is_nfc_quick(alone),
        Form::Nfd => is_nfd_quick(alone),
        Form::Nfkc => is_nfkc_quick(alone),
        Form::Nfkd => is_nfkd_quick(alone),
    };
    let mut own = String::new();
    push(&mut own, character.encode_utf8(&mut [0; 4]), form);
    canonical_combining_class(character) != 0
        || !matches!(checked, IsNormalized::Yes)
        || !own.chars().eq([character])
}
