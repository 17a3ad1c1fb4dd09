//! StackStorm's `CronTimer` fields with APScheduler's meaning, as a rule over the wall clock.
//!
//! A time matches if all fields match (also `day` and `day_of_week` together). Weekdays count from Monday = 0, weeks are
//! ISO weeks. Fields finer than the finest one given take their minimum, all others default to `*`.

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time, Weekday};

use super::expression::{Field, Span, Values};
use super::parameters::{Parameters, ScheduleError};

/// The calendar repeats, with weekdays and ISO weeks, after this many years: what does not come by then never comes.
const CALENDAR_CYCLE_YEARS: i16 = 400;

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
pub(super) const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

const fn plain(name: &'static str, min: u16, max: u16) -> Field {
    Field { name, min, max, names: &[], first_name: 0 }
}

const YEAR: Field = plain("year", 1970, 9999);
const MONTH: Field = Field { name: "month", min: 1, max: 12, names: &MONTHS, first_name: 1 };
const DAY: Field = plain("day", 1, 31);
const WEEK: Field = plain("week", 1, 53);
const DAY_OF_WEEK: Field = Field { name: "day_of_week", min: 0, max: 6, names: &WEEKDAYS, first_name: 0 };
const HOUR: Field = plain("hour", 0, 23);
const MINUTE: Field = plain("minute", 0, 59);
const SECOND: Field = plain("second", 0, 59);

/// From coarse to fine, each with what it defaults to when something coarser is the finest one given.
const ORDER: [(Field, &str); 8] =
    [(YEAR, "*"), (MONTH, "1"), (DAY, "1"), (WEEK, "*"), (DAY_OF_WEEK, "*"), (HOUR, "0"), (MINUTE, "0"), (SECOND, "0")];

/// The fields of a `CronTimer`.
#[derive(Debug, Clone)]
pub(super) struct CronFields {
    years: Vec<Span>,
    months: Values,
    days: Days,
    weeks: Values,
    weekdays: Values,
    hours: Values,
    minutes: Values,
    seconds: Values,
}

/// What `day` may say beyond numbers.
#[derive(Debug, Clone, Default)]
struct Days {
    numbers: Values,
    last: bool,
    /// `2nd fri` is (2, Friday), `last sun` is (-1, Sunday).
    weekdays: Vec<(i8, Weekday)>,
}

impl CronFields {
    pub(super) fn names() -> [&'static str; 8] {
        ORDER.map(|(field, _)| field.name)
    }

    pub(super) fn parse(parameters: &Parameters<'_>) -> Result<Self, ScheduleError> {
        let [year, month, day, week, day_of_week, hour, minute, second] = texts(parameters)?;
        Ok(Self {
            years: year.split(',').map(|part| YEAR.parse_span(part.trim())).collect::<Result<_, _>>()?,
            months: Values::parse(&MONTH, &month)?,
            days: Days::parse(&day)?,
            weeks: Values::parse(&WEEK, &week)?,
            weekdays: Values::parse(&DAY_OF_WEEK, &day_of_week)?,
            hours: Values::parse(&HOUR, &hour)?,
            minutes: Values::parse(&MINUTE, &minute)?,
            seconds: Values::parse(&SECOND, &second)?,
        })
    }

    pub(super) fn every_hour(&self) -> bool {
        self.hours.covers(&HOUR)
    }

