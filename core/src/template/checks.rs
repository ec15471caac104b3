//! jinja2's tests: what follows `is`.

use super::args::Given;
use super::ast::CompareOp;
use super::eval::Interpreter;
use super::fail::{Outcome, raise, refuse};
use super::methods;
use super::ops;
use super::value::{Text, Value, equal};

/// Names of jinja2's filters, for the test of that name.
const FILTERS: [&str; 54] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "random",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "urlize",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

/// Names of jinja2's tests.
const TESTS: [&str; 39] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

impl<'a> Interpreter<'a, '_> {
    pub(super) fn test(&mut self, name: &str, value: &Value<'a>, given: Given<'a>) -> Outcome<bool> {
        let compared = match name {
            "eq" | "equalto" | "==" => Some(CompareOp::Eq),
            "ne" | "!=" => Some(CompareOp::Ne),
            "lt" | "lessthan" | "<" => Some(CompareOp::Lt),
            "le" | "<=" => Some(CompareOp::Le),
            "gt" | "greaterthan" | ">" => Some(CompareOp::Gt),
            "ge" | ">=" => Some(CompareOp::Ge),
            "in" => Some(CompareOp::In),
            _ => None,
        };
        if let Some(op) = compared {
            let [other] = given.bind(name, ["b"], 1)?;
            return self.compare(op, value, &other.unwrap_or(Value::None));
        }
        match name {
            "divisibleby" => {
                let [by] = given.bind(name, ["num"], 1)?;
                let rest = ops::binary(super::ast::BinOp::Mod, value, &by.unwrap_or(Value::None))?;
                equal(&rest, &Value::Int(0))
            }
            "sameas" => {
                let [other] = given.bind(name, ["other"], 1)?;
                same(value, &other.unwrap_or(Value::None))
            }
            _ => {
                given.bind(name, [], 0)?;
                self.plain_test(name, value)
            }
        }
    }

    fn plain_test(&mut self, name: &str, value: &Value<'a>) -> Outcome<bool> {
        Ok(match name {
            "defined" => !matches!(value, Value::Undefined(_)),
            "undefined" => matches!(value, Value::Undefined(_)),
            "none" => matches!(value, Value::None),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "boolean" => matches!(value, Value::Bool(_)),
            "integer" => matches!(value, Value::Int(_) | Value::Big(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => value.is_number(),
            "string" => matches!(value, Value::Str(_) | Value::Unknown(_)),
            "mapping" => matches!(value, Value::Dict(_)),
            "sequence" => matches!(
                value,
                Value::Undefined(_)
                    | Value::Str(_)
                    | Value::Unknown(_)
                    | Value::List(_)
                    | Value::Tuple(_)
                    | Value::Dict(_)
                    | Value::Range(_)
            ),
            "iterable" => matches!(
                value,
                Value::Undefined(_)
                    | Value::Str(_)
                    | Value::Unknown(_)
                    | Value::List(_)
                    | Value::Tuple(_)
                    | Value::Dict(_)
                    | Value::View(..)
                    | Value::Range(_)
                    | Value::Iter(_)
                    | Value::Loop(_)
            ),
            "callable" => matches!(
                value,
                Value::Undefined(_)
                    | Value::Macro(_)
                    | Value::Method(_)
                    | Value::Global(_)
                    | Value::Loop(_)
                    | Value::Joiner(_)
            ),
            "escaped" => matches!(value, Value::Str(Text::Markup(_))),
            "odd" | "even" => {
                let rest = ops::binary(super::ast::BinOp::Mod, value, &Value::Int(2))?;
                equal(&rest, &Value::Int(i64::from(name == "odd")))?
            }
            "lower" | "upper" => {
                let text = self.soft_text(value)?;
                self.spend_bytes(text.as_str().len())?;
                methods::has_case(text.as_str(), if name == "lower" { "islower" } else { "isupper" })?
            }
            "filter" => value.as_str().is_some_and(|name| FILTERS.contains(&name)),
            "test" => value.as_str().is_some_and(|name| TESTS.contains(&name)),
            _ => return Err(raise(format!("No test named {}.", super::repr::quote(name)))),
        })
    }
}

/// `value is other`, where Python's answer does not depend on how it keeps its objects.
fn same(value: &Value<'_>, other: &Value<'_>) -> Outcome<bool> {
    let single = |value: &Value<'_>| matches!(value, Value::None | Value::Bool(_));
    if single(value) || single(other) {
        return Ok(match (value, other) {
            (Value::None, Value::None) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            _ => false,
        });
    }
    if value.type_name() != other.type_name() {
        return Ok(false);
    }
    Err(refuse("whether two values are the same object"))
}
