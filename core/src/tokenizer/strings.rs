//! Seeded test strings of every kind that tokenizers have been seen to differ in, for comparing two tokenizers.
//!
//! Used by the self-check of a compiled asset, by `cargo xtask differ`, and in Wasm. A string is a function of seed and
//! position alone, so that a report of both is enough to see it again. Not here: text of realistic statistics (the
//! benchmark makes its own) and request bodies.

mod maker;
mod ranges;
mod spelled;

use fastrand::Rng;
use serde_json::Value;

use maker::Maker;

/// Kinds of strings. Position `i` has kind `i % ALL.len()`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Category {
    /// Slices of prose in English and other languages.
    Prose,
    /// Slices of Chinese.
    Chinese,
    /// Slices of code and markup.
    Code,
    /// Slices of JSON.
    Json,
    /// Code points by general category, mixed in words.
    Unicode,
    /// Code points that no version or only a recent one has assigned, and noncharacters.
    Unassigned,
    /// All kinds of white space, in runs and between words.
    Whitespace,
    /// Apostrophes and what follows them, with U+017F and U+212A, which fold to `s` and `k`.
    Contractions,
    /// Base characters with marks, singletons, exclusions and compatibility forms: what NFC and NFKC change.
    Clusters,
    /// Digits of all scripts, in runs and numbers.
    Digits,
    /// Repetitions of one character or a few.
    Runs,
    /// Emoji with modifiers, joiners, flags and tags.
    Emoji,
    /// Words in all kinds of casing.
    Casing,
    /// The tokenizer's own added tokens, whole, cut and glued to text.
    Special,
    /// Entries of the tokenizer's vocabulary, glued together.
    Vocabulary,
    /// Pieces of all other kinds in one string.
    Mixed,
}

impl Category {
    /// All kinds.
    pub const ALL: [Self; 16] = [
        Self::Prose,
        Self::Chinese,
        Self::Code,
        Self::Json,
        Self::Unicode,
        Self::Unassigned,
        Self::Whitespace,
        Self::Contractions,
        Self::Clusters,
        Self::Digits,
        Self::Runs,
        Self::Emoji,
        Self::Casing,
        Self::Special,
        Self::Vocabulary,
        Self::Mixed,
    ];

    /// As reports spell it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Prose => "prose",
            Self::Chinese => "chinese",
            Self::Code => "code",
            Self::Json => "json",
            Self::Unicode => "unicode",
            Self::Unassigned => "unassigned",
            Self::Whitespace => "whitespace",
            Self::Contractions => "contractions",
            Self::Clusters => "clusters",
            Self::Digits => "digits",
            Self::Runs => "runs",
            Self::Emoji => "emoji",
            Self::Casing => "casing",
            Self::Special => "special",
            Self::Vocabulary => "vocabulary",
            Self::Mixed => "mixed",
        }
    }
}

/// Entries of a vocabulary that strings draw from. More would not find more: each is met only a few times.
const PIECES_MAX: usize = 20_000;

/// Strings for one tokenizer.
pub struct Strings {
    seed: u64,
    specials: Vec<String>,
    pieces: Vec<String>,
}

impl Strings {
    /// Strings for any tokenizer: those of [`Category::Special`] and [`Category::Vocabulary`] draw from common ones.
    pub fn new(seed: u64) -> Self {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self { seed, specials: own(&spelled::SPECIALS), pieces: own(&spelled::PIECES) }
    }

    /// Strings for the tokenizer of this `tokenizer.json`, with its added tokens and entries of its vocabulary. What
    /// cannot be read in it is left out.
    pub fn of(tokenizer_json: &[u8], seed: u64) -> Self {
        let mut strings = Self::new(seed);
        let Ok(file) = serde_json::from_slice::<Value>(tokenizer_json) else { return strings };
        let added = file.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
        strings.specials.extend(
            added.filter_map(|token| {
                token.get("content")?.as_str().filter(|t| !t.is_empty()).map(str::to_owned)
            }),
        );
        let vocab = file.pointer("/model/vocab").and_then(Value::as_object);
        if let Some(vocab) = vocab {
            let step = vocab.len().div_ceil(PIECES_MAX).max(1);
            strings.pieces.extend(vocab.keys().step_by(step).filter_map(|entry| spelled::text_of(entry)));
        }
        strings
    }

    /// The seed they were made with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The string at a position and its kind.
    pub fn at(&self, position: usize) -> (Category, String) {
        let kinds = Category::ALL;
        let category = kinds.get(position % kinds.len()).copied().unwrap_or(Category::Mixed);
        // Seeds of neighbours must not be neighbours: the generator mixes a seed only a little.
        let mut rng = Rng::with_seed(self.seed.wrapping_add(position as u64 ^ 0x5851_f42d_4c95_7f2d));
        let seed = rng.u64(..) ^ (position as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (category, Maker::new(seed, &self.specials, &self.pieces).string(category))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_a_function_of_seed_and_position() {
        let (one, other) = (Strings::new(7), Strings::new(8));
        let texts = |strings: &Strings| (0..320).map(|at| strings.at(at).1).collect::<Vec<_>>();
        assert_eq!(texts(&one), texts(&Strings::new(7)));
        let same = texts(&one).iter().zip(texts(&other)).filter(|(a, b)| **a == *b).count();
        assert!(same < 16, "{same} of 320 strings are the same under two seeds");
    }

    #[test]
    fn every_kind_is_made_and_varied() {
        let strings = Strings::new(1);
        for (kind, category) in Category::ALL.into_iter().enumerate() {
            let texts: std::collections::BTreeSet<String> = (0..200)
                .map(|round| strings.at(kind + round * Category::ALL.len()))
                .map(|(found, text)| {
                    assert_eq!(found, category);
                    text
                })
                .collect();
            assert!(texts.len() > 150, "{}: {} of 200 differ", category.label(), texts.len());
        }
    }

    #[test]
    fn the_tokenizers_own_tokens_and_entries_are_used() {
        let file =
            br#"{"added_tokens": [{"content": "<|only here|>"}], "model": {"vocab": {"\u0120qqword": 1}}}"#;
        let strings = Strings::of(file, 3);
        let of = |category: Category| {
            let first = Category::ALL.iter().position(|one| *one == category).unwrap();
            (0..800).map(move |round| first + round * Category::ALL.len())
        };
        assert!(of(Category::Special).any(|at| strings.at(at).1.contains("<|only here|>")));
        assert!(of(Category::Vocabulary).any(|at| strings.at(at).1.contains(" qqword")));
    }
}
