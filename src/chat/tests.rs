//! What lines mean: formats as StackStorm reads them, and the command among several.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::alias::ChatAlias;
use super::book::{Book, NoCommand};
use super::format::Format;
use crate::model::pack::{Alias, Catalogue};

fn read(format: &str, command: &str) -> Option<Value> {
    Format::compile(format).unwrap().read(command).map(|given| json!(given))
}

#[test]
fn formats_mean_what_they_mean_in_stackstorm() {
    let cases = [
        ("asg list", "asg list", Some(json!({}))),
        ("asg list", "  ASG   list ", Some(json!({}))),
        ("asg list", "asg lists", None),
        ("run {{cmd}}", "run date", Some(json!({"cmd": "date"}))),
        ("run {{cmd}}", "run ls -l /tmp", Some(json!({"cmd": "ls -l /tmp"}))),
        ("run {{ cmd }} on {{ hosts }}", "run ls -l on web1", Some(json!({"cmd": "ls -l", "hosts": "web1"}))),
        ("run {{cmd}} on {{hosts}}", "run \"echo on\" on 'a b'", Some(json!({"cmd": "echo on", "hosts": "a b"}))),
        ("run {{cmd}}", "run", None),
        ("run {{cmd}} {{hosts=localhost}}", "run date", Some(json!({"cmd": "date", "hosts": "localhost"}))),
        ("say {{what=\"two words\"}}", "say", Some(json!({"what": "two words"}))),
        ("say {{what=x}} loud", "say hi loud", Some(json!({"what": "hi"}))),
        ("say {{what=x}} loud", "say loud", Some(json!({"what": "x"}))),
        ("put {{value}}", "put {\"a\": 1}", Some(json!({"value": "{\"a\": 1}"}))),
        ("asg create", "asg create name=web domain=example.org", Some(json!({"name": "web", "domain": "example.org"}))),
        ("asg create", "asg create name=\"a b\" x='c=d'", Some(json!({"name": "a b", "x": "c=d"}))),
        ("run {{cmd}}", "run date hosts=web1 sudo=true", Some(json!({"cmd": "date", "hosts": "web1", "sudo": "true"}))),
        ("say {{text}}", "say a=b=c", Some(json!({"text": "a=b=c"}))),
        ("get name={{name}}", "get name=web", Some(json!({"name": "web"}))),
        ("(show|list) nodes", "list nodes", Some(json!({}))),
        ("^restart (?P<service>\\w+)$", "restart nginx", Some(json!({"service": "nginx"}))),
        ("deploy v{{version}}", "deploy v1.2", Some(json!({"version": "1.2"}))),
        ("note {{text}}", "note first\nsecond", Some(json!({"text": "first\nsecond"}))),
    ];
    for (format, command, expected) in cases {
        assert_eq!(read(format, command), expected, "{format} <- {command}");
    }
}

#[test]
fn fault_18_values_keep_their_equals_signs_and_their_punctuation() {
    let said = r#"asg create name=web url=http://h/?a=b=c note="it's fine, really: yes!""#;
    let given = json!({ "name": "web", "url": "http://h/?a=b=c", "note": "it's fine, really: yes!" });
    assert_eq!(read("asg create", said), Some(given));
    let wide = "asg create\u{a0}name=web\u{3000}x=y";
    assert_eq!(read("asg create", wide), Some(json!({ "name": "web", "x": "y" })), "spaces of other scripts");
}

#[test]
fn a_format_that_cannot_be_read_says_why() {
    for (format, why) in [
        ("run {{cmd", "without its `}}`"),
        ("run {{}}", "names no parameter"),
        ("run {{a}} {{a}}", "is there twice"),
        ("run (", "cannot be matched"),
    ] {
        let said = Format::compile(format).unwrap_err();
        assert!(said.contains(why), "{format}: {said}");
    }
}

#[test]
fn a_line_that_is_made_to_take_for_ever_is_no_command() {
    let format = Format::compile("(a+)+b {{x}}").unwrap();
    assert_eq!(format.read(&"a".repeat(5000)), None);
}

fn alias(name: &str, formats: &Value) -> Alias {
    Alias {
        reference: format!("autoscale.{name}").parse().unwrap(),
        description: format!("does {name}"),
        enabled: true,
        action: "autoscale.x".parse().unwrap(),
        metadata: json!({ "formats": formats }),
        metadata_file: String::new(),
    }
}

fn book(formats: &[(&str, Value)]) -> Book {
    let action = action();
    let aliases = formats.iter().map(|(name, formats)| {
        let alias = alias(name, formats);
        (alias.reference.clone(), Arc::new(alias))
    });
    let catalogue = Catalogue {
        aliases: aliases.collect(),
        actions: BTreeMap::from([(action.reference.clone(), Arc::new(action))]),
        ..Catalogue::default()
    };
    Book::of(&catalogue)
}

pub(super) fn action() -> crate::model::action::Action {
    crate::model::action::Action {
        reference: "autoscale.x".parse().unwrap(),
        description: String::new(),
        enabled: true,
        runner: "noop".to_owned(),
        entry_point: "".into(),
        parameters: BTreeMap::new(),
        output_schema: BTreeMap::new(),
        tags: Vec::new(),
        notify: Value::Null,
        on_lost: crate::model::action::OnLost::Retry,
        permission: None,
        metadata_file: String::new(),
    }
}

#[test]
fn the_command_that_says_most_is_meant() {
    let book = book(&[("any", json!(["asg {{what}}"])), ("list", json!(["asg list"]))]);
    assert_eq!(book.find("asg list").unwrap().alias.reference.as_str(), "autoscale.list");
    assert_eq!(book.find("asg lift").unwrap().alias.reference.as_str(), "autoscale.any");
}

#[test]
fn two_commands_that_say_as_much_are_both_named() {
    let book = book(&[("a", json!(["go {{x}}"])), ("b", json!(["go {{y}}"]))]);
    let said = book.find("go home").unwrap_err();
    assert_eq!(said.to_string(), "that may be `!go {{x}}` or `!go {{y}}`; say more");
}

#[test]
fn what_is_no_command_is_answered_with_the_nearest() {
    let book = book(&[
        ("expand", json!(["asg expand"])),
        ("list", json!([{ "display": "asg deflate asg=", "representation": ["asg deflate"] }])),
        ("node_add", json!([{ "display": "asg node add", "representation": ["asg node add", "asg add node"] }])),
        ("kv", json!(["kv get {{key}}"])),
    ]);
    let NoCommand::Unknown { nearest } = book.find("asg expnad web").unwrap_err() else { panic!("it is unknown") };
    assert_eq!(nearest, ["asg expand", "asg deflate asg=", "asg node add"], "parameters are no words of a command");
    assert_eq!(book.find("asg add node asg=web").unwrap().display, "asg node add");
    let nothing = book.find("hello").unwrap_err();
    assert_eq!(nothing.to_string(), "there is no such command; `!help` shows what there is");
}

#[test]
fn all_that_is_wrong_with_an_alias_is_told_with_its_place() {
    let mut bad = alias("bad", &json!(["run {{", 7]));
    bad.metadata["ack"] = json!({ "format": "{{ execution.id" });
    let faults = ChatAlias::compile(&bad).unwrap_err();
    let paths: Vec<String> = faults.iter().map(|fault| fault.path.join(".")).collect();
    assert_eq!(paths, ["formats.0", "formats.1", "ack.format"]);
}
