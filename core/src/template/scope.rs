//! Names to slots: which variable a name means, decided before anything renders, as jinja2's compiler decides it
//! (`idtracking.py` and `compiler.py`). Jinja's scopes are not what a reader may expect: a variable that is set anywhere in
//! a scope is that scope's own from its beginning, and a macro sees the variables of the scope that it is written in.

use std::collections::{BTreeMap, BTreeSet};

use super::ast::{Args, Expr, For, Function, Load, Piece, Scope, Slot, Stmt, StmtKind, Target};

/// Names that jinja2 itself gives to every template.
pub(super) const GLOBALS: [&str; 6] = ["range", "dict", "lipsum", "cycler", "joiner", "namespace"];

/// What is known of a whole template once its names are resolved.
pub(super) struct Resolved {
    /// Of the template's top level.
    pub(super) scope: Scope,
    pub(super) slots: u16,
    /// Names that the template takes from outside.
    pub(super) free: BTreeSet<Box<str>>,
}

pub(super) fn resolve(body: &mut [Stmt]) -> Result<Resolved, String> {
    let mut resolver = Resolver { frames: Vec::new(), slots: vec![0], free: BTreeSet::new() };
    let root = resolver.frame(None, 0);
    resolver.analyze(root, body);
    let scope = resolver.enter(root);
    resolver.body(body, root)?;
    if resolver.free.contains("self") {
        return Err("the variable 'self' is not supported".to_owned());
    }
    let slots = resolver.slots_of(0)?;
    Ok(Resolved { scope, slots, free: resolver.free })
}

/// The symbols of one scope.
#[derive(Clone, Default)]
struct Frame {
    parent: Option<usize>,
    /// Depth of the function that the scope is in, and its number.
    depth: u16,
    function: usize,
    refs: BTreeMap<Box<str>, u16>,
    loads: BTreeMap<u16, Known>,
    stores: BTreeSet<Box<str>>,
}

#[derive(Clone)]
enum Known {
    Parameter,
    Load(Load),
    /// An alias whose slot is written down by frame, for hops are counted where it is used.
    Alias(usize, u16),
}

struct Resolver {
    frames: Vec<Frame>,
    /// Slots used so far, by function.
    slots: Vec<u32>,
    free: BTreeSet<Box<str>>,
}

impl Resolver {
    fn frame(&mut self, parent: Option<usize>, function: usize) -> usize {
        let depth = match parent.and_then(|parent| self.frames.get(parent)) {
            Some(parent) if parent.function == function => parent.depth,
            Some(parent) => parent.depth + 1,
            None => 0,
        };
        self.frames.push(Frame { parent, depth, function, ..Frame::default() });
        self.frames.len() - 1
    }

    fn new_function(&mut self) -> usize {
        self.slots.push(0);
        self.slots.len() - 1
    }

    fn slots_of(&self, function: usize) -> Result<u16, String> {
        let count = self.slots.get(function).copied().unwrap_or_default();
        u16::try_from(count).map_err(|_| "too many variables".to_owned())
    }

    fn get(&self, frame: usize) -> Option<&Frame> {
        self.frames.get(frame)
    }

    fn get_mut(&mut self, frame: usize) -> Option<&mut Frame> {
        self.frames.get_mut(frame)
    }

    /// The slot of a name in this scope alone.
    fn own(&self, frame: usize, name: &str) -> Option<u16> {
        self.get(frame)?.refs.get(name).copied()
    }

    /// The scope that a name belongs to, and its slot there.
    fn find(&self, frame: usize, name: &str) -> Option<(usize, u16)> {
        let mut at = Some(frame);
        while let Some(frame) = at {
            if let Some(slot) = self.own(frame, name) {
                return Some((frame, slot));
            }
            at = self.get(frame)?.parent;
        }
        None
    }

    fn define(&mut self, frame: usize, name: &str, known: Known) -> u16 {
        let own = self.own(frame, name);
        let function = self.get(frame).map_or(0, |frame| frame.function);
        let slot = own.unwrap_or_else(|| {
            let Some(count) = self.slots.get_mut(function) else { return 0 };
            let slot = u16::try_from(*count).unwrap_or(u16::MAX);
            *count += 1;
            slot
        });
        if let Some(frame) = self.get_mut(frame) {
            frame.refs.insert(name.into(), slot);
            frame.loads.insert(slot, known);
        }
        slot
    }

    fn load(&mut self, frame: usize, name: &str) {
        if self.find(frame, name).is_none() {
            self.define(frame, name, Known::Load(Load::Resolve(name.into())));
        }
    }

