//! Filters of text.

use std::rc::Rc;

use super::{WIDTH_MAX, whole};
use crate::template::args::Given;
use crate::template::eval::Interpreter;
use crate::template::fail::{Outcome, raise, refuse};
use crate::template::python::{self, Ends, is_space, split_lines, strip};
use crate::template::value::{Dict, Text, Value, count_chars, escape};
use crate::template::{methods, ops};

impl<'a> Interpreter<'a, '_> {
    pub(super) fn text_filter(
        &mut self,
        name: &str,
        value: &Value<'a>,
        given: Given<'a>,
    ) -> Outcome<Value<'a>> {
        match name {
            "trim" | "string" if matches!(value, Value::Unknown(_)) => {
                given.bind(name, [], 0)?;
                match value {
                    Value::Unknown(start) if name == "trim" => Ok(methods::strip_unknown(start)),
                    other => Ok(other.clone()),
                }
            }
            "trim" => self.trim(value, given),
            "string" => {
                given.bind(name, [], 0)?;
                Ok(Value::Str(self.soft_text(value)?))
            }
            "upper" | "lower" | "capitalize" => {
                given.bind(name, [], 0)?;
                let text = self.soft_text(value)?;
                unmarked(&text)?;
                self.spend_bytes(text.as_str().len())?;
                Ok(Value::text(match name {
                    "upper" => python::upper(text.as_str()),
                    "lower" => python::lower(text.as_str()),
                    _ => python::capitalize(text.as_str())?,
                }))
            }
            "title" => {
                given.bind(name, [], 0)?;
                let text = self.soft_text(value)?;
                self.spend_bytes(text.as_str().len())?;
                Ok(Value::text(title(text.as_str())))
            }
            "replace" => {
                let [old, new, count] = given.bind(name, ["old", "new", "count"], 2)?;
                // `str` of it: a mark as HTML is lost.
                let text = match self.soft_text(value)? {
                    Text::Markup(text) => Text::Owned(text),
                    text => text,
                };
                let old = self.soft_text(&old.unwrap_or(Value::None))?;
                let new = self.soft_text(&new.unwrap_or(Value::None))?;
                let count = match count {
                    None | Some(Value::None) => -1,
                    Some(count) => whole(&count)?,
                };
                self.replace(&text, old.as_str(), new.as_str(), count)
            }
            "indent" => self.indent(value, given),
            "truncate" => self.truncate(value, given),
            "center" => {
                let [width] = given.bind(name, ["width"], 0)?;
                let text = self.soft_text(value)?;
                let given = Given { positional: vec![width.unwrap_or(Value::Int(80))], keywords: Vec::new() };
                self.call_method(&Value::Str(text), "center", given)
            }
            "wordcount" => self.count_words(value, given),
            "format" => self.percent_format(value, given),
            "safe" if !matches!(value, Value::Unknown(_)) => {
                given.bind(name, [], 0)?;
                Ok(Value::Str(Text::Markup(self.soft_text(value)?.as_str().into())))
            }
            "escape" | "e" | "forceescape" if !matches!(value, Value::Unknown(_)) => {
                given.bind(name, [], 0)?;
                let text = self.soft_text(value)?;
                self.spend_bytes(text.as_str().len())?;
                let again = name == "forceescape";
                Ok(Value::Str(if again {
                    Text::Markup(escape(text.as_str()).into())
                } else {
                    text.escaped()
                }))
            }
            "escape" | "e" | "forceescape" | "safe" | "striptags" | "urlize" | "xmlattr" | "urlencode"
            | "filesizeformat" | "pprint" | "random" | "wordwrap" => {
                Err(refuse("this filter, but for the last one of an output"))
            }
            _ => Err(raise(format!("No filter named {}.", crate::template::repr::quote(name)))),
        }
    }

    fn count_words(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        given.bind("wordcount", [], 0)?;
        let text = self.soft_text(value)?;
        if !text.as_str().is_ascii() {
            return Err(refuse("counting words beyond ASCII"));
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = text.as_str().split(|c| !is_word(c)).filter(|word| !word.is_empty());
        Ok(Value::Int(words.count() as i64))
    }

    fn trim(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let [chars] = given.bind("trim", ["chars"], 0)?;
        let text = self.soft_text(value)?;
        let chars = match &chars {
            None | Some(Value::None) => None,
            Some(Value::Str(chars)) => Some(chars.as_str()),
            Some(_) => return Err(raise("strip arg must be None or str")),
        };
        self.spend_bytes(text.as_str().len())?;
        Ok(Value::Str(strip(&text, chars, Ends { start: true, end: true })))
    }

    /// `format`, which is `%` with the arguments of the filter.
    fn percent_format(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let format = self.soft_text(value)?;
        unmarked(&format)?;
        if given.keywords.is_empty() {
            return self.percent(format.as_str(), &given, None);
        }
        if !given.positional.is_empty() {
            return Err(raise("can't handle positional and keyword arguments at the same time"));
        }
        let entries = given.keywords.into_iter().map(|(name, value)| (Value::Str(name), value));
        let mapping = Value::Dict(Rc::new(Dict::of(entries.collect())));
        let given = Given { positional: vec![mapping.clone()], keywords: Vec::new() };
        self.percent(format.as_str(), &given, Some(&mapping))
    }

    fn indent(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let [width, first, blank] = given.bind("indent", ["width", "first", "blank"], 0)?;
        let indention = match width {
            None => "    ".to_owned(),
            Some(Value::Str(text)) => text.as_str().to_owned(),
            Some(width) => {
                let width = whole(&width)?;
                if width > WIDTH_MAX {
                    return Err(refuse("an indentation as wide as this"));
                }
                " ".repeat(usize::try_from(width).unwrap_or_default())
            }
        };
        let Value::Str(text) = value else {
            return Err(match value {
                Value::Undefined(missing) => missing.fail(),
                other => {
                    raise(format!("unsupported operand type(s) for +=: '{}' and 'str'", other.type_name()))
                }
            });
        };
        unmarked(text)?;
        let text = text.as_str().to_owned() + "\n";
        let lines = split_lines(&text, false);
        self.spend_bytes(text.len() + lines.len() * indention.len())?;
        let blank = blank.is_some_and(|blank| blank.is_true());
        let mut out = String::with_capacity(text.len() + lines.len() * indention.len());
        if first.is_some_and(|first| first.is_true()) {
            out.push_str(&indention);
        }
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                out.push('\n');
                if blank || !line.is_empty() {
                    out.push_str(&indention);
                }
            }
            out.push_str(line);
        }
        Ok(Value::text(out))
    }

    fn truncate(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let [length, killwords, end, leeway] =
            given.bind("truncate", ["length", "killwords", "end", "leeway"], 0)?;
        let length = length.map_or(Ok(255), |length| whole(&length))?;
        let leeway = match leeway {
            None | Some(Value::None) => 5,
            Some(leeway) => whole(&leeway)?,
        };
        let end = match end {
            None => Text::Borrowed("..."),
            Some(Value::Str(end)) => end,
            Some(_) => return Err(refuse("truncate with an end that is no string")),
        };
        let Value::Str(text) = value else { return Err(refuse("truncate of what is no string")) };
        let end_length = count_chars(end.as_str()) as i64;
        if length < end_length || leeway < 0 {
            return Err(raise(format!("expected length >= {end_length}, got {length}")));
        }
        self.spend_bytes(text.as_str().len())?;
        if count_chars(text.as_str()) as i64 <= length.saturating_add(leeway) {
            return Ok(value.clone());
        }
        unmarked(text)?;
        let cut = ops::slice_text(text, None, Some(length - end_length), 1);
        let kept = if killwords.is_some_and(|kill| kill.is_true()) {
            cut.as_str()
        } else {
            cut.as_str().rsplit_once(' ').map_or(cut.as_str(), |(before, _)| before)
        };
        Ok(Value::text([kept, end.as_str()].concat()))
    }
}

/// Refuses a text marked as HTML, where what is made of it would be marked and escaped as well.
fn unmarked(text: &Text<'_>) -> Outcome<()> {
    if text.is_markup() { Err(refuse("this filter of a text marked as HTML")) } else { Ok(()) }
}

/// jinja2's own `title`: letters after white space, `-`, `(`, `{`, `[` and `<` are upper case.
fn title(text: &str) -> String {
    let breaks = |c: char| is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if breaks(first) {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        }
        let end = rest.find(breaks).unwrap_or(rest.len());
        out.extend(first.to_uppercase());
        out.push_str(&python::lower(rest.get(first.len_utf8()..end).unwrap_or_default()));
        rest = rest.get(end..).unwrap_or_default();
    }
    out
}
