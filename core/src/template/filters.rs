//! jinja2's filters, and the `tojson` that transformers puts in their place. Those for any value are here.
//!
//! - `filters/items.rs`: filters that look at each item of a sequence: `map`, `select` and their kin.
//! - `filters/numbers.rs`: filters of numbers.
//! - `filters/sequences.rs`: filters that order, join or divide a sequence.
//! - `filters/text.rs`: filters of text.

mod items;
mod numbers;
mod sequences;
mod text;

use std::cell::Cell;
use std::rc::Rc;

use super::args::Given;
use super::eval::Interpreter;
use super::fail::{Outcome, raise, refuse};
use super::methods;
use super::repr::Json;
use super::value::{Iter, Text, Value};

/// The widest indentation: more is not what a template means, and costs memory.
const WIDTH_MAX: i64 = 1_024;

impl<'a> Interpreter<'a, '_> {
    pub(super) fn filter(&mut self, name: &str, value: Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        self.spend(1)?;
        match name {
            "default" | "d" => {
                let [default, boolean] = given.bind(name, ["default_value", "boolean"], 0)?;
                let boolean = boolean.is_some_and(|boolean| boolean.is_true());
                let missing = matches!(value, Value::Undefined(_)) || (boolean && !value.is_true());
                Ok(if missing { default.unwrap_or(Value::Str(Text::Borrowed(""))) } else { value })
            }
            "tojson" => self.tojson(&value, given),
            "length" | "count" => {
                given.bind(name, [], 0)?;
                if let Value::Str(text) = &value {
                    self.spend_bytes(text.as_str().len())?;
                }
                let length = value
                    .len()
                    .ok_or_else(|| raise(format!("object of type '{}' has no len()", value.type_name())))?;
                Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
            }
            "list" => {
                given.bind(name, [], 0)?;
                Ok(Value::List(self.collect(&value)?))
            }
            "items" => {
                given.bind(name, [], 0)?;
                match &value {
                    Value::Undefined(_) => Ok(Value::iter(Vec::new())),
                    Value::Dict(dict) => {
                        let items = self.collect(&Value::View(dict.clone(), super::value::View::Items))?;
                        Ok(Value::iter(items.to_vec()))
                    }
                    _ => Ok(failing(Vec::new(), raise("Can only get item pairs from a mapping."))),
                }
            }
            "first" | "last" | "reverse" | "join" | "sum" | "min" | "max" | "sort" | "unique" | "groupby"
            | "batch" | "slice" | "dictsort" => self.sequence_filter(name, &value, given),
            "map" => self.map(&value, given),
            "select" | "reject" | "selectattr" | "rejectattr" => self.select(name, &value, given),
            "attr" => {
                let [attribute] = given.bind(name, ["name"], 1)?;
                match (&value, attribute) {
                    (Value::Undefined(_), _) => Err(refuse("attr of an undefined value")),
                    (Value::Dict(_), Some(Value::Str(name)))
                        if methods::kind(&value, name.as_str()) == methods::Kind::None =>
                    {
                        Ok(Value::undefined("a mapping has no such attribute"))
                    }
                    (_, Some(name @ Value::Str(_))) => self.item(&value, &name),
                    _ => Err(refuse("attr with a name that is no string")),
                }
            }
            "abs" | "int" | "float" | "round" => self.number_filter(name, &value, given),
            _ => self.text_filter(name, &value, given),
        }
    }

    /// `json.dumps(value, ensure_ascii=False, ..)`, as transformers defines the filter.
    fn tojson(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
        let [ensure_ascii, indent, separators, sort_keys] = given.bind("tojson", names, 0)?;
        let indent = match indent {
            None | Some(Value::None) => None,
            Some(Value::Str(text)) => Some(text.as_str().to_owned()),
            Some(width) => {
                let width = whole(&width)?;
                if width > WIDTH_MAX {
                    return Err(refuse("an indentation as wide as this"));
                }
                Some(" ".repeat(usize::try_from(width).unwrap_or_default()))
            }
        };
        let (item_separator, key_separator) = match separators {
            None | Some(Value::None) => {
                ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned())
            }
            Some(Value::Tuple(items) | Value::List(items)) => match items.as_slice() {
                [Value::Str(item), Value::Str(key)] => (item.as_str().to_owned(), key.as_str().to_owned()),
                _ => return Err(raise("separators must be two strings")),
            },
            Some(_) => return Err(raise("separators must be two strings")),
        };
        let json = Json {
            ensure_ascii: ensure_ascii.is_some_and(|ascii| ascii.is_true()),
            indent,
            item_separator,
            key_separator,
            sort_keys: sort_keys.is_some_and(|sort| sort.is_true()),
        };
        let mut text = String::new();
        json.write(&mut text, value, 0)?;
        self.spend_bytes(text.len())?;
        Ok(Value::text(text))
    }
}

/// A generator that goes wrong when its items have been taken.
fn failing<'a>(items: Vec<Value<'a>>, fail: Box<super::fail::Fail>) -> Value<'a> {
    Value::Iter(Rc::new(Iter { items, at: Cell::new(0), fails: Some(fail) }))
}

fn whole(value: &Value<'_>) -> Outcome<i64> {
    match value {
        Value::Undefined(missing) => Err(missing.fail()),
        other => other.as_int().ok_or_else(|| {
            raise(format!("'{}' object cannot be interpreted as an integer", other.type_name()))
        }),
    }
}
