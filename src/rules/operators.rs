//! StackStorm's criteria operators: their names, and exactly when each holds, does not hold, or fails.

use fancy_regex::Regex;
use jiff::SignedDuration;
use serde_json::Value;

use crate::model::time::Timestamp;
use crate::rules::values::{self, type_name};
use crate::templates::python_regex::{self, Matching};

/// How a payload value is compared with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Equal, as Python sees it.
    Equals,
    /// Not equal.
    NotEquals,
    /// Equal texts, letters alike in both cases.
    EqualsIgnoringCase,
    /// The value has the pattern in it.
    Contains,
    /// The value has not.
    NotContains,
    /// Texts, letters alike in both cases.
    ContainsIgnoringCase,
    /// Texts, letters alike in both cases.
    NotContainsIgnoringCase,
    /// A text's beginning.
    StartsWith,
    /// A text's beginning, letters alike in both cases.
    StartsWithIgnoringCase,
    /// A text's end.
    EndsWith,
    /// A text's end, letters alike in both cases.
    EndsWithIgnoringCase,
    /// Strictly less.
    LessThan,
    /// Strictly greater.
    GreaterThan,
    /// Less than so many seconds ago.
    AgeLessThan,
    /// More than so many seconds ago.
    AgeGreaterThan,
    /// The whole text against `*`, `?` and `[…]`.
    Wildcard,
    /// A regular expression from the text's beginning (deprecated in StackStorm).
    RegexAtStart,
    /// A regular expression anywhere.
    Regex,
    /// A regular expression anywhere, letters alike in both cases.
    RegexIgnoringCase,
    /// The value is there and not null.
    Exists,
    /// The value is missing or null.
    NotExists,
    /// The pattern has the value in it.
    Inside,
    /// The pattern has not.
    NotInside,
    /// Criteria over the items of a list.
    Search,
}

/// Every name and alias.
pub const NAMES: [(&str, Operator); 33] = [
    ("equals", Operator::Equals),
    ("eq", Operator::Equals),
    ("nequals", Operator::NotEquals),
    ("neq", Operator::NotEquals),
    ("iequals", Operator::EqualsIgnoringCase),
    ("ieq", Operator::EqualsIgnoringCase),
    ("contains", Operator::Contains),
    ("ncontains", Operator::NotContains),
    ("icontains", Operator::ContainsIgnoringCase),
    ("incontains", Operator::NotContainsIgnoringCase),
    ("startswith", Operator::StartsWith),
    ("istartswith", Operator::StartsWithIgnoringCase),
    ("endswith", Operator::EndsWith),
    ("iendswith", Operator::EndsWithIgnoringCase),
    ("lessthan", Operator::LessThan),
    ("lt", Operator::LessThan),
    ("greaterthan", Operator::GreaterThan),
    ("gt", Operator::GreaterThan),
    ("timediff_lt", Operator::AgeLessThan),
    ("td_lt", Operator::AgeLessThan),
    ("timediff_gt", Operator::AgeGreaterThan),
    ("td_gt", Operator::AgeGreaterThan),
    ("matchwildcard", Operator::Wildcard),
    ("matchregex", Operator::RegexAtStart),
    ("regex", Operator::Regex),
    ("iregex", Operator::RegexIgnoringCase),
    ("exists", Operator::Exists),
    ("nexists", Operator::NotExists),
    ("inside", Operator::Inside),
    ("in", Operator::Inside),
    ("ninside", Operator::NotInside),
    ("nin", Operator::NotInside),
    ("search", Operator::Search),
];

impl Operator {
    /// By name or alias, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let lower = name.to_lowercase();
        NAMES.iter().find(|(known, _)| *known == lower).map(|(_, operator)| *operator)
    }

    const fn never_fails(self) -> bool {
        matches!(self, Self::Equals | Self::NotEquals | Self::Exists | Self::NotExists)
    }

    /// Whether a null pattern means something; with any other operator it never holds.
    const fn knows_null(self) -> bool {
        matches!(self, Self::NotEquals | Self::Exists | Self::NotExists)
    }
}

/// The name that was probably meant.
pub(super) fn closest_name(unknown: &str) -> Option<&'static str> {
    let unknown = unknown.to_lowercase();
    let distance = |name: &'static str| (edit_distance(&unknown, name), name);
    let (distance, name) = NAMES.iter().map(|(name, _)| distance(name)).min()?;
    (distance <= 3 && distance < name.len()).then_some(name)
}

