//! One string of a kind, from random choices.

use fastrand::Rng;

use super::Category;
use super::ranges::{self, Range};
use super::spelled;

/// A string that is being made.
pub(super) struct Maker<'a> {
    rng: Rng,
    specials: &'a [String],
    pieces: &'a [String],
    text: String,
}

impl<'a> Maker<'a> {
    /// An empty one; neither list may be empty.
    pub(super) fn new(seed: u64, specials: &'a [String], pieces: &'a [String]) -> Self {
        Self { rng: Rng::with_seed(seed), specials, pieces, text: String::new() }
    }

    /// A string of a kind.
    pub(super) fn string(mut self, category: Category) -> String {
        match category {
            Category::Mixed => {
                for _ in 0..self.number(2..9) {
                    let kind = *self.pick(&Category::ALL);
                    // Runs and slices would drown the rest.
                    if !matches!(kind, Category::Mixed | Category::Runs) {
                        let start = self.text.len();
                        self.piece(kind);
                        let keep = start + self.number(1..40);
                        cut(&mut self.text, keep);
                    }
                    if self.rng.u8(..) < 90 {
                        let between = *self.pick(&[' ', '\n', '\t', '\'', '.', '\u{a0}']);
                        self.text.push(between);
                    }
                }
            }
            Category::Prose | Category::Chinese | Category::Code | Category::Json | Category::Runs => {
                self.piece(category);
            }
            _ => {
                for _ in 0..self.number(1..8) {
                    self.piece(category);
                }
            }
        }
        self.text
    }

    /// One piece of a kind, appended.
    fn piece(&mut self, category: Category) {
        match category {
            Category::Prose => self.slice(include_str!("prose.txt")),
            Category::Chinese => self.slice(include_str!("chinese.txt")),
            Category::Code => self.slice(include_str!("code.txt")),
            Category::Json => self.slice(include_str!("data.json")),
            Category::Unicode | Category::Mixed => self.unicode(),
            Category::Unassigned => self.unassigned(),
            Category::Whitespace => self.whitespace(),
            Category::Contractions => self.contraction(),
            Category::Clusters => self.cluster(),
            Category::Digits => self.digits(),
            Category::Runs => self.run(),
            Category::Emoji => self.emoji(),
            Category::Casing => self.casing(),
            Category::Special => self.special(),
            Category::Vocabulary => {
                let piece = self.pick(self.pieces);
                self.text.push_str(piece);
            }
        }
    }

    /// A number of the range. Through 64 bits: the generator makes other `usize` numbers where they have 32, and strings
    /// must be the same everywhere.
    fn number(&mut self, range: std::ops::Range<usize>) -> usize {
        self.rng.u64(range.start as u64..range.end as u64) as usize
    }

