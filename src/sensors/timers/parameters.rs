//! Reads a timer's parameters, and says what is wrong with one in words that help.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde_json::Value;

/// Why a timer's parameters are not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("timer field `{field}`: {problem}; {remedy}")]
pub struct ScheduleError {
    /// The parameter, or part of one, that is wrong.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl ScheduleError {
    pub(super) fn new(field: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: field.to_owned(), problem: problem.into(), remedy: remedy.into() }
    }

    pub(super) fn not_a_timer(trigger_type: &str) -> Self {
        let remedy = "use core.st2.IntervalTimer, core.st2.CronTimer or core.st2.DateTimer";
        Self::new("type", format!("`{trigger_type}` is not a timer"), remedy)
    }
}

/// Parameters that every timer may have besides its own.
const COMMON: [&str; 2] = ["timezone", "misfire"];

/// A timer's parameters; one that is null counts as not given.
pub(super) struct Parameters<'a>(&'a BTreeMap<String, Value>);

impl<'a> Parameters<'a> {
    pub(super) const fn new(values: &'a BTreeMap<String, Value>) -> Self {
        Self(values)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn require(&self, name: &str, remedy: &str) -> Result<&'a Value, ScheduleError> {
        self.get(name).ok_or_else(|| ScheduleError::new(name, "it is missing", remedy))
    }

    /// A number or a text, as text.
    pub(super) fn text(&self, name: &str, remedy: &str) -> Result<Option<String>, ScheduleError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim().to_owned())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(ScheduleError::new(name, format!("{other} is neither a number nor a text"), remedy)),
        }
    }

    /// Refuses names that the timer does not know, so that a slip of the pen does not change the schedule in silence.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), ScheduleError> {
        let stranger = self.0.keys().find(|name| !known.contains(&name.as_str()) && !COMMON.contains(&name.as_str()));
        match stranger {
            None => Ok(()),
            Some(name) => Err(ScheduleError::new(
                name,
                "this timer has no such field",
                format!("it has {} and {}", known.join(", "), COMMON.join(", ")),
            )),
        }
    }

    /// The time zone, UTC if none is given.
    pub(super) fn timezone(&self) -> Result<TimeZone, ScheduleError> {
        const REMEDY: &str = "write an IANA name such as Europe/Paris, or UTC";
        let Some(name) = self.text("timezone", REMEDY)? else {
            return Ok(TimeZone::UTC);
        };
        TimeZone::get(&name)
            .map_err(|error| ScheduleError::new("timezone", format!("`{name}` is not known ({error})"), REMEDY))
    }
}
