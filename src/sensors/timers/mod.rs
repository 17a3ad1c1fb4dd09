//! StackStorm's timers as sets of instants: `core.st2.IntervalTimer`, `core.st2.CronTimer`, `core.st2.DateTimer`.
//!
//! Pure: nothing here reads a clock or remembers what has fired. The same timer has the same instants on every daemon
//! and after every restart, which is what lets one (timer, instant) become exactly one trigger instance.

mod civil;
mod cron_fields;
mod cron_text;
mod date;
mod expression;
mod interval;
mod misfire;
mod parameters;

use serde_json::{Value, json};

use crate::model::time::Timestamp;
use crate::model::trigger::Trigger;

use self::civil::CivilSchedule;
use self::interval::Interval;
use self::parameters::Parameters;

pub use self::misfire::{Due, Misfire, due};
pub use self::parameters::ScheduleError;

/// Trigger type of a timer with a fixed distance between its instants.
pub const INTERVAL_TIMER: &str = "core.st2.IntervalTimer";
/// Trigger type of a timer that follows the calendar.
pub const CRON_TIMER: &str = "core.st2.CronTimer";
/// Trigger type of a timer with one single instant.
pub const DATE_TIMER: &str = "core.st2.DateTimer";

/// When a timer fires, as its trigger's parameters say.
#[derive(Debug, Clone)]
pub struct Schedule(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Interval(Interval),
    Cron(CivilSchedule),
    Date(Timestamp),
}

impl Schedule {
    /// Reads the parameters of one of the three timer types.
    pub fn parse(trigger: &Trigger) -> Result<Self, ScheduleError> {
        let parameters = Parameters::new(&trigger.parameters);
        let kind = match trigger.trigger_type.as_str() {
            INTERVAL_TIMER => Kind::Interval(Interval::parse(&parameters)?),
            CRON_TIMER => Kind::Cron(CivilSchedule::parse(&parameters)?),
            DATE_TIMER => Kind::Date(date::parse(&parameters)?),
            other => return Err(ScheduleError::not_a_timer(other)),
        };
        Misfire::parse(trigger)?;
        Ok(Self(kind))
    }
}

/// A schedule with the time from which it counts.
#[derive(Debug, Clone)]
pub struct Timer {
    /// When it fires.
    pub schedule: Schedule,
    /// When the timer was first seen. It must be stored: intervals are counted from here, and nothing before it is due.
    pub anchor: Timestamp,
}

impl Timer {
    /// The first instant after both `after` and the anchor; `None` if there is none any more.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = after.max(self.anchor);
        match &self.schedule.0 {
            Kind::Interval(interval) => interval.next_after(self.anchor, after),
            Kind::Cron(schedule) => schedule.next_after(after),
            Kind::Date(date) => Some(*date).filter(|date| *date > after),
        }
    }
}

/// What rules see of a fired timer: StackStorm's `executed_at` and `schedule`, and the instant that was meant.
pub fn timer_payload(trigger: &Trigger, instant: Timestamp, executed_at: Timestamp) -> Value {
    json!({ "executed_at": executed_at, "scheduled_at": instant, "schedule": trigger.parameters })
}

/// The key by which the same instant of the same timer is recognised, whoever fires it.
pub fn timer_dedupe_key(trigger: &Trigger, instant: Timestamp) -> String {
    format!("{}@{instant}", trigger.identity())
}

#[cfg(test)]
mod tests;