/// Letters to insert, delete or replace.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().enumerate() {
        let mut diagonal = line;
        let mut previous = line + 1;
        for (column, other) in right.iter().enumerate() {
            let above = row.get(column + 1).copied().unwrap_or(usize::MAX);
            let cost = (diagonal + usize::from(letter != *other)).min(previous + 1).min(above + 1);
            if let Some(place) = row.get_mut(column) {
                *place = previous;
            }
            diagonal = above;
            previous = cost;
        }
        if let Some(last) = row.last_mut() {
            *last = previous;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// An operator with its pattern, made ready: expressions compiled, numbers read.
#[derive(Debug, Clone)]
pub(super) struct Comparison {
    pub(super) operator: Operator,
    pub(super) pattern: Value,
    ready: Ready,
}

#[derive(Debug, Clone)]
enum Ready {
    /// Value and pattern as they are.
    Plain(PlainTest),
    /// The lower-cased value and this lower-cased pattern.
    Lower(LowerTest, String),
    Regex(Regex),
    YoungerThan(f64),
    OlderThan(f64),
    /// A null pattern with an operator that does not know what to do with it.
    Never,
}

type PlainTest = fn(value: &Value, pattern: &Value) -> Result<bool, String>;
type LowerTest = fn(value: &str, pattern: &str) -> bool;

impl Comparison {
    /// Checks that the pattern fits the operator, and prepares it.
    pub(super) fn new(operator: Operator, pattern: Value) -> Result<Self, String> {
        let ready =
            if pattern.is_null() && !operator.knows_null() { Ready::Never } else { prepare(operator, &pattern)? };
        Ok(Self { operator, pattern, ready })
    }

    /// Whether it gives an answer whatever the value is.
    pub(super) fn never_fails(&self) -> bool {
        self.operator.never_fails() || matches!(self.ready, Ready::Never)
    }

    /// Whether it holds for a value; an error where StackStorm's operator raises one.
    pub(super) fn holds(&self, value: &Value, now: Timestamp) -> Result<bool, String> {
        match &self.ready {
            Ready::Never => Ok(false),
            Ready::Plain(holds) => holds(value, &self.pattern),
            Ready::Lower(holds, pattern) => Ok(holds(&text(value)?.to_lowercase(), pattern)),
            Ready::Regex(regex) => python_regex::is_match(regex, text(value)?),
            Ready::YoungerThan(seconds) => Ok(age_in_seconds(value, now)? < *seconds),
            Ready::OlderThan(seconds) => Ok(age_in_seconds(value, now)? > *seconds),
        }
    }
}

fn prepare(operator: Operator, pattern: &Value) -> Result<Ready, String> {
    match operator {
        Operator::Equals => plain(|value, pattern| Ok(values::equal(value, pattern))),
        Operator::NotEquals => plain(|value, pattern| Ok(!values::equal(value, pattern))),
        Operator::Exists => plain(|value, _| Ok(!value.is_null())),
        Operator::NotExists => plain(|value, _| Ok(value.is_null())),
        Operator::Contains => plain(values::contains),
        Operator::NotContains => plain(|value, pattern| Ok(!values::contains(value, pattern)?)),
        Operator::Inside => container(pattern, |value, pattern| values::contains(pattern, value)),
        Operator::NotInside => container(pattern, |value, pattern| Ok(!values::contains(pattern, value)?)),
        Operator::LessThan => ordered(pattern, |value, pattern| Ok(values::compare(value, pattern)?.is_lt())),
        Operator::GreaterThan => ordered(pattern, |value, pattern| Ok(values::compare(value, pattern)?.is_gt())),
        Operator::StartsWith => affix(pattern, |value, pattern| Ok(text(value)?.starts_with(pattern_text(pattern)?))),
        Operator::EndsWith => affix(pattern, |value, pattern| Ok(text(value)?.ends_with(pattern_text(pattern)?))),
        Operator::EqualsIgnoringCase => lower(pattern, |value, pattern| value == pattern),
        Operator::ContainsIgnoringCase => lower(pattern, |value, pattern| value.contains(pattern)),
        Operator::NotContainsIgnoringCase => lower(pattern, |value, pattern| !value.contains(pattern)),
        Operator::StartsWithIgnoringCase => lower(pattern, |value, pattern| value.starts_with(pattern)),
        Operator::EndsWithIgnoringCase => lower(pattern, |value, pattern| value.ends_with(pattern)),
        Operator::AgeLessThan => seconds(pattern).map(Ready::YoungerThan),
        Operator::AgeGreaterThan => seconds(pattern).map(Ready::OlderThan),
        Operator::Wildcard => {
            let regex = wildcard_to_regex(pattern_text(pattern)?);
            python_regex::compile(&regex, Matching::StartDotAll).map(Ready::Regex)
        }
        Operator::RegexAtStart => regex(pattern, Matching::StartDotAll),
        Operator::Regex => regex(pattern, Matching::Search),
        Operator::RegexIgnoringCase => regex(pattern, Matching::SearchIgnoringCase),
        Operator::Search => Err("`search` wants a map of `item.…` criteria as its pattern".to_owned()),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "stands in a table beside others that can fail")]
fn plain(holds: PlainTest) -> Result<Ready, String> {
    Ok(Ready::Plain(holds))
}

fn lower(pattern: &Value, holds: LowerTest) -> Result<Ready, String> {
    Ok(Ready::Lower(holds, pattern_text(pattern)?.to_lowercase()))
}

fn container(pattern: &Value, holds: PlainTest) -> Result<Ready, String> {
    if pattern.is_array() || pattern.is_string() || pattern.is_object() {
        return plain(holds);
    }
    Err(format!("the pattern is {}, not a list, a text or an object", type_name(pattern)))
}

fn ordered(pattern: &Value, holds: PlainTest) -> Result<Ready, String> {
    if pattern.is_object() {
        return Err("the pattern is an object, which has no order".to_owned());
    }
    plain(holds)
}

fn affix(pattern: &Value, holds: PlainTest) -> Result<Ready, String> {
    pattern_text(pattern)?;
    plain(holds)
}

fn regex(pattern: &Value, matching: Matching) -> Result<Ready, String> {
    python_regex::compile(pattern_text(pattern)?, matching).map(Ready::Regex)
}

fn pattern_text(pattern: &Value) -> Result<&str, String> {
    pattern.as_str().ok_or_else(|| format!("the pattern is {}, not a text", type_name(pattern)))
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("the value is {}, not a text", type_name(value)))
}

