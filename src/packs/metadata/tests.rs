use std::time::Duration;

use serde_json::json;

use super::*;
use crate::model::action::OnLost;
use crate::model::pack::{OverThreshold, PolicyRule, RetryOn};
use crate::model::rule::{Condition, Criterion, RuleKind};
use crate::model::trigger::SensorSource;
use crate::packs::yaml::{self, Node};

type Read<T> = fn(&Node, &Origin, &mut Report) -> Option<T>;

/// Reads a text as a noun; gives what came out and what was found, one line each.
fn read<T>(read: Read<T>, text: &str) -> (Option<T>, Vec<String>) {
    read_in(Path::new("/packs/p/x"), read, text)
}

fn read_in<T>(folder: &Path, read: Read<T>, text: &str) -> (Option<T>, Vec<String>) {
    let mut report = Report::new("x/a.yaml", text.into());
    let origin = Origin { pack: "p".to_owned(), folder: folder.to_owned(), metadata_file: "x/a.yaml".to_owned() };
    let node = yaml::read("x/a.yaml", text, &mut report).expect("it is YAML");
    let value = read(&node, &origin, &mut report);
    let line = |found: crate::packs::diagnostic::Diagnostic| {
        let help = found.help.map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{} {}{help}", found.severity.as_str(), found.what)
    };
    (value, report.into_diagnostics().into_iter().map(line).collect())
}

#[test]
fn an_action_is_read_with_all_of_stackstorms_fields() {
    let text = "
name: restart
pack: p
description: Restarts.
enabled: false
runner_type: run-local-script
entry_point: restart.sh
parameters:
  unit: {type: string, required: true, position: 0}
  token: {type: string, secret: true}
output_schema:
  type: object
  properties: {ok: {type: boolean}}
tags: [{name: os, value: linux}]
notify: {on-failure: {message: oh, routes: [chat]}}
metadata_file: actions/restart.yaml
";
    let (action, findings) = read(action::read_action, text);
    let action = action.unwrap();
    assert_eq!(findings, Vec::<String>::new());
    assert_eq!(action.reference.as_str(), "p.restart");
    assert_eq!((action.runner.as_str(), action.enabled), ("local-shell-script", false));
    assert_eq!(action.entry_point, Path::new("/packs/p/x/restart.sh"));
    assert!(action.parameters["unit"].required && action.parameters["token"].secret);
    assert_eq!(action.output_schema["ok"].schema, json!({"type": ["boolean", "null"]}));
    assert_eq!(action.tags, [("os".to_owned(), "linux".to_owned())]);
    assert_eq!(action.notify["on-failure"]["message"], "oh");
    assert_eq!(action.on_lost, OnLost::Fail);
}

#[test]
fn what_becomes_of_a_lost_run_depends_on_the_runner_unless_it_is_said() {
    let cases = [
        ("noop", "", OnLost::Retry),
        ("workflow", "", OnLost::Retry),
        ("inquirer", "", OnLost::Retry),
        ("local-shell-cmd", "", OnLost::Fail),
        ("http-request", "", OnLost::Fail),
        ("local-shell-cmd", "on_lost: retry", OnLost::Retry),
        ("native", "on_lost: fail", OnLost::Fail),
    ];
    for (runner, said, on_lost) in cases {
        let (action, _) = read(action::read_action, &format!("name: a\nrunner_type: {runner}\n{said}\n"));
        assert_eq!(action.unwrap().on_lost, on_lost, "{runner} {said}");
    }
}

#[test]
fn wrong_fields_are_named_with_the_way_out() {
    let cases = [
        ("runner_type: noop\n", "error the action has no `name`, which is required"),
        (
            "nmae: a\nrunner_type: noop\n",
            "error the action has no `name`, which is required (is `nmae` meant to be `name`?)",
        ),
        (
            "name: a b\nrunner_type: noop\n",
            "error `p.a b` is not a reference of the form `pack.name` (letters, digits, `_`, `-` and `.`)",
        ),
        (
            "name: a\nrunner_type: noop\nenabeld: true\n",
            "warning unknown field `enabeld` of the action (did you mean `enabled`?)",
        ),
        (
            "name: a\nrunner_type: noop\nenabled: maybe\n",
            "error `enabled` of the action must be true or false, not a text",
        ),
        (
            "name: a\nrunner_type: noop\npack: q\n",
            "warning `pack: q` is not the pack in which the file lies, `p` (it is loaded as part of `p`; correct or remove the line)",
        ),
        (
            "name: 12\nrunner_type: noop\n",
            "warning `name` should be a text, not a number (write it in quotes: `name: '12'`)",
        ),
        ("name: a\nrunner_type: noop\non_lost: retyr\n", "error `on_lost` cannot be `retyr` (did you mean `retry`?)"),
        (
            "name: a\nrunner_type: noop\nparameters: {x: {type: sting}}\n",
            "error parameter `x`: \"sting\" is not a type; the types are string, integer, number, boolean, array, object, null",
        ),
        (
            "name: a\nrunner_type: noop\nparameters: {x: {position: 0}, y: {position: 0}}\n",
            "error parameters `x` and `y` both have position 0",
        ),
        ("- a\n", "error the action is a list; it must be a map of fields"),
        ("", "error the action is empty; it must be a map of fields"),
    ];
    for (text, expected) in cases {
        let (_, findings) = read(action::read_action, text);
        assert_eq!(findings.first().map(String::as_str), Some(expected), "{text}");
    }
}

