//! From the wall clock to instants: what a cron rule means in a time zone whose clock jumps.
//!
//! A rule that names its hours (`30 2 * * *`) fires once per matching wall-clock time: a time that is skipped in spring
//! fires at the instant it would have had if the clock had not jumped, one that comes twice in autumn fires the first
//! time. A rule for every hour (`*/5 * * * *`) follows real time: nothing is skipped and nothing is silent for an hour.

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use crate::model::time::Timestamp;

use super::cron_fields::CronFields;
use super::cron_text::CronText;
use super::parameters::{Parameters, ScheduleError};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// More than any clock has ever jumped (Samoa skipped a whole day).
const LARGEST_JUMP: SignedDuration = SignedDuration::from_hours(48);

/// A cron rule in a time zone.
#[derive(Debug, Clone)]
pub(super) struct CivilSchedule {
    rule: Rule,
    zone: TimeZone,
}

#[derive(Debug, Clone)]
enum Rule {
    Fields(CronFields),
    Text(CronText),
}

impl CivilSchedule {
    pub(super) fn parse(parameters: &Parameters<'_>) -> Result<Self, ScheduleError> {
        let zone = parameters.timezone()?;
        let text = parameters.text("cron", "write five fields in quotes, as in \"*/5 * * * *\"")?;
        let rule = if let Some(text) = text {
            parameters.only(&["cron"])?; // both ways at once would leave open which one counts
            Rule::Text(CronText::parse(&text)?)
        } else {
            parameters.only(&[&CronFields::names()[..], &["cron"]].concat())?;
            Rule::Fields(CronFields::parse(parameters)?)
        };
        Ok(Self { rule, zone })
    }

    /// The first instant after `after`, on a whole second.
    pub(super) fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = jiff::Timestamp::from_second(after.as_seconds().checked_add(1)?).ok()?;
        loop {
            let stretch = Stretch::around(&self.zone, from);
            let instant = stretch.first(&self.rule, from)?;
            match stretch.ends.filter(|end| instant >= *end) {
                None => return Some(Timestamp::from_micros(instant.as_microsecond())),
                Some(end) => from = end.max(instant.checked_sub(LARGEST_JUMP).ok()?),
            }
        }
    }
}

impl Rule {
    fn every_hour(&self) -> bool {
        match self {
            Self::Fields(fields) => fields.every_hour(),
            Self::Text(text) => text.every_hour(),
        }
    }

    fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        match self {
            Self::Fields(fields) => fields.at_or_after(from),
            Self::Text(text) => text.at_or_after(from),
        }
    }

    /// The first instant from `from` on at which a clock that is always `offset` ahead of UTC matches.
    fn instant(&self, offset: Offset, from: jiff::Timestamp) -> Option<jiff::Timestamp> {
        offset.to_timestamp(self.at_or_after(offset.to_datetime(from))?).ok()
    }
}

/// A stretch of time between two jumps of the clock.
struct Stretch {
    offset: Offset,
    /// When it began, and the offset before that.
    begins: Option<(jiff::Timestamp, Offset)>,
    /// The first instant of the next stretch.
    ends: Option<jiff::Timestamp>,
}

impl Stretch {
    fn around(zone: &TimeZone, at: jiff::Timestamp) -> Self {
        let just_after = at.checked_add(SECOND).unwrap_or(at);
        let begins = zone.preceding(just_after).next().map(|jump| {
            let before = jump.timestamp().checked_sub(SECOND).unwrap_or(jiff::Timestamp::MIN);
            (jump.timestamp(), zone.to_offset(before))
        });
        let ends = zone.following(at).next().map(|jump| jump.timestamp());
        Self { offset: zone.to_offset(at), begins, ends }
    }

    /// The rule's first instant from `from` on if this stretch never ended.
    fn first(&self, rule: &Rule, from: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let Some((begin, before)) = self.begins.filter(|_| !rule.every_hour()) else {
            return rule.instant(self.offset, from);
        };
        let jump = self.offset.duration_since(before);
        // Clock set back: the times that come again have fired already.
        let fresh = if jump.is_negative() { begin.checked_sub(jump).ok()? } else { begin };
        let regular = rule.instant(self.offset, from.max(fresh));
        // Clock set forward: the skipped times fire as if the old clock had gone on for as long as the jump.
        let skipped_end = if jump.is_positive() { begin.checked_add(jump).ok()? } else { begin };
        let skipped = rule.instant(before, from.max(begin)).filter(|instant| *instant < skipped_end);
        [regular, skipped].into_iter().flatten().min()
    }
}
