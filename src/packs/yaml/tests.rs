use std::fmt::Write as _;

use serde_json::json;

use super::*;
use crate::packs::diagnostic::Diagnostic;

fn read_text(file: &str, text: &str) -> (Option<Node>, Vec<String>) {
    let mut report = Report::new(file, text.into());
    let node = read(file, text, &mut report);
    (node, report.into_diagnostics().iter().map(Diagnostic::render).collect())
}

fn value(text: &str) -> Value {
    let (node, findings) = read_text("a.yaml", text);
    assert_eq!(findings, Vec::<String>::new());
    node.expect("it is YAML").to_json()
}

#[test]
fn every_node_knows_its_place() {
    let (node, _) = read_text("a.yaml", "name: a\ncriteria:\n  trigger.name:\n    type: equals\n");
    let node = node.unwrap();
    let span = node.locate(&["criteria", "trigger.name", "type"]).unwrap();
    assert_eq!((span.line, span.column, span.end_column), (4, 11, 17));
    assert_eq!(node.locate(&["criteria", "trigger.name"]).unwrap().line, 3);
    assert_eq!(node.locate(&["trigger.name", "absent"]).unwrap().line, 3, "as near as the path can be followed");
}

#[test]
fn broken_yaml_is_refused_with_its_place() {
    let (node, findings) = read_text("rules/a.yaml", "name: a\naction: {ref: core.local\n");
    assert!(node.is_none());
    assert!(findings[0].starts_with("error: broken YAML: "), "{}", findings[0]);
    assert!(findings[0].contains("--> rules/a.yaml:"), "{}", findings[0]);
}

#[test]
fn a_tab_as_indentation_is_named() {
    let (node, findings) = read_text("a.yaml", "name: a\naction:\n\tref: core.local\n");
    assert!(node.is_none());
    assert!(findings[0].contains("line 3 is indented with a tab; YAML wants spaces"), "{}", findings[0]);
}

#[test]
fn a_key_given_twice_is_a_warning_and_the_last_one_counts() {
    let (node, findings) = read_text("a.yaml", "name: a\nname: b\n");
    assert_eq!(node.unwrap().to_json(), json!({"name": "b"}));
    let expected = "\
warning: the key `name` is given twice; the last one counts
 --> a.yaml:2:1
  |
2 | name: b
  | ^^^^
  |
  = help: remove one of them; the first is in line 1";
    assert_eq!(findings, [expected]);
}

#[test]
fn a_quote_that_closes_at_its_parents_column_is_read_as_stackstorm_reads_it() {
    let text = "vars:\n  - a: '{{ ctx(\"x\")\n  }}'\nname: b\n";
    let text_under = "vars:\n  a: '{{ x\n}}'\nname: b\n";
    for text in [text, text_under] {
        let (node, findings) = read_text("a.yaml", text);
        assert_eq!(node.unwrap().get("name").unwrap().text(), Some("b"));
        assert!(
            findings.iter().all(|finding| finding.starts_with("warning: this is not valid YAML 1.2")),
            "{findings:?}"
        );
    }
    assert_eq!(read_text("a.yaml", text_under).1.len(), 1);
}

#[test]
fn anchors_and_merge_keys_are_written_out() {
    let text = "base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  b: 3\n";
    assert_eq!(value(text)["mine"], json!({"a": 1, "b": 3}));
}

#[test]
fn an_alias_bomb_is_refused_before_it_goes_off() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..30 {
        let alias = vec![format!("*a{}", i - 1); 10].join(", ");
        writeln!(text, "a{i}: &a{i} [{alias}]").unwrap();
    }
    let (node, findings) = read_text("a.yaml", &text);
    assert!(node.is_none());
    assert!(findings[0].contains("expands to more than 50000 values"), "{}", findings[0]);
}

#[test]
fn aliases_cannot_build_a_tower_higher_than_the_limit() {
    let mut text = "a0: &a0 [x]\n".to_owned();
    for i in 1..100 {
        writeln!(text, "a{i}: &a{i} [*a{}]", i - 1).unwrap();
    }
    let (node, findings) = read_text("a.yaml", &text);
    assert!(node.is_none());
    assert!(findings[0].contains("nested deeper than 64"), "{}", findings[0]);
}

#[test]
fn what_contains_itself_is_refused() {
    let (node, findings) = read_text("a.yaml", "a: &a [*a]\n");
    assert!(node.is_none());
    assert_eq!(findings.len(), 1);
}

#[test]
fn deep_and_large_files_are_refused() {
    let deep = format!("a: {}{}\n", "[".repeat(100), "]".repeat(100));
    assert!(read_text("a.yaml", &deep).1[0].contains("nested deeper"));
    let large = format!("a: {}\n", "x".repeat(MAX_BYTES));
    assert!(read_text("a.yaml", &large).1[0].contains("larger than 1024 KiB"));
}

#[test]
fn a_second_document_is_refused() {
    assert!(read_text("a.yaml", "a: 1\n---\nb: 2\n").1[0].contains("a second document begins here"));
}

#[test]
fn a_block_without_final_line_break_has_none() {
    assert_eq!(value("a: |\n  one\n  two"), json!({"a": "one\ntwo"}));
    assert_eq!(value("a: |\n  one\n  two\n"), json!({"a": "one\ntwo\n"}));
}

#[test]
fn keys_that_are_no_text_become_text() {
    assert_eq!(value("80: web\ntrue: x\n"), json!({"80": "web", "true": "x"}));
}

#[test]
fn json_is_read_with_places_and_judged_as_json() {
    let (node, findings) = read_text("a.json", "{\n  \"name\": \"yes\"\n}\n");
    assert!(findings.is_empty());
    assert_eq!(node.unwrap().locate(&["name"]).unwrap().line, 2);
    assert!(read_text("a.json", "{name: yes}").1[0].contains("broken JSON"));
}
