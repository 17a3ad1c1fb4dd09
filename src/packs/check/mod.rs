//! Cross-checks: does everything exist that is referred to, and does what is handed over fit?
//!
//! What only its owner can judge (templates, criteria, scripts) is asked through [`CompileCheck`].

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::action::{Action, ParameterSpec};
use crate::model::pack::{Alias, Catalogue, Policy};
use crate::model::refs::{ActionRef, TriggerTypeRef};
use crate::model::rule::Rule;
use crate::model::trigger::{Sensor, SensorSource, Trigger};
use crate::packs::diagnostic::Severity;
use crate::packs::metadata::action::needs_file;
use crate::packs::suggest::did_you_mean;

/// The parameters of every runner by the runner's name.
pub type Runners = BTreeMap<String, BTreeMap<String, ParameterSpec>>;

/// Runners of StackStorm that Petrel does not have: content for them is legal, and refused when it is called.
const FOREIGN_RUNNERS: [&str; 10] = [
    "python-script",
    "orquesta",
    "action-chain",
    "mistral-v2",
    "winrm-cmd",
    "winrm-ps-cmd",
    "winrm-ps-script",
    "announcement",
    "cloudslang",
    "windows-cmd",
];

/// One finding about an object, and the path in its metadata that it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Keys from the top of the metadata, list positions as numbers: `["action", "parameters", "cmd"]`.
    pub path: Vec<String>,
    /// What is wrong.
    pub what: String,
    /// The way out.
    pub help: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// The object cannot work as long as this stands.
    pub breaks: bool,
}

impl Problem {
    /// Something that keeps the object from working.
    pub fn error(path: &[&str], what: impl Into<String>) -> Self {
        Self::new(path, what.into(), Severity::Error, true)
    }

    /// Something that is probably not as meant.
    pub fn warning(path: &[&str], what: impl Into<String>) -> Self {
        Self::new(path, what.into(), Severity::Warning, false)
    }

    /// Adds the way out.
    #[must_use]
    pub fn with_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    fn new(path: &[&str], what: String, severity: Severity, breaks: bool) -> Self {
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        Self { path, what, help: None, severity, breaks }
    }

    /// It keeps the object from working, yet nobody did anything wrong.
    fn obstacle(path: &[&str], what: String) -> Self {
        Self::new(path, what, Severity::Warning, true)
    }
}

/// Compiles what an object carries: templates, criteria, expressions, scripts. Nothing wrong by default.
pub trait CompileCheck {
    /// Criteria, `when`, `throttle`, parameter templates.
    fn rule(&self, _rule: &Rule) -> Vec<Problem> {
        Vec::new()
    }

    /// What a rule hands to the action that it calls.
    fn call(&self, _rule: &Rule, _action: &Action) -> Vec<Problem> {
        Vec::new()
    }

    /// Default templates, scripts.
    fn action(&self, _action: &Action) -> Vec<Problem> {
        Vec::new()
    }

    /// Formats and templates.
    fn alias(&self, _alias: &Alias) -> Vec<Problem> {
        Vec::new()
    }

    /// Scripts.
    fn sensor(&self, _sensor: &Sensor) -> Vec<Problem> {
        Vec::new()
    }
}

/// Compiles nothing.
impl CompileCheck for () {}

/// What the checks need to know of the rest of the house.
#[derive(Clone, Copy)]
pub struct Checks<'a> {
    /// The runners there are.
    pub runners: &'a Runners,
    /// Those who compile.
    pub compile: &'a dyn CompileCheck,
}

impl std::fmt::Debug for Checks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checks").field("runners", &self.runners.keys()).finish_non_exhaustive()
    }
}

