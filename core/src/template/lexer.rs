//! Template text to tokens, as jinja2's lexer makes them with `trim_blocks` and `lstrip_blocks`.
//!
//! - `lexer/literals.rs`: numbers and strings in expressions.

mod literals;

use super::python::is_space;

/// A part of the text, with the line it starts in.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Token {
    pub(super) line: u32,
    pub(super) kind: Kind,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Kind {
    Data(String),
    VariableBegin,
    VariableEnd,
    BlockBegin,
    BlockEnd,
    Name(String),
    Str(String),
    Int(i64),
    Big(String),
    Float(f64),
    Op(&'static str),
}

/// Longest first, where one starts another.
const OPERATORS: [&str; 24] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|",
];
const OPERATORS_REST: [&str; 2] = [",", ";"];

pub(super) fn tokens(source: &str) -> Result<Vec<Token>, String> {
    let mut text = source.replace("\r\n", "\n").replace('\r', "\n");
    if text.ends_with('\n') {
        text.pop();
    }
    let mut lexer = Lexer { text: &text, at: 0, line: 1, line_starting: true, tokens: Vec::new() };
    lexer.root()?;
    Ok(lexer.tokens)
}

/// How white space around a tag goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Minus,
    Plus,
    None,
}

struct Lexer<'s> {
    text: &'s str,
    at: usize,
    line: u32,
    /// Whether what was matched last ended with a line break.
    line_starting: bool,
    tokens: Vec<Token>,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn advance(&mut self, bytes: usize) {
        let passed = self.rest().get(..bytes).unwrap_or_default();
        self.line += passed.matches('\n').count() as u32;
        self.line_starting = passed.ends_with('\n');
        self.at += bytes;
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { line: self.line, kind });
    }

    fn fail<T>(&self, what: impl std::fmt::Display) -> Result<T, String> {
        Err(format!("syntax error: line {}: {what}", self.line))
    }

    fn root(&mut self) -> Result<(), String> {
        loop {
            let rest = self.rest();
            let Some(start) = tag_start(rest) else {
                if !rest.is_empty() {
                    self.push(Kind::Data(rest.to_owned()));
                }
                return Ok(());
            };
            let (before, tag) = rest.split_at(start);
            let kind = tag.as_bytes().get(1).copied().unwrap_or_default();
            let sign = sign_at(tag, 2);
            let data = self.data_before(before, sign, kind == b'{');
            if !data.is_empty() {
                self.push(Kind::Data(data.to_owned()));
            }
            let opened = start + 2 + usize::from(sign != Sign::None);
            match kind {
                b'#' => {
                    self.advance(opened);
                    self.comment()?;
                }
                b'{' => {
                    self.advance(opened);
                    self.push(Kind::VariableBegin);
                    self.inside(false)?;
                }
                _ => match raw_begin(tag) {
                    Some(length) => {
                        self.advance(start + length);
                        self.raw()?;
                    }
                    None => {
                        self.advance(opened);
                        self.push(Kind::BlockBegin);
                        self.inside(true)?;
                    }
                },
            }
        }
    }

    /// Text before a tag, less what the tag strips from it.
    fn data_before<'t>(&self, text: &'t str, sign: Sign, variable: bool) -> &'t str {
        match sign {
            Sign::Minus => text.trim_end_matches(is_space),
            Sign::None if !variable => {
                let line = text.rfind('\n').map_or(0, |at| at + 1);
                let last = text.get(line..).unwrap_or_default();
                let blank = !last.is_empty() && last.chars().all(is_space);
                if blank && (line > 0 || self.line_starting) {
                    text.get(..line).unwrap_or_default()
                } else {
                    text
                }
            }
            _ => text,
        }
    }

    fn comment(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let Some(end) = rest.find("#}") else {
            return self.fail("Missing end of comment tag");
        };
        self.close(end, 0, true);
        Ok(())
    }

    /// Passes the end tag at `end` (`skip` bytes belong to what is inside it) and the white space that goes with it.
    fn close(&mut self, end: usize, skip: usize, trims: bool) {
        let rest = self.rest();
        let before = rest.get(..end).unwrap_or_default();
        let after = rest.get(end + 2..).unwrap_or_default();
        let minus = before.get(skip..).is_some_and(|inside| inside.ends_with('-'));
        let plus = before.get(skip..).is_some_and(|inside| inside.ends_with('+'));
        let space = if minus {
            after.len() - after.trim_start_matches(is_space).len()
        } else {
            usize::from(trims && !plus && after.starts_with('\n'))
        };
        self.advance(end + 2 + space);
    }

    fn raw(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let mut from = 0;
        while let Some(found) = rest.get(from..).and_then(|rest| rest.find("{%")) {
            let at = from + found;
            let tag = rest.get(at..).unwrap_or_default();
            if let Some((sign, end)) = raw_end(tag) {
                let text = rest.get(..at).unwrap_or_default();
                let data = self.data_before(text, sign, false);
                if !data.is_empty() {
                    self.push(Kind::Data(data.to_owned()));
                }
                self.close(at + end, at, true);
                return Ok(());
            }
            from = at + 2;
        }
        self.fail("Missing end of raw directive")
    }

    /// Tokens of an expression or a statement, up to and with its end.
    fn inside(&mut self, block: bool) -> Result<(), String> {
        let mut open: Vec<&'static str> = Vec::new();
        loop {
            let rest = self.rest();
            let Some(first) = rest.chars().next() else {
                return self.fail("unexpected end of template");
            };
            if open.is_empty() {
                let close = if block { "%}" } else { "}}" };
                let signed = rest.strip_prefix('-').or_else(|| rest.strip_prefix('+').filter(|_| block));
                let sign = usize::from(signed.is_some_and(|rest| rest.starts_with(close)));
                if sign == 1 || rest.starts_with(close) {
                    self.push(if block { Kind::BlockEnd } else { Kind::VariableEnd });
                    self.close(sign, 0, block);
                    return Ok(());
                }
            }
            if is_space(first) {
                self.advance(rest.len() - rest.trim_start_matches(is_space).len());
            } else if first.is_ascii_digit() {
                self.number()?;
            } else if first == '_' || first.is_alphanumeric() {
                let end = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                self.push(Kind::Name(rest.get(..end).unwrap_or_default().to_owned()));
                self.advance(end);
            } else if first == '\'' || first == '"' {
                self.string(first)?;
            } else {
                let operators = OPERATORS.iter().chain(&OPERATORS_REST);
                let Some(op) = operators.copied().find(|op| rest.starts_with(op)) else {
                    return self.fail("unexpected character");
                };
                match op {
                    "(" => open.push(")"),
                    "[" => open.push("]"),
                    "{" => open.push("}"),
                    ")" | "]" | "}" if open.pop() != Some(op) => {
                        return self.fail(format_args!("unexpected '{op}'"));
                    }
                    _ => {}
                }
                self.push(Kind::Op(op));
                self.advance(op.len());
            }
        }
    }
}

