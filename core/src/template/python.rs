//! What Python's jinja2 does differently from `minijinja`: the parts that chat templates use.
//!
//! The template sees only strings, lists and objects of them, booleans and None (tools and documents are not
//! modelled), so numbers are the template's own. Where Python would print something that is not reproduced here (a
//! list, a float), the rendering fails and the chat passes. Known gap: `~`, `join` and `format` of a list, an object, a
//! boolean or None print minijinja's spelling.

use std::io;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Makes an environment behave like Python's.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_formatter(print);
    environment.set_unknown_method_callback(method);
    environment.add_filter("trim", trim);
    environment.add_filter("string", string);
    environment.add_filter("tojson", tojson);
    environment.add_filter("title", ascii_only);
    environment.add_filter("capitalize", ascii_only_capitalize);
}

fn refuse(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{what} is not modelled"))
}

/// `{{ value }}` as Python's `str()` spells it.
fn print(out: &mut Output, _state: &mut State, value: &Value) -> Result<(), Error> {
    Ok(out.write_str(&spell(value)?)?)
}

fn spell(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(String::new()),
        ValueKind::None => Ok("None".to_owned()),
        ValueKind::Bool => Ok(if value.is_true() { "True" } else { "False" }.to_owned()),
        ValueKind::Number if value.is_integer() => Ok(value.to_string()),
        ValueKind::String => Ok(value.as_str().unwrap_or_default().to_owned()),
        _ => Err(refuse("printing anything but text, whole numbers, booleans and None")),
    }
}

fn string(value: &Value) -> Result<String, Error> {
    spell(value)
}

/// Python's `str.isspace`: Unicode's White_Space and four control characters.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Which ends of a text are stripped.
#[derive(Clone, Copy)]
struct Ends {
    start: bool,
    end: bool,
}

/// `str.strip` and its two halves. No `chars`: white space.
fn strip(text: &str, chars: Option<&str>, ends: Ends) -> Value {
    let drop = |character: char| match chars {
        Some(chars) => chars.contains(character),
        None => is_space(character),
    };
    let text = if ends.start { text.trim_start_matches(drop) } else { text };
    let text = if ends.end { text.trim_end_matches(drop) } else { text };
    Value::from(text)
}

fn trim(value: &Value, chars: Option<&str>) -> Result<Value, Error> {
    Ok(strip(&spell(value)?, chars, Ends { start: true, end: true }))
}

fn ascii_only(value: &Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) if text.is_ascii() => Ok(Value::from(minijinja::filters::title(text.into()))),
        _ => Err(refuse("title of text beyond ASCII")),
    }
}

fn ascii_only_capitalize(value: &Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) if text.is_ascii() => {
            let (first, rest) = text.split_at_checked(1).unwrap_or((text, ""));
            Ok(Value::from(first.to_ascii_uppercase() + &rest.to_ascii_lowercase()))
        }
        _ => Err(refuse("capitalize of text beyond ASCII")),
    }
}

/// Methods of Python's types. Those that `minijinja_contrib` has in a form that differs for some text are refused for
/// such text.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        let ends = match name {
            "strip" => Some(Ends { start: true, end: true }),
            "lstrip" => Some(Ends { start: true, end: false }),
            "rstrip" => Some(Ends { start: false, end: true }),
            _ => None,
        };
        if let Some(ends) = ends {
            let (chars,): (Option<&str>,) = minijinja::value::from_args(args)?;
            return Ok(strip(text, chars, ends));
        }
        let plain = |text: &str| text.chars().all(|c| matches!(c, ' '..='~' | '\n'));
        let differs = match name {
            "title" | "capitalize" | "splitlines" => true,
            // Without a separator Python splits at its own idea of white space.
            "split" => args.first().is_none_or(Value::is_none),
            name => name.starts_with("is"),
        };
        if differs && !plain(text) {
            return Err(refuse("a string method beyond printable ASCII"));
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// `json.dumps(value, ensure_ascii=False)`, with `indent` or without.
fn tojson(value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = kwargs.get("indent")?;
    kwargs.assert_all_used()?;
    let failed = |_| refuse("tojson of this value");
    if value.is_undefined() {
        return Err(refuse("tojson of an undefined value"));
    }
    let mut bytes = Vec::new();
    match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, PythonJson)).map_err(failed)?,
        Some(_) => return Err(refuse("tojson with indent")),
    }
    String::from_utf8(bytes).map(Value::from).map_err(|_| refuse("tojson of this value"))
}

/// Python's default separators, `", "` and `": "`.
struct PythonJson;

impl Formatter for PythonJson {
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        // Outside this range Python writes an exponent, and in another form.
        if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
            return CompactFormatter.write_f64(writer, value);
        }
        Err(io::Error::other("a float with an exponent"))
    }

    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