    fn store(&mut self, frame: usize, name: &str) {
        if let Some(frame) = self.get_mut(frame) {
            frame.stores.insert(name.into());
        }
        if self.own(frame, name).is_some() {
            return;
        }
        let parent = self.get(frame).and_then(|frame| frame.parent);
        let known = match parent.and_then(|parent| self.find(parent, name)) {
            Some((outer, slot)) => Known::Alias(outer, slot),
            None => Known::Load(Load::Undefined),
        };
        self.define(frame, name, known);
    }

    fn parameter(&mut self, frame: usize, name: &str) -> u16 {
        if let Some(frame) = self.get_mut(frame) {
            frame.stores.insert(name.into());
        }
        self.define(frame, name, Known::Parameter)
    }

    /// Where `name` is for code in `frame`.
    fn slot(&self, frame: usize, name: &str) -> Result<Slot, String> {
        let lost = || format!("the variable {name:?} cannot be resolved");
        let (owner, index) = self.find(frame, name).ok_or_else(lost)?;
        self.hop(frame, owner, index).ok_or_else(lost)
    }

    fn hop(&self, from: usize, owner: usize, index: u16) -> Option<Slot> {
        Some(Slot { hops: self.get(from)?.depth.checked_sub(self.get(owner)?.depth)?, index })
    }

    /// What entering the scope does. Taken once everything in it is known.
    fn enter(&mut self, frame: usize) -> Scope {
        let loads = self.get(frame).map(|frame| frame.loads.clone()).unwrap_or_default();
        let mut scope = Vec::with_capacity(loads.len());
        for (slot, known) in loads {
            let load = match known {
                Known::Parameter => continue,
                Known::Load(load) => load,
                Known::Alias(owner, index) => match self.hop(frame, owner, index) {
                    Some(slot) => Load::Alias(slot),
                    None => Load::Undefined,
                },
            };
            if let Load::Resolve(name) = &load {
                self.free.insert(name.clone());
            }
            scope.push((slot, load));
        }
        Scope(scope)
    }

    // Which names a scope reads and sets.

    fn analyze(&mut self, frame: usize, body: &[Stmt]) {
        for statement in body {
            self.analyze_statement(frame, statement);
        }
    }

    fn analyze_statement(&mut self, frame: usize, statement: &Stmt) {
        match &statement.kind {
            StmtKind::Output(pieces) => {
                for piece in pieces {
                    if let Piece::Expr(expr) = piece {
                        self.analyze_expr(frame, expr);
                    }
                }
            }
            StmtKind::For(each) => self.analyze_expr(frame, &each.iter),
            StmtKind::If { branches, otherwise } => self.analyze_if(frame, branches, otherwise),
            StmtKind::Set { target, value } => {
                self.analyze_expr(frame, value);
                self.analyze_target(frame, target);
            }
            StmtKind::SetBlock { target, .. } => self.analyze_target(frame, target),
            StmtKind::With { assignments, .. } => {
                for (_, value) in assignments {
                    self.analyze_expr(frame, value);
                }
            }
            StmtKind::Macro { function, .. } => self.store(frame, &function.name),
            StmtKind::CallBlock { call, .. } => self.analyze_expr(frame, call),
            StmtKind::FilterBlock { filter, .. } => self.analyze_expr(frame, filter),
            StmtKind::Generation(_) | StmtKind::Break | StmtKind::Continue => {}
        }
    }

    /// Each branch is looked at by itself. What only some branches set is, where it was not set, what it was outside.
    fn analyze_if(&mut self, frame: usize, branches: &[(Expr, Vec<Stmt>)], otherwise: &[Stmt]) {
        let Some(((test, body), rest)) = branches.split_first() else { return };
        self.analyze_expr(frame, test);
        let Some(before) = self.get(frame).cloned() else { return };
        let mut after = Vec::new();
        let mut stores = BTreeSet::new();
        for part in 0..3 {
            match part {
                0 => self.analyze(frame, body),
                // jinja2 keeps `elif`s as a list of ifs of one branch.
                1 => rest.iter().for_each(|branch| self.analyze_if(frame, std::slice::from_ref(branch), &[])),
                _ => self.analyze(frame, otherwise),
            }
            if let Some(frame) = self.get_mut(frame) {
                let branch = std::mem::replace(frame, before.clone());
                stores.extend(branch.stores.iter().cloned());
                after.push(branch);
            }
        }
        let Some(frame_now) = self.get_mut(frame) else { return };
        stores.retain(|name| !frame_now.stores.contains(name));
        for branch in after {
            frame_now.refs.extend(branch.refs);
            frame_now.loads.extend(branch.loads);
            frame_now.stores.extend(branch.stores);
        }
        let parent = frame_now.parent;
        for name in stores {
            let Some((_, slot)) = self.find(frame, &name) else { continue };
            let known = match parent.and_then(|parent| self.find(parent, &name)) {
                Some((outer, index)) => Known::Alias(outer, index),
                None => Known::Load(Load::Resolve(name)),
            };
            if let Some(frame) = self.get_mut(frame) {
                frame.loads.insert(slot, known);
            }
        }
    }

