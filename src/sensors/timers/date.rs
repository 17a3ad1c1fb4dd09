//! Date timers: one single instant.

use jiff::civil::DateTime;

use crate::model::time::Timestamp;

use super::parameters::{Parameters, ScheduleError};

const REMEDY: &str = "write 2026-11-21T08:30:00Z, or 2026-11-21 08:30:00 with a `timezone`";

/// Reads `date`. One without an offset is meant in `timezone`; one without a time is midnight.
pub(super) fn parse(parameters: &Parameters<'_>) -> Result<Timestamp, ScheduleError> {
    parameters.only(&["date"])?;
    let zone = parameters.timezone()?;
    let value = parameters.require("date", REMEDY)?;
    let wrong = |problem: String| ScheduleError::new("date", problem, REMEDY);
    let text = value.as_str().ok_or_else(|| wrong(format!("{value} is not a date in quotes")))?.trim();
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let civil: DateTime = text.parse().map_err(|error| wrong(format!("`{text}` is not a date ({error})")))?;
    let instant = zone.to_timestamp(civil).map_err(|error| wrong(format!("`{text}` is out of reach ({error})")))?;
    Ok(Timestamp::from_micros(instant.as_microsecond()))
}
