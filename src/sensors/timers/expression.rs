//! The small language of one cron field: `*`, `*/n`, `a`, `a-b`, `a-b/n`, names, and lists of them.

use super::parameters::ScheduleError;

/// One field of a cron schedule: what it is called and what it may hold.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) min: u16,
    pub(super) max: u16,
    /// Names for values, the first one for `first_name`.
    pub(super) names: &'static [&'static str],
    pub(super) first_name: u16,
}

/// Every `step`-th value from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) step: u16,
}

impl Span {
    /// The smallest member that is not below `from`.
    pub(super) fn at_or_after(self, from: u16) -> Option<u16> {
        let distance = from.max(self.first) - self.first;
        let value = self.first.checked_add(distance.checked_next_multiple_of(self.step)?)?;
        (value <= self.last).then_some(value)
    }
}

impl Field {
    /// One member of a list.
    pub(super) fn parse_span(&self, text: &str) -> Result<Span, ScheduleError> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range.trim(), Some(self.parse_step(text, step.trim())?)),
            None => (text, None),
        };
        let (first, last) = self.parse_range(text, range, step)?;
        if step.is_some_and(|step| step > last - first) {
            let problem = format!("the step in `{text}` is larger than its range {first}-{last}");
            return Err(ScheduleError::new(self.name, problem, self.remedy()));
        }
        Ok(Span { first, last, step: step.unwrap_or(1) })
    }

    fn parse_range(&self, text: &str, range: &str, step: Option<u16>) -> Result<(u16, u16), ScheduleError> {
        if range == "*" {
            return Ok((self.min, self.max));
        }
        let Some((first, last)) = range.split_once('-') else {
            let first = self.parse_value(text, range)?;
            return Ok((first, if step.is_some() { self.max } else { first }));
        };
        let (first, last) = (self.parse_value(text, first.trim())?, self.parse_value(text, last.trim())?);
        let last = self.wrapped_end(first, last);
        if first > last {
            let problem = format!("`{text}` begins after its end");
            return Err(ScheduleError::new(self.name, problem, "swap the two, or write two ranges with a comma"));
        }
        Ok((first, last))
    }

    /// Where the same day has two numbers (0 and 7 for Sunday), the end of a range may mean the higher one.
    fn wrapped_end(&self, first: u16, last: u16) -> u16 {
        let two_numbers = usize::from(self.max) == usize::from(self.min) + self.names.len();
        if two_numbers && !self.names.is_empty() && last == self.min && first > last { self.max } else { last }
    }

    fn parse_step(&self, text: &str, step: &str) -> Result<u16, ScheduleError> {
        step.parse().ok().filter(|step| *step > 0).ok_or_else(|| {
            let problem = format!("the step in `{text}` is not a number from 1 on");
            ScheduleError::new(self.name, problem, self.remedy())
        })
    }

    fn parse_value(&self, text: &str, value: &str) -> Result<u16, ScheduleError> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(value));
        let number = match named.and_then(|index| u16::try_from(index).ok()) {
            Some(index) => Some(self.first_name + index),
            None => Some(value).filter(|value| value.bytes().all(|b| b.is_ascii_digit())).and_then(|v| v.parse().ok()),
        };
        number.filter(|number| (self.min..=self.max).contains(number)).ok_or_else(|| {
            let part = if value == text { String::new() } else { format!(" in `{text}`") };
            ScheduleError::new(self.name, format!("`{value}`{part} is not a value of it"), self.remedy())
        })
    }

    /// What may be written in this field.
    pub(super) fn remedy(&self) -> String {
        let names = match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!(" or {first} to {last}"),
            _ => String::new(),
        };
        format!("write *, */n, a, a-b, a-b/n or a list of these, with values from {} to {}{names}", self.min, self.max)
    }
}

/// A set of values below 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Values(u64);

impl Values {
    /// A whole list, as `mon-fri,sun`.
    pub(super) fn parse(field: &Field, text: &str) -> Result<Self, ScheduleError> {
        let mut values = Self::default();
        for part in text.split(',') {
            values.extend(field.parse_span(part.trim())?);
        }
        Ok(values)
    }

    pub(super) fn extend(&mut self, span: Span) {
        for value in (span.first..=span.last).step_by(usize::from(span.step)) {
            self.0 |= 1_u64.checked_shl(u32::from(value)).unwrap_or(0);
        }
    }

    pub(super) fn contains(self, value: u16) -> bool {
        self.0.checked_shr(u32::from(value)).is_some_and(|rest| rest & 1 == 1)
    }

    /// The smallest member that is not below `from`.
    pub(super) fn at_or_after(self, from: u16) -> Option<u16> {
        let rest = self.0.checked_shr(u32::from(from)).filter(|rest| *rest != 0)?;
        from.checked_add(u16::try_from(rest.trailing_zeros()).ok()?)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u16> {
        (0..64).filter(move |value| self.contains(*value))
    }

    pub(super) fn covers(self, field: &Field) -> bool {
        (field.min..=field.max).all(|value| self.contains(value))
    }
}
