//! Criteria, compiled and evaluated. Nothing here reads a clock or a store of its own.
//!
//! Every condition holds, does not hold, or fails (an operator met a type it cannot compare). Groups follow
//! that third value: `any` holds if one member holds whatever the others did, `not` never turns a failure
//! into success, and `all` stops at the first member that does not hold.

use std::borrow::Cow;

use serde_json::Value;

use crate::rules::facts::Facts;
use crate::rules::operators::{Comparison, Operator};
use crate::rules::values::type_name;
use crate::templates::Template;
use crate::templates::jsonpath::JsonPath;

static NULL: Value = Value::Null;

/// What came of a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Held,
    NotHeld,
    Failed(String),
}

impl From<Result<bool, String>> for Outcome {
    fn from(result: Result<bool, String>) -> Self {
        match result {
            Ok(true) => Self::Held,
            Ok(false) => Self::NotHeld,
            Err(reason) => Self::Failed(reason),
        }
    }
}

impl Outcome {
    /// The first that is not held decides.
    pub(super) fn all(outcomes: impl Iterator<Item = Self>) -> Self {
        outcomes.into_iter().find(|outcome| *outcome != Self::Held).unwrap_or(Self::Held)
    }

    /// One that holds is enough.
    pub(super) fn any(outcomes: impl Iterator<Item = Self>) -> Self {
        let mut worst = Self::NotHeld;
        for outcome in outcomes {
            match outcome {
                Self::Held => return Self::Held,
                Self::Failed(_) if worst == Self::NotHeld => worst = outcome,
                Self::Failed(_) | Self::NotHeld => {}
            }
        }
        worst
    }

    /// None may hold.
    pub(super) fn none(outcomes: impl Iterator<Item = Self>) -> Self {
        match Self::any(outcomes) {
            Self::Held => Self::NotHeld,
            Self::NotHeld => Self::Held,
            failed @ Self::Failed(_) => failed,
        }
    }
}

/// A node of the criteria tree, compiled.
#[derive(Debug)]
pub(super) enum Compiled {
    Test(Test),
    All(Vec<Compiled>),
    Any(Vec<Compiled>),
    Not(Vec<Compiled>),
}

/// One comparison, compiled.
#[derive(Debug)]
pub(super) struct Test {
    /// As written.
    pub(super) key: String,
    /// As written.
    pub(super) operator_name: String,
    pub(super) source: Source,
    pub(super) check: Check,
}

/// Where a test's value comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// Below the payload, or the item of a `search`.
    Root(JsonPath),
    /// A key of the datastore: `system.name`.
    Stored(String),
}

/// What a test does with its value.
#[derive(Debug)]
pub(super) enum Check {
    /// No operator was written: never holds.
    Never,
    /// The pattern is known.
    Literal(Comparison),
    /// The pattern is rendered each time.
    Rendered(Operator, Template),
    /// Criteria over items.
    Search(Quantifier, Vec<Test>),
}

/// How many items of a `search`, and how many of its criteria.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantifier {
    /// Some item satisfies all.
    Any,
    /// Every item satisfies all.
    All,
    /// Some item satisfies some.
    AnyToAny,
    /// Every item satisfies some.
    AllToAny,
}

pub(super) const QUANTIFIERS: [(&str, Quantifier); 4] = [
    ("any", Quantifier::Any),
    ("all", Quantifier::All),
    ("any2any", Quantifier::AnyToAny),
    ("all2any", Quantifier::AllToAny),
];

impl Compiled {
    pub(super) fn outcome(&self, facts: &Facts<'_>) -> Outcome {
        match self {
            Self::Test(test) => test.outcome(facts),
            Self::All(members) => Outcome::all(members.iter().map(|member| member.outcome(facts))),
            Self::Any(members) => Outcome::any(members.iter().map(|member| member.outcome(facts))),
            Self::Not(members) => Outcome::none(members.iter().map(|member| member.outcome(facts))),
        }
    }

    /// Whether it gives an answer whatever the payload is.
    pub(super) fn never_fails(&self) -> bool {
        match self {
            Self::Test(test) => test.never_fails(),
            Self::All(members) | Self::Any(members) | Self::Not(members) => members.iter().all(Self::never_fails),
        }
    }
}

impl Test {
    pub(super) fn outcome(&self, facts: &Facts<'_>) -> Outcome {
        let outcome = match (self.value(facts), &self.check) {
            (Err(reason), _) => Outcome::Failed(reason),
            (Ok(_), Check::Never) => Outcome::NotHeld,
            (Ok(value), Check::Literal(comparison)) => comparison.holds(&value, facts.now).into(),
            (Ok(value), Check::Rendered(operator, _)) => {
                let comparison = self.pattern(facts).and_then(|pattern| Comparison::new(*operator, pattern));
                comparison.and_then(|comparison| comparison.holds(&value, facts.now)).into()
            }
            (Ok(value), Check::Search(quantifier, children)) => search(*quantifier, children, &value, facts),
        };
        match outcome {
            Outcome::Failed(ref reason) => Outcome::Failed(format!("{} {}: {reason}", self.key, self.operator_name)),
            Outcome::Held | Outcome::NotHeld => outcome,
        }
    }

    /// The payload's value; null if there is none.
    pub(super) fn value<'f>(&self, facts: &Facts<'f>) -> Result<Cow<'f, Value>, String> {
        match &self.source {
            Source::Root(path) => Ok(Cow::Borrowed(path.find_first(facts.root).unwrap_or(&NULL))),
            Source::Stored(key) => Ok(facts.stored(key)?.unwrap_or(Cow::Borrowed(&NULL))),
        }
    }

    /// The pattern, rendered if it is a template; null for `search`.
    pub(super) fn pattern(&self, facts: &Facts<'_>) -> Result<Value, String> {
        match &self.check {
            Check::Never | Check::Search(..) => Ok(Value::Null),
            Check::Literal(comparison) => Ok(comparison.pattern.clone()),
            Check::Rendered(_, template) => template
                .render(facts.context())
                .map_err(|error| format!("the pattern `{}` cannot be rendered: {error}", template.source())),
        }
    }

    fn never_fails(&self) -> bool {
        let reads_payload = matches!(self.source, Source::Root(_));
        match &self.check {
            Check::Never => reads_payload,
            Check::Literal(comparison) => reads_payload && comparison.never_fails(),
            Check::Rendered(..) | Check::Search(..) => false,
        }
    }
}

/// An object is searched as if it were a list of one.
fn search(quantifier: Quantifier, children: &[Test], value: &Value, facts: &Facts<'_>) -> Outcome {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        Value::Object(_) => std::slice::from_ref(value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let reason = format!("the value is {}, not a list to search", type_name(value));
            return Outcome::Failed(reason);
        }
    };
    let item_facts: Vec<Facts<'_>> = items.iter().map(|item| facts.of_item(item)).collect();
    let satisfies_all = |item: &Facts<'_>| Outcome::all(children.iter().map(|child| child.outcome(item)));
    let satisfies_some = |item: &Facts<'_>| Outcome::any(children.iter().map(|child| child.outcome(item)));
    match quantifier {
        Quantifier::Any => Outcome::any(item_facts.iter().map(satisfies_all)),
        Quantifier::All => Outcome::all(item_facts.iter().map(satisfies_all)),
        Quantifier::AnyToAny => Outcome::any(item_facts.iter().map(satisfies_some)),
        Quantifier::AllToAny => Outcome::all(item_facts.iter().map(satisfies_some)),
    }
}