impl Checks<'_> {
    /// A rule against the catalogue it stands in or is to join.
    pub fn rule(&self, rule: &Rule, catalogue: &Catalogue) -> Vec<Problem> {
        let mut problems = check_trigger(&rule.trigger, catalogue);
        match catalogue.actions.get(&rule.action.reference) {
            None => problems.push(unknown_action(&["action", "ref"], &rule.action.reference, catalogue)),
            Some(action) => {
                problems.extend(self.check_call(rule, action));
                problems.extend(self.compile.call(rule, action));
            }
        }
        problems.extend(self.compile.rule(rule));
        problems
    }

    /// An action by itself.
    pub fn action(&self, action: &Action) -> Vec<Problem> {
        let mut problems = match self.runners.get(&action.runner) {
            Some(runner) => check_overrides(action, runner),
            None => return vec![self.unknown_runner(action)],
        };
        if needs_file(&action.runner) && !action.entry_point.is_file() {
            let what = if action.entry_point.as_os_str().is_empty() {
                format!("actions of the runner `{}` need an `entry_point`", action.runner)
            } else {
                format!("the entry point {} does not exist", action.entry_point.display())
            };
            problems.push(Problem::error(&["entry_point"], what));
        } else {
            problems.extend(self.compile.action(action));
        }
        problems
    }

    /// An alias against the catalogue.
    pub fn alias(&self, alias: &Alias, catalogue: &Catalogue) -> Vec<Problem> {
        let mut problems = self.compile.alias(alias);
        if !catalogue.actions.contains_key(&alias.action) {
            problems.push(unknown_action(&["action_ref"], &alias.action, catalogue));
        }
        problems
    }

    /// A sensor by itself.
    pub fn sensor(&self, sensor: &Sensor) -> Vec<Problem> {
        match &sensor.source {
            SensorSource::Python { .. } => Vec::new(),
            SensorSource::Webhook(_) | SensorSource::Polling(_) => self.compile.sensor(sensor),
        }
    }

    fn unknown_runner(&self, action: &Action) -> Problem {
        let path = ["runner_type"];
        if FOREIGN_RUNNERS.contains(&action.runner.as_str()) {
            let what =
                format!("there is no runner `{}` here; the action is listed, and refused when called", action.runner);
            return Problem::obstacle(&path, what);
        }
        let names = || self.runners.keys().map(String::as_str);
        let all = || Some(format!("the runners are {}", names().collect::<Vec<_>>().join(", ")));
        let help = did_you_mean(&action.runner, names()).or_else(all);
        Problem::error(&path, format!("there is no runner `{}`", action.runner)).with_help(help)
    }

    /// Do the rule's parameters fit the action?
    fn check_call(&self, rule: &Rule, action: &Action) -> Vec<Problem> {
        let none = BTreeMap::new();
        let runner = self.runners.get(&action.runner).unwrap_or(&none);
        let given = &rule.action.parameters;
        let takes_anything = action.runner == "noop" || !self.runners.contains_key(&action.runner);
        let mut problems = Vec::new();
        for name in given.keys() {
            let path = ["action", "parameters", name.as_str()];
            let specs = [action.parameters.get(name), runner.get(name)];
            if specs.iter().flatten().any(|spec| spec.immutable) {
                problems.push(Problem::error(&path, format!("`{name}` of `{}` cannot be set", action.reference)));
            } else if specs == [None, None] && !takes_anything {
                let names = action.parameters.keys().chain(runner.keys()).map(String::as_str);
                let what = format!("`{}` has no parameter `{name}`", action.reference);
                problems.push(Problem::error(&path, what).with_help(did_you_mean(name, names)));
            }
        }
        for name in required_of(action, runner) {
            if !given.contains_key(name) {
                let what = format!("`{}` needs the parameter `{name}`, which is not given", action.reference);
                problems.push(Problem::error(&["action", "ref"], what).with_help(description_of(name, action, runner)));
            }
        }
        problems
    }
}

/// A policy against the catalogue.
pub fn check_policy(policy: &Policy, catalogue: &Catalogue) -> Vec<Problem> {
    let known = catalogue.actions.contains_key(&policy.resource);
    if known { Vec::new() } else { vec![unknown_action(&["resource_ref"], &policy.resource, catalogue)] }
}

