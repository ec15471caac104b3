//! Missing values.

use crate::template::fail::{Fail, raise};
use crate::template::repr;

/// Why a value is missing; said when it is used.
pub(in crate::template) enum Undefined {
    Name(Box<str>),
    Attribute { of: String, name: String },
    Element { of: String, key: String },
    Hint(&'static str),
    Unsafe { attribute: Box<str>, of: &'static str },
    Parameter(Box<str>),
}

impl Undefined {
    pub(in crate::template) fn fail(&self) -> Box<Fail> {
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