    /// One of these; the lists are never empty.
    #[allow(clippy::indexing_slicing, reason = "below the length by construction, and lists are not empty")]
    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.number(0..from.len())]
    }

    /// A character of one of the ranges.
    fn char_in(&mut self, ranges: &[Range]) -> char {
        let (first, last) = *self.pick(ranges);
        char::from_u32(self.rng.u32(first..=last)).unwrap_or('\u{fffd}')
    }

    fn chars_in(&mut self, ranges: &[Range], max: usize) {
        for _ in 0..self.number(1..max + 1) {
            let next = self.char_in(ranges);
            self.text.push(next);
        }
    }

    /// A slice of up to some hundred bytes, cut anywhere between two characters.
    fn slice(&mut self, of: &str) {
        let length = if self.rng.u8(..) < 8 { self.number(400..1500) } else { self.number(1..240) };
        let start = self.number(0..of.len());
        let start = (start..=of.len()).find(|at| of.is_char_boundary(*at)).unwrap_or(0);
        let from = self.text.len();
        self.text.push_str(of.get(start..).unwrap_or_default());
        cut(&mut self.text, from + length);
    }

    fn unicode(&mut self) {
        let classes = [
            ranges::LETTERS,
            ranges::IDEOGRAPHS,
            ranges::MARKS,
            ranges::NUMBERS,
            ranges::SYMBOLS,
            ranges::OTHERS,
            &[(0x20, 0x7e)],
            &[(0, 0x10_ffff)],
            &[(0, 0xffff)],
        ];
        let class = *self.pick(&classes);
        self.chars_in(class, 9);
        if self.rng.bool() {
            self.text.push(' ');
        }
    }

    fn unassigned(&mut self) {
        let class = if self.rng.u8(..) < 200 { ranges::UNASSIGNED } else { ranges::OTHERS };
        self.chars_in(class, 3);
        match self.rng.u8(..4) {
            0 => self.text.push_str("a "),
            1 => self.text.push('1'),
            2 => self.chars_in(ranges::MARKS, 2),
            _ => {}
        }
    }

    fn whitespace(&mut self) {
        for _ in 0..self.number(1..5) {
            let space = *self.pick(&spelled::SPACES);
            let count = if self.rng.u8(..) < 20 { self.number(5..140) } else { self.number(1..4) };
            self.text.extend(std::iter::repeat_n(space, count));
        }
        match self.rng.u8(..6) {
            0 => self.text.push_str("word"),
            1 => self.text.push('"'),
            2 => self.text.push('7'),
            3 => self.chars_in(ranges::LETTERS, 3),
            _ => {}
        }
    }

    fn contraction(&mut self) {
        if self.rng.bool() {
            let word = *self.pick(&["I", "we", "don", "IT", "x", "7", " ", "été", "中", "_", ""]);
            self.text.push_str(word);
        }
        let apostrophe = *self.pick(&["'", "'", "'", "’", "ʼ", "''", "`", " '"]);
        let suffix = *self.pick(&spelled::SUFFIXES);
        self.text.push_str(apostrophe);
        self.text.push_str(suffix);
        if self.rng.u8(..) < 90 {
            let after = *self.pick(&[" ", "x", "s", "'", "\n", "1", "!", "ſ"]);
            self.text.push_str(after);
        }
    }

    fn cluster(&mut self) {
        if self.rng.u8(..) < 70 {
            let form = *self.pick(&spelled::FORMS);
            self.text.push_str(form);
        } else {
            let base = *self.pick(&[ranges::LETTERS, ranges::IDEOGRAPHS, ranges::SYMBOLS, &[(0x41, 0x7a)]]);
            self.chars_in(base, 1);
        }
        if self.rng.u8(..) < 190 {
            self.chars_in(ranges::MARKS, 4);
        }
        if self.rng.u8(..) < 60 {
            self.text.push(' ');
        }
    }

    fn digits(&mut self) {
        match self.rng.u8(..4) {
            0 => self.chars_in(ranges::NUMBERS, 12),
            1 => self.chars_in(&[(0x30, 0x39)], 25),
            2 => {
                let number = self.rng.i32(..);
                self.text.push_str(&format!("{}.{}e{:+}", number, self.rng.u16(..), number % 37));
            }
            _ => {
                self.chars_in(&[(0x30, 0x39)], 4);
                let between = *self.pick(&[",", ".", " ", "a", "-", "/", ":", "٫", "中", "\n"]);
                self.text.push_str(between);
            }
        }
    }

    /// Up to 2,000 characters of one unit; most runs are short, around the lengths where merges change.
    fn run(&mut self) {
        let unit = if self.rng.bool() {
            (*self.pick(&spelled::UNITS)).to_owned()
        } else {
            let mut unit =
                self.char_in(&[(0x20, 0x7e), (0x20, 0x7e), (0xa0, 0x24f), (0x3000, 0x9fff)]).to_string();
            if self.rng.bool() {
                unit.push(self.char_in(&[(0x20, 0x7e)]));
            }
            unit
        };
        let count = match self.rng.u8(..) {
            0..4 => self.number(300..2000),
            4..40 => self.number(60..300),
            _ => self.number(2..60),
        };
        self.text.push_str(&unit.repeat(count));
        if self.rng.bool() {
            self.text.push_str("end");
        }
    }

    fn emoji(&mut self) {
        let emoji = *self.pick(&spelled::EMOJI);
        self.text.push_str(emoji);
        match self.rng.u8(..6) {
            0 => self.chars_in(&[(0x1f3fb, 0x1f3ff)], 1),
            1 => self.text.push('\u{200d}'),
            2 => self.text.push('\u{fe0f}'),
            3 => self.chars_in(&[(0x1f1e6, 0x1f1ff)], 3),
            4 => self.text.push(' '),
            _ => {}
        }
    }

    fn casing(&mut self) {
        let word = *self.pick(&spelled::WORDS);
        let word = match self.rng.u8(..5) {
            0 => word.to_uppercase(),
            1 => word.to_lowercase(),
            2 => word.chars().map(|c| if self.rng.bool() { c.to_ascii_uppercase() } else { c }).collect(),
            _ => word.to_owned(),
        };
        self.text.push_str(&word);
        let between = *self.pick(&["", "", " ", "_", "-", "/", "'s ", "1", "\u{301}", "."]);
        self.text.push_str(between);
    }

    fn special(&mut self) {
        let token = self.pick(self.specials).clone();
        match self.rng.u8(..8) {
            0 => {
                let mut token = token;
                let keep = self.number(0..token.len() + 1);
                cut(&mut token, keep);
                self.text.push_str(&token);
            }
            1 => self.text.push_str(&token.to_uppercase()),
            2 => {
                self.text.push_str(&token);
                self.text.push_str(&token);
            }
            _ => self.text.push_str(&token),
        }
        let after = *self
            .pick(&["", "", " ", "\n", "\n\n", "  ", "user", " x", "'s", "é", "\u{301}", "中", "7", "\t"]);
        self.text.push_str(after);
    }
}

/// Shortens `text` to at most `bytes`, between two characters.
fn cut(text: &mut String, bytes: usize) {
    if bytes < text.len() {
        let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}
