//! Times as people say them: how long ago, how long it took, when next.

use std::time::Duration;

use serde_json::Value;

use crate::model::time::{Timestamp, format_duration};

/// `42s ago`, `in 3m`; nothing if there is no time.
pub(super) fn ago(value: &Value, now: Timestamp) -> String {
    match read(value) {
        Some(at) if at > now => format!("in {}", rounded(at.since(now))),
        Some(at) => format!("{} ago", rounded(now.since(at))),
        None => String::new(),
    }
}

/// `2026-11-21 08:29:18 UTC (42s ago)`.
pub(super) fn moment(value: &Value, now: Timestamp) -> String {
    match read(value) {
        Some(at) => format!("{} ({})", to_the_second(at), ago(value, now)),
        None => String::new(),
    }
}

/// From one time to another, or until now: `1.3s`, `2m10s`.
pub(super) fn took(from: &Value, to: &Value, now: Timestamp) -> String {
    match read(from) {
        Some(from) => elapsed(read(to).unwrap_or(now).since(from)),
        None => String::new(),
    }
}

/// `08:29:18`, with the day if it is not today's.
pub(super) fn clock_time(at: Timestamp, now: Timestamp) -> String {
    const DAY: i64 = 86_400;
    let text = to_the_second(at);
    let is_today = at.as_seconds().div_euclid(DAY) == now.as_seconds().div_euclid(DAY);
    let short = text.trim_end_matches(" UTC");
    match short.split_once(' ') {
        Some((_, time)) if is_today => time.to_owned(),
        _ => short.to_owned(),
    }
}

/// A time in an answer.
pub(super) fn read(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn to_the_second(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds = text.split('.').next().unwrap_or(&text);
    format!("{} UTC", seconds.replace('T', " "))
}

fn rounded(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return "0s".to_owned();
    }
    format_duration(Duration::from_secs(duration.as_secs()))
}

fn elapsed(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_millis());
    }
    if duration < Duration::from_mins(1) {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    rounded(duration)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        let now = at("2026-11-21T08:30:00Z");
        let cases = [
            (ago(&json!("2026-11-21T08:29:18.5Z"), now), "41s ago"),
            (ago(&json!("2026-11-21T08:33:00Z"), now), "in 3m"),
            (ago(&json!("2026-11-21T08:30:00Z"), now), "0s ago"),
            (ago(&json!(null), now), ""),
            (moment(&json!("2026-11-20T07:30:00Z"), now), "2026-11-20 07:30:00 UTC (1d1h ago)"),
            (took(&json!("2026-11-21T08:29:58.700Z"), &json!(null), now), "1.3s"),
            (took(&json!("2026-11-21T08:20:00Z"), &json!("2026-11-21T08:20:00.04Z"), now), "40ms"),
            (took(&json!("2026-11-21T08:20:00Z"), &json!("2026-11-21T08:22:10Z"), now), "2m10s"),
            (took(&json!(null), &json!(null), now), ""),
        ];
        for (said, expected) in cases {
            assert_eq!(said, expected);
        }
        assert_eq!(clock_time(at("2026-11-21T07:00:01.5Z"), now), "07:00:01");
        assert_eq!(clock_time(at("2026-11-20T07:00:01Z"), now), "2026-11-20 07:00:01");
    }
}
