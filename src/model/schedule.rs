//! Times of the week in which a group has a higher minimum: what is known to come needs no alert.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, ToSpan, Zoned};
use serde::{Deserialize, Serialize};

use super::group::NodeCount;
use super::time::Timestamp;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// A part of each week and the minimum that holds in it, as `{days: mon-fri, from: "08:00", until: "18:00", min_nodes: 6}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledMinimum {
    /// The days on which it begins.
    #[serde(default)]
    pub days: Days,
    /// When it begins.
    pub from: TimeOfDay,
    /// When it ends; on the next day if that is not after `from`.
    pub until: TimeOfDay,
    /// Whose clocks these are, as `Europe/Berlin`.
    #[serde(default = "utc")]
    pub timezone: String,
    /// Never voluntarily fewer nodes in service meanwhile.
    pub min_nodes: NodeCount,
}

/// Days of the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Days {
    text: String,
    days: Vec<Weekday>,
}

/// As `08:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TimeOfDay(Time);

/// Why a text is no time of the week.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// As `mo`.
    #[error("`{0}` are no days; they are written as mon-fri, as sat,sun or as daily")]
    Days(String),
    /// As `25:00`.
    #[error("`{0}` is no time of day; it is written as 08:00")]
    Time(String),
}

fn utc() -> String {
    "UTC".to_owned()
}

impl ScheduledMinimum {
    /// Whether it holds at this moment. A zone that nobody knows holds never; [`ScheduledMinimum::fault`] says so before.
    pub fn is_active(&self, now: Timestamp) -> bool {
        let zone = TimeZone::get(&self.timezone).ok();
        let moment = Instant::from_microsecond(now.as_micros()).ok();
        let (Some(zone), Some(moment)) = (zone, moment) else { return false };
        self.covers(&moment.to_zoned(zone))
    }

    fn covers(&self, moment: &Zoned) -> bool {
        let (time, today) = (moment.time(), moment.weekday());
        let yesterday = moment.date().saturating_sub(1.day()).weekday();
        let begins = |day: Weekday| self.days.days.contains(&day);
        if self.from < self.until {
            return begins(today) && self.from.0 <= time && time < self.until.0;
        }
        (begins(today) && self.from.0 <= time) || (begins(yesterday) && time < self.until.0)
    }

    /// What is wrong with it, with the way out.
    pub fn fault(&self, max: NodeCount) -> Option<String> {
        if TimeZone::get(&self.timezone).is_err() {
            return Some(format!("schedule: `{}` is no time zone; write one as Europe/Berlin", self.timezone));
        }
        let (own, max) = (self.min_nodes.get(), max.get());
        (own > max)
            .then(|| format!("schedule: min_nodes ({own}) is above max_nodes ({max}); lower one or raise the other"))
    }
}

impl Default for Days {
    fn default() -> Self {
        Self { text: "daily".to_owned(), days: DAYS.iter().map(|(_, day)| *day).collect() }
    }
}

impl FromStr for Days {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        let bad = || BadSchedule::Days(text.to_owned());
        if text == "daily" {
            return Ok(Self::default());
        }
        let place = |name: &str| DAYS.iter().position(|(known, _)| *known == name.trim()).ok_or_else(bad);
        let mut days = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (place(first)?, place(last)?);
            let many = (last + DAYS.len() - first) % DAYS.len();
            days.extend(DAYS.iter().cycle().skip(first).take(many + 1).map(|(_, day)| *day));
        }
        Ok(Self { text: text.to_owned(), days })
    }
}

impl FromStr for TimeOfDay {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        let bad = || BadSchedule::Time(text.to_owned());
        let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
        let (hour, minute) = (hour.parse().map_err(|_| bad())?, minute.parse().map_err(|_| bad())?);
        Ok(Self(Time::new(hour, minute, 0, 0).map_err(|_| bad())?))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0.hour(), self.0.minute())
    }
}

impl From<Days> for String {
    fn from(days: Days) -> Self {
        days.text
    }
}
impl TryFrom<String> for Days {
    type Error = BadSchedule;

    fn try_from(text: String) -> Result<Self, BadSchedule> {
        text.parse()
    }
}
impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}
impl TryFrom<String> for TimeOfDay {
    type Error = BadSchedule;

    fn try_from(text: String) -> Result<Self, BadSchedule> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scheduled(days: &str, from: &str, until: &str, timezone: &str) -> ScheduledMinimum {
        let written = json!({ "days": days, "from": from, "until": until, "timezone": timezone, "min_nodes": 6 });
        serde_json::from_value(written).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_part_of_the_week_holds_by_its_own_clocks() {
        // 2026-11-20 is a Friday; Berlin is an hour ahead in winter and two in summer
        let office = scheduled("mon-fri", "08:00", "18:00", "Europe/Berlin");
        for (moment, holds) in [
            ("2026-11-20T06:59:59Z", false),
            ("2026-11-20T07:00:00Z", true),
            ("2026-11-20T16:59:59Z", true),
            ("2026-11-20T17:00:00Z", false),
            ("2026-11-21T12:00:00Z", false),
            ("2026-07-17T06:00:00Z", true),
        ] {
            assert_eq!(office.is_active(at(moment)), holds, "{moment}");
        }
    }

    #[test]
    fn what_goes_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = scheduled("sat", "22:00", "02:00", "UTC");
        for (moment, holds) in [
            ("2026-11-21T21:59:00Z", false),
            ("2026-11-21T22:00:00Z", true),
            ("2026-11-22T01:59:00Z", true),
            ("2026-11-22T02:00:00Z", false),
            ("2026-11-22T22:00:00Z", false),
            ("2026-11-21T01:00:00Z", false),
        ] {
            assert_eq!(night.is_active(at(moment)), holds, "{moment}");
        }
        let always = scheduled("fri-mon", "00:00", "00:00", "UTC");
        assert!(always.is_active(at("2026-11-20T00:00:00Z")) && always.is_active(at("2026-11-23T23:00:00Z")));
        assert!(!always.is_active(at("2026-11-24T12:00:00Z")), "a Tuesday");
    }

    #[test]
    fn what_is_written_is_shown_as_it_was_written_and_what_cannot_be_read_says_how() {
        let written = json!({ "days": "sat,sun", "from": "8:05", "until": "18:00", "timezone": "UTC", "min_nodes": 2 });
        let read: ScheduledMinimum = serde_json::from_value(written).unwrap();
        assert_eq!((json!(read)["from"].clone(), json!(read)["days"].clone()), (json!("08:05"), json!("sat,sun")));
        assert_eq!("mo".parse::<Days>().unwrap_err().to_string(), BadSchedule::Days("mo".to_owned()).to_string());
        assert!("25:00".parse::<TimeOfDay>().is_err() && "8".parse::<TimeOfDay>().is_err());
        let nowhere = scheduled("daily", "08:00", "18:00", "Europe/Atlantis");
        assert!(nowhere.fault(NodeCount::new(9)).unwrap().contains("is no time zone"));
        let high = scheduled("daily", "08:00", "18:00", "UTC");
        assert!(high.fault(NodeCount::new(5)).unwrap().contains("above max_nodes (5)"));
        assert_eq!(high.fault(NodeCount::new(6)), None);
    }
}