    /// The first matching time that is not before `from`, a whole second.
    pub(super) fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        if self.date_matches(from.date())
            && let Some(time) = self.time_at_or_after(from.time())
        {
            return Some(from.date().to_datetime(time));
        }
        let date = self.date_at_or_after(from.date().tomorrow().ok()?)?;
        Some(date.to_datetime(self.time_at_or_after(Time::midnight())?))
    }

    fn date_at_or_after(&self, from: Date) -> Option<Date> {
        let last_year = from.year().saturating_add(CALENDAR_CYCLE_YEARS);
        // A year that is given may lie further off than the cycle; then the search begins there.
        let first_year = self.year_at_or_after(from.year())?;
        let last_year = last_year.max(first_year.saturating_add(CALENDAR_CYCLE_YEARS));
        let mut date = from;
        while date.year() <= last_year {
            let year = self.year_at_or_after(date.year())?;
            if year > date.year() {
                date = Date::new(year, 1, 1).ok()?;
            } else if !self.months.contains(number(date.month())) {
                date = date.first_of_month().checked_add(1.month()).ok()?;
            } else if self.date_matches(date) {
                return Some(date);
            } else {
                date = date.tomorrow().ok()?;
            }
        }
        None
    }

    fn year_at_or_after(&self, year: i16) -> Option<i16> {
        let year = u16::try_from(year).unwrap_or(0);
        let next = self.years.iter().filter_map(|span| span.at_or_after(year)).min()?;
        i16::try_from(next).ok()
    }

    fn date_matches(&self, date: Date) -> bool {
        self.year_at_or_after(date.year()) == Some(date.year())
            && self.months.contains(number(date.month()))
            && self.weekdays.contains(number(date.weekday().to_monday_zero_offset()))
            && self.weeks.contains(number(date.iso_week_date().week()))
            && self.days.contain(date)
    }

    fn time_at_or_after(&self, from: Time) -> Option<Time> {
        let (first_minute, first_second) = (self.minutes.at_or_after(0)?, self.seconds.at_or_after(0)?);
        let (hour, minute, second) = (number(from.hour()), number(from.minute()), number(from.second()));
        if self.hours.contains(hour) {
            if self.minutes.contains(minute)
                && let Some(second) = self.seconds.at_or_after(second)
            {
                return clock(hour, minute, second);
            }
            if let Some(minute) = self.minutes.at_or_after(minute + 1) {
                return clock(hour, minute, first_second);
            }
        }
        clock(self.hours.at_or_after(hour + 1)?, first_minute, first_second)
    }
}

/// The text of every field, given or by default.
fn texts(parameters: &Parameters<'_>) -> Result<[String; 8], ScheduleError> {
    let mut given = [const { None }; 8];
    for (slot, (field, _)) in given.iter_mut().zip(&ORDER) {
        *slot = parameters.text(field.name, &field.remedy())?;
    }
    let Some(finest) = given.iter().rposition(Option::is_some) else {
        let remedy = "write for example `minute: \"*/5\"`, or `cron: \"*/5 * * * *\"`; every second is `second: \"*\"`";
        return Err(ScheduleError::new("cron", "no field is given", remedy));
    };
    let mut texts = [const { String::new() }; 8];
    for (index, (text, (given, (_, minimum)))) in texts.iter_mut().zip(given.into_iter().zip(&ORDER)).enumerate() {
        *text = given.unwrap_or_else(|| if index < finest { "*".to_owned() } else { (*minimum).to_owned() });
    }
    Ok(texts)
}

impl Days {
    fn parse(text: &str) -> Result<Self, ScheduleError> {
        let mut days = Self::default();
        for part in text.split(',').map(str::trim) {
            match part.split_whitespace().collect::<Vec<_>>().as_slice() {
                [word] if word.eq_ignore_ascii_case("last") => days.last = true,
                [position, weekday] => days.weekdays.push((parse_position(position)?, parse_weekday(weekday)?)),
                _ => days.numbers.extend(DAY.parse_span(part)?),
            }
        }
        Ok(days)
    }

    fn contain(&self, date: Date) -> bool {
        self.numbers.contains(number(date.day()))
            || (self.last && date.day() == date.days_in_month())
            || self.weekdays.iter().any(|(nth, weekday)| date.nth_weekday_of_month(*nth, *weekday).ok() == Some(date))
    }
}

fn parse_position(text: &str) -> Result<i8, ScheduleError> {
    const POSITIONS: [(&str, i8); 6] = [("1st", 1), ("2nd", 2), ("3rd", 3), ("4th", 4), ("5th", 5), ("last", -1)];
    let known = POSITIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    known.map(|(_, nth)| *nth).ok_or_else(|| {
        let remedy = "write 1st, 2nd, 3rd, 4th, 5th or last before the weekday, as in `2nd fri`";
        ScheduleError::new("day", format!("`{text}` is not a position in the month"), remedy)
    })
}

fn parse_weekday(text: &str) -> Result<Weekday, ScheduleError> {
    let position = WEEKDAYS.iter().position(|name| name.eq_ignore_ascii_case(text));
    let offset = position.and_then(|index| i8::try_from(index).ok());
    offset.and_then(|offset| Weekday::from_monday_zero_offset(offset).ok()).ok_or_else(|| {
        ScheduleError::new("day", format!("`{text}` is not a weekday"), "write mon, tue, wed, thu, fri, sat or sun")
    })
}

/// Calendar fields are never negative.
fn number(value: i8) -> u16 {
    u16::from(value.unsigned_abs())
}

fn clock(hour: u16, minute: u16, second: u16) -> Option<Time> {
    let [hour, minute, second] = [hour, minute, second].map(|value| i8::try_from(value).ok());
    Time::new(hour?, minute?, second?, 0).ok()
}