    fn analyze_target(&mut self, frame: usize, target: &Target) {
        match target {
            Target::Name { name, .. } => self.store(frame, name),
            Target::Tuple(items) => items.iter().for_each(|item| self.analyze_target(frame, item)),
            Target::Attribute { name, .. } => self.load(frame, name),
        }
    }

    fn declare_target(&mut self, frame: usize, target: &Target) {
        match target {
            Target::Name { name, .. } => {
                self.parameter(frame, name);
            }
            Target::Tuple(items) => items.iter().for_each(|item| self.declare_target(frame, item)),
            Target::Attribute { name, .. } => self.load(frame, name),
        }
    }

    fn analyze_expr(&mut self, frame: usize, expr: &Expr) {
        if let Expr::Name { name, .. } = expr {
            self.load(frame, name);
        }
        for_each_child(expr, &mut |child| self.analyze_expr(frame, child));
    }

    // Slots into names.

    fn body(&mut self, body: &mut [Stmt], frame: usize) -> Result<(), String> {
        body.iter_mut().try_for_each(|statement| self.statement(&mut statement.kind, frame))
    }

    fn statement(&mut self, statement: &mut StmtKind, frame: usize) -> Result<(), String> {
        match statement {
            StmtKind::Output(pieces) => {
                for piece in pieces {
                    if let Piece::Expr(expr) = piece {
                        self.expr(expr, frame)?;
                    }
                }
                Ok(())
            }
            StmtKind::For(each) => self.for_loop(each, frame),
            StmtKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    self.expr(test, frame)?;
                    self.body(body, frame)?;
                }
                self.body(otherwise, frame)
            }
            StmtKind::Set { target, value } => {
                self.expr(value, frame)?;
                self.target(target, frame)
            }
            StmtKind::SetBlock { target, filter, body, scope } => {
                let inner = self.inner(frame);
                self.analyze(inner, body);
                if let Some(filter) = filter {
                    self.analyze_expr(inner, filter);
                }
                *scope = self.enter(inner);
                self.body(body, inner)?;
                if let Some(filter) = filter {
                    self.expr(filter, inner)?;
                }
                self.target(target, frame)
            }
            StmtKind::With { assignments, body, scope } => {
                let inner = self.inner(frame);
                assignments.iter().for_each(|(target, _)| self.declare_target(inner, target));
                self.analyze(inner, body);
                *scope = self.enter(inner);
                for (target, value) in assignments {
                    self.expr(value, frame)?;
                    self.target(target, inner)?;
                }
                self.body(body, inner)
            }
            StmtKind::Macro { slot, function } => {
                self.function(function, frame)?;
                *slot = self.slot(frame, &function.name)?;
                Ok(())
            }
            StmtKind::CallBlock { call, function } => {
                self.function(function, frame)?;
                self.expr(call, frame)
            }
            StmtKind::Generation(function) => self.function(function, frame),
            StmtKind::FilterBlock { filter, body, scope } => {
                let inner = self.inner(frame);
                self.analyze(inner, body);
                self.analyze_expr(inner, filter);
                *scope = self.enter(inner);
                self.body(body, inner)?;
                self.expr(filter, inner)
            }
            StmtKind::Break | StmtKind::Continue => Ok(()),
        }
    }

    /// A new scope in the same function.
    fn inner(&mut self, frame: usize) -> usize {
        let function = self.get(frame).map_or(0, |frame| frame.function);
        self.frame(Some(frame), function)
    }

    fn for_loop(&mut self, each: &mut For, frame: usize) -> Result<(), String> {
        self.expr(&mut each.iter, frame)?;
        let function = if each.recursive {
            self.new_function()
        } else {
            self.get(frame).map_or(0, |frame| frame.function)
        };
        let inner = self.frame(Some(frame), function);
        each.loop_slot = Slot { hops: 0, index: self.parameter(inner, "loop") };
        self.declare_target(inner, &each.target);
        self.analyze(inner, &each.body);
        if let Some(test) = &mut each.test {
            // Its own scope, but the loop's function: it is evaluated while the loop's slots are there.
            let within = self.frame(Some(frame), function);
            self.declare_target(within, &test.target);
            self.analyze_expr(within, &test.condition);
            test.scope = self.enter(within);
            self.target(&mut test.target, within)?;
            self.expr(&mut test.condition, within)?;
        }
        self.target(&mut each.target, inner)?;
        each.scope = self.enter(inner);
        self.body(&mut each.body, inner)?;
        let otherwise = self.frame(Some(frame), function);
        self.analyze(otherwise, &each.otherwise);
        each.otherwise_scope = self.enter(otherwise);
        self.body(&mut each.otherwise, otherwise)?;
        each.slots = self.slots_of(function)?;
        Ok(())
    }

    fn function(&mut self, function: &mut Function, frame: usize) -> Result<(), String> {
        let number = self.new_function();
        let inner = self.frame(Some(frame), number);
        for (name, slot) in &mut function.parameters {
            *slot = Slot { hops: 0, index: self.parameter(inner, name) };
        }
        function.defaults.iter().for_each(|value| self.analyze_expr(inner, value));
        let named = |name: &str| function.parameters.iter().any(|(known, _)| known.as_ref() == name);
        let wants = |name: &str| !named(name) && reads(&function.body, name);
        let implicit = [wants("caller"), wants("kwargs"), wants("varargs")];
        if named("caller") && reads(&function.body, "caller") && function.defaults.is_empty() {
            return Err("a macro's own parameter 'caller' needs a default".to_owned());
        }
        let mut declare =
            |wanted: bool, name: &str| wanted.then(|| Slot { hops: 0, index: self.parameter(inner, name) });
        function.caller = declare(implicit[0], "caller");
        function.kwargs = declare(implicit[1], "kwargs");
        function.varargs = declare(implicit[2], "varargs");
        self.analyze(inner, &function.body);
        function.scope = self.enter(inner);
        for value in &mut function.defaults {
            self.expr(value, inner)?;
        }
        self.body(&mut function.body, inner)?;
        function.slots = self.slots_of(number)?;
        Ok(())
    }

    fn target(&self, target: &mut Target, frame: usize) -> Result<(), String> {
        match target {
            Target::Name { name, slot } | Target::Attribute { name, slot, .. } => {
                *slot = self.slot(frame, name)?;
                Ok(())
            }
            Target::Tuple(items) => items.iter_mut().try_for_each(|item| self.target(item, frame)),
        }
    }

    fn expr(&self, expr: &mut Expr, frame: usize) -> Result<(), String> {
        if let Expr::Name { name, slot } = expr {
            *slot = self.slot(frame, name)?;
            return Ok(());
        }
        let mut outcome = Ok(());
        for_each_child_mut(expr, &mut |child| {
            if outcome.is_ok() {
                outcome = self.expr(child, frame);
            }
        });
        outcome
    }
}