/// Marks as broken what leans on something broken; gives what to report, by unique id.
pub(crate) fn spread(catalogue: &mut Catalogue) -> BTreeMap<String, Vec<Problem>> {
    let mut found = BTreeMap::new();
    let rules = catalogue.rules.values().map(|rule| (rule.reference.uid(), &rule.action.reference, "action"));
    let aliases = catalogue.aliases.values().map(|alias| (alias.reference.uid(), &alias.action, "action_ref"));
    for (uid, action, path) in rules.chain(aliases) {
        let Some(reason) = catalogue.broken.get(&action.uid()) else {
            continue;
        };
        if !catalogue.broken.contains_key(&uid) {
            let what = format!("its action `{action}` is broken: {reason}");
            found.insert(uid, vec![Problem::obstacle(&[path, "ref"], what)]);
        }
    }
    for (uid, problems) in &found {
        catalogue.broken.extend(problems.iter().map(|problem| (uid.clone(), problem.what.clone())));
    }
    found
}

fn unknown_action(path: &[&str], reference: &ActionRef, catalogue: &Catalogue) -> Problem {
    let help = did_you_mean(reference.as_str(), catalogue.actions.keys().map(ActionRef::as_str));
    Problem::error(path, format!("there is no action `{reference}`")).with_help(help)
}

/// Does the trigger type exist, and do the parameters fit its schema?
fn check_trigger(trigger: &Trigger, catalogue: &Catalogue) -> Vec<Problem> {
    let Some(declared) = catalogue.trigger_types.get(&trigger.trigger_type) else {
        let names = catalogue.trigger_types.keys().map(TriggerTypeRef::as_str);
        let help = did_you_mean(trigger.trigger_type.as_str(), names);
        let what = format!("there is no trigger type `{}`", trigger.trigger_type);
        return vec![Problem::error(&["trigger", "type"], what).with_help(help)];
    };
    let schema = &declared.parameters_schema;
    let properties = schema.get("properties").and_then(Value::as_object);
    let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    let mut problems = Vec::new();
    for name in trigger.parameters.keys() {
        if properties.is_none_or(|properties| properties.contains_key(name)) {
            continue;
        }
        let path = ["trigger", "parameters", name.as_str()];
        let what = format!("trigger type `{}` has no parameter `{name}`", trigger.trigger_type);
        let problem = if is_closed { Problem::error(&path, what) } else { Problem::warning(&path, what) };
        let names = properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str));
        problems.push(problem.with_help(did_you_mean(name, names)));
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        let has_default = schema.pointer(&format!("/properties/{name}/default")).is_some();
        if !trigger.parameters.contains_key(name) && !has_default {
            let what =
                format!("trigger type `{}` needs the parameter `{name}`, which is not given", trigger.trigger_type);
            problems.push(Problem::error(&["trigger", "type"], what));
        }
    }
    problems
}

/// An action may say more about its runner's parameters, but not open what the runner has closed.
fn check_overrides(action: &Action, runner: &BTreeMap<String, ParameterSpec>) -> Vec<Problem> {
    let own = action.parameters.iter();
    let both = own.filter_map(|(name, own)| runner.get(name).map(|theirs| (name, own, theirs)));
    both.filter(|(_, own, theirs)| theirs.immutable && own.default.is_some() && own.default != theirs.default)
        .map(|(name, ..)| {
            let what = format!("the runner `{}` does not let `{name}` be changed", action.runner);
            Problem::error(&["parameters", name], what)
        })
        .collect()
}

/// Parameters that a caller must give.
fn required_of<'a>(
    action: &'a Action,
    runner: &'a BTreeMap<String, ParameterSpec>,
) -> impl Iterator<Item = &'a String> {
    let others = runner.keys().filter(|name| !action.parameters.contains_key(*name));
    let names = action.parameters.keys().chain(others);
    names.filter(move |name| {
        let specs = [action.parameters.get(*name), runner.get(*name)];
        let mut specs = specs.into_iter().flatten();
        let required = specs.clone().any(|spec| spec.required);
        required && specs.all(|spec| spec.default.as_ref().is_none_or(Value::is_null))
    })
}

fn description_of(name: &str, action: &Action, runner: &BTreeMap<String, ParameterSpec>) -> Option<String> {
    let spec = action.parameters.get(name).or_else(|| runner.get(name))?;
    (!spec.description.is_empty()).then(|| format!("`{name}`: {}", spec.description))
}

#[cfg(test)]
mod tests;
