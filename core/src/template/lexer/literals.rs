//! Numbers and strings in expressions.

use super::{Kind, Lexer};

/// A whole number of more digits than this is refused: templates have none, and Python's own limit is 4300.
const INTEGER_DIGITS_MAX: usize = 400;

impl<'s> Lexer<'s> {
    pub(super) fn number(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let after_dot = self.text.get(..self.at).is_some_and(|text| text.ends_with('.'));
        let whole = digits(rest);
        let float = if after_dot { None } else { float_end(rest, whole) };
        if let Some(end) = float {
            let text = rest.get(..end).unwrap_or_default().replace('_', "");
            let Ok(value) = text.parse() else {
                return self.fail("a number that cannot be read");
            };
            self.push(Kind::Float(value));
            self.advance(end);
            return Ok(());
        }
        let radix = match rest.get(..2) {
            Some("0x" | "0X") => 16,
            Some("0b" | "0B") => 2,
            Some("0o" | "0O") => 8,
            _ => 10,
        };
        let radix_digits =
            |text: &str| text.find(|c: char| c != '_' && !c.is_digit(radix)).unwrap_or(text.len());
        let (skip, end) = match radix {
            10 if rest.starts_with('0') => (0, rest.find(|c| c != '0' && c != '_').unwrap_or(rest.len())),
            10 => (0, whole),
            _ => (2, 2 + radix_digits(rest.get(2..).unwrap_or_default())),
        };
        let text = rest.get(skip..end).unwrap_or_default().replace('_', "");
        if text.len() > INTEGER_DIGITS_MAX || text.is_empty() {
            return self.fail("a number that cannot be read");
        }
        match i64::from_str_radix(&text, radix) {
            Ok(value) => self.push(Kind::Int(value)),
            Err(_) if radix == 10 => self.push(Kind::Big(text)),
            Err(_) => return self.fail("a number that cannot be read"),
        }
        self.advance(end);
        Ok(())
    }

    pub(super) fn string(&mut self, quote: char) -> Result<(), String> {
        let rest = self.rest();
        let mut out = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, character)) = chars.next() {
            if character == quote {
                self.push(Kind::Str(out));
                self.advance(at + 1);
                return Ok(());
            }
            if character != '\\' {
                out.push(character);
                continue;
            }
            let Some((at, escaped)) = chars.next() else { break };
            let hex = |chars: &mut dyn Iterator<Item = (usize, char)>, count: usize| {
                let mut value = 0_u32;
                for _ in 0..count {
                    let digit = chars.next()?.1.to_digit(16)?;
                    value = value.checked_mul(16)?.checked_add(digit)?;
                }
                char::from_u32(value)
            };
            let read = match escaped {
                '\n' => continue,
                'n' => Some('\n'),
                't' => Some('\t'),
                'r' => Some('\r'),
                'a' => Some('\u{7}'),
                'b' => Some('\u{8}'),
                'f' => Some('\u{c}'),
                'v' => Some('\u{b}'),
                '\\' | '\'' | '"' => Some(escaped),
                'x' => hex(&mut chars, 2),
                'u' => hex(&mut chars, 4),
                'U' => hex(&mut chars, 8),
                '0'..='7' => {
                    let digits: String = rest
                        .get(at..)
                        .unwrap_or_default()
                        .chars()
                        .take(3)
                        .take_while(|c| ('0'..='7').contains(c))
                        .collect();
                    for _ in 1..digits.len() {
                        chars.next();
                    }
                    u32::from_str_radix(&digits, 8).ok().and_then(char::from_u32)
                }
                // Python reads both in ways of their own.
                'N' => None,
                other if !other.is_ascii() => None,
                other => {
                    out.push('\\');
                    Some(other)
                }
            };
            match read {
                Some(character) => out.push(character),
                None => return self.fail("an escape in a string that is not supported"),
            }
        }
        self.fail("a string without its end")
    }
}

/// Length of `(\d+_)*\d+` at the start.
fn digits(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut end = 0;
    loop {
        match (bytes.get(end), bytes.get(end + 1)) {
            (Some(b'0'..=b'9'), _) => end += 1,
            (Some(b'_'), Some(b'0'..=b'9')) if end > 0 => end += 1,
            _ => return end,
        }
    }
}

/// Where a float ends whose whole part is `whole` bytes long; none for a whole number.
fn float_end(text: &str, whole: usize) -> Option<usize> {
    let fraction = |at: usize| {
        let after = text.get(at..)?.strip_prefix('.')?;
        Some(digits(after)).filter(|count| *count > 0).map(|count| at + 1 + count)
    };
    let exponent = |at: usize| {
        let after = text.get(at..)?.strip_prefix(['e', 'E'])?;
        let sign = usize::from(after.starts_with(['+', '-']));
        let count = digits(after.get(sign..)?);
        (count > 0).then_some(at + 1 + sign + count)
    };
    let with_fraction = fraction(whole);
    exponent(with_fraction.unwrap_or(whole)).or(with_fraction)
}
