//! From a rule as written to a rule that can be evaluated; everything wrong with it at once.

use serde_json::{Map, Value};

use crate::model::key_access::KeyAccess;
use crate::model::rule::{Condition, Criterion, Rule, Throttle};
use crate::rules::criteria::{Check, Compiled, QUANTIFIERS, Quantifier, Source, Test};
use crate::rules::operators::{self, Comparison, Operator};
use crate::rules::when::When;
use crate::rules::{CompiledRule, CompiledThrottle};
use crate::templates::jsonpath::JsonPath;
use crate::templates::{CompiledValue, Template, is_template};

/// Something wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{where_}: {message}")]
pub struct CompileProblem {
    /// Place inside the rule, as `criteria.trigger.body.n` or `action.parameters.cmd`.
    pub where_: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// Collects problems, so that all of them are reported.
#[derive(Default)]
struct Problems {
    found: Vec<CompileProblem>,
}

impl Problems {
    fn add(&mut self, where_: &str, message: impl Into<String>, help: impl Into<String>) {
        self.found.push(CompileProblem { where_: where_.to_owned(), message: message.into(), help: help.into() });
    }
}

pub(super) fn compile(rule: &Rule) -> Result<CompiledRule, Vec<CompileProblem>> {
    let mut problems = Problems::default();
    let criteria = compile_members(&rule.criteria, "criteria", &mut problems);
    let when = rule.when.as_deref().and_then(|text| compile_when(text, &mut problems));
    let throttle = rule.throttle.as_ref().and_then(|throttle| compile_throttle(throttle, &mut problems));
    let parameters = compile_parameters(rule, &mut problems);
    let is_of_event = |(_, value): &(String, CompiledValue)| value.references().contains("trigger");
    let key_access = if parameters.iter().any(is_of_event) { KeyAccess::NamedByContent } else { KeyAccess::Any };
    let uses_config = parameters.iter().any(|(_, value)| value.references().contains("config_context"));
    let templates = rule.action.parameters.values().map(Value::to_string).collect::<Vec<_>>().join("\n");
    if !problems.found.is_empty() {
        return Err(problems.found);
    }
    Ok(CompiledRule {
        reference: rule.reference.clone(),
        enabled: rule.enabled,
        kind: rule.kind,
        trigger_identity: rule.trigger.identity(),
        action: rule.action.reference.clone(),
        criteria,
        when,
        throttle,
        parameters,
        templates: templates.into(),
        key_access,
        uses_config,
    })
}

fn compile_when(text: &str, problems: &mut Problems) -> Option<When> {
    let help = "write a Rhai expression over `trigger` that is true or false, as `trigger.body.cpu > 90`";
    When::compile(text).map_err(|reason| problems.add("when", reason, help)).ok()
}

fn compile_throttle(throttle: &Throttle, problems: &mut Problems) -> Option<CompiledThrottle> {
    let help = "write a text or a template such as `{{ trigger.body.host }}`";
    let key = Template::compile(&throttle.key).map_err(|error| problems.add("throttle.key", error.to_string(), help));
    Some(CompiledThrottle { key: key.ok()?, once_within: throttle.once_within })
}

fn compile_parameters(rule: &Rule, problems: &mut Problems) -> Vec<(String, CompiledValue)> {
    let mut compiled = Vec::new();
    for (name, value) in &rule.action.parameters {
        match CompiledValue::compile(value) {
            Ok(value) => compiled.push((name.clone(), value)),
            Err(errors) => {
                for error in errors {
                    let dot = if error.path.is_empty() || error.path.starts_with('[') { "" } else { "." };
                    let where_ = format!("action.parameters.{name}{dot}{}", error.path);
                    problems.add(&where_, error.error.to_string(), "write a Jinja template over `trigger`");
                }
            }
        }
    }
    compiled
}

fn compile_members(members: &[Condition], where_: &str, problems: &mut Problems) -> Vec<Compiled> {
    members.iter().filter_map(|member| compile_condition(member, where_, problems)).collect()
}

fn compile_condition(condition: &Condition, where_: &str, problems: &mut Problems) -> Option<Compiled> {
    let (name, members, group): (_, _, fn(Vec<Compiled>) -> Compiled) = match condition {
        Condition::Test(criterion) => {
            return compile_test(criterion, where_, Root::Trigger, problems).map(Compiled::Test);
        }
        Condition::All(members) => ("all", members, Compiled::All),
        Condition::Any(members) => ("any", members, Compiled::Any),
        Condition::Not(members) => ("not", members, Compiled::Not),
    };
    let place = |index| format!("{where_}.{name}[{index}]");
    let compile = |(index, member)| compile_condition(member, &place(index), problems);
    Some(group(members.iter().enumerate().filter_map(compile).collect()))
}

/// What paths start with here.
#[derive(Clone, Copy)]
enum Root {
    Trigger,
    Item,
}

impl Root {
    const fn name(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Item => "item",
        }
    }
}

