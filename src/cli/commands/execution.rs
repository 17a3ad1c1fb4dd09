//! What runs and what has run: looking at it and steering it.

use serde_json::{Value, json};

use crate::cli::args::execution::ExecutionFilter;
use crate::cli::args::{ExecutionCommand, WorkflowCommand};
use crate::cli::commands::run::{SHOWN, start_words, wait_and_show};
use crate::cli::commands::tail::tail;
use crate::cli::commands::{Outcome, Session, text};
use crate::cli::failure::{Ending, Failure};
use crate::cli::moments;
use crate::cli::output::{Column, bare_table, trimmed};
use crate::cli::parameters::read_words;
use crate::model::time::Timestamp;

pub(super) async fn execute(session: &Session, command: &ExecutionCommand) -> Outcome {
    match command {
        ExecutionCommand::List(filter) => list(session, filter).await,
        ExecutionCommand::Get { id } => session.show_object(&["executions", id], &SHOWN).await,
        ExecutionCommand::Tail { id } => tail(session, &resolve(session, id).await?).await,
        ExecutionCommand::Cancel { id } => cancel(session, id).await,
        ExecutionCommand::Pause { id } => steer(session, id, "pausing").await,
        ExecutionCommand::Resume { id } => steer(session, id, "resuming").await,
        ExecutionCommand::ReRun { id, parameters, detach } => {
            let before = session.api.get(&["executions", id], &[]).await?;
            let schemas = session.schemas_of(text(&before, "/action/ref")).await?;
            let body = json!({ "parameters": read_words(parameters, &schemas)?, "tasks": [], "reset": [] });
            let execution = session.api.post(&["executions", id, "re_run"], &body).await?;
            if *detach {
                return session.say(&execution, start_words(&execution));
            }
            wait_and_show(session, &execution).await
        }
    }
}

async fn list(session: &Session, filter: &ExecutionFilter) -> Outcome {
    const COLUMNS: [Column; 6] = [
        Column::text("id", "/id"),
        Column::text("action", "/action/ref"),
        Column::text("status", "/status"),
        Column::text("user", "/context/user"),
        Column::ago("started", "/start_timestamp"),
        Column::took("took", "/start_timestamp", "/end_timestamp"),
    ];
    let limit = filter.limit.to_string();
    let mut query = vec![("limit", limit.as_str()), ("sort_desc", "true")];
    query.extend((!filter.steps).then_some(("parent", "null")));
    query.extend(filter.action.as_deref().map(|action| ("action", action)));
    query.extend(filter.status.map(|status| ("status", status.as_str())));
    session.show_list(&["executions"], &query, &COLUMNS).await
}

/// `last` is the latest execution that is no step.
async fn resolve(session: &Session, id: &str) -> Result<String, Failure> {
    if id != "last" {
        return Ok(id.to_owned());
    }
    let query = [("limit", "1"), ("sort_desc", "true"), ("parent", "null")];
    let latest = session.api.list(&["executions"], &query).await?.items;
    let id = text(&latest, "/0/id");
    if id.is_empty() {
        return Err(Failure::Usage("nothing has run yet, so there is no last execution".to_owned()));
    }
    Ok(id.to_owned())
}

/// A refusal comes with status 200, as StackStorm's client wants it.
async fn cancel(session: &Session, id: &str) -> Outcome {
    let answer = session.api.delete(&["executions", id], &[]).await?;
    match text(&answer, "/faultstring") {
        "" => session.say(&answer, format!("{id} is {}", status_or(&answer, "canceling"))),
        refusal => {
            session.output.answer(&answer, || refusal.to_owned())?;
            Ok(Ending::ThingFailed)
        }
    }
}

async fn steer(session: &Session, id: &str, status: &str) -> Outcome {
    let answer = session.api.put(&["executions", id], &json!({ "status": status })).await?;
    session.say(&answer, format!("{id} is {}", status_or(&answer, status)))
}

fn status_or<'a>(execution: &'a Value, otherwise: &'a str) -> &'a str {
    match text(execution, "/status") {
        "" => otherwise,
        status => status,
    }
}

/// What an execution waits for, one line each (G6).
pub(super) fn waiting_for(execution: &Value, now: Timestamp) -> String {
    let waits = execution["waiting_for"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines = waits.iter().map(|wait| {
        let due = match moments::ago(&wait["due_at"], now) {
            due if due.is_empty() => String::new(),
            due => format!("; time limit {due}"),
        };
        let key = [text(wait, "/kind"), text(wait, "/key")].join(" ");
        let detail = text(wait, "/detail");
        let words = if detail.is_empty() { key.trim().to_owned() } else { format!("{}: {detail}", key.trim()) };
        format!("{words}{due}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

pub(super) async fn execute_workflow(session: &Session, command: &WorkflowCommand) -> Outcome {
    let WorkflowCommand::Check = command;
    let answer = session.api.post(&["workflows", "check"], &json!({})).await?;
    session.output.answer(&answer, || checked(&answer))?;
    let is_sound = answer["problems"].as_array().is_none_or(Vec::is_empty);
    Ok(if is_sound { Ending::Done } else { Ending::ThingFailed })
}

fn checked(answer: &Value) -> String {
    let count = answer["checked"].as_u64().unwrap_or_default();
    let problems = answer["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    if problems.is_empty() {
        return format!("✓ {count} open workflows would go on as they are");
    }
    let mut table = bare_table();
    table.set_header(["EXECUTION", "POSITION", "RECORDED", "ASKED NOW"]);
    for problem in problems {
        table.add_row(["/execution", "/position", "/recorded", "/asked"].map(|pointer| shown(problem, pointer)));
    }
    format!("✗ {} of {count} open workflows would diverge:\n{}", problems.len(), trimmed(&table))
}

fn shown(problem: &Value, pointer: &str) -> String {
    problem.pointer(pointer).map(crate::cli::output::plain).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_said_in_words() {
        let execution = json!({"waiting_for": [
            {"kind": "signal", "key": "approved", "due_at": "2026-11-28T08:30:00Z", "detail": "web"},
            {"kind": "slot", "key": "", "due_at": null, "detail": ""}]});
        let now = "2026-11-21T08:30:00Z".parse().unwrap();
        assert_eq!(waiting_for(&execution, now), "signal approved: web; time limit in 7d\nslot");
    }

    #[test]
    fn a_check_names_what_diverges() {
        assert_eq!(checked(&json!({"checked": 3, "problems": []})), "✓ 3 open workflows would go on as they are");
        let problem = json!({"execution": "e1", "position": "3.1", "recorded": "core.local", "asked": "core.noop"});
        insta::assert_snapshot!(checked(&json!({"checked": 3, "problems": [problem]})), @r#"
        ✗ 1 of 3 open workflows would diverge:
        EXECUTION  POSITION  RECORDED    ASKED NOW
        e1         3.1       core.local  core.noop
        "#);
    }
}
