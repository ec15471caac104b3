//! Runs a template.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::args::Given;
use super::ast::{
    Args, BinOp, CompareOp, Const, Expr, For, Function, Load, Piece, Scope, Slot, Stmt, StmtKind, Target,
};
use super::clock::LocalTime;
use super::fail::{Fail, FailKind, Outcome, raise, refuse};
use super::value::{Dict, Global, Items, Iter, Macro, Range, Text, Undefined, Value, View, equal, order};
use super::{methods, ops, repr};

/// Deepest nesting of statements, expressions and macro calls while rendering: what the stack of a Wasm module takes.
/// Python stops at about as much.
const DEPTH_MAX: usize = 256;

/// Deepest nesting of lists and dicts, somewhat above what a body can hold.
const VALUE_DEPTH_MAX: u32 = 160;

/// Bytes of text that cost as much as one step.
const BYTES_PER_STEP: usize = 64;

/// Longest `range`, as in jinja2's sandbox.
const RANGE_MAX: usize = 100_000;

/// How a statement ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

/// The variables of a function that is running, or that a macro still knows.
struct Activation<'a> {
    slots: Vec<Option<Value<'a>>>,
    outer: usize,
    /// A macro or a loop keeps it.
    kept: bool,
}

/// What is being written.
#[derive(Default)]
struct Buffer {
    text: String,
    /// Something unknown came after the text; nothing after that is kept.
    cut: bool,
}

/// What a loop runs over.
enum Source<'a> {
    Items(Rc<Items<'a>>, usize),
    Iter(Rc<Iter<'a>>),
}

/// A running loop, and its `loop` object.
pub(super) struct LoopState<'a> {
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
    escaped: bool,
}

