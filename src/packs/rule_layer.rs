//! The API's own layer of rules: definitions read like files, and laid with its switches over what files say.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::model::pack::Catalogue;
use crate::model::refs::RuleRef;
use crate::model::rule::Rule;
use crate::packs::check::{Checks, Problem};
use crate::packs::diagnostic::{Report, Severity};
use crate::packs::layout::SITE_PACK;
use crate::packs::metadata::Origin;
use crate::packs::metadata::rule::read_rule;
use crate::packs::yaml::Node;

/// A rule from its metadata as JSON; all that is wrong with it, in words.
pub fn read_definition(definition: &Value) -> Result<Rule, Vec<String>> {
    let pack = definition.get("pack").and_then(Value::as_str).unwrap_or(SITE_PACK);
    let origin = Origin { pack: pack.to_owned(), folder: PathBuf::new(), metadata_file: String::new() };
    let mut report = Report::new("the rule", "".into());
    let rule = read_rule(&Node::from_json(definition), &origin, &mut report);
    let failed = report.has_errors();
    match rule {
        Some(rule) if !failed => Ok(rule),
        Some(_) | None => Err(errors_of(report)),
    }
}

fn errors_of(report: Report) -> Vec<String> {
    let errors = report.into_diagnostics().into_iter().filter(|found| found.severity == Severity::Error);
    errors.map(|found| with_help(found.what, found.help)).collect()
}

/// What keeps a rule from working in this catalogue, in words.
pub fn problems_of(rule: &Rule, catalogue: &Catalogue, checks: &Checks<'_>) -> Vec<String> {
    let breaking = checks.rule(rule, catalogue).into_iter().filter(|problem| problem.breaks);
    breaking.map(|Problem { path, what, help, .. }| with_help(format!("{}: {what}", path.join(".")), help)).collect()
}

/// What works but is probably not as meant, in words.
pub fn warnings_of(rule: &Rule, catalogue: &Catalogue, checks: &Checks<'_>) -> Vec<String> {
    let is_warning = |problem: &Problem| !problem.breaks && problem.severity == Severity::Warning;
    let warnings = checks.rule(rule, catalogue).into_iter().filter(is_warning);
    warnings.map(|Problem { path, what, help, .. }| with_help(format!("{}: {what}", path.join(".")), help)).collect()
}

fn with_help(what: String, help: Option<String>) -> String {
    match help {
        Some(help) => format!("{what} ({help})"),
        None => what,
    }
}

/// Lays over a catalogue, that was loaded from files, what the API's layer says about one rule. A rule from a file wins
/// over one of the same name from the API; a switch holds for both. What cannot work is marked broken.
pub fn lay_over(
    catalogue: &mut Catalogue,
    reference: &RuleRef,
    enabled: Option<bool>,
    definition: Option<&Value>,
    checks: &Checks<'_>,
) {
    if let Some(definition) = definition.filter(|_| !catalogue.rules.contains_key(reference)) {
        add(catalogue, reference, definition, checks);
    }
    if let (Some(enabled), Some(rule)) = (enabled, catalogue.rules.get_mut(reference)) {
        Arc::make_mut(rule).enabled = enabled;
    }
}

fn add(catalogue: &mut Catalogue, reference: &RuleRef, definition: &Value, checks: &Checks<'_>) {
    let problems = match read_definition(definition) {
        Ok(rule) => {
            let problems = problems_of(&rule, catalogue, checks);
            catalogue.rules.insert(reference.clone(), Arc::new(rule));
            problems
        }
        Err(problems) => problems,
    };
    if !problems.is_empty() {
        catalogue.broken.insert(reference.uid(), problems.join("; "));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::packs::check::Runners;

    fn definition(name: &str, action: &str) -> Value {
        json!({"name": name, "enabled": true, "trigger": {"type": "core.st2.webhook"}, "action": {"ref": action}})
    }

    #[test]
    fn rules_of_the_api_join_those_of_files_and_switches_hold_for_both() {
        let runners = Runners::new();
        let checks = Checks { runners: &runners, compile: &() };
        let mut catalogue = Catalogue::default();
        let from_file = read_definition(&definition("filed", "core.noop")).unwrap();
        let (filed, made): (RuleRef, RuleRef) = (from_file.reference.clone(), "default.made".parse().unwrap());
        catalogue.rules.insert(filed.clone(), Arc::new(from_file));
        lay_over(&mut catalogue, &filed, Some(false), Some(&definition("filed", "core.other")), &checks);
        lay_over(&mut catalogue, &made, None, Some(&definition("made", "core.gone")), &checks);
        assert!(!catalogue.rules[&filed].enabled);
        assert_eq!(catalogue.rules[&filed].action.reference.as_str(), "core.noop", "the file wins");
        assert!(catalogue.rules[&made].enabled);
        assert!(catalogue.broken_rule(&made).unwrap().contains("core.gone"), "{:?}", catalogue.broken);
    }

    #[test]
    fn a_definition_that_is_no_good_says_all_that_is_wrong() {
        let problems = read_definition(&json!({"name": "r", "type": "sideways"})).unwrap_err();
        let all = problems.join("\n");
        for word in ["`trigger`", "`action`", "type"] {
            assert!(all.contains(word), "{word} in {all}");
        }
    }
}
