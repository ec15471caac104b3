//! Whether two tokenizers make the same ids: the oracle, which is the crate `tokenizers`, and ours.

use std::fmt;

use super::strings::{Category, Strings};
use super::{AssetError, Encoded, HfTokenizer, Limits, Runtime, Tokenizer};

/// Strings of a self-check: those of every category in `tokenizer/strings.rs`, 625 of each. It takes a second or two
/// natively, most of it the oracle's.
pub const SELF_CHECK_STRINGS: usize = 10_000;

/// What was compared without a difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checked {
    /// Seed of the strings.
    pub seed: u64,
    /// Strings, each encoded with and without `add_special_tokens`.
    pub strings: usize,
}

/// A string that is encoded otherwise. Seed, position and the tokenizer are enough to make it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// Seed of the strings.
    pub seed: u64,
    /// Position of the string under that seed.
    pub position: usize,
    /// Its kind.
    pub category: Category,
    /// The string.
    pub text: String,
    /// How it was encoded.
    pub add_special_tokens: bool,
    /// Ids by the oracle, or its error.
    pub expected: Result<Vec<u32>, String>,
    /// What ours made of it. With limits, anything but a prefix of what is expected is a mismatch.
    pub found: Result<Encoded, String>,
}

/// The longest text that a message quotes, in characters.
const QUOTED_MAX: usize = 200;

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, position, category, add_special_tokens, text, expected, found } = self;
        let category = category.label();
        write!(
            f,
            "string {position} of seed {seed} ({category}, add_special_tokens {add_special_tokens}) differs"
        )?;
        match (expected, found) {
            (Ok(expected), Ok(found)) => {
                let same = expected.iter().zip(&found.ids).take_while(|(one, other)| one == other).count();
                let some = |ids: &[u32]| ids.iter().skip(same).take(4).copied().collect::<Vec<_>>();
                write!(
                    f,
                    " at token {same}: expected {:?} of {} ids, found {:?} of {} ids (complete: {})",
                    some(expected),
                    expected.len(),
                    some(&found.ids),
                    found.ids.len(),
                    found.complete
                )?;
            }
            (Err(error), _) => write!(f, ": the oracle fails: {error}")?,
            (_, Err(error)) => write!(f, ": ours fails: {error}")?,
        }
        let start: String = text.chars().take(QUOTED_MAX).collect();
        // Escaped: marks and directions would not survive a terminal.
        write!(f, ": \"{}\"{}", start.escape_default(), if start.len() < text.len() { " …" } else { "" })
    }
}

impl std::error::Error for Mismatch {}

/// Why an asset must not be served.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckError {
    /// The oracle does not read the `tokenizer.json`.
    #[error("tokenizer.json: {0}")]
    Oracle(String),
    /// The asset cannot be loaded.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// A string is encoded otherwise.
    #[error(transparent)]
    Mismatch(#[from] Box<Mismatch>),
}

/// Whether an asset makes the ids that its `tokenizer.json` makes: [`SELF_CHECK_STRINGS`] strings of every kind, the
/// file's own tokens and vocabulary among them.
///
/// # Errors
/// With the first string that differs, or when either side cannot be loaded.
pub fn self_check(tokenizer_json: &[u8], asset: &[u8], seed: u64) -> Result<Checked, CheckError> {
    let oracle = HfTokenizer::from_json(tokenizer_json).map_err(CheckError::Oracle)?;
    let ours = Runtime::load(asset.to_vec())?;
    let strings = Strings::of(tokenizer_json, seed);
    let strings = compare(&oracle, &ours, &strings, 0..SELF_CHECK_STRINGS)?;
    Ok(Checked { seed, strings })
}

/// The first of these positions at which the two differ, with and without `add_special_tokens`.
///
/// # Errors
/// With that string.
pub fn compare(
    oracle: &dyn Tokenizer,
    ours: &dyn Tokenizer,
    strings: &Strings,
    positions: impl IntoIterator<Item = usize>,
) -> Result<usize, Box<Mismatch>> {
    let mut compared = 0;
    for position in positions {
        compare_at(oracle, ours, strings, position)?;
        compared += 1;
    }
    Ok(compared)
}

