//! The scanners: where the next word ends. Hand-written for the expressions of [`Rules`].
//!
//! Each follows its regular expression alternative by alternative, first match wins, as backtracking engines do; where
//! an engine would give characters back, the place that it would arrive at is computed. Cost: every character is looked
//! at a bounded number of times (at most five), so a scan is linear whatever the text.

mod deepseek;

use super::classes::{
    self, CASED, Classes, END, ISOLATED, LETTERS, LETTERS_AND_MARKS, LOWER_LIKE, MARK, Mask, NEWLINE, NUMBER,
    NUMBERS, SIGNS, SPACES, UPPER_LIKE, is_in,
};
use super::rules::{Main, Rules};

/// One text to scan. Its end is where a match must end, as for a regular expression. `ISOLATES`: the file isolates
/// characters; where it does not, nothing asks for their flags.
#[derive(Clone, Copy)]
pub(super) struct Scanner<'a, const ISOLATES: bool> {
    bytes: &'a [u8],
    classes: Classes<'a>,
    rules: Rules,
    /// Flags of isolated characters.
    stops: u8,
    /// What a character of the text has of `stops`: any other is the end of the text to the main expression.
    inside: u8,
}

impl<'a, const ISOLATES: bool> Scanner<'a, ISOLATES> {
    /// `bytes` must be UTF-8: other bytes are cut anyhow.
    pub(super) fn new(bytes: &'a [u8], classes: Classes<'a>, rules: Rules) -> Self {
        let used = ISOLATED.iter().zip(rules.isolated_max).filter(|(_, max)| *max != 0);
        Self { bytes, classes, rules, stops: used.fold(0, |stops, (flag, _)| stops | flag), inside: 0 }
    }

    /// End of the word that starts at `at`: more than `at` wherever there is text.
    #[inline]
    pub(super) fn next(&self, at: usize) -> usize {
        if ISOLATES {
            let flags = self.raw(at).0 & self.stops;
            if flags != 0 {
                return self.isolated(at, flags);
            }
        }
        self.main(at)
    }

    #[inline(always)]
    fn main(&self, at: usize) -> usize {
        match self.rules.main {
            Main::Gpt2 => self.gpt2(at),
            Main::Cl100k => self.cl100k(at),
            Main::O200k => self.o200k(at),
            Main::DeepSeek => self.deepseek_or_gap(at),
            Main::Whole => self.run(at, !(1 << END)),
            Main::Spaces => self.until_space(self.spaces(at)),
            Main::EverySpace => self.until_space(at + usize::from(self.bytes.get(at) == Some(&b' '))),
        }
    }

    /// Class with flags, and length, of the character at `at`.
    #[inline(always)]
    fn raw(&self, at: usize) -> (u8, usize) {
        match self.bytes.get(at) {
            Some(byte) if *byte < 0x80 => (self.classes.ascii(*byte), 1),
            Some(_) => {
                let (code, length) = classes::decode(self.bytes, at);
                (self.classes.of(code), length)
            }
            None => (END, 0),
        }
    }

    /// Class and length of the character at `at`; [`END`] at the end and where isolated characters start or end.
    #[inline(always)]
    pub(super) fn class(&self, at: usize) -> (u8, usize) {
        let (raw, length) = self.raw(at);
        let outside = ISOLATES && raw & self.stops != self.inside;
        if outside { (END, 0) } else { (raw & classes::CLASS_BITS, length) }
    }

    /// End of the run of classes in `mask` from `at`.
    #[inline(always)]
    pub(super) fn run(&self, mut at: usize, mask: Mask) -> usize {
        let has_letters = mask & CASED == CASED && mask & !LETTERS_AND_MARKS == 0;
        if has_letters && self.classes.plain_letters && (!ISOLATES || self.inside == 0) {
            while let Some(bytes) = self.bytes.get(at..).and_then(<[u8]>::first_chunk) {
                let letters = classes::leading_letters(*bytes);
                at += letters;
                match bytes.get(letters) {
                    None => {}
                    // No other ASCII is in these masks.
                    Some(byte) if byte.is_ascii() => return at,
                    Some(_) => break,
                }
            }
        }
        loop {
            let (class, length) = self.class(at);
            if length == 0 || !is_in(class, mask) {
                return at;
            }
            at += length;
        }
    }

