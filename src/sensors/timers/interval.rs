//! Interval timers: every so many units of real time, counted from the anchor.

use serde_json::Value;

use crate::model::time::Timestamp;

use super::parameters::{Parameters, ScheduleError};

/// A fixed distance between instants. Days and weeks are 24 hours and seven times that, as in StackStorm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    period_micros: i64,
}

/// The units StackStorm knows, in microseconds.
const UNITS: [(&str, i64); 5] = [
    ("seconds", 1_000_000),
    ("minutes", 60_000_000),
    ("hours", 3_600_000_000),
    ("days", 86_400_000_000),
    ("weeks", 604_800_000_000),
];

impl Interval {
    pub(super) fn parse(parameters: &Parameters<'_>) -> Result<Self, ScheduleError> {
        parameters.only(&["unit", "delta"])?;
        parameters.timezone()?; // changes no instant here, but a wrong one is still a mistake
        let unit = parse_unit(parameters.require("unit", UNIT_REMEDY)?)?;
        let delta = parse_delta(parameters.require("delta", DELTA_REMEDY)?)?;
        let too_long = || ScheduleError::new("delta", format!("{delta} of that unit is too long"), DELTA_REMEDY);
        Ok(Self { period_micros: delta.checked_mul(unit).ok_or_else(too_long)? })
    }

    /// The first instant after `after`. The anchor itself is not one: the first lies one period later.
    pub(super) fn next_after(self, anchor: Timestamp, after: Timestamp) -> Option<Timestamp> {
        let elapsed = after.as_micros().checked_sub(anchor.as_micros())?.max(0);
        let periods = elapsed / self.period_micros + 1;
        let distance = periods.checked_mul(self.period_micros)?;
        anchor.as_micros().checked_add(distance).map(Timestamp::from_micros)
    }
}

const UNIT_REMEDY: &str = "write seconds, minutes, hours, days or weeks";
const DELTA_REMEDY: &str = "write a whole number from 1 on, as in `delta: 30`";

fn parse_unit(value: &Value) -> Result<i64, ScheduleError> {
    let known = UNITS.iter().find(|(name, _)| value.as_str() == Some(name));
    match known {
        Some((_, micros)) => Ok(*micros),
        None => Err(ScheduleError::new("unit", format!("{value} is not a unit"), UNIT_REMEDY)),
    }
}

fn parse_delta(value: &Value) -> Result<i64, ScheduleError> {
    let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
    number
        .filter(|delta| *delta > 0)
        .ok_or_else(|| ScheduleError::new("delta", format!("{value} is not a positive whole number"), DELTA_REMEDY))
}
