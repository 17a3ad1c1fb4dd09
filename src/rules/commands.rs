//! Event data in shell commands: whoever may send an event must not thereby choose what a command does. A rule that puts a
//! field of its event into a command without quoting it is warned of, with the way out.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::model::action::Action;
use crate::model::rule::Rule;
use crate::templates::unquoted_data;

/// Runners whose parameter `cmd` is read by a shell.
const SHELL_RUNNERS: [&str; 2] = ["local-shell-cmd", "remote-shell-cmd"];
const COMMAND: &str = "cmd";
/// The name under which rules see their event.
const EVENT: &str = "trigger";

/// A parameter of a rule that carries event data into a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDataInCommand {
    /// The rule's parameter.
    pub parameter: String,
    /// What is wrong.
    pub what: String,
    /// The way out.
    pub help: String,
}

/// Where the rule's parameters carry event data into the command of the action that it calls.
pub fn event_data_in_command(rule: &Rule, action: &Action) -> Vec<EventDataInCommand> {
    if !SHELL_RUNNERS.contains(&action.runner.as_str()) {
        return Vec::new();
    }
    let given = rule.action.parameters.iter();
    let carried = given.filter_map(|(name, value)| Some((name, unquoted_in(value, &[EVENT]).into_iter().next()?)));
    let of_command = carried.filter_map(|(name, expression)| {
        if name == COMMAND {
            return Some(direct(&expression));
        }
        unquoted_parameters(action).contains(name).then(|| indirect(name, &expression, action))
    });
    of_command.collect()
}

fn direct(expression: &str) -> EventDataInCommand {
    EventDataInCommand {
        parameter: COMMAND.to_owned(),
        what: format!(
            "`{{{{ {expression} }}}}` is event data in a shell command: whoever sends the event can run commands"
        ),
        help: format!(
            "write `{{{{ {} | quote }}}}`, or hand it over in `env` and write \"$NAME\" in the command",
            expression.split('|').next().unwrap_or(expression).trim()
        ),
    }
}

fn indirect(parameter: &str, expression: &str, action: &Action) -> EventDataInCommand {
    let reference = &action.reference;
    EventDataInCommand {
        parameter: parameter.to_owned(),
        what: format!(
            "`{{{{ {expression} }}}}` is event data, and `{reference}` puts `{parameter}` into its shell command without \
             quoting it: whoever sends the event can run commands"
        ),
        help: format!("write `{{{{ {parameter} | quote }}}}` in `{COMMAND}` of `{reference}`, or quote it here"),
    }
}

/// The action's parameters that its command holds unquoted.
fn unquoted_parameters(action: &Action) -> BTreeSet<String> {
    let command = action.parameters.get(COMMAND).and_then(|spec| spec.default.as_ref());
    let Some(command) = command.and_then(Value::as_str) else { return BTreeSet::new() };
    let names = action.parameters.keys().filter(|name| !unquoted_data(command, &[name.as_str()]).is_empty());
    names.cloned().collect()
}

fn unquoted_in(value: &Value, names: &[&str]) -> Vec<String> {
    match value {
        Value::String(template) => unquoted_data(template, names),
        Value::Array(items) => items.iter().flat_map(|item| unquoted_in(item, names)).collect(),
        Value::Object(fields) => fields.values().flat_map(|field| unquoted_in(field, names)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}
