//! How Python compares the values of criteria: `true == 1`, `1 == 1.0`, and no order between unlike types.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// Python's `==`.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let has_equal = |(name, value)| right.get(name).is_some_and(|other| equal(value, other));
            left.len() == right.len() && left.iter().all(has_equal)
        }
        _ => match (number(left), number(right)) {
            (Some(left), Some(right)) => left == right,
            _ => left == right,
        },
    }
}

/// The order behind Python's `<` and `>`; an error where Python raises one.
pub(super) fn compare(left: &Value, right: &Value) -> Result<Ordering, String> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => return Ok(left.cmp(right)),
        (Value::Array(left), Value::Array(right)) => return compare_lists(left, right),
        _ => {}
    }
    let numbers = number(left).zip(number(right));
    let order = numbers.and_then(|(left, right)| left.partial_cmp(&right));
    order.ok_or_else(|| format!("{} and {} have no order", type_name(left), type_name(right)))
}

fn compare_lists(left: &[Value], right: &[Value]) -> Result<Ordering, String> {
    match left.iter().zip(right).find(|(left, right)| !equal(left, right)) {
        Some((left, right)) => compare(left, right),
        None => Ok(left.len().cmp(&right.len())),
    }
}

/// Python's `item in container`.
pub(super) fn contains(container: &Value, item: &Value) -> Result<bool, String> {
    match (container, item) {
        (Value::String(text), Value::String(part)) => Ok(text.contains(part.as_str())),
        (Value::String(_), other) => Err(format!("a text cannot contain {}", type_name(other))),
        (Value::Array(items), item) => Ok(items.iter().any(|candidate| equal(candidate, item))),
        (Value::Object(members), Value::String(name)) => Ok(members.contains_key(name)),
        (Value::Object(_), item @ (Value::Array(_) | Value::Object(_))) => {
            Err(format!("{} cannot be a member's name", type_name(item)))
        }
        (Value::Object(_), Value::Null | Value::Bool(_) | Value::Number(_)) => Ok(false),
        (Value::Null | Value::Bool(_) | Value::Number(_), _) => {
            Err(format!("{} cannot contain anything", type_name(container)))
        }
    }
}

/// What Python takes for false: null, 0, `""`, `[]`, `{}`.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// For messages.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A number such that equal ones are identical: whole floats are integers, booleans are 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Numeric {
    /// A whole number.
    Whole(i128),
    /// Anything else.
    Float(f64),
}

/// The number that a JSON value is for Python, if it is one.
pub(super) fn number(value: &Value) -> Option<Numeric> {
    match value {
        Value::Bool(flag) => Some(Numeric::Whole(i128::from(*flag))),
        Value::Number(number) => Some(canonical(number)),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn canonical(number: &Number) -> Numeric {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    whole.map_or_else(|| float(number.as_f64().unwrap_or(f64::NAN)), Numeric::Whole)
}

/// Beyond this no JSON integer exists, so larger floats may stay floats.
const LARGEST_WHOLE: f64 = 1e30;

fn float(float: f64) -> Numeric {
    if float.fract() == 0.0 && float.abs() < LARGEST_WHOLE {
        #[expect(clippy::cast_possible_truncation, reason = "whole and far inside the range of i128")]
        return Numeric::Whole(float as i128);
    }
    Numeric::Float(float)
}

impl Numeric {
    fn to_f64(self) -> f64 {
        match self {
            #[expect(
                clippy::cast_precision_loss,
                reason = "compared only with floats that are not whole, so below 2^53"
            )]
            Self::Whole(whole) => whole as f64,
            Self::Float(float) => float,
        }
    }
}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => Some(left.cmp(right)),
            _ => self.to_f64().partial_cmp(&other.to_f64()),
        }
    }
}
