//! Why a rendering ends early.

use std::fmt;

/// A rendering's end. Its text may quote the prompt: it is for tests, and never part of a pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fail {
    /// What happened.
    pub kind: FailKind,
    /// The message that Python's jinja2 gives, as far as it is known.
    pub message: String,
    /// Line of the template, from 1.
    pub line: u32,
}

/// Kinds of ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailKind {
    /// jinja2 raises as well: vLLM answers an error.
    Raised,
    /// jinja2 would go on with something that is not known here exactly.
    Unsupported,
    /// The rendering took too many steps.
    Fuel,
    /// The rendered text is too long.
    Output,
    /// What comes next is not known: the message is what was printed before.
    Cut,
}

impl FailKind {
    /// What may be told of it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Raised => "an exception",
            Self::Unsupported => "something that is not modelled",
            Self::Fuel => "out of fuel",
            Self::Output => "too much output",
            Self::Cut => "media in a place that cannot be told",
        }
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.kind.label(), self.message)
    }
}

pub(super) type Outcome<T> = Result<T, Box<Fail>>;

/// An exception of Python's.
pub(super) fn raise(message: impl Into<String>) -> Box<Fail> {
    Box::new(Fail { kind: FailKind::Raised, message: message.into(), line: 0 })
}

/// Something whose outcome in Python is not known here.
pub(super) fn refuse(what: impl Into<String>) -> Box<Fail> {
    Box::new(Fail { kind: FailKind::Unsupported, message: what.into(), line: 0 })
}
