//! What iterating over a value yields.

use std::rc::Rc;

use super::Interpreter;
use crate::template::fail::{Outcome, raise, refuse};
use crate::template::value::{Items, Text, Value, View};

impl<'a, 'v> Interpreter<'a, 'v> {
    /// `list(value)`
    pub(in crate::template) fn collect(&mut self, value: &Value<'a>) -> Outcome<Rc<Items<'a>>> {
        let items: Vec<Value<'a>> = match value {
            Value::List(items) | Value::Tuple(items) => {
                self.spend(items.len() as u64 / 16)?;
                return Ok(items.clone());
            }
            Value::Undefined(_) => Vec::new(),
            Value::Str(text) => {
                self.spend(text.as_str().len() as u64)?;
                characters(text)
            }
            Value::Dict(dict) | Value::View(dict, View::Keys) => {
                dict.entries().iter().map(|(key, _)| key.clone()).collect()
            }
            Value::View(dict, View::Values) => {
                dict.entries().iter().map(|(_, value)| value.clone()).collect()
            }
            Value::View(dict, View::Items) => dict
                .entries()
                .iter()
                .map(|(key, value)| Value::tuple(vec![key.clone(), value.clone()]))
                .collect(),
            Value::Range(range) => {
                self.spend(range.len() as u64)?;
                (0..range.len()).filter_map(|at| range.get(at)).map(Value::Int).collect()
            }
            Value::Iter(iter) => {
                let mut items = Vec::new();
                while let Some(item) = iter.next()? {
                    items.push(item);
                }
                items
            }
            Value::Loop(_) => return Err(refuse("iterating over a loop")),
            other => return Err(raise(format!("'{}' object is not iterable", other.type_name()))),
        };
        self.spend(items.len() as u64)?;
        Ok(Items::of(items))
    }
}

fn characters<'a>(text: &Text<'a>) -> Vec<Value<'a>> {
    match text {
        Text::Borrowed(text) => text
            .char_indices()
            .filter_map(|(at, c)| text.get(at..at + c.len_utf8()))
            .map(|part| Value::Str(Text::Borrowed(part)))
            .collect(),
        Text::Owned(text) | Text::Markup(text) => text.chars().map(Value::text).collect(),
    }
}
