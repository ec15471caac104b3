//! `dict` objects.

use std::cell::OnceCell;

use super::Value;
use super::order::equal;
use crate::template::fail::Outcome;

/// A `dict`: entries in the order in which their keys were first set.
#[derive(Default)]
pub(in crate::template) struct Dict<'a> {
    pub(super) entries: Vec<(Value<'a>, Value<'a>)>,
    pub(super) depth: u32,
    /// Entries with string keys in the order of their keys, for dicts of more than a few entries.
    sorted: OnceCell<Vec<u32>>,
}

/// Entries up to which a dict is searched from its start to its end.
const LINEAR_MAX: usize = 12;

impl<'a> Dict<'a> {
    /// From entries whose keys are different strings.
    pub(in crate::template) fn of(entries: Vec<(Value<'a>, Value<'a>)>) -> Self {
        let depth = entries.iter().map(|(_, value)| value.depth()).max().unwrap_or_default() + 1;
        Self { entries, depth, sorted: OnceCell::new() }
    }

    pub(in crate::template) fn entries(&self) -> &[(Value<'a>, Value<'a>)] {
        &self.entries
    }

    pub(in crate::template) fn get_str(&self, key: &str) -> Option<&Value<'a>> {
        if self.entries.len() <= LINEAR_MAX {
            let is_key = |entry: &&(Value<'a>, Value<'a>)| entry.0.as_str() == Some(key);
            return self.entries.iter().find(is_key).map(|(_, value)| value);
        }
        let key_at = |at: &u32| self.entries.get(*at as usize).and_then(|(key, _)| key.as_str());
        let sorted = self.sorted.get_or_init(|| {
            let mut sorted: Vec<u32> =
                (0..self.entries.len() as u32).filter(|at| key_at(at).is_some()).collect();
            sorted.sort_by(|a, b| key_at(a).cmp(&key_at(b)));
            sorted
        });
        let at = sorted.binary_search_by(|at| key_at(at).cmp(&Some(key))).ok()?;
        self.entries.get(*sorted.get(at)? as usize).map(|(_, value)| value)
    }

    /// An error where the key cannot be hashed.
    pub(in crate::template) fn get(&self, key: &Value<'a>) -> Outcome<Option<&Value<'a>>> {
        if let Some(key) = key.as_str() {
            return Ok(self.get_str(key));
        }
        key.check_hashable()?;
        for (known, value) in &self.entries {
            if equal(known, key)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Sets a key; one that is there keeps its place.
    pub(in crate::template) fn set(&mut self, key: Value<'a>, value: Value<'a>) -> Outcome<()> {
        key.check_hashable()?;
        self.depth = self.depth.max(1 + value.depth().max(key.depth()));
        for (known, old) in &mut self.entries {
            if equal(known, &key)? {
                *old = value;
                return Ok(());
            }
        }
        self.entries.push((key, value));
        self.sorted = OnceCell::new();
        Ok(())
    }
}