/// Whether a function's body reads `name` before it sets it, as jinja2's `find_undeclared` walks it: in order, through
/// nested scopes too.
fn reads(body: &[Stmt], name: &str) -> bool {
    fn expr(value: &Expr, name: &str) -> bool {
        if matches!(value, Expr::Name { name: known, .. } if known.as_ref() == name) {
            return true;
        }
        let mut found = false;
        for_each_child(value, &mut |child| found = found || expr(child, name));
        found
    }
    fn sets(target: &Target, name: &str) -> bool {
        match target {
            Target::Name { name: known, .. } => known.as_ref() == name,
            Target::Tuple(items) => items.iter().any(|item| sets(item, name)),
            Target::Attribute { .. } => false,
        }
    }
    /// Some(true): reads it; Some(false): sets it first.
    fn walk(body: &[Stmt], name: &str) -> Option<bool> {
        let read = |value: &Expr| expr(value, name).then_some(true);
        let set = |target: &Target| sets(target, name).then_some(false);
        body.iter().find_map(|statement| match &statement.kind {
            StmtKind::Output(pieces) => pieces.iter().find_map(|piece| match piece {
                Piece::Expr(value) => read(value),
                Piece::Text(_) => None,
            }),
            StmtKind::For(each) => set(&each.target)
                .or_else(|| read(&each.iter))
                .or_else(|| walk(&each.body, name))
                .or_else(|| walk(&each.otherwise, name))
                .or_else(|| each.test.as_ref().and_then(|test| read(&test.condition))),
            StmtKind::If { branches, otherwise } => branches
                .iter()
                .find_map(|(test, body)| read(test).or_else(|| walk(body, name)))
                .or_else(|| walk(otherwise, name)),
            StmtKind::Set { target, value } => set(target).or_else(|| read(value)),
            StmtKind::SetBlock { target, filter, body, .. } => {
                set(target).or_else(|| filter.as_ref().and_then(read)).or_else(|| walk(body, name))
            }
            StmtKind::With { assignments, body, .. } => assignments
                .iter()
                .find_map(|(target, _)| set(target))
                .or_else(|| assignments.iter().find_map(|(_, value)| read(value)))
                .or_else(|| walk(body, name)),
            StmtKind::Macro { function, .. } => walk_function(function, name),
            StmtKind::CallBlock { call, function } => read(call).or_else(|| walk_function(function, name)),
            StmtKind::Generation(function) => walk_function(function, name),
            StmtKind::FilterBlock { filter, body, .. } => walk(body, name).or_else(|| read(filter)),
            StmtKind::Break | StmtKind::Continue => None,
        })
    }
    fn walk_function(function: &Function, name: &str) -> Option<bool> {
        let named = function.parameters.iter().any(|(known, _)| known.as_ref() == name);
        named
            .then_some(false)
            .or_else(|| function.defaults.iter().any(|value| expr(value, name)).then_some(true))
            .or_else(|| walk(&function.body, name))
    }
    walk(body, name) == Some(true)
}