fn seconds(pattern: &Value) -> Result<f64, String> {
    let number = pattern.as_f64().or_else(|| pattern.as_str()?.trim().parse().ok());
    number.ok_or_else(|| format!("the pattern {pattern} is not a number of seconds"))
}

fn age_in_seconds(value: &Value, now: Timestamp) -> Result<f64, String> {
    let written = text(value)?;
    let then = parse_time(written).ok_or_else(|| format!("`{written}` is not a time"))?;
    Ok(SignedDuration::from_micros(now.as_micros().saturating_sub(then)).as_secs_f64())
}

/// Microseconds since the epoch; a time without a zone is UTC.
fn parse_time(written: &str) -> Option<i64> {
    let written = written.trim();
    let absolute = written.parse::<jiff::Timestamp>().ok();
    let civil = || {
        let civil = written.parse::<jiff::civil::DateTime>().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    let mail = || Some(jiff::fmt::rfc2822::parse(written).ok()?.timestamp());
    absolute.or_else(civil).or_else(mail).map(jiff::Timestamp::as_microsecond)
}

/// Python's `fnmatch`: `*`, `?`, `[seq]`, `[!seq]`; the whole text.
fn wildcard_to_regex(pattern: &str) -> String {
    let mut expression = String::from("(?:");
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        rest = rest.split_at(character.len_utf8()).1;
        match (character, character_class(rest)) {
            ('*', _) => expression.push_str(".*"),
            ('?', _) => expression.push('.'),
            ('[', Some((class, after))) => {
                expression.push_str(&class);
                rest = after;
            }
            _ => expression.push_str(&regex::escape(character.encode_utf8(&mut [0; 4]))),
        }
    }
    expression + r")\Z"
}

/// What follows a `[` as the class of a regular expression, and what comes after it.
fn character_class(after_bracket: &str) -> Option<(String, &str)> {
    let (negation, members) = match after_bracket.strip_prefix('!') {
        Some(members) => ("^", members),
        None => ("", after_bracket),
    };
    // a `]` that comes first stands for itself
    let from = usize::from(members.starts_with(']'));
    let end = members.get(from..)?.find(']')? + from;
    let (inside, after) = members.split_at(end);
    let escape = |c: char| {
        if c.is_alphanumeric() || c == '-' { c.to_string() } else { format!("\\{c}") }
    };
    let inside: String = inside.chars().map(escape).collect();
    Some((format!("[{negation}{inside}]"), after.strip_prefix(']')?))
}