#[test]
fn a_rule_is_read_with_stackstorms_fields_and_ours() {
    let text = "
name: r
enabled: true
trigger: {type: core.st2.webhook, parameters: {url: a}}
criteria:
  trigger.z: {type: equals, pattern: 1}
  any:
    - trigger.a: {type: exists}
    - trigger.b: {type: gt, pattern: 2}
      trigger.c: {type: lt, pattern: 3}
  not:
    trigger.d: {type: eq, pattern: null}
when: trigger.body.n > 3
throttle: {key: '{{ trigger.host }}', once_within: 10m}
action: {ref: core.noop, parameters: {n: 1}}
type: {ref: backstop, parameters: {}}
tags: [{name: a, value: 1}]
context: {k: v}
";
    let (rule, findings) = read(rule::read_rule, text);
    let rule = rule.unwrap();
    assert_eq!(findings, Vec::<String>::new());
    let test = |key: &str, operator: &str, pattern: Option<serde_json::Value>| {
        Condition::Test(Criterion { key: key.to_owned(), operator: operator.to_owned(), pattern, condition: None })
    };
    let both = vec![test("trigger.b", "gt", Some(json!(2))), test("trigger.c", "lt", Some(json!(3)))];
    assert_eq!(
        rule.criteria,
        [
            test("trigger.z", "equals", Some(json!(1))),
            Condition::Any(vec![test("trigger.a", "exists", None), Condition::All(both)]),
            Condition::Not(vec![test("trigger.d", "eq", Some(json!(null)))]),
        ]
    );
    assert_eq!(rule.when.as_deref(), Some("trigger.body.n > 3"));
    assert_eq!(rule.throttle.unwrap().once_within, Duration::from_mins(10));
    assert_eq!((rule.kind, rule.enabled), (RuleKind::Backstop, true));
    assert_eq!((rule.tags, rule.context), (vec![("a".to_owned(), "1".to_owned())], json!({"k": "v"})));
}

#[test]
fn a_rule_is_disabled_unless_it_says_otherwise() {
    let (rule, findings) = read(rule::read_rule, "name: r\ntrigger: {type: a.b}\naction: {ref: core.noop}\n");
    assert!(!rule.unwrap().enabled);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].starts_with("note the rule does not say `enabled`, so it is disabled"), "{}", findings[0]);
}

#[test]
fn a_rule_with_a_wrong_part_is_refused() {
    let cases = [
        (
            "criteria: {trigger.a: {pattern: 1}}",
            "warning the criterion `trigger.a` has no `type`, so it never holds (add an operator, as `type: equals`)",
        ),
        (
            "criteria: {trigger.a: {type: eq, patern: 1}}",
            "warning unknown field `patern` of the criterion (did you mean `pattern`?)",
        ),
        ("criterai: {trigger.a: {type: eq}}", "error unknown field `criterai` of the rule (did you mean `criteria`?)"),
        ("criteria: {trigger.a: 1}", "error the criterion is a number; it must be a map of fields"),
        ("criteria: {any: []}", "error the group `any` is empty (give it criteria, or remove it)"),
        ("criteria: {any: [1]}", "error an item of a group must be a map of criteria, not a number"),
        ("throttle: {key: a}", "error the throttle has no `once_within`, which is required"),
        (
            "throttle: {key: a, once_within: soon}",
            "error `once_within` of the throttle must be a duration as `30s`, `10m` or `2h`, not a text",
        ),
        ("type: {ref: backstpo}", "error `ref` cannot be `backstpo` (did you mean `backstop`?)"),
    ];
    for (line, expected) in cases {
        let text = format!("name: r\nenabled: true\ntrigger: {{type: a.b}}\naction: {{ref: core.noop}}\n{line}\n");
        let (_, findings) = read(rule::read_rule, &text);
        assert_eq!(findings, [expected], "{line}");
    }
}

