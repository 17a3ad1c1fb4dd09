use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::packs::diagnostic::Report;
use crate::packs::metadata::Origin;
use crate::packs::metadata::action::read_action;
use crate::packs::metadata::rule::read_rule;
use crate::packs::metadata::trigger::read_trigger_type;
use crate::packs::yaml::Node;

fn origin(pack: &str) -> Origin {
    Origin { pack: pack.to_owned(), folder: PathBuf::from("/nowhere"), metadata_file: "actions/a.yaml".to_owned() }
}

fn action(raw: &Value) -> Action {
    let mut report = Report::new("a.yaml", "".into());
    read_action(&Node::from_json(raw), &origin("core"), &mut report).unwrap()
}

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    let local = action(&json!({"name": "local", "runner_type": "local-shell-cmd", "parameters": {
        "cmd": {"type": "string", "required": true, "description": "the command"},
        "fixed": {"type": "string", "immutable": true, "default": "x"}}}));
    let noop = action(&json!({"name": "noop", "runner_type": "noop"}));
    for action in [local, noop] {
        catalogue.actions.insert(action.reference.clone(), Arc::new(action));
    }
    let hook = json!({"name": "st2.webhook", "parameters_schema": {"type": "object", "additionalProperties": false,
        "properties": {"url": {"type": "string", "required": true}}}});
    let hook = read_trigger_type(&Node::from_json(&hook), &origin("core"), &mut Report::new("", "".into())).unwrap();
    catalogue.trigger_types.insert(hook.reference.clone(), Arc::new(hook));
    catalogue
}

fn runners() -> Runners {
    let any = ParameterSpec::default();
    let fixed = ParameterSpec { immutable: true, default: Some(json!(1)), ..ParameterSpec::default() };
    let shell = BTreeMap::from([("cwd".to_owned(), any), ("parallel".to_owned(), fixed)]);
    BTreeMap::from([
        ("local-shell-cmd".to_owned(), shell),
        ("noop".to_owned(), BTreeMap::new()),
        ("rhai".to_owned(), BTreeMap::new()),
    ])
}

fn said(problems: Vec<Problem>) -> Vec<String> {
    let line = |problem: Problem| {
        let help = problem.help.map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}: {}{help}", problem.path.join("/"), problem.what)
    };
    problems.into_iter().map(line).collect()
}

#[test]
fn a_rule_must_fit_its_trigger_and_its_action() {
    let hook = json!({"type": "core.st2.webhook", "parameters": {"url": "a"}});
    let cases = [
        (hook.clone(), json!({"ref": "core.local", "parameters": {"cmd": "date", "cwd": "/"}}), vec![]),
        (hook.clone(), json!({"ref": "core.noop", "parameters": {"whatever": 1}}), vec![]),
        (
            hook.clone(),
            json!({"ref": "core.locl"}),
            vec!["action/ref: there is no action `core.locl` (did you mean `core.local`?)"],
        ),
        (
            hook.clone(),
            json!({"ref": "core.local", "parameters": {"cmd": "date", "cdw": "/"}}),
            vec!["action/parameters/cdw: `core.local` has no parameter `cdw` (did you mean `cwd`?)"],
        ),
        (
            hook.clone(),
            json!({"ref": "core.local"}),
            vec!["action/ref: `core.local` needs the parameter `cmd`, which is not given (`cmd`: the command)"],
        ),
        (
            hook,
            json!({"ref": "core.local", "parameters": {"cmd": "date", "fixed": "y"}}),
            vec!["action/parameters/fixed: `fixed` of `core.local` cannot be set"],
        ),
        (
            json!({"type": "core.st2.webhok"}),
            json!({"ref": "core.noop"}),
            vec!["trigger/type: there is no trigger type `core.st2.webhok` (did you mean `core.st2.webhook`?)"],
        ),
        (
            json!({"type": "core.st2.webhook", "parameters": {"ulr": "a"}}),
            json!({"ref": "core.noop"}),
            vec![
                "trigger/parameters/ulr: trigger type `core.st2.webhook` has no parameter `ulr` (did you mean `url`?)",
                "trigger/type: trigger type `core.st2.webhook` needs the parameter `url`, which is not given",
            ],
        ),
    ];
    let runners = runners();
    for (trigger, called, expected) in cases {
        let raw = json!({"name": "a", "trigger": trigger, "action": called});
        let rule = read_rule(&Node::from_json(&raw), &origin("default"), &mut Report::new("", "".into())).unwrap();
        let problems = Checks { runners: &runners, compile: &() }.rule(&rule, &catalogue());
        assert_eq!(said(problems), expected, "{raw}");
    }
}

#[test]
fn an_action_must_fit_its_runner() {
    let cases = [
        (json!({"name": "a", "runner_type": "noop"}), vec![]),
        (
            json!({"name": "a", "runner_type": "nop"}),
            vec!["runner_type: there is no runner `nop` (did you mean `noop`?)"],
        ),
        (
            json!({"name": "a", "runner_type": "magic"}),
            vec!["runner_type: there is no runner `magic` (the runners are local-shell-cmd, noop, rhai)"],
        ),
        (
            json!({"name": "a", "runner_type": "orquesta"}),
            vec!["runner_type: there is no runner `orquesta` here; the action is listed, and refused when called"],
        ),
        (
            json!({"name": "a", "runner_type": "rhai"}),
            vec!["entry_point: the entry point /nowhere/a.rhai does not exist"],
        ),
        (
            json!({"name": "a", "runner_type": "local-shell-cmd", "parameters": {"parallel": {"default": 2}}}),
            vec!["parameters/parallel: the runner `local-shell-cmd` does not let `parallel` be changed"],
        ),
    ];
    let runners = runners();
    for (raw, expected) in cases {
        let problems = Checks { runners: &runners, compile: &() }.action(&action(&raw));
        assert_eq!(said(problems), expected, "{raw}");
    }
}