fn args_of<'e>(args: &'e Args, visit: &mut dyn FnMut(&'e Expr)) {
    args.positional.iter().for_each(&mut *visit);
    args.keywords.iter().for_each(|(_, value)| visit(value));
    args.star.iter().chain(&args.star_star).for_each(|value| visit(value));
}

/// The parts of an expression, in jinja2's order.
pub(super) fn for_each_child<'e>(expr: &'e Expr, visit: &mut dyn FnMut(&'e Expr)) {
    match expr {
        Expr::Const(_) | Expr::Name { .. } => {}
        Expr::Tuple(items) | Expr::List(items) | Expr::Concat(items) => items.iter().for_each(visit),
        Expr::Dict(items) => items.iter().for_each(|(key, value)| {
            visit(key);
            visit(value);
        }),
        Expr::Cond(parts) => {
            visit(&parts.0);
            visit(&parts.1);
            parts.2.iter().for_each(visit);
        }
        Expr::Bin(_, sides) | Expr::And(sides) | Expr::Or(sides) | Expr::Getitem(sides) => {
            visit(&sides.0);
            visit(&sides.1);
        }
        Expr::Not(inner) | Expr::Neg(inner) | Expr::Pos(inner) | Expr::Getattr(inner, _) => visit(inner),
        Expr::Compare(first, rest) => {
            visit(first);
            rest.iter().for_each(|(_, value)| visit(value));
        }
        Expr::Filter(apply) | Expr::Test(apply) => {
            apply.node.iter().for_each(&mut *visit);
            args_of(&apply.args, visit);
        }
        Expr::Call(call) => {
            visit(&call.callee);
            args_of(&call.args, visit);
        }
        Expr::Slice(parts) => parts.iter().flatten().for_each(visit),
    }
}

fn for_each_child_mut(expr: &mut Expr, visit: &mut dyn FnMut(&mut Expr)) {
    fn args_of(args: &mut Args, visit: &mut dyn FnMut(&mut Expr)) {
        args.positional.iter_mut().for_each(&mut *visit);
        args.keywords.iter_mut().for_each(|(_, value)| visit(value));
        args.star.iter_mut().chain(&mut args.star_star).for_each(|value| visit(value));
    }
    match expr {
        Expr::Const(_) | Expr::Name { .. } => {}
        Expr::Tuple(items) | Expr::List(items) | Expr::Concat(items) => items.iter_mut().for_each(visit),
        Expr::Dict(items) => items.iter_mut().for_each(|(key, value)| {
            visit(key);
            visit(value);
        }),
        Expr::Cond(parts) => {
            visit(&mut parts.0);
            visit(&mut parts.1);
            parts.2.iter_mut().for_each(visit);
        }
        Expr::Bin(_, sides) | Expr::And(sides) | Expr::Or(sides) | Expr::Getitem(sides) => {
            visit(&mut sides.0);
            visit(&mut sides.1);
        }
        Expr::Not(inner) | Expr::Neg(inner) | Expr::Pos(inner) | Expr::Getattr(inner, _) => visit(inner),
        Expr::Compare(first, rest) => {
            visit(first);
            rest.iter_mut().for_each(|(_, value)| visit(value));
        }
        Expr::Filter(apply) | Expr::Test(apply) => {
            apply.node.iter_mut().for_each(&mut *visit);
            args_of(&mut apply.args, visit);
        }
        Expr::Call(call) => {
            visit(&mut call.callee);
            args_of(&mut call.args, visit);
        }
        Expr::Slice(parts) => parts.iter_mut().flatten().for_each(visit),
    }
}
