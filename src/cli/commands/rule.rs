//! Rules: what they are, whether they are on, and why they match or don't.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::args::RuleCommand;
use crate::cli::commands::content::in_pack;
use crate::cli::commands::{Outcome, Session, text};
use crate::cli::failure::{Ending, Failure};
use crate::cli::output::{Column, bare_table, plain, trimmed};
use crate::cli::parameters::{read_json, read_json_file};
use crate::model::refs::InstanceId;

pub(super) async fn execute(session: &Session, command: &RuleCommand) -> Outcome {
    const COLUMNS: [Column; 5] = [
        Column::text("ref", "/ref"),
        Column::text("enabled", "/enabled"),
        Column::text("trigger", "/trigger/type"),
        Column::text("action", "/action/ref"),
        Column::line("description", "/description"),
    ];
    const ROWS: [Column; 7] = [
        Column::text("ref", "/ref"),
        Column::text("description", "/description"),
        Column::text("enabled", "/enabled"),
        Column::text("trigger", "/trigger"),
        Column::text("criteria", "/criteria"),
        Column::text("action", "/action"),
        Column::text("file", "/metadata_file"),
    ];
    match command {
        RuleCommand::List(filter) => session.show_list(&["rules"], &in_pack(filter), &COLUMNS).await,
        RuleCommand::Get { reference } => session.show_object(&["rules", reference], &ROWS).await,
        RuleCommand::Enable { reference } => {
            let answer = session.api.post(&["rules", reference, "enable"], &json!({})).await?;
            session.say(&answer, format!("{reference} is enabled"))
        }
        RuleCommand::Disable { reference } => {
            let answer = session.api.post(&["rules", reference, "disable"], &json!({})).await?;
            session.say(&answer, format!("{reference} is disabled"))
        }
        RuleCommand::Test { reference, event, payload } => {
            let body = test_body(event.as_deref(), payload.as_deref())?;
            let verdict = session.api.post(&["rules", reference, "test"], &body).await?;
            session.output.answer(&verdict, || explain(reference, &verdict))?;
            Ok(if verdict["matched"] == true { Ending::Done } else { Ending::ThingFailed })
        }
    }
}

fn test_body(event: Option<&str>, payload: Option<&str>) -> Result<Value, Failure> {
    match (event, payload) {
        (Some(event), _) if event.parse::<InstanceId>().is_ok() => Ok(json!({ "trigger_instance": event })),
        (Some(given), _) | (None, Some(given)) => Ok(json!({ "payload": read_payload(given)? })),
        (None, None) => Err(Failure::Usage("say which event: an instance's id or --payload".to_owned())),
    }
}

/// JSON, standard input, or else a file.
fn read_payload(given: &str) -> Result<Value, Failure> {
    if given.starts_with(['{', '[', '"', '@']) {
        return read_json(given);
    }
    read_json_file(Path::new(given))
}

/// The verdict, and below it every condition with ✓ or ✗.
fn explain(reference: &str, verdict: &Value) -> String {
    let mut parts = vec![sentence(reference, verdict)];
    let rows = verdict["explanation"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !rows.is_empty() {
        let mut table = bare_table();
        for row in rows {
            table.add_row(condition(row));
        }
        parts.push(trimmed(&table));
    }
    if let Some(parameters) = verdict.get("parameters").filter(|parameters| parameters.is_object()) {
        let lines: Vec<String> = plain(parameters).lines().map(|line| format!("    {line}")).collect();
        parts.push(format!("parameters of the action:\n{}", lines.join("\n")));
    }
    parts.join("\n\n")
}

fn sentence(reference: &str, verdict: &Value) -> String {
    match (verdict["matched"] == true, text(verdict, "/failed")) {
        (true, _) => format!("✓ {reference} matches"),
        (false, "") => format!("✗ {reference} does not match"),
        (false, reason) => format!("✗ {reference} fails: {reason}"),
    }
}

fn condition(row: &Value) -> [String; 4] {
    let mark = if row["held"] == true { "✓" } else { "✗" };
    let depth = row["depth"].as_u64().and_then(|depth| usize::try_from(depth).ok()).unwrap_or_default();
    let key = format!("{}{}", "  ".repeat(depth.min(8)), text(row, "/key"));
    let pattern = Some(&row["pattern"]).filter(|pattern| !pattern.is_null()).map(Value::to_string).unwrap_or_default();
    let test = format!("{} {pattern}", text(row, "/operator"));
    [mark.to_owned(), key, test.trim().to_owned(), text(row, "/why").to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_shows_every_condition_with_its_mark() {
        let verdict = json!({"matched": false, "explanation": [
            {"key": "trigger.host", "operator": "eq", "pattern": "web", "value": "web", "held": true, "why": "it is"},
            {"key": "any", "operator": "", "pattern": null, "value": null, "held": false, "why": "one has to hold"},
            {"key": "trigger.load", "operator": "gt", "pattern": 5, "value": 3, "held": false, "depth": 1,
             "why": "3 gt 5 is false"}]});
        insta::assert_snapshot!(explain("default.scale", &verdict), @r#"
        ✗ default.scale does not match

        ✓  trigger.host    eq "web"  it is
        ✗  any                       one has to hold
        ✗    trigger.load  gt 5      3 gt 5 is false
        "#);
    }

    #[test]
    fn a_match_shows_what_the_action_would_get() {
        let verdict = json!({"matched": true, "explanation": [], "parameters": {"cmd": "date", "n": 1}});
        insta::assert_snapshot!(explain("default.scale", &verdict), @r#"
        ✓ default.scale matches

        parameters of the action:
            cmd: date
            n: 1
        "#);
    }

    #[test]
    fn an_event_is_an_instance_or_a_payload() {
        let id = "64a1f0c2d3e4f5a6b7c8d9e0";
        assert_eq!(test_body(Some(id), None).unwrap(), json!({"trigger_instance": id}));
        assert_eq!(test_body(Some(r#"{"a": 1}"#), None).unwrap(), json!({"payload": {"a": 1}}));
        assert_eq!(test_body(None, Some("[1]")).unwrap(), json!({"payload": [1]}));
        assert!(matches!(test_body(None, Some("/no/such/file")), Err(Failure::Local { .. })));
    }
}
