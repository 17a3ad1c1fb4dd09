//! Times as sources write them: epoch seconds or milliseconds, as number or text, or ISO 8601 with or without offset.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use rhai::Dynamic;

use crate::model::time::Timestamp;

/// Larger numbers are milliseconds: as seconds they would lie after the year 5138.
const LARGEST_SECONDS: i64 = 100_000_000_000;

/// `None` if it is not a time.
pub(super) fn parse(value: &Dynamic) -> Option<Timestamp> {
    if let Ok(number) = value.as_int() {
        return from_epoch(number);
    }
    let text = value.clone().into_immutable_string().ok()?;
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return from_epoch(number);
    }
    // A source that means "now in UTC" writes -00:00 or nothing at all.
    let text = text.strip_suffix("-00:00").unwrap_or(text);
    text.parse().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        Some(Timestamp::from_micros(Offset::UTC.to_timestamp(civil).ok()?.as_microsecond()))
    })
}

fn from_epoch(number: i64) -> Option<Timestamp> {
    let micros_per_unit = if number.abs() <= LARGEST_SECONDS { 1_000_000 } else { 1_000 };
    let micros = number.checked_mul(micros_per_unit)?;
    jiff::Timestamp::from_microsecond(micros).ok()?; // what cannot be shown is not a time
    Some(Timestamp::from_micros(micros))
}
