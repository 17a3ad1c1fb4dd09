//! What a plain scalar means: the YAML 1.1 rules of `PyYAML`, as far as JSON can hold the outcome.
//!
//! Times, base-60 numbers, infinities and not-a-number stay the text that was written.

use saphyr_parser::{ScalarStyle, Tag};
use serde_json::{Number, Value};

/// The value of a scalar as written.
pub(super) fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let core_tag = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    match core_tag {
        Some("str") => Value::String(text.to_owned()),
        Some("float") => float(text).or_else(|| integer(text)).unwrap_or_else(|| Value::String(text.to_owned())),
        Some(_) => plain(text),
        None if style == ScalarStyle::Plain => plain(text),
        None => Value::String(text.to_owned()),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    integer(text).or_else(|| float(text)).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.strip_prefix('-')?),
        b'+' => (false, text.strip_prefix('+')?),
        _ => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (radix, digits) = match digits {
        "0" => (10, digits),
        _ if digits.starts_with("0x") => (16, digits.strip_prefix("0x")?),
        _ if digits.starts_with("0b") => (2, digits.strip_prefix("0b")?),
        _ if digits.starts_with('0') => (8, digits.strip_prefix('0')?),
        _ => (10, digits),
    };
    let bare = digits.replace('_', "");
    if bare.is_empty() || !bare.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let Ok(size) = i128::from_str_radix(&bare, radix) else {
        return float_of(&bare, negative);
    };
    let value = if negative { -size } else { size };
    let number = i64::try_from(value).map(Number::from).or_else(|_| u64::try_from(value).map(Number::from));
    number.map(Value::Number).ok().or_else(|| float_of(&bare, negative))
}

/// An integer too large for 64 bits.
fn float_of(digits: &str, negative: bool) -> Option<Value> {
    let size: f64 = digits.parse().ok()?;
    Number::from_f64(if negative { -size } else { size }).map(Value::Number)
}

/// A decimal point is needed, and an exponent needs its sign: `1e3` is text in YAML 1.1.
fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.')?;
    let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit() || c == '_');
    let begins_well = whole.starts_with(|c: char| c.is_ascii_digit())
        || (whole.is_empty() && fraction.starts_with(|c: char| c.is_ascii_digit()));
    let exponent_well = exponent.is_none_or(|exponent| {
        let power = exponent.strip_prefix(['-', '+']).unwrap_or_default();
        !power.is_empty() && power.chars().all(|c| c.is_ascii_digit())
    });
    if !(begins_well && digits(whole) && digits(fraction) && exponent_well) {
        return None;
    }
    Number::from_f64(text.replace('_', "").parse().ok()?).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_mean_what_they_mean_in_stackstorm() {
        let cases = [
            ("", json!(null)),
            ("~", json!(null)),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("y", json!("y")),
            ("0", json!(0)),
            ("-17", json!(-17)),
            ("+3", json!(3)),
            ("1_000", json!(1000)),
            ("0755", json!(493)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("0o17", json!("0o17")),
            ("089", json!("089")),
            ("18446744073709551615", json!(u64::MAX)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("1.", json!(1.0)),
            ("1e3", json!("1e3")),
            ("1.0e+3", json!(1000.0)),
            (".inf", json!(".inf")),
            (".", json!(".")),
            ("1.2.3", json!("1.2.3")),
            ("12:30:45", json!("12:30:45")),
            ("2026-11-21", json!("2026-11-21")),
            ("-", json!("-")),
            ("hello", json!("hello")),
        ];
        for (text, value) in cases {
            assert_eq!(resolve(text, ScalarStyle::Plain, None), value, "{text:?}");
        }
    }

    #[test]
    fn quoted_scalars_are_text() {
        assert_eq!(resolve("yes", ScalarStyle::SingleQuoted, None), json!("yes"));
        assert_eq!(resolve("1", ScalarStyle::DoubleQuoted, None), json!("1"));
    }
}
