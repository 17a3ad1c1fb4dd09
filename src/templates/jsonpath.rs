//! JSONPath as criteria use it: names, quoted names, indexes, `[*]` and `..`, parsed once.

use std::fmt;
use std::ops::ControlFlow;

use serde_json::Value;

/// A parsed path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// `.name` or `['name']`
    Name(String),
    /// `[3]`; negative counts from the end.
    Index(i64),
    /// `.*`, `[*]`: every member or item.
    Every,
    /// `..`: the value itself and everything below, whatever the next step then finds there.
    Descend,
}

impl Step {
    fn name(&self) -> Option<&str> {
        if let Self::Name(name) = self { Some(name) } else { None }
    }
}

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a path: {reason}, at character {at}; write it as trigger.body['X-Name'][0].name")]
pub struct BadPath {
    /// What was given.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// Where, counted from 1.
    pub at: usize,
}

impl JsonPath {
    /// Parses a path. What follows a `#` outside quotes is dropped: it only tells two equal keys apart.
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        Parser { text, at: 0 }.path()
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The name that the path starts with, if it starts with one.
    pub fn root(&self) -> Option<&str> {
        match self.steps.first() {
            Some(Step::Name(name)) => Some(name),
            _ => None,
        }
    }

    /// The names it goes through, if it is nothing but names.
    pub fn names(&self) -> Option<Vec<&str>> {
        self.steps.iter().map(Step::name).collect()
    }

    /// The path without its first step.
    #[must_use]
    pub fn below_root(&self) -> Self {
        Self { steps: self.steps.iter().skip(1).cloned().collect() }
    }

    /// The first value it finds, in document order.
    pub fn find_first<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        match walk(&self.steps, root, &mut |value| ControlFlow::Break(value)) {
            ControlFlow::Break(value) => Some(value),
            ControlFlow::Continue(()) => None,
        }
    }

    /// Every value it finds, in document order.
    pub fn find_all<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        let mut found = Vec::new();
        let end: ControlFlow<()> = walk(&self.steps, root, &mut |value| {
            found.push(value);
            ControlFlow::Continue(())
        });
        debug_assert!(end.is_continue());
        found
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                Step::Name(name) if name.chars().any(ends_name) => write!(f, "['{name}']")?,
                Step::Name(name) if index == 0 => f.write_str(name)?,
                Step::Name(name) => write!(f, ".{name}")?,
                Step::Index(number) => write!(f, "[{number}]")?,
                Step::Every => f.write_str("[*]")?,
                Step::Descend => f.write_str(".")?,
            }
        }
        Ok(())
    }
}

fn walk<'v, B>(
    steps: &[Step],
    value: &'v Value,
    found: &mut impl FnMut(&'v Value) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let Some((step, rest)) = steps.split_first() else {
        return found(value);
    };
    match step {
        Step::Name(name) => value.get(name).map_or(ControlFlow::Continue(()), |child| walk(rest, child, found)),
        Step::Index(index) => item(value, *index).map_or(ControlFlow::Continue(()), |child| walk(rest, child, found)),
        Step::Every => children(value).try_for_each(|child| walk(rest, child, found)),
        Step::Descend => {
            walk(rest, value, found)?;
            children(value).try_for_each(|child| walk(steps, child, found))
        }
    }
}

fn item(value: &Value, index: i64) -> Option<&Value> {
    let items = value.as_array()?;
    let place = if index < 0 { i64::try_from(items.len()).ok()? + index } else { index };
    items.get(usize::try_from(place).ok()?)
}

fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let items = value.as_array().into_iter().flatten();
    items.chain(value.as_object().into_iter().flat_map(serde_json::Map::values))
}

fn ends_name(c: char) -> bool {
    matches!(c, '.' | '[' | ']' | '\'' | '"' | '#' | '*' | '(' | ')' | ',') || c.is_whitespace()
}

/// With more of them, the ways through a deep value are too many to follow.
const MOST_DESCENTS: usize = 4;

const BAD_BRACKET: &str = "between brackets stands a quoted name, a whole number or `*` \
                           (slices and filters are not supported)";

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn path(mut self) -> Result<JsonPath, BadPath> {
        let mut steps = Vec::new();
        if self.take("$") {
            self.more(&mut steps)?;
        } else {
            self.dotted(&mut steps)?;
        }
        while !self.at_end() {
            self.more(&mut steps)?;
        }
        Ok(JsonPath { steps })
    }

    fn more(&mut self, steps: &mut Vec<Step>) -> Result<(), BadPath> {
        if self.at_end() {
            Ok(())
        } else if self.take("..") {
            if steps.iter().filter(|step| matches!(step, Step::Descend)).count() == MOST_DESCENTS {
                return Err(self.bad("a path has at most 4 `..`: each multiplies the ways to a value"));
            }
            steps.push(Step::Descend);
            self.dotted(steps)
        } else if self.take(".") {
            self.dotted(steps)
        } else if self.rest().starts_with('[') {
            self.bracket(steps)
        } else {
            Err(self.bad("expected `.` or `[`"))
        }
    }

    /// What may stand after a dot, or at the very beginning.
    fn dotted(&mut self, steps: &mut Vec<Step>) -> Result<(), BadPath> {
        if self.rest().starts_with('[') {
            return self.bracket(steps);
        }
        let step = if self.take("*") { Step::Every } else { Step::Name(self.name()?) };
        steps.push(step);
        Ok(())
    }

    fn name(&mut self) -> Result<String, BadPath> {
        if let Some(name) = self.quoted()? {
            return Ok(name);
        }
        let rest = self.rest();
        let (name, _) = rest.split_at(rest.find(ends_name).unwrap_or(rest.len()));
        if name.is_empty() {
            return Err(self.bad("expected a name"));
        }
        self.at += name.len();
        Ok(name.to_owned())
    }

    fn quoted(&mut self) -> Result<Option<String>, BadPath> {
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Ok(None);
        };
        let inside = self.rest().strip_prefix(quote).unwrap_or_default();
        let Some((name, _)) = inside.split_once(quote) else {
            return Err(self.bad("the quote is not closed"));
        };
        self.at += name.len() + 2;
        Ok(Some(name.to_owned()))
    }

    fn bracket(&mut self, steps: &mut Vec<Step>) -> Result<(), BadPath> {
        self.take("[");
        let step = if self.take("*") {
            Step::Every
        } else if let Some(name) = self.quoted()? {
            Step::Name(name)
        } else {
            let inside = self.rest().split(']').next().unwrap_or_default();
            let index = inside.trim().parse().ok().ok_or_else(|| self.bad(BAD_BRACKET))?;
            self.at += inside.len();
            Step::Index(index)
        };
        if !self.take("]") {
            return Err(self.bad("expected `]`"));
        }
        steps.push(step);
        Ok(())
    }

    fn take(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.at += prefix.len();
        }
        found
    }

    fn at_end(&self) -> bool {
        self.rest().is_empty() || self.rest().starts_with('#')
    }

    fn rest(&self) -> &'t str {
        self.text.split_at(self.at).1
    }

    fn bad(&self, reason: &str) -> BadPath {
        BadPath { path: self.text.to_owned(), reason: reason.to_owned(), at: self.at + 1 }
    }
}