/// Where the next tag starts.
fn tag_start(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(found) = text.get(from..)?.find('{') {
        let at = from + found;
        if matches!(bytes.get(at + 1), Some(b'{' | b'%' | b'#')) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

fn sign_at(text: &str, at: usize) -> Sign {
    match text.as_bytes().get(at) {
        Some(b'-') => Sign::Minus,
        Some(b'+') => Sign::Plus,
        _ => Sign::None,
    }
}

/// Length of `{% raw %}` at the start of `tag`, with the white space that it strips.
fn raw_begin(tag: &str) -> Option<usize> {
    let sign = usize::from(sign_at(tag, 2) != Sign::None);
    let inside = tag.get(2 + sign..)?.trim_start_matches(is_space).strip_prefix("raw")?;
    let inside = inside.trim_start_matches(is_space);
    if let Some(rest) = inside.strip_prefix("-%}") {
        return Some(tag.len() - rest.trim_start_matches(is_space).len());
    }
    Some(tag.len() - inside.strip_prefix("%}")?.len())
}

/// The sign of an `{% endraw %}` at the start of `tag`, and where its `%}` is.
fn raw_end(tag: &str) -> Option<(Sign, usize)> {
    let sign = sign_at(tag, 2);
    let inside = tag.get(2 + usize::from(sign != Sign::None)..)?.trim_start_matches(is_space);
    let inside = inside.strip_prefix("endraw")?.trim_start_matches(is_space);
    let end = tag.len() - inside.len();
    match inside {
        inside if inside.starts_with("%}") => Some((sign, end)),
        inside if inside.starts_with("-%}") || inside.starts_with("+%}") => Some((sign, end + 1)),
        _ => None,
    }
}
