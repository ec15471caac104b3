//! Names to slots: which variable a name means, decided before anything renders, as jinja2's compiler decides it
//! (`idtracking.py` and `compiler.py`). Jinja's scopes are not what a reader may expect: a variable that is set anywhere in
//! a scope is that scope's own from its beginning, and a macro sees the variables of the scope that it is written in.
//!
//! - `scope/names.rs`: which names a scope reads and sets.
//! - `scope/reads.rs`: which of the names that jinja2 gives to a macro its body asks for.
//! - `scope/slots.rs`: slots into names.

mod names;
mod reads;
mod slots;

use std::collections::{BTreeMap, BTreeSet};

use super::ast::{Load, Scope, Slot, Stmt};

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

    /// A new scope in the same function.
    fn inner(&mut self, frame: usize) -> usize {
        let function = self.get(frame).map_or(0, |frame| frame.function);
        self.frame(Some(frame), function)
    }
}
