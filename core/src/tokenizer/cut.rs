//! Safe cuts: places where the ids of both parts are those of the whole.
//!
//! Prompts are encoded and kept in segments between safe cuts, so a prompt that repeats or extends an earlier one costs
//! its new segments only; and a prompt past a limit is encoded up to one.

/// Bytes of text after which a segment ends at the next safe cut. Smaller ones find more of a prompt again and cost more
/// look-ups.
const SEGMENT_BYTES: usize = 1024;

/// Which places are safe for one tokenizer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cuts {
    /// Between something else than white space and an ASCII space.
    pub(super) at_space: bool,
    /// Between a line end and something else than white space or `/`.
    pub(super) at_newline: bool,
}

impl Cuts {
    /// End of the segment that `text` starts with: the first safe cut after [`SEGMENT_BYTES`]. What comes after the cut
    /// has no say in it, so a prompt that goes on differently has the same segments up to there.
    pub(super) fn segment_end(self, text: &str) -> usize {
        let Self { at_space, at_newline } = self;
        let mut from = SEGMENT_BYTES;
        while let Some(rest) = text.as_bytes().get(from..) {
            let found = match (at_space, at_newline) {
                (true, true) => memchr::memchr2(b' ', b'\n', rest),
                (true, false) => memchr::memchr(b' ', rest),
                (false, true) => memchr::memchr(b'\n', rest),
                (false, false) => None,
            };
            let Some(found) = found else { break };
            let at = from + found;
            if self.is_cut(text, at) {
                return at;
            }
            if self.is_cut(text, at + 1) {
                return at + 1;
            }
            from = at + 1;
        }
        text.len()
    }

    /// The last safe cut of `text` at or before `max`; 0 if there is none.
    pub(super) fn last(self, text: &str, max: usize) -> usize {
        (1..=max.min(text.len())).rev().find(|at| self.is_cut(text, *at)).unwrap_or(0)
    }

    /// Whether `text` may be cut at `at`: the ids of both parts are then those of the whole.
    ///
    /// Between something else than white space and an ASCII space, no word of any expression here goes on, none is
    /// decided by what follows the space, and none looks behind; between a line end and something else than white space
    /// likewise where [`super::rules::Rules::cut_at_newline`] says so. The compiler allows neither where a step of the
    /// normalizer or an added token could span the cut.
    fn is_cut(self, text: &str, at: usize) -> bool {
        let Self { at_space, at_newline } = self;
        let bytes = text.as_bytes();
        let (Some(before), Some(next)) = (at.checked_sub(1).and_then(|at| bytes.get(at)), bytes.get(at))
        else {
            return false;
        };
        match (before, next) {
            (before, b' ') if at_space => match before {
                0..=0x20 | 0x7f => false,
                0x21..=0x7e => true,
                // U+2581 may stand for a space.
                _ => text
                    .get(..at)
                    .and_then(|text| text.chars().next_back())
                    .is_some_and(|character| !character.is_whitespace() && character != '\u{2581}'),
            },
            (b'\n', next) if at_newline => match next {
                0..=0x20 | 0x7f | b'/' => false,
                0x21..=0x7e => true,
                _ => {
                    let next = text.get(at..).and_then(|text| text.chars().next());
                    next.is_some_and(|character| !character.is_whitespace())
                }
            },
            _ => false,
        }
    }
}
