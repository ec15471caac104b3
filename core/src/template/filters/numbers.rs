//! Filters of numbers.

use super::whole;
use crate::template::args::Given;
use crate::template::eval::Interpreter;
use crate::template::fail::{Outcome, raise, refuse};
use crate::template::ops;
use crate::template::python::{parse_float, parse_int};
use crate::template::value::Value;

impl<'a> Interpreter<'a, '_> {
    pub(super) fn number_filter(
        &mut self,
        name: &str,
        value: &Value<'a>,
        given: Given<'a>,
    ) -> Outcome<Value<'a>> {
        if let Value::Undefined(missing) = value
            && name != "float"
        {
            return Err(missing.fail());
        }
        match name {
            "abs" => {
                given.bind(name, [], 0)?;
                match value {
                    Value::Float(value) => Ok(Value::Float(value.abs())),
                    Value::Big(digits) => Ok(Value::Big(digits.trim_start_matches('-').into())),
                    other => match other.as_int() {
                        Some(value) if value < 0 => ops::negative(&Value::Int(value)),
                        Some(value) => Ok(Value::Int(value)),
                        None => Err(raise(format!("bad operand type for abs(): '{}'", other.type_name()))),
                    },
                }
            }
            "int" => {
                let [default, base] = given.bind(name, ["default", "base"], 0)?;
                if base.is_some() {
                    return Err(refuse("numbers of another base"));
                }
                self.integer(value).map(|value| value.unwrap_or_else(|| default.unwrap_or(Value::Int(0))))
            }
            "float" => {
                let [default] = given.bind(name, ["default"], 0)?;
                let float = match value {
                    Value::Undefined(missing) => return Err(missing.fail()),
                    Value::Float(value) => Some(*value),
                    Value::Big(digits) => digits.parse().ok(),
                    Value::Str(text) if text.as_str().is_ascii() => parse_float(text.as_str()),
                    Value::Str(_) => return Err(refuse("a number beyond ASCII")),
                    other => other.as_int().map(|value| value as f64),
                };
                Ok(float.map_or_else(|| default.unwrap_or(Value::Float(0.0)), Value::Float))
            }
            _ => self.round(value, given),
        }
    }

    fn round(&mut self, value: &Value<'a>, given: Given<'a>) -> Outcome<Value<'a>> {
        let [precision, method] = given.bind("round", ["precision", "method"], 0)?;
        let precision = precision.map_or(Ok(0), |precision| whole(&precision))?;
        let Ok(precision) = usize::try_from(precision) else {
            return Err(refuse("rounding to tens"));
        };
        if precision > 15 {
            return Err(refuse("rounding to as many places"));
        }
        let method = method.as_ref().map_or(Some("common"), Value::as_str);
        let float = match (value, method) {
            (Value::Int(_) | Value::Big(_), Some("common")) => return Ok(value.clone()),
            (Value::Bool(value), Some("common")) => return Ok(Value::Int(i64::from(*value))),
            (Value::Float(value), _) => *value,
            (other, _) => match other.as_int() {
                Some(value) => value as f64,
                None => {
                    let found = other.type_name();
                    return Err(raise(format!("type {found} doesn't define __round__ method")));
                }
            },
        };
        if !float.is_finite() {
            return Err(refuse("rounding what is not finite"));
        }
        let scale = 10_f64.powi(precision as i32);
        match method {
            Some("common") => {
                let text = format!("{float:.precision$}");
                Ok(Value::Float(text.parse().unwrap_or(float)))
            }
            Some("ceil") => Ok(Value::Float((float * scale).ceil() / scale)),
            Some("floor") => Ok(Value::Float((float * scale).floor() / scale)),
            _ => Err(raise("method must be common, ceil or floor")),
        }
    }

    /// `int(value)`; none where the filter answers its default.
    fn integer(&mut self, value: &Value<'a>) -> Outcome<Option<Value<'a>>> {
        let whole = |float: f64| {
            if !float.is_finite() {
                return Ok(None);
            }
            if float.abs() >= 9.2e18 {
                return Err(refuse("a number beyond 64 bits"));
            }
            Ok(Some(Value::Int(float.trunc() as i64)))
        };
        match value {
            Value::Int(_) | Value::Big(_) => Ok(Some(value.clone())),
            Value::Bool(value) => Ok(Some(Value::Int(i64::from(*value)))),
            Value::Float(value) if value.is_infinite() => Err(refuse("int of an infinite number")),
            Value::Float(value) => whole(*value),
            Value::Str(text) if !text.as_str().is_ascii() => Err(refuse("a number beyond ASCII")),
            Value::Str(text) => match parse_int(text.as_str()) {
                Some(Ok(value)) => Ok(Some(Value::Int(value))),
                Some(Err(digits)) => Ok(Some(Value::Big(digits.into()))),
                None => parse_float(text.as_str()).map_or(Ok(None), whole),
            },
            _ => Ok(None),
        }
    }
}