fn compile_test(criterion: &Criterion, where_: &str, root: Root, problems: &mut Problems) -> Option<Test> {
    let where_ = format!("{where_}.{}", criterion.key);
    let source = compile_source(&criterion.key, &where_, root, problems);
    let check = compile_check(criterion, &where_, problems);
    Some(Test { key: criterion.key.clone(), operator_name: criterion.operator.clone(), source: source?, check: check? })
}

fn compile_source(key: &str, where_: &str, root: Root, problems: &mut Problems) -> Option<Source> {
    let help = "quote names with odd characters: ['X-Name']";
    let path = JsonPath::parse(key).map_err(|error| problems.add(where_, error.to_string(), help)).ok()?;
    if path.root() == Some(root.name()) {
        return Some(Source::Root(path.below_root()));
    }
    let below = path.below_root();
    let stored = below.names().filter(|names| path.root() == Some("system") && !names.is_empty());
    if let Some(names) = stored {
        return Some(Source::Stored(names.join(".")));
    }
    let name = root.name();
    problems.add(where_, format!("`{key}` does not start with `{name}.`"), format!("write `{name}.{key}`"));
    None
}

fn compile_check(criterion: &Criterion, where_: &str, problems: &mut Problems) -> Option<Check> {
    if criterion.operator.is_empty() {
        return Some(Check::Never);
    }
    let Some(operator) = Operator::parse(&criterion.operator) else {
        problems.add(where_, format!("there is no operator `{}`", criterion.operator), suggest(&criterion.operator));
        return None;
    };
    let pattern = criterion.pattern.clone().unwrap_or(Value::Null);
    match (&pattern, operator) {
        (Value::Object(children), Operator::Search) => compile_search(criterion, children, where_, problems),
        (Value::Null, Operator::Search) => Some(Check::Never),
        (Value::String(text), _) if is_template(text) => {
            let template = Template::compile(text).map_err(|error| {
                problems.add(where_, error.to_string(), "write a Jinja template over `trigger` or `st2kv`");
            });
            Some(Check::Rendered(operator, template.ok()?))
        }
        _ => {
            let comparison = Comparison::new(operator, pattern).map_err(|reason| {
                problems.add(where_, format!("`{}`: {reason}", criterion.operator), "give a pattern of that kind");
            });
            Some(Check::Literal(comparison.ok()?))
        }
    }
}

fn suggest(unknown: &str) -> String {
    if let Some(name) = operators::closest_name(unknown) {
        return format!("did you mean `{name}`?");
    }
    let names: Vec<&str> = operators::NAMES.iter().map(|(name, _)| *name).collect();
    format!("the operators are {}", names.join(", "))
}

fn compile_search(
    criterion: &Criterion,
    children: &Map<String, Value>,
    where_: &str,
    problems: &mut Problems,
) -> Option<Check> {
    let quantifier = compile_quantifier(criterion.condition.as_deref(), where_, problems);
    let place = format!("{where_}.pattern");
    let tests: Vec<Option<Test>> = children
        .iter()
        .map(|(key, child)| {
            let child = read_child(key, child, &place, problems)?;
            compile_test(&child, &place, Root::Item, problems)
        })
        .collect();
    Some(Check::Search(quantifier?, tests.into_iter().collect::<Option<_>>()?))
}

fn compile_quantifier(written: Option<&str>, where_: &str, problems: &mut Problems) -> Option<Quantifier> {
    let known = QUANTIFIERS.iter().find(|(name, _)| Some(*name) == written);
    if known.is_none() {
        let message = match written {
            Some(written) => format!("`search` has no condition `{written}`"),
            None => "`search` needs a `condition`".to_owned(),
        };
        problems.add(where_, message, "write `condition: any`, `all`, `any2any` or `all2any`");
    }
    known.map(|(_, quantifier)| *quantifier)
}

fn read_child(key: &str, child: &Value, where_: &str, problems: &mut Problems) -> Option<Criterion> {
    let Some(fields) = child.as_object() else {
        problems.add(&format!("{where_}.{key}"), "not a criterion", "write `{type: equals, pattern: …}`");
        return None;
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(Criterion {
        key: key.to_owned(),
        operator: text("type").unwrap_or_default(),
        pattern: fields.get("pattern").cloned(),
        condition: text("condition"),
    })
}
