//! Loops, and the `loop` object of each.

use std::rc::Rc;

use super::{Flow, Interpreter};
use crate::template::args::Given;
use crate::template::ast::For;
use crate::template::fail::{Outcome, raise, refuse};
use crate::template::value::{Items, Iter, Value, equal};

/// What a loop runs over.
enum Source<'a> {
    Items(Rc<Items<'a>>, usize),
    Iter(Rc<Iter<'a>>),
}

/// A running loop, and its `loop` object.
pub(in crate::template) struct LoopState<'a> {
    source: Source<'a>,
    /// The item after the current one, where it was asked for.
    after: Option<Value<'a>>,
    current: Option<Value<'a>>,
    before: Option<Value<'a>>,
    /// Items passed, the current one included.
    count: usize,
    length: Option<usize>,
    depth0: usize,
    each: &'a For,
    filtered: bool,
    /// The function that the loop is in: where its test runs, and what a recursive one starts from.
    activation: usize,
    changed: Option<Vec<Value<'a>>>,
    /// The template holds the object elsewhere than in `loop`.
    pub(super) escaped: bool,
}

impl<'a, 'v> Interpreter<'a, 'v> {
    pub(super) fn for_loop(&mut self, each: &'a For) -> Outcome<Flow> {
        let value = self.eval(&each.iter)?;
        if each.recursive {
            let text = self.recurse(each, &value, 0, self.current)?;
            self.write_value(&text)?;
            return Ok(Flow::Next);
        }
        self.run_loop(each, &value, 0)
    }

