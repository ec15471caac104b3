//! Strings that are spelled out: what a generator would hit too seldom.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::super::letters;

/// White space of every kind: `White_Space`, Python's and Rust's, and what looks like it.
pub(super) const SPACES: [char; 34] = [
    ' ', ' ', ' ', ' ', '\n', '\n', '\r', '\t', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{1f}',
    '\u{85}', '\u{a0}', '\u{1680}', '\u{180e}', '\u{2000}', '\u{2001}', '\u{2002}', '\u{2003}', '\u{2007}',
    '\u{2009}', '\u{200a}', '\u{200b}', '\u{2028}', '\u{2029}', '\u{202f}', '\u{205f}', '\u{2060}',
    '\u{3000}', '\u{feff}', '\u{2581}',
];

/// What may follow an apostrophe in a contraction, in ASCII and in what folds to it.
pub(super) const SUFFIXES: [&str; 30] = [
    "s", "S", "t", "T", "re", "RE", "rE", "ve", "Ve", "m", "M", "ll", "LL", "lL", "d", "D", "ſ", "ſs", "Kk",
    "\u{212a}", "\u{17f}t", "l", "r", "v", "rE's", "lſ", "st", "tis", "ém", "",
];

/// Forms that normalizers change: compositions, singletons, exclusions, Hangul, compatibility forms.
pub(super) const FORMS: [&str; 54] = [
    "e\u{301}",
    "\u{e9}",
    "A\u{30a}",
    "\u{212b}",
    "\u{c5}",
    "\u{2126}",
    "\u{212a}",
    "o\u{302}\u{301}",
    "\u{1ed1}",
    "o\u{323}\u{302}",
    "o\u{302}\u{323}",
    "\u{1100}\u{1161}\u{11a8}",
    "\u{ac00}\u{11a8}",
    "\u{1100}\u{1161}",
    "\u{ac01}",
    "\u{1100}\u{ac00}",
    "\u{958}",
    "\u{915}\u{93c}",
    "\u{95c}",
    "\u{9dc}",
    "\u{a33}",
    "\u{b5c}",
    "\u{f43}",
    "\u{f73}",
    "\u{fb1d}",
    "\u{fb2a}",
    "\u{2adc}",
    "\u{344}",
    "\u{1d15e}",
    "\u{1d1bb}",
    "\u{f900}",
    "\u{fa10}",
    "\u{2f800}",
    "\u{2000}",
    "\u{2001}",
    "\u{340}\u{341}",
    "\u{374}",
    "\u{37e}",
    "\u{387}",
    "\u{1f71}",
    "\u{3d3}",
    "\u{1e9b}\u{323}",
    "\u{30ab}\u{3099}",
    "\u{30ac}",
    "\u{fb01}",
    "\u{2460}",
    "\u{338f}",
    "\u{ff46}\u{ff55}",
    "\u{bd}",
    "\u{2122}",
    "\u{fdfa}",
    "\u{1b05}\u{1b35}",
    "\u{110a5}\u{110ba}",
    "q\u{307}\u{323}",
];

/// Units of runs that are known to be slow or wrong somewhere.
pub(super) const UNITS: [&str; 28] = [
    " ", "a", "\n", "=", "'", "\"", "-", "0", "1", "ab", "\r\n", " \n", "\t", "_", ".", "é", "中", "한",
    "😀", "\u{301}", "ha", "9.", "'s", "()", "aA", "\u{a0}", "\n ", "/*",
];

/// Emoji, plain and composed.
pub(super) const EMOJI: [&str; 24] = [
    "😀",
    "👍🏽",
    "❤️",
    "❤",
    "👨‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "🇩🇪",
    "🇫",
    "1️⃣",
    "#️⃣",
    "🧑🏿‍🚀",
    "👩‍❤️‍💋‍👨",
    "☺",
    "☺️",
    "✊🏻",
    "🤷🏾‍♀️",
    "🦾",
    "🫨",
    "🪿",
    "™️",
    "©",
    "🀄",
    "♟️",
];

/// Words for casing, with letters whose case mapping is special.
pub(super) const WORDS: [&str; 26] = [
    "camelCase",
    "HTTPServer",
    "iPhone",
    "McDonald",
    "straße",
    "İstanbul",
    "ıssız",
    "ΣΊΣΥΦΟΣ",
    "ὀδυσσεύς",
    "ǅungla",
    "ŉdlovu",
    "ﬁnal",
    "Ёлка",
    "ԱԲԳ",
    "ᏣᎳᎩ",
    "ꭰ",
    "DŽ",
    "ẞ",
    "xmlHTTPRequest2",
    "SNAKE_CASE",
    "kebab-Case",
    "Ünïcödé",
    "ÀÉÎ",
    "aͅ",
    "ℵ",
    "ʰʲ",
];

/// Added tokens of well-known models: met as plain text by all others.
pub(super) const SPECIALS: [&str; 24] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<s>",
    "</s>",
    "<unk>",
    "<pad>",
    "[INST]",
    "[/INST]",
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<｜begin▁of▁sentence｜>",
    "<｜User｜>",
    "<think>",
    "</think>",
    "<tool_call>",
    "<|",
    "|>",
    "<|fim_prefix|>",
    "<|start|>",
    "<0x0A>",
    "<bos>",
    "<start_of_turn>",
];

/// Pieces that stand in for a vocabulary that cannot be read.
pub(super) const PIECES: [&str; 24] = [
    " the",
    "ing",
    "tion",
    " of",
    "er",
    "    ",
    "\n\n",
    "();",
    " =",
    "\":",
    " a",
    "s",
    "re",
    " \"",
    "://",
    "ation",
    "的",
    "是",
    " и",
    "ของ",
    "の",
    "을",
    " x",
    "http",
];

/// The bytes of a byte-level vocabulary's letters.
static BYTES: LazyLock<HashMap<char, u8>> = LazyLock::new(letters::bytes);

/// The text that a vocabulary's entry stands for; none where it is not text by itself.
///
/// Byte-level entries spell bytes as characters of their own ([`letters`]); SentencePiece's spell a
/// space as `▁`. An entry that could be either is taken as byte-level.
pub(super) fn text_of(entry: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> = entry.chars().map(|letter| BYTES.get(&letter).copied()).collect();
    match bytes {
        Some(bytes) => String::from_utf8(bytes).ok(),
        None => Some(entry.replace('▁', " ")),
    }
    .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::text_of;

    #[test]
    fn entries_are_read_as_text() {
        assert_eq!(text_of("Ġthe").as_deref(), Some(" the"));
        assert_eq!(text_of("ĊĊ").as_deref(), Some("\n\n"));
        assert_eq!(text_of("ä¸Ń").as_deref(), Some("中"));
        assert_eq!(text_of("▁the").as_deref(), Some(" the"));
        assert_eq!(text_of("ä¸"), None);
    }
}