#[test]
fn a_python_sensor_is_listed_with_its_trigger_types() {
    let text = "
class_name: FileSensor
entry_point: file_sensor.py
poll_interval: 5
trigger_types:
  - name: file.changed
    payload_schema: {type: object, properties: {path: {type: string, required: true}}}
";
    let (read, findings) = read(sensor::read_sensor, text);
    let (sensor, types) = read.unwrap();
    assert_eq!(findings, ["note the Python sensor `FileSensor` is listed, not run"]);
    assert_eq!(sensor.source, SensorSource::Python { class_name: "FileSensor".to_owned() });
    assert_eq!(types[0].reference.as_str(), "p.file.changed");
    assert_eq!(types[0].payload_schema["required"], json!(["path"]));
}

#[test]
fn a_trigger_type_with_a_wrong_schema_accepts_anything() {
    let (trigger, findings) = read(trigger::read_trigger_type, "name: t\npayload_schema: {type: obj}\n");
    assert_eq!(trigger.unwrap().payload_schema, json!(null));
    assert!(findings[0].starts_with("warning `payload_schema`: \"obj\" is not a type"), "{findings:?}");
}

#[test]
fn a_webhook_sensor_brings_its_script() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("map.rhai"), "fn map(request) { [] }").unwrap();
    let text = "name: hook\nwebhook: {path: /st2/nrhook, listener: {name: newrelic, port: 10001}, script: map.rhai}\n";
    let (read, findings) = read_in(folder.path(), sensor::read_sensor, text);
    assert_eq!(findings, Vec::<String>::new());
    let SensorSource::Webhook(webhook) = read.unwrap().0.source else { panic!("it is a webhook") };
    assert_eq!(webhook.path, "st2/nrhook");
    assert_eq!(webhook.listener, Some(("newrelic".to_owned(), 10001)));
    assert_eq!(&*webhook.source, "fn map(request) { [] }");
}

#[test]
fn a_sensor_without_script_or_source_is_refused() {
    let cases = [
        ("name: s\npolling: {every: 10s, script: none.rhai}\n", "error cannot read the script /packs/p/x/none.rhai"),
        ("name: s\n", "error the sensor does not say how it listens"),
        ("name: s\nclass_name: A\nwebhook: {}\n", "error the sensor says in more than one way how it listens"),
    ];
    for (text, expected) in cases {
        let (sensor, findings) = read(sensor::read_sensor, text);
        assert!(sensor.is_none(), "{text}");
        assert!(findings[0].starts_with(expected), "{findings:?}");
    }
}

#[test]
fn policies_are_read() {
    let policy = |rest: &str| {
        let text = format!("name: a\nresource_ref: core.local\n{rest}\n");
        let (policy, findings) = read(policy::read_policy, &text);
        policy.map(|policy| policy.rule).ok_or(findings)
    };
    assert_eq!(
        policy("policy_type: action.concurrency.attr\nparameters: {threshold: 2, action: cancel, attributes: [host]}"),
        Ok(PolicyRule::Concurrency { threshold: 2, attributes: vec!["host".to_owned()], over: OverThreshold::Cancel })
    );
    assert_eq!(
        policy("policy_type: action.retry\nparameters: {retry_on: timeout, delay: 5}"),
        Ok(PolicyRule::Retry { on: RetryOn::Timeout, max_retry_count: 2, delay: Duration::from_secs(5) })
    );
    assert_eq!(
        policy("policy_type: action.rety\nparameters: {}"),
        Err(vec!["error `policy_type` cannot be `action.rety` (did you mean `action.retry`?)".to_owned()])
    );
    assert!(policy("policy_type: action.concurrency\nparameters: {threshold: 0}").is_err());
}

#[test]
fn an_alias_is_kept_as_written() {
    let text = "name: a\naction_ref: core.local\nformats: ['run {{cmd}}']\nack: {enabled: false}\nusers: [ann]\nconfirm: true\n";
    let (alias, findings) = read(alias::read_alias, text);
    let alias = alias.unwrap();
    assert_eq!(alias.metadata["formats"][0], "run {{cmd}}");
    assert_eq!(findings, Vec::<String>::new());
}

#[test]
fn a_pack_is_read_and_its_reference_made_from_its_name() {
    let read_pack: Read<crate::model::pack::Pack> = |node, _, report| pack::read_pack(node, Path::new("/p"), report);
    let (pack, findings) = read(read_pack, "name: New Relic\nversion: 1.0.0\nstackstorm_version: '>=3.0.0'\n");
    assert_eq!(pack.unwrap().reference, "new_relic");
    assert_eq!(findings, ["note read, not acted on: `stackstorm_version` of the pack"]);
    let (pack, findings) = read(read_pack, "name: A.B\nversion: 1.0\n");
    assert!(pack.is_none());
    assert_eq!(
        findings,
        ["error `a.b` is not the name of a pack (add `ref:` with lower-case letters, digits and `_` only)"]
    );
}
