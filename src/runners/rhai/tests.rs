//! What a script may do, and what ends it.

use std::fs;

use super::*;
use crate::model::action::{Action, OnLost};
use crate::model::refs::ExecutionId;
use crate::runners::OutputChunk;

fn call(script: &Path, parameters: &Value, output: OutputSink) -> Call {
    let action = Action {
        reference: "core.script".parse().unwrap(),
        description: String::new(),
        enabled: true,
        runner: "rhai".to_owned(),
        entry_point: script.to_owned(),
        parameters: BTreeMap::new(),
        output_schema: BTreeMap::new(),
        tags: Vec::new(),
        notify: Value::Null,
        on_lost: OnLost::Fail,
        permission: None,
        metadata_file: String::new(),
    };
    Call {
        execution: ExecutionId::from_bytes([7; 12]),
        attempt: 1,
        action: Arc::new(action),
        parameters: parameters.as_object().unwrap().clone(),
        user: "admin".to_owned(),
        output,
        timeout: None,
    }
}

async fn run_with(text: &str, output: OutputSink, stop: Stop) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("it.rhai");
    fs::write(&script, text).unwrap();
    let call = call(&script, &json!({"name": "web", "count": 2, "list": [1.5, null]}), output);
    match RhaiScript::new().run(call, stop).await {
        RunEnd::Finished(outcome) => outcome,
        other => panic!("it did not end: {other:?}"),
    }
}

async fn run(text: &str) -> Outcome {
    run_with(text, OutputSink::ignored(), Stop::default()).await
}

#[tokio::test]
async fn the_result_is_what_the_script_returns() {
    let outcome = run("#{ name: params.name + \"-\" + params.count, list: params.list, none: () }").await;
    let expected = json!({"name": "web-2", "list": [1.5, null], "none": null});
    assert_eq!(outcome, Outcome::succeeded(expected));
}

#[tokio::test]
async fn what_goes_wrong_is_told_with_its_place() {
    let cases = [
        ("let a = 1;\nthrow \"no room\";", "it.rhai:2:1: no room"),
        ("fn f() {\n  throw \"deep\" }\nf()", "it.rhai:2:3: deep"),
        ("let a = ;", "it.rhai:1:9: "),
        ("loop {}", "did not end within"),
        ("fn f() { f() } f()", "Stack overflow"),
        ("let s = \"x\"; loop { s += s; }", "String"),
        ("let a = []; loop { a.push(a); }", "the limit `values` of 150000"),
        ("let a = []; a.pad(60000, 1);", "array"),
        ("sleep(1)", "no `sleep`"),
        ("timestamp()", "no `timestamp`"),
        ("eval(\"1\")", "eval"),
        ("import \"other\" as o; 1", "modules"),
        ("params.count = 3", "params"),
    ];
    for (text, expected) in cases {
        let outcome = run(text).await;
        let reason = outcome.result["error"].as_str().unwrap_or_default();
        assert_eq!(outcome.status, ExecutionStatus::Failed, "{text}");
        assert!(reason.to_lowercase().contains(&expected.to_lowercase()), "{text}: {reason}");
    }
}

#[tokio::test]
async fn a_thrown_value_stays_a_value() {
    let outcome = run("throw #{ code: 7 }").await;
    assert_eq!(outcome.result["thrown"], json!({"code": 7}));
}

#[tokio::test]
async fn what_is_printed_is_output() {
    let (sink, mut reader) = OutputSink::channel(10);
    run_with("print(\"one\"); print(2);", sink, Stop::default()).await;
    let mut texts = Vec::new();
    while let Some(OutputChunk { text, .. }) = reader.recv().await {
        texts.push(text);
    }
    assert_eq!(texts, ["one\n", "2\n"]);
}

#[tokio::test]
async fn a_stop_ends_a_busy_script() {
    let (sink, mut reader) = OutputSink::channel(1);
    let stop = Stop::default();
    let raised_when_running = async {
        reader.recv().await;
        stop.raise();
    };
    let text = "print(\"running\"); try { loop {} } catch { 1 }";
    let (outcome, ()) = tokio::join!(run_with(text, sink, stop.clone()), raised_when_running);
    assert_eq!(outcome.status, ExecutionStatus::Canceled);
}
