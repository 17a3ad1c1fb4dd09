//! Cron as in crontab: five fields of text, weekdays from Sunday = 0 (or 7), as a rule over the wall clock.
//!
//! The `cron` crate finds the matching times. It speaks Quartz (weekdays from Sunday = 1, day of month AND day of
//! week), so the fields are read here and given to it as plain lists; and where both days are restricted, POSIX wants
//! either to match, so there are two of its schedules and the earlier time wins.

use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::cron_fields::MONTHS;
use super::expression::{Field, Values};
use super::parameters::ScheduleError;

const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const MINUTE: Field = Field { name: "cron minute", min: 0, max: 59, names: &[], first_name: 0 };
const HOUR: Field = Field { name: "cron hour", min: 0, max: 23, names: &[], first_name: 0 };
const DAY: Field = Field { name: "cron day of month", min: 1, max: 31, names: &[], first_name: 0 };
const MONTH: Field = Field { name: "cron month", min: 1, max: 12, names: &MONTHS, first_name: 1 };
const DAY_OF_WEEK: Field = Field { name: "cron day of week", min: 0, max: 7, names: &WEEKDAYS, first_name: 0 };

/// Crontab's nicknames.
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A crontab line's five time fields.
#[derive(Debug, Clone)]
pub(super) struct CronText {
    /// A time matches if one of them does.
    branches: Vec<cron::Schedule>,
    every_hour: bool,
}

impl CronText {
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let [minute, hour, day, month, weekday] = split(text)?;
        let hours = Values::parse(&HOUR, hour)?;
        let time = format!("0 {} {}", list(&MINUTE, minute)?, list(&HOUR, hour)?);
        let (days, months, weekdays) = (list(&DAY, day)?, list(&MONTH, month)?, weekday_list(weekday)?);
        let either_day = !day.starts_with('*') && !weekday.starts_with('*');
        let lines = if either_day {
            vec![format!("{time} {days} {months} *"), format!("{time} * {months} {weekdays}")]
        } else {
            vec![format!("{time} {days} {months} {weekdays}")]
        };
        let branches = lines.iter().map(|line| compile(text, line)).collect::<Result<_, _>>()?;
        Ok(Self { branches, every_hour: hours.covers(&HOUR) })
    }

    pub(super) const fn every_hour(&self) -> bool {
        self.every_hour
    }

    /// The first matching time that is not before `from`, a whole second.
    pub(super) fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        // The crate works on instants: the wall clock is given to it as if it were UTC, where no hour is missing.
        let seconds = Offset::UTC.to_timestamp(from).ok()?.as_second();
        let before = chrono::DateTime::from_timestamp(seconds.checked_sub(1)?, 0)?;
        let next = self.branches.iter().filter_map(|branch| branch.after(&before).next()).min()?;
        Some(Offset::UTC.to_datetime(jiff::Timestamp::from_second(next.timestamp()).ok()?))
    }
}

fn split(text: &str) -> Result<[&str; 5], ScheduleError> {
    const REMEDY: &str =
        "write five fields, minute hour day month weekday, as in \"*/5 * * * *\", or a nickname such as @daily";
    let known = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
    let fields: Vec<&str> = known.map_or(text, |(_, fields)| *fields).split_whitespace().collect();
    <[&str; 5]>::try_from(fields)
        .map_err(|fields| ScheduleError::new("cron", format!("`{text}` has {} fields", fields.len()), REMEDY))
}

/// The field's values one by one, which means the same in every dialect.
fn list(field: &Field, text: &str) -> Result<String, ScheduleError> {
    let values = Values::parse(field, text)?;
    Ok(if values.covers(field) { "*".to_owned() } else { join(values.iter()) })
}

fn weekday_list(text: &str) -> Result<String, ScheduleError> {
    let values = Values::parse(&DAY_OF_WEEK, text)?;
    let mut quartz: Vec<u16> = values.iter().map(|day| day % 7 + 1).collect();
    quartz.sort_unstable();
    quartz.dedup();
    Ok(if quartz.len() == WEEKDAYS.len() { "*".to_owned() } else { join(quartz.into_iter()) })
}

fn join(values: impl Iterator<Item = u16>) -> String {
    values.map(|value| value.to_string()).collect::<Vec<_>>().join(",")
}

fn compile(text: &str, line: &str) -> Result<cron::Schedule, ScheduleError> {
    line.parse().map_err(|error: cron::error::Error| {
        ScheduleError::new("cron", format!("`{text}` is not understood ({error})"), "write five fields as in crontab")
    })
}
