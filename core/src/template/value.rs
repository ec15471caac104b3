//! Values as Python's jinja2 sees them.

use std::cell::{Cell, OnceCell};
use std::cmp::Ordering;
use std::rc::Rc;

use super::ast::Function;
use super::fail::{Fail, Outcome, raise, refuse};
use super::repr;

/// Text: of the chat or the template, or made while rendering.
#[derive(Clone)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Owned(Rc<str>),
}

impl<'a> Text<'a> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(text) => text,
        }
    }

    /// A part of this text, found by `find` in it; not copied where the text is borrowed.
    pub(super) fn part(&self, find: impl for<'t> Fn(&'t str) -> &'t str) -> Text<'a> {
        match self {
            Self::Borrowed(text) => Text::Borrowed(find(text)),
            Self::Owned(text) => {
                let part = find(text);
                if part.len() == text.len() { self.clone() } else { Text::Owned(part.into()) }
            }
        }
    }
}

#[derive(Clone)]
pub(super) enum Value<'a> {
    Undefined(Rc<Undefined>),
    None,
    Bool(bool),
    Int(i64),
    /// A whole number beyond 64 bits, in decimal.
    Big(Rc<str>),
    Float(f64),
    Str(Text<'a>),
    /// A string of which only the start is known, and that there is more.
    Unknown(Rc<str>),
    List(Rc<Items<'a>>),
    Tuple(Rc<Items<'a>>),
    Dict(Rc<Dict<'a>>),
    View(Rc<Dict<'a>>, View),
    Range(Range),
    Iter(Rc<Iter<'a>>),
    /// By number in the rendering's arena, as are the next three.
    Namespace(usize),
    Loop(usize),
    Cycler(usize),
    Joiner(usize),
    Macro(Rc<Macro<'a>>),
    /// A bound method of a value.
    Method(Rc<(Value<'a>, Box<str>)>),
    Global(Global),
}

/// Items of a list or a tuple.
#[derive(Default)]
pub(super) struct Items<'a> {
    items: Vec<Value<'a>>,
    /// How deep lists and dicts are nested in it, itself included.
    depth: u32,
}

impl<'a> Items<'a> {
    pub(super) fn of(items: Vec<Value<'a>>) -> Rc<Self> {
        let depth = 1 + items.iter().map(Value::depth).max().unwrap_or_default();
        Rc::new(Self { items, depth })
    }
}

impl<'a> std::ops::Deref for Items<'a> {
    type Target = Vec<Value<'a>>;

    fn deref(&self) -> &Self::Target {
        &self.items
    }
}

/// Functions that every template has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    Range,
    Dict,
    Lipsum,
    Cycler,
    Joiner,
    Namespace,
    RaiseException,
    StrftimeNow,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Keys,
    Values,
    Items,
}

/// Why a value is missing; said when it is used.
pub(super) enum Undefined {
    Name(Box<str>),
    Attribute { of: String, name: String },
    Element { of: String, key: String },
    Hint(&'static str),
    Unsafe { attribute: Box<str>, of: &'static str },
    Parameter(Box<str>),
}

impl Undefined {
    pub(super) fn fail(&self) -> Box<Fail> {
        match self {
            Self::Name(name) => raise(format!("{} is undefined", repr::quote(name))),
            Self::Attribute { of, name } => {
                raise(format!("{} has no attribute {}", repr::quote(of), repr::quote(name)))
            }
            Self::Element { of, key } => raise(format!("{of} has no element {key}")),
            Self::Hint(text) => raise(*text),
            Self::Unsafe { attribute, of } => raise(format!(
                "access to attribute {} of {} object is unsafe.",
                repr::quote(attribute),
                repr::quote(of)
            )),
            Self::Parameter(name) => raise(format!("parameter {} was not provided", repr::quote(name))),
        }
    }
}

/// A generator or another iterator: what it yields, once.
pub(super) struct Iter<'a> {
    pub(super) items: Vec<Value<'a>>,
    pub(super) at: Cell<usize>,
    /// What goes wrong after the last item.
    pub(super) fails: Option<Box<Fail>>,
}

/// A `range` object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: i64,
    pub(super) stop: i64,
    pub(super) step: i64,
}

impl Range {
    pub(super) fn len(self) -> usize {
        let (start, stop, step) = (i128::from(self.start), i128::from(self.stop), i128::from(self.step));
        let count =
            if step > 0 { (stop - start + step - 1) / step } else { (start - stop - step - 1) / -step };
        usize::try_from(count.max(0)).unwrap_or(usize::MAX)
    }

    pub(super) fn get(self, at: usize) -> Option<i64> {
        let at = i64::try_from(at).ok().filter(|_| at < self.len())?;
        self.start.checked_add(self.step.checked_mul(at)?)
    }
}

/// A macro with the scope it was written in.
pub(super) struct Macro<'a> {
    pub(super) function: &'a Function,
    /// The activation of the function around it.
    pub(super) outer: usize,
}

/// A `dict`: entries in the order in which their keys were first set.
#[derive(Default)]
pub(super) struct Dict<'a> {
    entries: Vec<(Value<'a>, Value<'a>)>,
    depth: u32,
    /// Entries with string keys in the order of their keys, for dicts of more than a few entries.
    sorted: OnceCell<Vec<u32>>,
}

/// Entries up to which a dict is searched from its start to its end.
const LINEAR_MAX: usize = 12;

impl<'a> Dict<'a> {
    /// From entries whose keys are different strings.
    pub(super) fn of(entries: Vec<(Value<'a>, Value<'a>)>) -> Self {
        let depth = entries.iter().map(|(_, value)| value.depth()).max().unwrap_or_default() + 1;
        Self { entries, depth, sorted: OnceCell::new() }
    }

    pub(super) fn entries(&self) -> &[(Value<'a>, Value<'a>)] {
        &self.entries
    }

    pub(super) fn get_str(&self, key: &str) -> Option<&Value<'a>> {
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
    pub(super) fn get(&self, key: &Value<'a>) -> Outcome<Option<&Value<'a>>> {
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
    pub(super) fn set(&mut self, key: Value<'a>, value: Value<'a>) -> Outcome<()> {
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

impl<'a> Value<'a> {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Str(Text::Owned(Rc::from(text.into())))
    }

    pub(super) fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(Items::of(items))
    }

    pub(super) fn tuple(items: Vec<Value<'a>>) -> Self {
        Self::Tuple(Items::of(items))
    }

    /// How deep lists and dicts are nested in it.
    pub(super) fn depth(&self) -> u32 {
        match self {
            Self::List(items) | Self::Tuple(items) => items.depth,
            Self::Dict(dict) | Self::View(dict, _) => dict.depth,
            Self::Iter(iter) => 1 + iter.items.iter().map(Value::depth).max().unwrap_or_default(),
            Self::Method(method) => 1 + method.0.depth(),
            _ => 0,
        }
    }

    pub(super) fn iter(items: Vec<Value<'a>>) -> Self {
        Self::Iter(Rc::new(Iter { items, at: Cell::new(0), fails: None }))
    }

    pub(super) fn undefined(hint: &'static str) -> Self {
        Self::Undefined(Rc::new(Undefined::Hint(hint)))
    }

    pub(super) fn undefined_name(name: &str) -> Self {
        Self::Undefined(Rc::new(Undefined::Name(name.into())))
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// `int`, which `bool` is one of.
    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bool(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Big(_) | Self::Float(_) | Self::Bool(_))
    }

    /// The name of its type in Python.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Big(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) | Self::Unknown(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::View(_, View::Keys) => "dict_keys",
            Self::View(_, View::Values) => "dict_values",
            Self::View(_, View::Items) => "dict_items",
            Self::Range(_) => "range",
            Self::Iter(_) => "generator",
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Cycler(_) => "Cycler",
            Self::Joiner(_) => "Joiner",
            Self::Macro(_) => "Macro",
            Self::Method(_) => "builtin_function_or_method",
            Self::Global(_) => "function",
        }
    }

    /// As undefined values name what they were looked up in.
    pub(super) fn described(&self) -> String {
        match self {
            Self::None => "None".to_owned(),
            Self::Namespace(_) => "jinja2.utils.Namespace object".to_owned(),
            Self::Loop(_) => "jinja2.runtime.LoopContext object".to_owned(),
            Self::Macro(_) => "jinja2.runtime.Macro object".to_owned(),
            _ => format!("{} object", self.type_name()),
        }
    }

    /// Its truth in Python. Generators, macros and all other objects are true.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) => !text.as_str().is_empty(),
            Self::List(items) | Self::Tuple(items) => !items.is_empty(),
            Self::Dict(dict) | Self::View(dict, _) => !dict.entries.is_empty(),
            Self::Range(range) => range.len() > 0,
            _ => true,
        }
    }

    /// `len(value)`
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::Undefined(_) => Some(0),
            Self::Str(text) => Some(count_chars(text.as_str())),
            Self::List(items) | Self::Tuple(items) => Some(items.len()),
            Self::Dict(dict) | Self::View(dict, _) => Some(dict.entries.len()),
            Self::Range(range) => Some(range.len()),
            _ => None,
        }
    }

    pub(super) fn check_hashable(&self) -> Outcome<()> {
        match self {
            Self::List(_) | Self::Dict(_) => {
                Err(raise(format!("unhashable type: {}", repr::quote(self.type_name()))))
            }
            // One in the other they could take long to walk.
            Self::Tuple(items) if items.depth > 3 => Err(refuse("a key of nested tuples")),
            Self::Tuple(items) => items.iter().try_for_each(Value::check_hashable),
            _ => Ok(()),
        }
    }
}