    /// A recursive loop, which is a function that answers its text.
    fn recurse(
        &mut self,
        each: &'a For,
        value: &Value<'a>,
        depth0: usize,
        outer: usize,
    ) -> Outcome<Value<'a>> {
        let caller = self.current;
        let activation = self.activate(outer, each.slots);
        self.current = activation;
        let (text, _) = self.capture(|this| this.run_loop(each, value, depth0))?;
        self.leave(activation, caller);
        Ok(text)
    }

    fn run_loop(&mut self, each: &'a For, value: &Value<'a>, depth0: usize) -> Outcome<Flow> {
        let source = self.source(value)?;
        let length = match &source {
            Source::Items(items, _) if each.test.is_none() => Some(items.len()),
            _ => None,
        };
        let id = self.loops.len();
        self.loops.push(LoopState {
            source,
            after: None,
            current: None,
            before: None,
            count: 0,
            length,
            depth0,
            each,
            filtered: each.test.is_some(),
            activation: self.current,
            changed: None,
            escaped: false,
        });
        let mut ran = false;
        while let Some(item) = self.loop_next(id)? {
            self.bind(&each.target, item)?;
            self.store(each.loop_slot, Some(Value::Loop(id)));
            self.enter(&each.scope)?;
            match self.exec(&each.body)? {
                Flow::Next => ran = true,
                Flow::Continue => {}
                Flow::Break => break,
            }
        }
        if self.loops.len() == id + 1 && self.loops.get(id).is_some_and(|state| !state.escaped) {
            self.loops.pop();
        }
        if !ran && !each.otherwise.is_empty() {
            self.enter(&each.otherwise_scope)?;
            return self.exec(&each.otherwise);
        }
        Ok(Flow::Next)
    }

    fn loop_next(&mut self, id: usize) -> Outcome<Option<Value<'a>>> {
        self.step()?;
        let after = self.loops.get_mut(id).and_then(|state| state.after.take());
        let item = match after {
            Some(item) => Some(item),
            None => self.loop_pull(id)?,
        };
        let Some(state) = self.loops.get_mut(id) else { return Ok(None) };
        if let Some(item) = &item {
            state.count += 1;
            state.before = state.current.replace(item.clone());
        }
        Ok(item)
    }

    /// The next item of a loop's source that its test lets through.
    fn loop_pull(&mut self, id: usize) -> Outcome<Option<Value<'a>>> {
        loop {
            let Some(state) = self.loops.get_mut(id) else { return Ok(None) };
            let item = match &mut state.source {
                Source::Items(items, at) => {
                    let item = items.get(*at).cloned();
                    *at += 1;
                    item
                }
                Source::Iter(iter) => iter.next()?,
            };
            let Some(item) = item else { return Ok(None) };
            let each: &'a For = state.each;
            let Some(test) = each.test.as_ref().filter(|_| state.filtered) else {
                return Ok(Some(item));
            };
            let activation = state.activation;
            self.step()?;
            let caller = std::mem::replace(&mut self.current, activation);
            self.enter(&test.scope)?;
            self.bind(&test.target, item.clone())?;
            let passes = self.eval(&test.condition)?.is_true();
            self.current = caller;
            if passes {
                return Ok(Some(item));
            }
        }
    }

    fn loop_peek(&mut self, id: usize) -> Outcome<Option<Value<'a>>> {
        if self.loops.get(id).is_some_and(|state| state.after.is_none()) {
            let item = self.loop_pull(id)?;
            if let Some(state) = self.loops.get_mut(id) {
                state.after = item;
            }
        }
        Ok(self.loops.get(id).and_then(|state| state.after.clone()))
    }

    fn loop_length(&mut self, id: usize) -> Outcome<usize> {
        if let Some(length) = self.loops.get(id).and_then(|state| state.length) {
            return Ok(length);
        }
        let mut rest = Vec::new();
        while let Some(item) = self.loop_pull(id)? {
            rest.push(item);
        }
        let Some(state) = self.loops.get_mut(id) else { return Ok(0) };
        let length = rest.len() + state.count + usize::from(state.after.is_some());
        state.source = Source::Items(Items::of(rest), 0);
        state.filtered = false;
        state.length = Some(length);
        Ok(length)
    }

    pub(super) fn loop_attribute(&mut self, id: usize, name: &str) -> Outcome<Option<Value<'a>>> {
        let Some(state) = self.loops.get(id) else { return Ok(None) };
        let number = |value: usize| Value::Int(i64::try_from(value).unwrap_or(i64::MAX));
        let count = state.count;
        Ok(Some(match name {
            "index" => number(count),
            "index0" => Value::Int(i64::try_from(count).unwrap_or(i64::MAX) - 1),
            "first" => Value::Bool(count == 1),
            "depth" => number(state.depth0 + 1),
            "depth0" => number(state.depth0),
            "previtem" => match (&state.before, count) {
                (Some(item), 2..) => item.clone(),
                _ => Value::undefined("there is no previous item"),
            },
            "last" => Value::Bool(self.loop_peek(id)?.is_none()),
            "nextitem" => self.loop_peek(id)?.unwrap_or_else(|| Value::undefined("there is no next item")),
            "length" => number(self.loop_length(id)?),
            "revindex" => number((self.loop_length(id)? + 1).saturating_sub(count)),
            "revindex0" => {
                let length = i64::try_from(self.loop_length(id)?).unwrap_or(i64::MAX);
                Value::Int(length - i64::try_from(count).unwrap_or(i64::MAX))
            }
            "cycle" | "changed" => Value::Method(Rc::new((Value::Loop(id), name.into()))),
            _ => return Ok(None),
        }))
    }

    /// `loop(..)`, `loop.cycle(..)` and `loop.changed(..)`.
    pub(super) fn call_loop(&mut self, id: usize, name: &str, given: Given<'a>) -> Outcome<Value<'a>> {
        let Some(state) = self.loops.get_mut(id) else { return Err(refuse("a loop that has ended")) };
        match name {
            "" => {
                if !state.each.recursive {
                    return Err(raise("The loop must have the 'recursive' marker to be called recursively."));
                }
                let (each, depth0, activation) = (state.each, state.depth0 + 1, state.activation);
                let outer = self.activations.get(activation).map_or(0, |activation| activation.outer);
                let [value] = given.bind("loop", [""], 1)?;
                let value = value.unwrap_or(Value::None);
                self.recurse(each, &value, depth0, outer)
            }
            "cycle" => {
                let items = given.positional_only("cycle")?;
                let at = state.count.saturating_sub(1).checked_rem(items.len());
                at.and_then(|at| items.get(at).cloned()).ok_or_else(|| raise("no items for cycling given"))
            }
            _ => {
                let items = given.positional_only("changed")?;
                let mut same = state.changed.as_ref().is_some_and(|old| old.len() == items.len());
                for (a, b) in state.changed.iter().flatten().zip(&items) {
                    same = same && equal(a, b)?;
                }
                state.changed = Some(items);
                Ok(Value::Bool(!same))
            }
        }
    }

    fn source(&mut self, value: &Value<'a>) -> Outcome<Source<'a>> {
        match value {
            Value::List(items) | Value::Tuple(items) => Ok(Source::Items(items.clone(), 0)),
            Value::Iter(iter) => Ok(Source::Iter(iter.clone())),
            _ => Ok(Source::Items(self.collect(value)?, 0)),
        }
    }
}
