//! Python's operators.

use super::ast::BinOp;
use super::fail::{Outcome, raise, refuse};
use super::value::{Text, Value, count_chars};

/// Bytes of text, or items times eight, that an operation makes: what it costs.
pub(super) fn bytes_made(op: BinOp, left: &Value<'_>, right: &Value<'_>) -> usize {
    let size = |value: &Value<'_>| match value {
        Value::Str(text) => text.as_str().len(),
        Value::List(items) | Value::Tuple(items) => items.len().saturating_mul(8),
        _ => 0,
    };
    match op {
        BinOp::Add => size(left).saturating_add(size(right)),
        BinOp::Mul => {
            let times =
                |value: &Value<'_>| usize::try_from(value.as_int().unwrap_or_default()).unwrap_or_default();
            size(left).saturating_mul(times(right)).saturating_add(size(right).saturating_mul(times(left)))
        }
        _ => 0,
    }
}

pub(super) fn negative<'a>(value: &Value<'a>) -> Outcome<Value<'a>> {
    match value {
        Value::Float(value) => Ok(Value::Float(-value)),
        Value::Big(digits) => Ok(Value::Big(match digits.strip_prefix('-') {
            Some(digits) => digits.into(),
            None => format!("-{digits}").into(),
        })),
        Value::Undefined(missing) => Err(missing.fail()),
        other => match other.as_int() {
            Some(value) => value.checked_neg().map(Value::Int).ok_or_else(too_big),
            None => Err(raise(format!("bad operand type for unary -: '{}'", other.type_name()))),
        },
    }
}

pub(super) fn positive<'a>(value: &Value<'a>) -> Outcome<Value<'a>> {
    match value {
        Value::Float(_) | Value::Big(_) => Ok(value.clone()),
        Value::Undefined(missing) => Err(missing.fail()),
        other => match other.as_int() {
            Some(value) => Ok(Value::Int(value)),
            None => Err(raise(format!("bad operand type for unary +: '{}'", other.type_name()))),
        },
    }
}

fn too_big() -> Box<super::fail::Fail> {
    refuse("arithmetic beyond 64 bits")
}

/// `left op right`. `%` of a string is the caller's to do.
pub(super) fn binary<'a>(op: BinOp, left: &Value<'a>, right: &Value<'a>) -> Outcome<Value<'a>> {
    if let Value::Undefined(missing) = left {
        return Err(missing.fail());
    }
    if let Value::Undefined(missing) = right {
        return Err(missing.fail());
    }
    if left.is_number() && right.is_number() {
        return arithmetic(op, left, right);
    }
    match (op, left, right) {
        (BinOp::Add, Value::Str(a), Value::Str(b)) if a.is_markup() || b.is_markup() => {
            let joined = [a.escaped().as_str(), b.escaped().as_str()].concat();
            Ok(Value::Str(Text::Markup(joined.into())))
        }
        (BinOp::Add, Value::Str(Text::Markup(_)), Value::Unknown(_))
        | (BinOp::Add, Value::Unknown(_), Value::Str(Text::Markup(_))) => {
            Err(refuse("content that is not known, joined with HTML"))
        }
        (BinOp::Add, Value::Str(a), Value::Str(b)) => {
            Ok(Value::Str(Text::Owned([a.as_str(), b.as_str()].concat().into())))
        }
        // What is added after something unknown is not known to be there either.
        (BinOp::Add, Value::Unknown(_), Value::Str(_) | Value::Unknown(_)) => Ok(left.clone()),
        (BinOp::Add, Value::Str(a), Value::Unknown(b)) => {
            Ok(Value::Unknown([a.as_str(), b.as_ref()].concat().into()))
        }
        (BinOp::Add, Value::List(a), Value::List(b)) => Ok(Value::list([a.as_slice(), b].concat())),
        (BinOp::Add, Value::Tuple(a), Value::Tuple(b)) => Ok(Value::tuple([a.as_slice(), b].concat())),
        (BinOp::Mul, Value::Str(_) | Value::List(_) | Value::Tuple(_), times)
        | (BinOp::Mul, times, Value::Str(_) | Value::List(_) | Value::Tuple(_)) => {
            let repeated = if std::ptr::eq(times, right) { left } else { right };
            repeat(repeated, times)
        }
        _ => Err(raise(mismatch(op, left, right))),
    }
}

fn repeat<'a>(value: &Value<'a>, times: &Value<'a>) -> Outcome<Value<'a>> {
    let Some(times) = times.as_int() else {
        return Err(raise(format!("can't multiply sequence by non-int of type '{}'", times.type_name())));
    };
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    Ok(match value {
        Value::Str(text) if text.as_str().is_empty() => value.clone(),
        Value::Str(text) => Value::Str(text.like(text.as_str().repeat(times))),
        Value::List(items) if items.is_empty() => value.clone(),
        Value::List(items) => Value::list(repeat_items(items, times)),
        Value::Tuple(items) if items.is_empty() => value.clone(),
        Value::Tuple(items) => Value::tuple(repeat_items(items, times)),
        other => other.clone(),
    })
}

fn repeat_items<'a>(items: &[Value<'a>], times: usize) -> Vec<Value<'a>> {
    std::iter::repeat_n(items, times).flatten().cloned().collect()
}

