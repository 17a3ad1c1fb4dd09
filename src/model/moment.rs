//! Instants in words, for people.

use super::time::Timestamp;

/// Day and time in UTC, to the second.
pub fn moment(at: Timestamp) -> String {
    written(at, "%Y-%m-%d %H:%M:%S")
}

/// The time of day in UTC, to the second; with the day if it is not the day of `now`.
pub fn clock_time(at: Timestamp, now: Timestamp) -> String {
    const DAY: i64 = 86_400;
    let same_day = at.as_seconds().div_euclid(DAY) == now.as_seconds().div_euclid(DAY);
    if same_day { written(at, "%H:%M:%S") } else { moment(at) }
}

fn written(at: Timestamp, format: &str) -> String {
    match jiff::Timestamp::from_microsecond(at.as_micros()) {
        Ok(time) => time.strftime(format).to_string(),
        Err(_) => at.to_string(),
    }
}
