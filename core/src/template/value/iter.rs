//! Generators.

use std::cell::Cell;

use super::Value;
use crate::template::fail::{Fail, Outcome};

/// A generator or another iterator: what it yields, once.
pub(in crate::template) struct Iter<'a> {
    pub(in crate::template) items: Vec<Value<'a>>,
    pub(in crate::template) at: Cell<usize>,
    /// What goes wrong after the last item.
    pub(in crate::template) fails: Option<Box<Fail>>,
}

impl<'a> Iter<'a> {
    pub(in crate::template) fn next(&self) -> Outcome<Option<Value<'a>>> {
        let at = self.at.get();
        match self.items.get(at) {
            Some(item) => {
                self.at.set(at + 1);
                Ok(Some(item.clone()))
            }
            None if at == self.items.len() => {
                self.at.set(at + 1);
                self.fails.clone().map_or(Ok(None), Err)
            }
            None => Ok(None),
        }
    }
}