    /// The main expression cuts a run of isolated characters further. Runs that have a longest length are a word each:
    /// the compiler takes no others.
    fn isolated(&self, at: usize, flags: u8) -> usize {
        let max = ISOLATED.iter().zip(self.rules.isolated_max).find(|(flag, _)| *flag & flags != 0);
        let max = max.map_or(1, |(_, max)| max);
        if max == u32::MAX {
            // What these match as bytes is not isolated, so it is not inside the run.
            let rules = Rules { contractions: false, slash: false, ..self.rules };
            return Self { inside: flags, rules, ..*self }.main(at);
        }
        let mut end = at;
        for _ in 0..max {
            let (raw, length) = self.raw(end);
            if length == 0 || raw & flags == 0 {
                break;
            }
            end += length;
        }
        end
    }

    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn spaces(&self, at: usize) -> usize {
        let rest = self.bytes.get(at..).unwrap_or_default();
        at + rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len())
    }

    fn until_space(&self, at: usize) -> usize {
        let rest = self.bytes.get(at..).unwrap_or_default();
        at + memchr::memchr(b' ', rest).unwrap_or(rest.len())
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+`, the first alternative if `newlines`: `at` is white space.
    ///
    /// `\s*[\r\n]+` gives back what follows the last line end; `\s+(?!\S)` gives back one character, if it has two.
    fn white_space(&self, at: usize, newlines: bool) -> usize {
        let (mut end, mut last, mut newline_end) = (at, at, at);
        let following = loop {
            let (class, length) = self.class(end);
            if !is_in(class, SPACES) {
                break class;
            }
            last = end;
            end += length;
            if class == NEWLINE {
                newline_end = end;
            }
        };
        if newlines && newline_end > at {
            newline_end
        } else if following != END && last > at {
            last
        } else {
            end
        }
    }

    /// Length of `'s|'t|'re|'ve|'m|'ll|'d` at `at`, 0 if there is none. Without case, `s` is also U+017F.
    #[inline]
    fn contraction(&self, at: usize, ignore_case: bool) -> usize {
        if self.byte(at) != b'\'' {
            return 0;
        }
        let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
        match (fold(self.byte(at + 1)), fold(self.byte(at + 2))) {
            (b's' | b't' | b'm' | b'd', _) => 2,
            (b'r' | b'v', b'e') | (b'l', b'l') => 3,
            (0xc5, 0xbf) if ignore_case => 3,
            _ => 0,
        }
    }

    fn gpt2(&self, at: usize) -> usize {
        let contraction = self.contraction(at, false);
        if contraction != 0 {
            return at + contraction;
        }
        // ` ?` takes a space along if something else than white space follows.
        let from = at + usize::from(self.byte(at) == b' ');
        let (class, _) = self.class(from);
        for mask in [LETTERS, NUMBERS, SIGNS] {
            if is_in(class, mask) {
                return self.run(from, mask);
            }
        }
        self.white_space(at, false)
    }

    fn cl100k(&self, at: usize) -> usize {
        let (class, length) = self.class(at);
        let letters = if self.rules.marks { LETTERS_AND_MARKS } else { LETTERS };
        if is_in(class, letters) {
            return self.run(at + length, letters);
        }
        if class == NUMBER {
            return self.numbers(at + length);
        }
        if self.rules.contractions {
            let contraction = self.contraction(at, true);
            if contraction != 0 {
                return at + contraction;
            }
        }
        let next = at + length;
        let (second, second_length) = self.class(next);
        if class != NEWLINE && is_in(second, letters) {
            return self.run(next + second_length, letters);
        }
        let signs = if self.rules.sign_marks { SIGNS } else { SIGNS & !(1 << MARK) };
        self.signs_or_space(at, [(class, length), (second, second_length)], signs)
    }

    /// ` ?SIGNS+[\r\n]*`, or white space; `at` where it is neither. Takes classes and lengths of the two characters at `at`.
    #[inline(always)]
    fn signs_or_space(&self, at: usize, characters: [(u8, usize); 2], signs: Mask) -> usize {
        let [(class, length), (second, second_length)] = characters;
        let next = at + length;
        if is_in(class, signs) {
            return self.line_ends(self.run(next, signs));
        }
        if self.byte(at) == b' ' && is_in(second, signs) {
            return self.line_ends(self.run(next + second_length, signs));
        }
        if is_in(class, SPACES) { self.white_space(at, true) } else { at }
    }

    /// `[\r\n]*` or `[\r\n/]*`.
    fn line_ends(&self, mut at: usize) -> usize {
        loop {
            match self.byte(at) {
                b'\r' | b'\n' if self.class(at).0 == NEWLINE => at += 1,
                b'/' if self.rules.slash => at += 1,
                _ => return at,
            }
        }
    }

    /// `\p{N}`, or as many as the rules allow: `end` is behind the first.
    fn numbers(&self, mut end: usize) -> usize {
        for _ in 1..self.rules.numbers_max {
            let (class, length) = self.class(end);
            if class != NUMBER {
                break;
            }
            end += length;
        }
        end
    }

    fn o200k(&self, at: usize) -> usize {
        let (class, length) = self.class(at);
        if class == NUMBER {
            return self.numbers(at + length);
        }
        // `[^\r\n\p{L}\p{N}]?`: a mark can be this one, and a letter of the word as well.
        let leads = class != NEWLINE && !is_in(class, LETTERS) && length != 0;
        let is_letter = is_in(class, LETTERS_AND_MARKS);
        let next = at + length;
        if leads || is_letter {
            let end = (leads.then(|| self.mixed(next)).flatten())
                .or_else(|| is_letter.then(|| self.mixed(at)).flatten())
                .or_else(|| leads.then(|| self.capitals(next)).flatten())
                .or_else(|| is_letter.then(|| self.capitals(at)).flatten());
            if let Some(end) = end {
                return if self.rules.contractions { end + self.contraction(end, true) } else { end };
            }
        }
        self.signs_or_space(at, [(class, length), self.class(next)], SIGNS)
    }

    /// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`.
    ///
    /// The first part takes all it can; if no lower-case letter follows, it gives back as far as its last character
    /// that the second part takes as well.
    #[inline]
    fn mixed(&self, at: usize) -> Option<usize> {
        let (mut end, mut both_end) = (at, None);
        loop {
            let (class, length) = self.class(end);
            if !is_in(class, UPPER_LIKE) {
                return if is_in(class, LOWER_LIKE) {
                    Some(self.run(end + length, LOWER_LIKE))
                } else {
                    both_end
                };
            }
            end += length;
            if is_in(class, LOWER_LIKE) {
                both_end = Some(end);
            }
        }
    }

    /// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*` where [`Self::mixed`] has failed: nothing that the
    /// second part takes follows.
    #[inline]
    fn capitals(&self, at: usize) -> Option<usize> {
        let end = self.run(at, UPPER_LIKE);
        (end > at).then_some(end)
    }
}