/// The message of Python's TypeError.
fn mismatch(op: BinOp, left: &Value<'_>, right: &Value<'_>) -> String {
    let (a, b) = (left.type_name(), right.type_name());
    if op == BinOp::Add {
        match left {
            Value::Str(text) if !text.is_markup() => {
                return format!("can only concatenate str (not \"{b}\") to str");
            }
            Value::List(_) => return format!("can only concatenate list (not \"{b}\") to list"),
            Value::Tuple(_) => return format!("can only concatenate tuple (not \"{b}\") to tuple"),
            _ => {}
        }
    }
    let symbol = match op {
        BinOp::Add => "+",
        BinOp::Sub => "-",
        BinOp::Mul => "*",
        BinOp::Div => "/",
        BinOp::FloorDiv => "//",
        BinOp::Mod => "%",
        BinOp::Pow => "** or pow()",
    };
    format!("unsupported operand type(s) for {symbol}: '{a}' and '{b}'")
}

fn arithmetic<'a>(op: BinOp, left: &Value<'a>, right: &Value<'a>) -> Outcome<Value<'a>> {
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        return whole(op, a, b);
    }
    let float = |value: &Value<'_>| match value {
        Value::Float(value) => Some(*value),
        // Exact below: beyond, Python rounds as this does, but says so nowhere.
        other => other.as_int().map(|value| value as f64),
    };
    let (Some(a), Some(b)) = (float(left), float(right)) else { return Err(too_big()) };
    let value = match op {
        BinOp::Add => a + b,
        BinOp::Sub => a - b,
        BinOp::Mul => a * b,
        BinOp::Div | BinOp::FloorDiv | BinOp::Mod if b == 0.0 => {
            return Err(raise(if op == BinOp::Div {
                "float division by zero"
            } else {
                "float floor division by zero"
            }));
        }
        BinOp::Div => a / b,
        BinOp::FloorDiv | BinOp::Mod => {
            let (quotient, rest) = float_divmod(a, b);
            if op == BinOp::Mod { rest } else { quotient }
        }
        BinOp::Pow => return Err(refuse("powers of floats")),
    };
    Ok(Value::Float(value))
}

/// `divmod(a, b)` of floats, as CPython computes it.
fn float_divmod(a: f64, b: f64) -> (f64, f64) {
    let mut rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest != 0.0 {
        if (b < 0.0) != (rest < 0.0) {
            rest += b;
            quotient -= 1.0;
        }
    } else {
        rest = 0.0_f64.copysign(b);
    }
    if quotient == 0.0 {
        return (0.0_f64.copysign(a / b), rest);
    }
    let mut floor = quotient.floor();
    if quotient - floor > 0.5 {
        floor += 1.0;
    }
    (floor, rest)
}

/// Whole numbers up to here are exact as floats.
const EXACT: u64 = 1 << 53;

fn whole<'a>(op: BinOp, a: i64, b: i64) -> Outcome<Value<'a>> {
    let by_zero = |message: &str| Err(raise(message));
    let value = match op {
        BinOp::Add => a.checked_add(b),
        BinOp::Sub => a.checked_sub(b),
        BinOp::Mul => a.checked_mul(b),
        BinOp::Div if b == 0 => return by_zero("division by zero"),
        BinOp::Div if a.unsigned_abs() <= EXACT && b.unsigned_abs() <= EXACT => {
            return Ok(Value::Float(a as f64 / b as f64));
        }
        BinOp::Div => None,
        BinOp::FloorDiv if b == 0 => return by_zero("integer division or modulo by zero"),
        BinOp::Mod if b == 0 => return by_zero("integer modulo by zero"),
        BinOp::FloorDiv => a
            .checked_div(b)
            .map(|quotient| quotient - i64::from(a.wrapping_rem(b) != 0 && (a < 0) != (b < 0))),
        BinOp::Mod => {
            a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        }
        BinOp::Pow => match u32::try_from(b) {
            Ok(exponent) => a.checked_pow(exponent),
            Err(_) => return Err(refuse("negative powers")),
        },
    };
    value.map(Value::Int).ok_or_else(too_big)
}

/// The indices that `[start:stop:step]` picks of `length` items (`PySlice_AdjustIndices`).
pub(super) fn slice_indices(
    length: usize,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
) -> impl Iterator<Item = usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let backwards = step < 0;
    let clamp = |bound: i64| {
        if bound < 0 {
            let bound = bound.saturating_add(length);
            if bound < 0 { if backwards { -1 } else { 0 } } else { bound }
        } else if bound >= length {
            if backwards { length - 1 } else { length }
        } else {
            bound
        }
    };
    let start = start.map_or(if backwards { length - 1 } else { 0 }, clamp);
    let stop = stop.map_or(if backwards { -1 } else { length }, clamp);
    let mut at = start;
    std::iter::from_fn(move || {
        let inside = if backwards { at > stop } else { at < stop };
        let index = usize::try_from(at).ok().filter(|_| inside)?;
        at = at.saturating_add(step);
        Some(index)
    })
}

pub(super) fn slice_text<'a>(text: &Text<'a>, start: Option<i64>, stop: Option<i64>, step: i64) -> Text<'a> {
    let length = count_chars(text.as_str());
    if step == 1 {
        let mut picked = slice_indices(length, start, stop, 1);
        let Some(first) = picked.next() else { return text.part(|_| "") };
        let last = first + picked.count();
        return text.part(|text| {
            let at = |index: usize| {
                if text.len() == length {
                    index
                } else {
                    text.char_indices().nth(index).map_or(text.len(), |(at, _)| at)
                }
            };
            text.get(at(first)..at(last + 1)).unwrap_or_default()
        });
    }
    let chars: Vec<char> = text.as_str().chars().collect();
    let picked: String = slice_indices(length, start, stop, step).filter_map(|at| chars.get(at)).collect();
    text.like(picked)
}
