//! Typed access to a body's top-level fields. Null counts as absent where vLLM's type is `... | None`.

use serde_json::{Map, Value};

use super::numbers::marked;
use super::{invalid, unsupported};
use crate::pass::Pass;

/// The top-level object of a body.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn new(object: Map<String, Value>) -> Self {
        Self(object)
    }

    /// The field as it is; none where it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The field as it is, null included.
    pub(super) fn or_null(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The field by value; none where it is absent or null.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.get_mut(name).map(Value::take).filter(|value| !value.is_null())
    }

    /// A `str | None` field.
    pub(super) fn string(&mut self, name: &str) -> Result<Option<String>, Pass> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if marked(&text).is_none() => Ok(Some(text)),
            Some(_) => Err(invalid(name, "a string")),
        }
    }

    /// A `bool` field with a default. Null is an error there.
    pub(super) fn bool(&self, name: &str, default: bool) -> Result<bool, Pass> {
        match self.0.get(name) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(invalid(name, "true or false")),
        }
    }

    /// An `int | None` field that must not be negative.
    pub(super) fn count(&self, name: &str) -> Result<Option<u64>, Pass> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| invalid(name, "a whole number of 0 or more"))
            }
        }
    }

    /// Refuses a body that sets one of `names`.
    pub(super) fn refuse(&self, names: &[&str]) -> Result<(), Pass> {
        match names.iter().find(|name| self.get(name).is_some()) {
            Some(name) => Err(unsupported(name)),
            None => Ok(()),
        }
    }
}
