//! Which rules an event fires: compiled criteria, an index over them, and the two passes of matching.
//!
//! Pure: an event, the compiled rules and the time go in, the matches come out. Writing enforcements and
//! starting executions is somebody else's work.

pub mod commands;
pub mod explain;
pub mod index;
pub mod engine;
pub mod operators;

mod compile;
mod criteria;
mod facts;
mod values;
mod when;

#[cfg(test)]
mod tests;

pub use compile::CompileProblem;
pub use explain::Explanation;
pub use index::RuleIndex;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::key_access::KeyAccess;
use crate::model::refs::{ActionRef, RuleRef};
use crate::model::rule::{Rule, RuleKind};
use crate::model::time::Timestamp;
use crate::model::trigger::TriggerInstance;
use crate::templates::{CompiledValue, Context, Datastore, Template};

use self::criteria::{Compiled, Outcome};
use self::facts::Facts;
use self::when::When;

/// A rule, ready to be evaluated.
#[derive(Debug)]
pub struct CompiledRule {
    reference: RuleRef,
    enabled: bool,
    kind: RuleKind,
    trigger_identity: String,
    action: ActionRef,
    criteria: Vec<Compiled>,
    when: Option<When>,
    throttle: Option<CompiledThrottle>,
    parameters: Vec<(String, CompiledValue)>,
    /// The texts of the parameters: which keys they name.
    templates: Arc<str>,
    key_access: KeyAccess,
    uses_config: bool,
}

#[derive(Debug)]
struct CompiledThrottle {
    key: Template,
    once_within: Duration,
}

/// What evaluating a rule gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The rule fires.
    Matched {
        /// Under which key repetitions are counted, if the rule has a throttle.
        throttle_key: Option<String>,
    },
    /// It does not.
    NotMatched {
        /// The first condition that did not hold.
        first: String,
    },
    /// An operator, template or script failed: a failed enforcement with this reason.
    Failed(String),
}

/// What a matching rule leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// An enforcement, unless the throttle drops it.
    Matched {
        /// Under which key repetitions are counted, if the rule has a throttle.
        throttle_key: Option<String>,
    },
    /// A failed enforcement with this reason.
    Failed(String),
}

impl CompiledRule {
    /// Compiles criteria, `when`, throttle key and action parameters.
    pub fn compile(rule: &Rule) -> Result<Self, Vec<CompileProblem>> {
        compile::compile(rule)
    }

    /// `pack.name`.
    pub const fn reference(&self) -> &RuleRef {
        &self.reference
    }

    /// Whether it takes part in matching.
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Standard or backstop.
    pub const fn kind(&self) -> RuleKind {
        self.kind
    }

    /// The [`crate::model::trigger::Trigger::identity`] it waits for.
    pub fn trigger_identity(&self) -> &str {
        &self.trigger_identity
    }

    /// What it runs.
    pub const fn action(&self) -> &ActionRef {
        &self.action
    }

    /// The texts of its parameters, templates among them.
    pub const fn templates(&self) -> &Arc<str> {
        &self.templates
    }

    /// Which encrypted keys may be decrypted for its action: senders of events may not choose one.
    pub const fn key_access(&self) -> KeyAccess {
        self.key_access
    }

    /// Do its parameters use the configuration of its pack?
    pub const fn uses_config(&self) -> bool {
        self.uses_config
    }

    /// How long a throttle key stays used up; `None` without a throttle.
    pub fn once_within(&self) -> Option<Duration> {
        self.throttle.as_ref().map(|throttle| throttle.once_within)
    }

    /// Whether the rule fires for this payload. Whether it is enabled is not asked here.
    pub fn evaluate(&self, payload: &Value, kv: Option<&Arc<dyn Datastore>>, now: Timestamp) -> Verdict {
        self.evaluate_facts(&Facts::new(payload, kv, now))
    }

    fn evaluate_facts(&self, facts: &Facts<'_>) -> Verdict {
        if !self.criteria.is_empty() && values::is_empty(facts.root) {
            return Verdict::NotMatched { first: "the payload is empty".to_owned() };
        }
        for condition in &self.criteria {
            match condition.outcome(facts) {
                Outcome::Held => {}
                Outcome::NotHeld => {
                    return Verdict::NotMatched { first: explain::name_of(condition) };
                }
                Outcome::Failed(reason) => return Verdict::Failed(reason),
            }
        }
        match self.when_holds(facts) {
            Ok(true) => {}
            Ok(false) => {
                return Verdict::NotMatched { first: "when".to_owned() };
            }
            Err(reason) => return Verdict::Failed(reason),
        }
        match self.throttle_key(facts) {
            Ok(throttle_key) => Verdict::Matched { throttle_key },
            Err(reason) => Verdict::Failed(reason),
        }
    }

    fn when_holds(&self, facts: &Facts<'_>) -> Result<bool, String> {
        match &self.when {
            Some(when) => when.holds(facts.script_value()?),
            None => Ok(true),
        }
    }

    fn throttle_key(&self, facts: &Facts<'_>) -> Result<Option<String>, String> {
        let Some(throttle) = &self.throttle else {
            return Ok(None);
        };
        match throttle.key.render(facts.context()) {
            Ok(Value::String(key)) => Ok(Some(key)),
            Ok(other) => Ok(Some(other.to_string())),
            Err(error) => Err(format!("throttle key: {error}")),
        }
    }

    /// Every condition with what was compared with what, whatever came of those before it.
    pub fn explain(&self, payload: &Value, kv: Option<&Arc<dyn Datastore>>, now: Timestamp) -> Vec<Explanation> {
        explain::explain(self, &Facts::new(payload, kv, now))
    }

    /// The action's parameters. `names` is what templates see: `trigger`, `action_context`, `config_context` …
    pub fn render_parameters(
        &self,
        names: &Value,
        kv: Option<&Arc<dyn Datastore>>,
    ) -> Result<Map<String, Value>, String> {
        let context = Context::new(names, kv);
        let render = |(name, value): &(String, CompiledValue)| match value.render(&context) {
            Ok(value) => Ok((name.clone(), value)),
            Err(error) => Err(format!("parameter `{name}`: {error}")),
        };
        self.parameters.iter().map(render).collect()
    }
}

/// The rules that fire for an event, in the order of their references: first pass standard rules, second
/// pass backstop rules, and those only if no standard rule matched.
pub fn match_instance(
    index: &RuleIndex,
    instance: &TriggerInstance,
    kv: Option<&Arc<dyn Datastore>>,
    now: Timestamp,
) -> Vec<(Arc<CompiledRule>, Match)> {
    let facts = Facts::new(&instance.payload, kv, now);
    let candidates = index.candidates(&instance.trigger, &instance.payload);
    let mut matches = match_pass(&candidates, RuleKind::Standard, &facts);
    if !matches.iter().any(|(_, found)| matches!(found, Match::Matched { .. })) {
        matches.extend(match_pass(&candidates, RuleKind::Backstop, &facts));
    }
    matches
}

fn match_pass(candidates: &[&Arc<CompiledRule>], kind: RuleKind, facts: &Facts<'_>) -> Vec<(Arc<CompiledRule>, Match)> {
    let of_kind = candidates.iter().filter(|rule| rule.kind == kind);
    let decide = |rule: &&Arc<CompiledRule>| match rule.evaluate_facts(facts) {
        Verdict::Matched { throttle_key } => Some((Arc::clone(rule), Match::Matched { throttle_key })),
        Verdict::Failed(reason) => Some((Arc::clone(rule), Match::Failed(reason))),
        Verdict::NotMatched { .. } => None,
    };
    of_kind.filter_map(decide).collect()
}