pub(super) fn count_chars(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

/// Values that one comparison looks at. Lists that hold another one twice grow fast.
const COMPARED_MAX: u32 = 100_000;

/// `a == b`
pub(super) fn equal(a: &Value<'_>, b: &Value<'_>) -> Outcome<bool> {
    equal_within(a, b, &mut COMPARED_MAX.clone())
}

fn equal_within(a: &Value<'_>, b: &Value<'_>, left: &mut u32) -> Outcome<bool> {
    *left = left.checked_sub(1).ok_or_else(|| refuse("a comparison of so many values"))?;
    Ok(match (a, b) {
        (Value::Str(a), Value::Str(b)) => a.as_str() == b.as_str(),
        (Value::None, Value::None) | (Value::Undefined(_), Value::Undefined(_)) => true,
        (a, b) if a.is_number() && b.is_number() => order_numbers(a, b)? == Some(Ordering::Equal),
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(b.iter()) {
                if !equal_within(a, b, left)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if a.entries.len() != b.entries.len() {
                return Ok(false);
            }
            for (key, value) in &a.entries {
                match b.get(key)? {
                    Some(other) if equal_within(value, other, left)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Range(a), Value::Range(b)) => {
            let same_start = a.len() == 0 || a.start == b.start;
            a.len() == b.len() && same_start && (a.len() < 2 || a.step == b.step)
        }
        (Value::Iter(a), Value::Iter(b)) => Rc::ptr_eq(a, b),
        (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
        (Value::Namespace(a), Value::Namespace(b))
        | (Value::Loop(a), Value::Loop(b))
        | (Value::Cycler(a), Value::Cycler(b))
        | (Value::Joiner(a), Value::Joiner(b)) => a == b,
        (Value::Global(a), Value::Global(b)) => a == b,
        (Value::Unknown(_), Value::Str(_) | Value::Unknown(_)) | (Value::Str(_), Value::Unknown(_)) => {
            return Err(refuse("comparing content that is not known"));
        }
        (Value::View(..), Value::View(..)) | (Value::Method(_), Value::Method(_)) => {
            return Err(refuse("comparing views or methods"));
        }
        _ => false,
    })
}

/// The order of two numbers; none with NaN.
fn order_numbers(a: &Value<'_>, b: &Value<'_>) -> Outcome<Option<Ordering>> {
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
        return Ok(Some(a.cmp(&b)));
    }
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Big(a), Value::Big(b)) if a == b => Ok(Some(Ordering::Equal)),
        (Value::Big(a), Value::Big(b)) => {
            let negative = |text: &str| text.starts_with('-');
            Ok(Some(match (negative(a), negative(b)) {
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => (a.len(), a).cmp(&(b.len(), b)),
                (true, true) => (b.len(), b).cmp(&(a.len(), a)),
            }))
        }
        // A big one is beyond all 64-bit ones.
        (Value::Big(a), b) if b.as_int().is_some() => {
            Ok(Some(if a.starts_with('-') { Ordering::Less } else { Ordering::Greater }))
        }
        (a, Value::Big(b)) if a.as_int().is_some() => {
            Ok(Some(if b.starts_with('-') { Ordering::Greater } else { Ordering::Less }))
        }
        (Value::Float(float), other) => match other.as_int() {
            Some(int) => Ok(float_to_int(*float, int)),
            None => Err(refuse("comparing a float with a number beyond 64 bits")),
        },
        (other, Value::Float(float)) => match other.as_int() {
            Some(int) => Ok(float_to_int(*float, int).map(Ordering::reverse)),
            None => Err(refuse("comparing a float with a number beyond 64 bits")),
        },
        _ => Ok(None),
    }
}

/// Exactly, as Python compares the two.
fn float_to_int(float: f64, int: i64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float.abs() >= 9.3e18 {
        return Some(if float > 0.0 { Ordering::Greater } else { Ordering::Less });
    }
    let whole = float.trunc();
    Some(
        (whole as i128)
            .cmp(&i128::from(int))
            .then_with(|| (float - whole).partial_cmp(&0.0).unwrap_or(Ordering::Equal)),
    )
}

/// `a < b` and its kin: the order of the two, none where no comparison holds (NaN).
pub(super) fn order(a: &Value<'_>, b: &Value<'_>, op: &str) -> Outcome<Option<Ordering>> {
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => Ok(Some(a.as_str().cmp(b.as_str()))),
        (a, b) if a.is_number() && b.is_number() => order_numbers(a, b),
        (Value::List(x), Value::List(y)) | (Value::Tuple(x), Value::Tuple(y)) => {
            for (a, b) in x.iter().zip(y.iter()) {
                if !equal(a, b)? {
                    return order(a, b, op);
                }
            }
            Ok(Some(x.len().cmp(&y.len())))
        }
        (Value::Undefined(missing), _) | (_, Value::Undefined(missing)) => Err(missing.fail()),
        _ => Err(raise(format!(
            "'{op}' not supported between instances of '{}' and '{}'",
            a.type_name(),
            b.type_name()
        ))),
    }
}