/// One string, with and without `add_special_tokens`; and once more up to a limit, which must give a prefix.
///
/// # Errors
/// When ours is not what the oracle says.
pub fn compare_at(
    oracle: &dyn Tokenizer,
    ours: &dyn Tokenizer,
    strings: &Strings,
    position: usize,
) -> Result<(), Box<Mismatch>> {
    let (category, text) = strings.at(position);
    for add_special_tokens in [false, true] {
        let expected = oracle.encode(&text, add_special_tokens, &Limits::NONE).map(|encoded| encoded.ids);
        let mismatch = |found: Result<Encoded, String>| {
            let (text, expected) = (text.clone(), expected.clone());
            let seed = strings.seed();
            Err(Box::new(Mismatch { seed, position, category, text, add_special_tokens, expected, found }))
        };
        match ours.encode(&text, add_special_tokens, &Limits::NONE) {
            Ok(found) if found.complete && Ok(&found.ids) == expected.as_ref() => {}
            found => return mismatch(found),
        }
        // Any limit will do, if only it changes from string to string.
        let limits = match position % 3 {
            0 => Limits { bytes_max: position % (text.len() + 1), ..Limits::NONE },
            1 => Limits { tokens_max: position % 61, ..Limits::NONE },
            _ => Limits { merge_work_max: position as u64 % 601, ..Limits::NONE },
        };
        match ours.encode(&text, add_special_tokens, &limits) {
            Ok(found) if within(&found, expected.as_deref(), &limits) => {}
            found => return mismatch(found),
        }
    }
    Ok(())
}

/// Whether a limited encoding keeps its promise: a prefix of the whole, or the whole, and no more tokens than allowed.
fn within(found: &Encoded, expected: Result<&[u32], &String>, limits: &Limits) -> bool {
    let Ok(expected) = expected else { return false };
    let prefix = expected.starts_with(&found.ids) && (!found.complete || found.ids.len() == expected.len());
    prefix && found.ids.len() <= limits.tokens_max
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::compile;

    /// A tokenizer that is wrong in one respect.
    struct Wrong<F>(HfTokenizer, F);

    impl<F: Fn(&str, Encoded) -> Encoded + Send + Sync> Tokenizer for Wrong<F> {
        fn encode(&self, text: &str, special: bool, limits: &Limits) -> Result<Encoded, String> {
            self.0.encode(text, special, limits).map(|encoded| self.1(text, encoded))
        }

        fn vocab_size(&self) -> usize {
            self.0.vocab_size()
        }
    }

    const JSON: &[u8] = include_bytes!("../../tests/data/tokenizer.json");

    fn hf() -> HfTokenizer {
        HfTokenizer::from_json(JSON).unwrap()
    }

    #[test]
    fn equal_tokenizers_are_equal() {
        assert_eq!(compare(&hf(), &hf(), &Strings::of(JSON, 5), 0..640).unwrap(), 640);
    }

    #[test]
    fn a_rare_difference_is_found_and_named() {
        let wrong = Wrong(hf(), |text: &str, mut encoded: Encoded| {
            if text.contains('\u{17f}') {
                encoded.ids.pop();
            }
            encoded
        });
        let strings = Strings::of(JSON, 5);
        let mismatch = compare(&hf(), &wrong, &strings, 0..SELF_CHECK_STRINGS).unwrap_err();
        assert_eq!(strings.at(mismatch.position).1, mismatch.text);
        assert_eq!(mismatch.seed, 5);
        let message = mismatch.to_string();
        assert!(message.starts_with(&format!("string {} of seed 5 (", mismatch.position)), "{message}");
        assert!(message.contains("\\u{17f}"), "{message}");
    }

    #[test]
    fn an_asset_of_another_tokenizer_is_found() {
        let asset = compile(JSON).unwrap();
        assert_eq!(self_check(JSON, &asset, 9), Ok(Checked { seed: 9, strings: SELF_CHECK_STRINGS }));
        let other = String::from_utf8(JSON.to_vec()).unwrap().replace("<|im_start|>", "<|im_begin|>");
        let error = self_check(other.as_bytes(), &asset, 9).unwrap_err();
        assert!(error.to_string().contains("of seed 9 (special"), "{error}");
        assert!(matches!(self_check(b"{}", &asset, 9), Err(CheckError::Oracle(_))));
        assert!(matches!(self_check(JSON, b"", 9), Err(CheckError::Asset(_))));
    }

    #[test]
    fn a_cut_that_is_no_prefix_is_found() {
        let wrong = Wrong(hf(), |_: &str, mut encoded: Encoded| {
            if !encoded.complete {
                encoded.ids = vec![400];
            }
            encoded
        });
        assert!(compare(&hf(), &wrong, &Strings::new(5), 0..160).is_err());
    }
}
