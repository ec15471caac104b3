//! Functions that every template has.

use std::rc::Rc;

use super::Interpreter;
use crate::template::args::Given;
use crate::template::fail::{Outcome, raise, refuse};
use crate::template::value::{Dict, Global, Range, Text, Value};

/// Longest `range`, as in jinja2's sandbox.
const RANGE_MAX: usize = 100_000;

impl<'a, 'v> Interpreter<'a, 'v> {
    pub(super) fn call_global(&mut self, global: Global, given: Given<'a>) -> Outcome<Value<'a>> {
        match global {
            Global::Range => self.make_range(given),
            Global::Dict => Ok(Value::Dict(Rc::new(self.make_dict(given)?))),
            Global::Namespace => {
                let dict = self.make_dict(given)?;
                let mut entries = Vec::new();
                for (key, value) in dict.entries() {
                    let Value::Str(name) = key else { return Err(refuse("a namespace with odd names")) };
                    entries.push((name.clone(), value.clone()));
                }
                self.namespaces.push(entries);
                self.spend(4)?;
                Ok(Value::Namespace(self.namespaces.len() - 1))
            }
            Global::Cycler => {
                let items = given.positional_only("cycler")?;
                if items.is_empty() {
                    return Err(raise("at least one item has to be provided"));
                }
                self.spend(4)?;
                self.cyclers.push((items, 0));
                Ok(Value::Cycler(self.cyclers.len() - 1))
            }
            Global::Joiner => {
                let [separator] = given.bind("joiner", ["sep"], 0)?;
                self.spend(4)?;
                self.joiners.push((separator.unwrap_or(Value::Str(Text::Borrowed(", "))), false));
                Ok(Value::Joiner(self.joiners.len() - 1))
            }
            Global::Lipsum => Err(refuse("random text")),
            Global::RaiseException => {
                let [message] = given.bind("raise_exception", ["message"], 1)?;
                Err(raise(self.text_of(&message.unwrap_or(Value::None))?))
            }
            Global::StrftimeNow => {
                let [format] = given.bind("strftime_now", ["format"], 1)?;
                let Some(Value::Str(format)) = format else {
                    return Err(raise("strftime() argument 1 must be str"));
                };
                let Some(now) = self.now else { return Err(refuse("the time, which is not known")) };
                self.spend_bytes(format.as_str().len())?;
                Ok(Value::text(now.format(format.as_str())?))
            }
        }
    }

    /// `range(..)`
    fn make_range(&mut self, given: Given<'a>) -> Outcome<Value<'a>> {
        let [a, b, c] = given.bind("range", ["", "", ""], 1)?;
        let int = |value: Option<Value<'a>>| match value {
            None => Ok(None),
            Some(value) => match value.as_int() {
                Some(value) => Ok(Some(value)),
                None => Err(match &value {
                    Value::Undefined(missing) => missing.fail(),
                    other => {
                        raise(format!("'{}' object cannot be interpreted as an integer", other.type_name()))
                    }
                }),
            },
        };
        let (a, b, c) = (int(a)?.unwrap_or_default(), int(b)?, int(c)?);
        let (start, stop) = b.map_or((0, a), |b| (a, b));
        let step = c.unwrap_or(1);
        if step == 0 {
            return Err(raise("range() arg 3 must not be zero"));
        }
        let range = Range { start, stop, step };
        if range.len() > RANGE_MAX {
            return Err(raise("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000)."));
        }
        Ok(Value::Range(range))
    }

    /// `dict(..)`: of a mapping, of pairs, of keyword arguments.
    fn make_dict(&mut self, mut given: Given<'a>) -> Outcome<Dict<'a>> {
        let keywords = std::mem::take(&mut given.keywords);
        let [base] = given.bind("dict", [""], 0)?;
        let mut dict = Dict::default();
        match base {
            None => {}
            Some(Value::Dict(base)) => {
                for (key, value) in base.entries() {
                    self.spend((dict.entries().len() / 16) as u64)?;
                    dict.set(key.clone(), value.clone())?;
                }
            }
            Some(pairs) => {
                for pair in self.collect(&pairs)?.iter() {
                    let pair = self.collect(pair)?;
                    let [key, value] = pair.as_slice() else {
                        return Err(raise("dictionary update sequence element has a wrong length"));
                    };
                    self.spend((dict.entries().len() / 16) as u64)?;
                    dict.set(key.clone(), value.clone())?;
                }
            }
        }
        for (name, value) in keywords {
            dict.set(Value::Str(name), value)?;
        }
        Ok(dict)
    }
}
