//! Equality and order of values.

use std::cmp::Ordering;
use std::rc::Rc;

use super::Value;
use crate::template::fail::{Outcome, raise, refuse};

/// Values that one comparison looks at. Lists that hold another one twice grow fast.
const COMPARED_MAX: u32 = 100_000;

/// `a == b`
pub(in crate::template) fn equal(a: &Value<'_>, b: &Value<'_>) -> Outcome<bool> {
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
pub(in crate::template) fn order(a: &Value<'_>, b: &Value<'_>, op: &str) -> Outcome<Option<Ordering>> {
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
