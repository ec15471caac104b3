//! Regular expressions that Oniguruma, which Python's `tokenizers` matches with, and Rust's engines (`fancy-regex`,
//! `regex-automata`) may read differently.
//!
//! To Oniguruma `^` and `$` are ends of lines; to the others those of the text. `\w`, and `\b` with it, have other
//! characters (U+200D is one). The rest have no meaning in common, or a doubtful one.

/// Escapes that are refused.
const ESCAPES: &str = "AbBgGhHkKMORuvVwWXyYzZ";

/// Scripts that may be named: sets of characters that only grow with Unicode.
const SCRIPTS: [&str; 12] = [
    "Arabic",
    "Bengali",
    "Cyrillic",
    "Devanagari",
    "Greek",
    "Han",
    "Hangul",
    "Hebrew",
    "Hiragana",
    "Katakana",
    "Latin",
    "Thai",
];

/// Whether what follows `\p` is `{L}`, `{Lu}` or a script. Other names are POSIX's to Oniguruma (`Punct` has `$`), or unknown.
fn is_plain_property(rest: &str) -> bool {
    let name = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    name.is_some_and(|(name, _)| {
        let mut letters = name.chars();
        let category = letters.next().is_some_and(|letter| "CLMNPSZ".contains(letter))
            && letters.next().is_none_or(|letter| letter.is_ascii_lowercase())
            && letters.next().is_none();
        category || SCRIPTS.contains(&name)
    })
}

/// Whether an expression means the same to both.
pub(super) fn is_plain(regex: &str) -> bool {
    let (mut escaped, mut before, mut depth) = (false, ' ', 0_u32);
    for (at, character) in regex.char_indices() {
        match character {
            'p' | 'P' if escaped && !is_plain_property(regex.get(at + 1..).unwrap_or_default()) => {
                return false;
            }
            _ if escaped && ESCAPES.contains(character) => return false,
            _ if escaped => {}
            // `[[:alpha:]]` and `[]a]`.
            ':' | ']' if before == '[' => return false,
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            // In a set they are themselves, or what is not in it.
            '^' | '$' if depth == 0 => return false,
            _ => {}
        }
        before = if escaped { ' ' } else { character };
        escaped = character == '\\' && !escaped;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_models_are_plain_and_those_that_differ_are_not() {
        for plain in [
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
            r"[\^\$]| {2,}|\\b|[\p{Lu}&&[^\p{Han}]]",
        ] {
            assert!(is_plain(plain), "{plain}");
        }
        // What Python's tokenizers 0.23.3 and the crate with fancy-regex cut differently: "a\nb" and "22\u{200d}".
        for different in
            [r"^\s+|\s+$", r"\d{1,3}(?=(?:\d{3})*\b)", r"\w+", r"[[:alpha:]]+", r"\\\w", r"\p{Punct}", r"\pL"]
        {
            assert!(!is_plain(different), "{different}");
        }
    }
}