pub(super) struct Interpreter<'a, 'v> {
    activations: Vec<Activation<'a>>,
    current: usize,
    out: Buffer,
    /// Buffers around it.
    captures: usize,
    pub(super) fuel: u64,
    output_left: usize,
    output_max: usize,
    loops: Vec<LoopState<'a>>,
    namespaces: Vec<Vec<(Text<'a>, Value<'a>)>>,
    cyclers: Vec<(Vec<Value<'a>>, usize)>,
    joiners: Vec<(Value<'a>, bool)>,
    variables: &'v BTreeMap<&'a str, Value<'a>>,
    now: Option<LocalTime>,
    depth: usize,
    pub(super) line: u32,
}

impl<'a, 'v> Interpreter<'a, 'v> {
    pub(super) fn new(
        variables: &'v BTreeMap<&'a str, Value<'a>>,
        now: Option<LocalTime>,
        fuel: u64,
        output_max: usize,
    ) -> Self {
        Self {
            activations: Vec::new(),
            current: 0,
            out: Buffer::default(),
            captures: 0,
            fuel,
            output_left: output_max,
            output_max,
            loops: Vec::new(),
            namespaces: Vec::new(),
            cyclers: Vec::new(),
            joiners: Vec::new(),
            variables,
            now,
            depth: 0,
            line: 0,
        }
    }

    /// Renders a whole template.
    pub(super) fn run(
        &mut self,
        body: &'a [Stmt],
        scope: &'a Scope,
        slots: u16,
    ) -> Result<String, Box<Fail>> {
        self.current = self.activate(0, slots);
        let outcome = self.enter(scope).and_then(|()| self.exec(body));
        match outcome {
            Ok(_) => Ok(std::mem::take(&mut self.out.text)),
            Err(mut fail) => {
                fail.line = self.line;
                Err(fail)
            }
        }
    }

    // What rendering costs.

    fn step(&mut self) -> Outcome<()> {
        self.spend(1)
    }

    pub(super) fn spend(&mut self, steps: u64) -> Outcome<()> {
        match self.fuel.checked_sub(steps) {
            Some(left) => {
                self.fuel = left;
                Ok(())
            }
            None => Err(Box::new(Fail { kind: FailKind::Fuel, message: String::new(), line: 0 })),
        }
    }

    /// Pays for walking over or making `bytes` of text. Text longer than the output may be is refused.
    pub(super) fn spend_bytes(&mut self, bytes: usize) -> Outcome<()> {
        if bytes > self.output_max {
            return Err(Box::new(Fail { kind: FailKind::Output, message: String::new(), line: 0 }));
        }
        self.spend((bytes / BYTES_PER_STEP) as u64)
    }

    fn write(&mut self, text: &str) -> Outcome<()> {
        if self.out.cut {
            return Ok(());
        }
        let Some(left) = self.output_left.checked_sub(text.len()) else {
            return Err(Box::new(Fail { kind: FailKind::Output, message: String::new(), line: 0 }));
        };
        self.output_left = left;
        self.out.text.push_str(text);
        Ok(())
    }

    fn write_value(&mut self, value: &Value<'a>) -> Outcome<()> {
        if let Value::Str(text) = value {
            return self.write(text.as_str());
        }
        if let Value::Unknown(start) = value {
            self.write(start)?;
            if self.captures == 0 {
                let message = std::mem::take(&mut self.out.text);
                return Err(Box::new(Fail { kind: FailKind::Cut, message, line: 0 }));
            }
            self.out.cut = true;
            return Ok(());
        }
        let text = self.text_of(value)?;
        self.write(&text)
    }

    /// `str(value)`
    pub(super) fn text_of(&mut self, value: &Value<'a>) -> Outcome<String> {
        let text = repr::to_str(value)?;
        self.spend_bytes(text.len())?;
        Ok(text)
    }

    /// `str(value)` without copying what is a string.
    pub(super) fn soft_text(&mut self, value: &Value<'a>) -> Outcome<Text<'a>> {
        match value {
            Value::Str(text) => Ok(text.clone()),
            other => Ok(Text::Owned(self.text_of(other)?.into())),
        }
    }

    fn deeper<T>(&mut self, inside: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(refuse("nesting too deep"));
        }
        let outcome = inside(self);
        self.depth -= 1;
        outcome
    }

    // Variables.

    fn activate(&mut self, outer: usize, slots: u16) -> usize {
        self.activations.push(Activation { slots: vec![None; slots.into()], outer, kept: false });
        self.activations.len() - 1
    }

    fn read(&self, slot: Slot) -> Option<&Value<'a>> {
        let mut at = self.current;
        for _ in 0..slot.hops {
            at = self.activations.get(at)?.outer;
        }
        self.activations.get(at)?.slots.get(usize::from(slot.index))?.as_ref()
    }

    fn store(&mut self, slot: Slot, value: Option<Value<'a>>) {
        let mut at = self.current;
        for _ in 0..slot.hops {
            at = self.activations.get(at).map_or(0, |activation| activation.outer);
        }
        let place = self.activations.get_mut(at).and_then(|act| act.slots.get_mut(usize::from(slot.index)));
        if let Some(place) = place {
            *place = value;
        }
    }

    fn enter(&mut self, scope: &'a Scope) -> Outcome<()> {
        for (index, load) in &scope.0 {
            let value = match load {
                Load::Alias(slot) => self.read(*slot).cloned(),
                Load::Resolve(name) => self.lookup(name),
                Load::Undefined => None,
            };
            self.store(Slot { hops: 0, index: *index }, value);
        }
        self.spend(scope.0.len() as u64)
    }

    fn lookup(&self, name: &str) -> Option<Value<'a>> {
        if let Some(value) = self.variables.get(name) {
            return Some(value.clone());
        }
        Some(Value::Global(match name {
            "range" => Global::Range,
            "dict" => Global::Dict,
            "lipsum" => Global::Lipsum,
            "cycler" => Global::Cycler,
            "joiner" => Global::Joiner,
            "namespace" => Global::Namespace,
            "raise_exception" => Global::RaiseException,
            "strftime_now" => Global::StrftimeNow,
            _ => return None,
        }))
    }

    fn bind(&mut self, target: &'a Target, value: Value<'a>) -> Outcome<()> {
        match target {
            Target::Name { slot, .. } => self.store(*slot, Some(value)),
            Target::Tuple(targets) => {
                let items = self.collect(&value).map_err(|fail| match fail.kind {
                    FailKind::Raised => {
                        raise(format!("cannot unpack non-iterable {} object", value.type_name()))
                    }
                    _ => fail,
                })?;
                if items.len() > targets.len() {
                    return Err(raise(format!("too many values to unpack (expected {})", targets.len())));
                }
                if items.len() < targets.len() {
                    let (wanted, got) = (targets.len(), items.len());
                    return Err(raise(format!("not enough values to unpack (expected {wanted}, got {got})")));
                }
                for (target, item) in targets.iter().zip(items.iter()) {
                    self.bind(target, item.clone())?;
                }
            }
            Target::Attribute { slot, attribute, .. } => {
                let Some(Value::Namespace(at)) = self.read(*slot) else {
                    return Err(raise("cannot assign attribute on non-namespace object"));
                };
                let at = *at;
                self.spend(1)?;
                if let Some(entries) = self.namespaces.get_mut(at) {
                    match entries.iter_mut().find(|(name, _)| name.as_str() == attribute.as_ref()) {
                        Some((_, place)) => *place = value,
                        None => entries.push((Text::Borrowed(attribute), value)),
                    }
                }
            }
        }
        Ok(())
    }

