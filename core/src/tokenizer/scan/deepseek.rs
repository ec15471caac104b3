//! DeepSeek V3's third stage.

use super::super::classes::{LETTERS_AND_MARKS, NEWLINE, PUNCTUATION_AND_SYMBOLS, is_in};
use super::Scanner;

impl<const ISOLATES: bool> Scanner<'_, ISOLATES> {
    /// A match, or the gap up to the next match: what the expression does not match is a word as well.
    pub(super) fn deepseek_or_gap(&self, at: usize) -> usize {
        let mut end = at;
        loop {
            match self.deepseek(end) {
                Some(word) if end == at => return word,
                Some(_) => return end,
                None => {}
            }
            let (_, length) = self.class(end);
            if length == 0 {
                return end;
            }
            end += length;
        }
    }

    fn deepseek(&self, at: usize) -> Option<usize> {
        let (class, length) = self.class(at);
        if length == 0 {
            return None;
        }
        let next = at + length;
        if self.byte(at).is_ascii_punctuation() && self.byte(next).is_ascii_alphabetic() {
            let rest = self.bytes.get(next..).unwrap_or_default();
            return Some(
                next + rest.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(rest.len()),
            );
        }
        if is_in(class, LETTERS_AND_MARKS) {
            return Some(self.run(next, LETTERS_AND_MARKS));
        }
        let (second, second_length) = self.class(next);
        let signs = is_in(class, PUNCTUATION_AND_SYMBOLS);
        if !signs && class != NEWLINE && is_in(second, LETTERS_AND_MARKS) {
            return Some(self.run(next + second_length, LETTERS_AND_MARKS));
        }
        let characters = [(class, length), (second, second_length)];
        let end = self.signs_or_space(at, characters, PUNCTUATION_AND_SYMBOLS);
        (end > at).then_some(end)
    }
}