    // Statements.

    fn exec(&mut self, body: &'a [Stmt]) -> Outcome<Flow> {
        self.deeper(|this| {
            for statement in body {
                let flow = this.exec_one(statement)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
            }
            Ok(Flow::Next)
        })
    }

    fn exec_one(&mut self, statement: &'a Stmt) -> Outcome<Flow> {
        self.line = statement.line;
        self.step()?;
        match &statement.kind {
            StmtKind::Output(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => self.write(text)?,
                        Piece::Expr(expr) => {
                            let value = self.eval(printed(expr))?;
                            self.write_value(&value)?;
                        }
                    }
                }
            }
            StmtKind::For(each) => return self.for_loop(each),
            StmtKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    if self.eval(test)?.is_true() {
                        return self.exec(body);
                    }
                }
                if !otherwise.is_empty() {
                    return self.exec(otherwise);
                }
            }
            StmtKind::Set { target, value } => {
                let value = self.eval(value)?;
                self.bind(target, value)?;
            }
            StmtKind::SetBlock { target, filter, body, scope } => {
                self.enter(scope)?;
                let text = self.captured(body)?;
                let value = self.filter_text(text, filter.as_ref())?;
                self.bind(target, value)?;
            }
            StmtKind::With { assignments, body, scope } => {
                self.enter(scope)?;
                for (target, value) in assignments {
                    let value = self.eval(value)?;
                    self.bind(target, value)?;
                }
                return self.exec(body);
            }
            StmtKind::Macro { slot, function } => {
                let value = self.close_over(function);
                self.store(*slot, Some(value));
            }
            StmtKind::CallBlock { call, function } => {
                let Expr::Call(call) = call else { return Err(refuse("a call block without a call")) };
                let caller = self.close_over(function);
                let value = self.call_expr(&call.callee, &call.args, Some(caller))?;
                self.write_value(&value)?;
            }
            StmtKind::Generation(function) => {
                let Value::Macro(caller) = self.close_over(function) else { return Ok(Flow::Next) };
                let text = self.call_macro(&caller, Given::default())?;
                self.write_value(&text)?;
            }
            StmtKind::FilterBlock { filter, body, scope } => {
                self.enter(scope)?;
                let text = self.captured(body)?;
                let value = self.filter_text(text, Some(filter))?;
                self.write_value(&value)?;
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// What is written inside, as a value.
    fn capture<T>(&mut self, inside: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<(Value<'a>, T)> {
        let outer = std::mem::take(&mut self.out);
        self.captures += 1;
        let result = self.deeper(inside)?;
        self.captures -= 1;
        let written = std::mem::replace(&mut self.out, outer);
        self.output_left += written.text.len();
        let value = match written.cut {
            true => Value::Unknown(written.text.into()),
            false => Value::text(written.text),
        };
        Ok((value, result))
    }

    /// What a block's body writes.
    fn captured(&mut self, body: &'a [Stmt]) -> Outcome<Value<'a>> {
        let (value, flow) = self.capture(|this| this.exec(body))?;
        if flow == Flow::Next {
            Ok(value)
        } else {
            Err(refuse("leaving a loop from a block that captures its text"))
        }
    }

    /// The filters of a filter block, over its text.
    fn filter_text(&mut self, text: Value<'a>, filter: Option<&'a Expr>) -> Outcome<Value<'a>> {
        match filter {
            Some(Expr::Filter(apply)) => {
                let value = match &apply.node {
                    Some(inner) => self.filter_text(text, Some(inner))?,
                    None => text,
                };
                let args = self.args(&apply.args)?;
                self.filter(&apply.name, value, args)
            }
            _ => Ok(text),
        }
    }

    fn close_over(&mut self, function: &'a Function) -> Value<'a> {
        if let Some(activation) = self.activations.get_mut(self.current) {
            activation.kept = true;
        }
        Value::Macro(Rc::new(Macro { function, outer: self.current }))
    }

    // Loops.

    fn for_loop(&mut self, each: &'a For) -> Outcome<Flow> {
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

    /// Ends a function's activation.
    fn leave(&mut self, activation: usize, caller: usize) {
        self.current = caller;
        let kept = self.activations.get(activation).is_none_or(|activation| activation.kept);
        if !kept && activation + 1 == self.activations.len() {
            self.activations.pop();
        }
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

    fn loop_attribute(&mut self, id: usize, name: &str) -> Outcome<Option<Value<'a>>> {
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
    fn call_loop(&mut self, id: usize, name: &str, given: Given<'a>) -> Outcome<Value<'a>> {
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

    // Iteration.

    fn source(&mut self, value: &Value<'a>) -> Outcome<Source<'a>> {
        match value {
            Value::List(items) | Value::Tuple(items) => Ok(Source::Items(items.clone(), 0)),
            Value::Iter(iter) => Ok(Source::Iter(iter.clone())),
            _ => Ok(Source::Items(self.collect(value)?, 0)),
        }
    }

    /// `list(value)`
    pub(super) fn collect(&mut self, value: &Value<'a>) -> Outcome<Rc<Items<'a>>> {
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

    // Expressions.

    pub(super) fn eval(&mut self, expr: &'a Expr) -> Outcome<Value<'a>> {
        self.step()?;
        match expr {
            Expr::Const(constant) => Ok(match constant {
                Const::None => Value::None,
                Const::Bool(value) => Value::Bool(*value),
                Const::Int(value) => Value::Int(*value),
                Const::Big(digits) => Value::Big(digits.as_ref().into()),
                Const::Float(value) => Value::Float(*value),
                Const::Str(text) => Value::Str(Text::Borrowed(text)),
            }),
            Expr::Name { name, slot } => {
                let value = self.read(*slot).cloned();
                if let Some(Value::Loop(id)) = value
                    && let Some(state) = self.loops.get_mut(id)
                {
                    state.escaped = true;
                }
                Ok(value.unwrap_or_else(|| Value::undefined_name(name)))
            }
            _ => {
                let value = self.deeper(|this| this.eval_inner(expr))?;
                // Python lets them grow; walking over them takes a stack.
                if value.depth() > VALUE_DEPTH_MAX {
                    return Err(refuse("values nested too deeply"));
                }
                Ok(value)
            }
        }
    }

    fn eval_all(&mut self, items: &'a [Expr]) -> Outcome<Vec<Value<'a>>> {
        items.iter().map(|item| self.eval(item)).collect()
    }

    fn eval_inner(&mut self, expr: &'a Expr) -> Outcome<Value<'a>> {
        match expr {
            Expr::Const(_) | Expr::Name { .. } => self.eval(expr),
            Expr::Tuple(items) => Ok(Value::tuple(self.eval_all(items)?)),
            Expr::List(items) => Ok(Value::list(self.eval_all(items)?)),
            Expr::Dict(items) => {
                let mut dict = Dict::default();
                for (key, value) in items {
                    let key = self.eval(key)?;
                    let value = self.eval(value)?;
                    dict.set(key, value)?;
                }
                Ok(Value::Dict(Rc::new(dict)))
            }
            Expr::Cond(parts) => {
                if self.eval(&parts.0)?.is_true() {
                    return self.eval(&parts.1);
                }
                match &parts.2 {
                    Some(otherwise) => self.eval(otherwise),
                    None => Ok(Value::undefined(
                        "the inline if-expression evaluated to false and no else section was defined.",
                    )),
                }
            }
            Expr::Bin(op, sides) => {
                let left = self.eval(&sides.0)?;
                let right = self.eval(&sides.1)?;
                self.binary(*op, &left, &right)
            }
            Expr::And(sides) => {
                let left = self.eval(&sides.0)?;
                if left.is_true() { self.eval(&sides.1) } else { Ok(left) }
            }
            Expr::Or(sides) => {
                let left = self.eval(&sides.0)?;
                if left.is_true() { Ok(left) } else { self.eval(&sides.1) }
            }
            Expr::Not(inner) => Ok(Value::Bool(!self.eval(inner)?.is_true())),
            Expr::Neg(inner) => ops::negative(&self.eval(inner)?),
            Expr::Pos(inner) => ops::positive(&self.eval(inner)?),
            Expr::Concat(items) => {
                let mut text = String::new();
                let mut known = true;
                for item in items {
                    let value = self.eval(item)?;
                    if !known {
                        continue;
                    }
                    if let Value::Unknown(start) = &value {
                        text.push_str(start);
                        known = false;
                        continue;
                    }
                    repr::write_str(&mut text, &value)?;
                    self.spend_bytes(text.len())?;
                }
                Ok(if known { Value::text(text) } else { Value::Unknown(text.into()) })
            }
            Expr::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (op, right) in rest {
                    let right = self.eval(right)?;
                    if !self.compare(*op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::Filter(apply) => {
                let Some(node) = &apply.node else { return Err(refuse("a filter without a value")) };
                let value = self.eval(node)?;
                let args = self.args(&apply.args)?;
                self.filter(&apply.name, value, args)
            }
            Expr::Test(apply) => {
                let Some(node) = &apply.node else { return Err(refuse("a test without a value")) };
                let value = self.eval(node)?;
                let args = self.args(&apply.args)?;
                Ok(Value::Bool(self.test(&apply.name, &value, args)?))
            }
            Expr::Call(call) => self.call_expr(&call.callee, &call.args, None),
            Expr::Getattr(object, name) => {
                let object = self.eval_object(object)?;
                self.attribute(&object, name)
            }
            Expr::Getitem(parts) => {
                let object = self.eval(&parts.0)?;
                if let Expr::Slice(slice) = &parts.1 {
                    return self.slice(&object, slice);
                }
                let key = self.eval(&parts.1)?;
                self.item(&object, &key)
            }
            Expr::Slice(_) => Err(refuse("a slice by itself")),
        }
    }

    /// A value whose attribute is asked for: reading `loop` for that does not let it escape.
    fn eval_object(&mut self, expr: &'a Expr) -> Outcome<Value<'a>> {
        if let Expr::Name { slot, .. } = expr
            && let Some(Value::Loop(id)) = self.read(*slot)
        {
            return Ok(Value::Loop(*id));
        }
        self.eval(expr)
    }

    fn binary(&mut self, op: BinOp, left: &Value<'a>, right: &Value<'a>) -> Outcome<Value<'a>> {
        let bytes = ops::bytes_made(op, left, right);
        self.spend_bytes(bytes)?;
        if op == BinOp::Mod
            && let Value::Str(format) = left
        {
            let args = match right {
                Value::Tuple(items) => Given { positional: items.to_vec(), keywords: Vec::new() },
                other => Given { positional: vec![other.clone()], keywords: Vec::new() },
            };
            return self.percent(format.as_str(), &args, matches!(right, Value::Dict(_)).then_some(right));
        }
        ops::binary(op, left, right)
    }

    pub(super) fn compare(&mut self, op: CompareOp, a: &Value<'a>, b: &Value<'a>) -> Outcome<bool> {
        self.spend(a.cost().min(b.cost()))?;
        Ok(match op {
            CompareOp::Eq => equal(a, b)?,
            CompareOp::Ne => !equal(a, b)?,
            CompareOp::Lt => order(a, b, "<")?.is_some_and(|order| order.is_lt()),
            CompareOp::Le => order(a, b, "<=")?.is_some_and(|order| order.is_le()),
            CompareOp::Gt => order(a, b, ">")?.is_some_and(|order| order.is_gt()),
            CompareOp::Ge => order(a, b, ">=")?.is_some_and(|order| order.is_ge()),
            CompareOp::In => self.contains(b, a)?,
            CompareOp::NotIn => !self.contains(b, a)?,
        })
    }

    /// `item in container`
    fn contains(&mut self, container: &Value<'a>, item: &Value<'a>) -> Outcome<bool> {
        match container {
            Value::Str(text) => match item {
                Value::Str(part) => {
                    self.spend_bytes(text.as_str().len())?;
                    Ok(text.as_str().contains(part.as_str()))
                }
                other => Err(raise(format!(
                    "'in <string>' requires string as left operand, not {}",
                    other.type_name()
                ))),
            },
            Value::Dict(dict) | Value::View(dict, View::Keys) => Ok(dict.get(item)?.is_some()),
            Value::Iter(iter) => {
                while let Some(next) = iter.next()? {
                    if equal(&next, item)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Big(_) | Value::Float(_) => {
                Err(raise(format!("argument of type '{}' is not iterable", container.type_name())))
            }
            _ => {
                let items = self.collect(container)?;
                self.spend(items.len() as u64)?;
                for next in items.iter() {
                    if equal(next, item)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    // Attributes and items.

    /// `object.name`: the attribute of the Python object, else the item.
    pub(super) fn attribute(&mut self, object: &Value<'a>, name: &'a str) -> Outcome<Value<'a>> {
        if let Some(value) = self.own_attribute(object, name)? {
            return Ok(value);
        }
        match object {
            Value::Undefined(missing) => Err(missing.fail()),
            Value::Dict(dict) => match dict.get_str(name) {
                Some(value) => Ok(value.clone()),
                None => Ok(missing_attribute(object, name)),
            },
            _ => Ok(missing_attribute(object, name)),
        }
    }

    /// `object[key]`: the item, else, by a string, the attribute.
    pub(super) fn item(&mut self, object: &Value<'a>, key: &Value<'a>) -> Outcome<Value<'a>> {
        let at = |length: usize| {
            let at = key.as_int()?;
            let at = if at < 0 { at.checked_add(i64::try_from(length).ok()?)? } else { at };
            usize::try_from(at).ok().filter(|at| *at < length)
        };
        let found = match object {
            Value::Undefined(missing) => return Err(missing.fail()),
            Value::Unknown(_) if key.as_str().is_none() => {
                return Err(refuse("a part of content that is not known"));
            }
            // A key that cannot be hashed is a TypeError, and so no item.
            Value::Dict(dict) => match key.check_hashable() {
                Ok(()) => {
                    self.spend((dict.entries().len() / 16) as u64)?;
                    dict.get(key)?.cloned()
                }
                Err(_) => None,
            },
            Value::List(items) | Value::Tuple(items) => at(items.len()).and_then(|at| items.get(at).cloned()),
            Value::Range(range) => at(range.len()).and_then(|at| range.get(at)).map(Value::Int),
            Value::Str(text) => {
                self.spend_bytes(text.as_str().len())?;
                let length = super::value::count_chars(text.as_str());
                at(length).map(|at| Value::Str(text.part(|text| nth_char(text, at))))
            }
            _ => None,
        };
        if let Some(value) = found {
            return Ok(value);
        }
        if let Some(name) = key.as_str() {
            if let Some(value) = self.own_attribute(object, name)? {
                return Ok(value);
            }
            return Ok(missing_attribute(object, name));
        }
        let mut text = String::new();
        repr::write_repr(&mut text, key, 0)?;
        Ok(Value::Undefined(Rc::new(Undefined::Element { of: object.described(), key: text })))
    }

    /// An attribute that the Python object itself has, its methods above all.
    fn own_attribute(&mut self, object: &Value<'a>, name: &str) -> Outcome<Option<Value<'a>>> {
        if name.starts_with("__") && name.ends_with("__") {
            return Err(refuse("attributes of Python's own"));
        }
        match object {
            Value::Loop(id) => {
                if name.starts_with('_') {
                    return Err(refuse("attributes of Python's own"));
                }
                self.loop_attribute(*id, name)
            }
            Value::Namespace(at) => {
                let entries = self.namespaces.get(*at).map(Vec::as_slice).unwrap_or_default();
                let entry = entries.iter().find(|(known, _)| known.as_str() == name);
                Ok(entry.map(|(_, value)| value.clone()))
            }
            Value::Macro(function) => match name {
                "name" => Ok(Some(Value::Str(Text::Borrowed(&function.function.name)))),
                "arguments" | "catch_kwargs" | "catch_varargs" | "caller" | "explicit_caller" => {
                    Err(refuse("attributes of a macro"))
                }
                _ => Ok(None),
            },
            Value::Cycler(at) => match name {
                "current" => {
                    let current = self.cyclers.get(*at).and_then(|(items, at)| items.get(*at).cloned());
                    Ok(current)
                }
                "next" | "reset" => Ok(Some(Value::Method(Rc::new((object.clone(), name.into()))))),
                _ => Err(refuse("attributes of a cycler")),
            },
            Value::Iter(_) | Value::Joiner(_) | Value::Global(_) | Value::Method(_) => {
                Err(refuse("attributes of a function or an iterator"))
            }
            _ => match methods::kind(object, name) {
                methods::Kind::None => Ok(None),
                methods::Kind::Method => Ok(Some(Value::Method(Rc::new((object.clone(), name.into()))))),
                methods::Kind::Unsafe => Ok(Some(Value::Undefined(Rc::new(Undefined::Unsafe {
                    attribute: name.into(),
                    of: object.type_name(),
                })))),
                methods::Kind::Other => Err(refuse("an attribute of a Python object")),
            },
        }
    }

    fn slice(&mut self, object: &Value<'a>, parts: &'a [Option<Expr>; 3]) -> Outcome<Value<'a>> {
        let mut bounds = [None; 3];
        for (bound, part) in bounds.iter_mut().zip(parts) {
            let value = match part {
                Some(expr) => self.eval(expr)?,
                None => Value::None,
            };
            *bound = match value {
                Value::None => None,
                other => match other.as_int() {
                    Some(value) => Some(value),
                    // Not an index: a TypeError, and so nothing that is there.
                    None => return Ok(Value::undefined("slice indices must be integers or None")),
                },
            };
        }
        let [start, stop, step] = bounds;
        let step = step.unwrap_or(1);
        if step == 0 {
            return match object {
                Value::Undefined(missing) => Err(missing.fail()),
                _ => Err(raise("slice step cannot be zero")),
            };
        }
        match object {
            Value::Undefined(missing) => Err(missing.fail()),
            Value::List(items) | Value::Tuple(items) => {
                let picked: Vec<_> = ops::slice_indices(items.len(), start, stop, step)
                    .filter_map(|at| items.get(at).cloned())
                    .collect();
                self.spend(picked.len() as u64 / 16)?;
                let is_list = matches!(object, Value::List(_));
                Ok(if is_list { Value::list(picked) } else { Value::tuple(picked) })
            }
            Value::Str(text) => {
                self.spend_bytes(text.as_str().len())?;
                Ok(Value::Str(ops::slice_text(text, start, stop, step)))
            }
            Value::Range(range) => {
                let mut at = ops::slice_indices(range.len(), start, stop, step);
                let Some(first) = at.next() else {
                    return Err(refuse("an empty slice of a range"));
                };
                let count = i64::try_from(at.count() + 1).unwrap_or(i64::MAX);
                let start = range.get(first).unwrap_or_default();
                let step = range.step.saturating_mul(step);
                Ok(Value::Range(Range {
                    start,
                    stop: start.saturating_add(step.saturating_mul(count)),
                    step,
                }))
            }
            Value::Dict(_) => Err(raise("unhashable type: 'slice'")),
            Value::Unknown(_) => Err(refuse("a part of content that is not known")),
            _ => Ok(Value::undefined("object is not subscriptable")),
        }
    }

    // Calls.

    pub(super) fn args(&mut self, args: &'a Args) -> Outcome<Given<'a>> {
        let mut given = Given { positional: self.eval_all(&args.positional)?, keywords: Vec::new() };
        if let Some(star) = &args.star {
            let value = self.eval(star)?;
            given.positional.extend(self.collect(&value)?.iter().cloned());
        }
        for (name, value) in &args.keywords {
            let value = self.eval(value)?;
            given.keywords.push((Text::Borrowed(name), value));
        }
        if let Some(star_star) = &args.star_star {
            let Value::Dict(dict) = self.eval(star_star)? else {
                return Err(raise("argument after ** must be a mapping"));
            };
            for (key, value) in dict.entries() {
                let Value::Str(name) = key else { return Err(raise("keywords must be strings")) };
                if given.keywords.iter().any(|(known, _)| known.as_str() == name.as_str()) {
                    return Err(raise("got multiple values for keyword argument"));
                }
                given.keywords.push((name.clone(), value.clone()));
            }
        }
        Ok(given)
    }

    fn call_expr(
        &mut self,
        callee: &'a Expr,
        args: &'a Args,
        caller: Option<Value<'a>>,
    ) -> Outcome<Value<'a>> {
        // A method of a string, a list or a dict, without making an object of it.
        if let Expr::Getattr(object, name) = callee {
            let object = self.eval_object(object)?;
            if methods::kind(&object, name) == methods::Kind::Method {
                let given = self.args(args)?.with_caller(caller);
                return self.call_method(&object, name, given);
            }
            let function = self.attribute(&object, name)?;
            let given = self.args(args)?.with_caller(caller);
            return self.call(&function, given);
        }
        let function = self.eval_object(callee)?;
        let given = self.args(args)?.with_caller(caller);
        self.call(&function, given)
    }

    pub(super) fn call(&mut self, function: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        match function {
            Value::Macro(function) => self.call_macro(function, given),
            Value::Method(method) => match &method.0 {
                Value::Loop(id) => self.call_loop(*id, &method.1, given),
                Value::Cycler(at) => self.call_cycler(*at, &method.1),
                object => self.call_method(object, &method.1, given),
            },
            Value::Global(global) => self.call_global(*global, given),
            Value::Loop(id) => self.call_loop(*id, "", given),
            Value::Joiner(at) => {
                let Some((separator, used)) = self.joiners.get_mut(*at) else {
                    return Err(refuse("a joiner that is lost"));
                };
                let first = !std::mem::replace(used, true);
                Ok(if first { Value::Str(Text::Borrowed("")) } else { separator.clone() })
            }
            Value::Undefined(missing) => Err(missing.fail()),
            other => Err(raise(format!("'{}' object is not callable", other.type_name()))),
        }
    }

    fn call_cycler(&mut self, at: usize, name: &str) -> Outcome<Value<'a>> {
        let Some((items, at)) = self.cyclers.get_mut(at) else { return Err(refuse("a cycler that is lost")) };
        if name == "reset" {
            *at = 0;
            return Ok(Value::None);
        }
        let item = items.get(*at).cloned().unwrap_or(Value::None);
        *at = (*at + 1) % items.len().max(1);
        Ok(item)
    }

    fn call_macro(&mut self, called: &Rc<Macro<'a>>, mut given: Given<'a>) -> Outcome<Value<'a>> {
        let function = called.function;
        self.spend(8)?;
        let activation = self.activate(called.outer, function.slots);
        let caller = std::mem::replace(&mut self.current, activation);
        let count = function.parameters.len();
        let rest = given.positional.split_off(given.positional.len().min(count));
        let mut positional = std::mem::take(&mut given.positional).into_iter();
        let mut values = Vec::with_capacity(count);
        let mut found_caller = false;
        for (name, _) in &function.parameters {
            found_caller |= name.as_ref() == "caller";
            values.push(positional.next().or_else(|| given.take(name)));
        }
        if let Some(slot) = function.caller.filter(|_| !found_caller) {
            let value = given.take("caller").unwrap_or_else(|| Value::undefined("No caller defined"));
            self.store(slot, Some(value));
        }
        if let Some(slot) = function.kwargs {
            let entries = std::mem::take(&mut given.keywords);
            let entries = entries.into_iter().map(|(name, value)| (Value::Str(name), value)).collect();
            self.store(slot, Some(Value::Dict(Rc::new(Dict::of(entries)))));
        } else if let Some((name, _)) = given.keywords.first() {
            let (function, name) = (repr::quote(&function.name), repr::quote(name.as_str()));
            return Err(raise(match name.as_str() {
                "'caller'" => format!(
                    "macro {function} was invoked with two values for the special caller argument. This is most likely a bug."
                ),
                _ => format!("macro {function} takes no keyword argument {name}"),
            }));
        }
        if let Some(slot) = function.varargs {
            self.store(slot, Some(Value::tuple(rest)));
        } else if !rest.is_empty() {
            let name = repr::quote(&function.name);
            return Err(raise(format!("macro {name} takes not more than {count} argument(s)")));
        }
        for ((_, slot), value) in function.parameters.iter().zip(&values) {
            self.store(*slot, value.clone());
        }
        let line = self.line;
        let (text, _) = self.capture(|this| {
            this.enter(&function.scope)?;
            let first_default = count - function.defaults.len().min(count);
            for (at, ((name, slot), value)) in function.parameters.iter().zip(&values).enumerate() {
                if value.is_none() {
                    let default = at.checked_sub(first_default).and_then(|at| function.defaults.get(at));
                    let value = match default {
                        Some(expr) => this.eval(expr)?,
                        None => Value::Undefined(Rc::new(Undefined::Parameter(name.clone()))),
                    };
                    this.store(*slot, Some(value));
                }
            }
            this.exec(&function.body)
        })?;
        self.line = line;
        self.leave(activation, caller);
        Ok(text)
    }

    fn call_global(&mut self, global: Global, given: Given<'a>) -> Outcome<Value<'a>> {
        match global {
            Global::Range => {
                let [a, b, c] = given.bind("range", ["", "", ""], 1)?;
                let int = |value: Option<Value<'a>>| match value {
                    None => Ok(None),
                    Some(value) => match value.as_int() {
                        Some(value) => Ok(Some(value)),
                        None => Err(match &value {
                            Value::Undefined(missing) => missing.fail(),
                            other => raise(format!(
                                "'{}' object cannot be interpreted as an integer",
                                other.type_name()
                            )),
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
                    return Err(raise(
                        "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).",
                    ));
                }
                Ok(Value::Range(range))
            }
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

impl<'a> Iter<'a> {
    pub(super) fn next(&self) -> Outcome<Option<Value<'a>>> {
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

impl Value<'_> {
    /// Steps that comparing it takes, roughly.
    fn cost(&self) -> u64 {
        match self {
            Value::Str(text) => (text.as_str().len() / BYTES_PER_STEP) as u64,
            Value::List(items) | Value::Tuple(items) => items.len() as u64,
            Value::Dict(dict) => dict.entries().len() as u64,
            _ => 0,
        }
    }
}

/// What is printed: `safe` at the end marks a text as HTML, which changes nothing where it goes no further.
fn printed(expr: &Expr) -> &Expr {
    match expr {
        Expr::Filter(apply) if apply.name.as_ref() == "safe" && apply.args == Args::default() => {
            apply.node.as_ref().map_or(expr, printed)
        }
        _ => expr,
    }
}

fn missing_attribute<'a>(object: &Value<'a>, name: &str) -> Value<'a> {
    let missing = Undefined::Attribute { of: object.described(), name: name.to_owned() };
    Value::Undefined(Rc::new(missing))
}

fn nth_char(text: &str, at: usize) -> &str {
    if text.is_ascii() {
        return text.get(at..at + 1).unwrap_or_default();
    }
    let Some((start, character)) = text.char_indices().nth(at) else { return "" };
    text.get(start..start + character.len_utf8()).unwrap_or_default()
}

fn characters<'a>(text: &Text<'a>) -> Vec<Value<'a>> {
    match text {
        Text::Borrowed(text) => text
            .char_indices()
            .filter_map(|(at, c)| text.get(at..at + c.len_utf8()))
            .map(|part| Value::Str(Text::Borrowed(part)))
            .collect(),
        Text::Owned(text) => text.chars().map(Value::text).collect(),
    }
}
