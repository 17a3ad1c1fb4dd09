//! `petrel run`: parameters by the action's schema, then waiting with progress, then the result.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cli::args::RunArguments;
use crate::cli::commands::execution::waiting_for;
use crate::cli::commands::{Outcome, Session, text};
use crate::cli::failure::{Ending, Failure};
use crate::cli::moments;
use crate::cli::output::Column;
use crate::cli::parameters::{Schemas, read_object_file, read_words};
use crate::clock::sleep;
use crate::model::execution::ExecutionStatus;
use crate::model::time::Timestamp;

/// An execution as it is shown.
pub(super) const SHOWN: [Column; 10] = [
    Column::text("id", "/id"),
    Column::text("action", "/action/ref"),
    Column::text("status", "/status"),
    Column::text("user", "/context/user"),
    Column::moment("started", "/start_timestamp"),
    Column::took("took", "/start_timestamp", "/end_timestamp"),
    Column::text("parent", "/parent"),
    Column::text("parameters", "/parameters"),
    Column::with("waiting for", waiting_for),
    Column::text("result", "/result"),
];
/// Quick actions end within the first look, …
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// … and long ones are not asked about more often than people read.
const SLOWEST_LOOK: Duration = Duration::from_secs(1);
/// A daemon that restarts is back within a minute, and the execution goes on.
const MISSED_LOOKS: u32 = 60;

pub(super) async fn run(session: &Session, arguments: &RunArguments) -> Outcome {
    let RunArguments { action, parameters, json: file, detach, delay } = arguments;
    let mut given = file.as_deref().map(read_object_file).transpose()?.unwrap_or_default();
    if !parameters.is_empty() {
        given.extend(read_words(parameters, &session.schemas_of(action).await?)?);
    }
    let mut body = json!({ "action": action, "parameters": given });
    if let Some(delay) = delay {
        body["delay"] = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).into();
    }
    let execution = session.api.post(&["executions"], &body).await?;
    if *detach {
        return session.say(&execution, start_words(&execution));
    }
    wait_and_show(session, &execution).await
}

/// How to go on with an execution that nobody waits for.
pub(super) fn start_words(execution: &Value) -> String {
    let id = text(execution, "/id");
    format!("started {id}\nlook at it with `petrel execution get {id}` or `petrel execution tail {id}`")
}

/// Waits for the end of an execution, then shows it.
pub(super) async fn wait_and_show(session: &Session, execution: &Value) -> Outcome {
    let id = text(execution, "/id");
    if id.is_empty() {
        return Err(session.api.unexpected("the new execution has no id"));
    }
    let ended = wait(session, id).await?;
    session.output.object(&ended, &SHOWN, session.now())?;
    Ok(ending_of(&ended))
}

/// Did it do what it should?
pub(super) fn ending_of(execution: &Value) -> Ending {
    if text(execution, "/status") == ExecutionStatus::Succeeded.as_str() { Ending::Done } else { Ending::ThingFailed }
}

/// Nothing more will happen to it.
pub(super) fn is_completed(execution: &Value) -> bool {
    let status = text(execution, "/status");
    ExecutionStatus::ALL.iter().any(|known| known.as_str() == status && known.is_completed())
}

async fn wait(session: &Session, id: &str) -> Result<Value, Failure> {
    let mut progress = Progress::default();
    let mut pause = FIRST_LOOK;
    let mut missed = 0;
    loop {
        sleep(&*session.clock, pause).await;
        pause = (pause * 2).min(SLOWEST_LOOK);
        let (execution, steps) = match look(session, id).await {
            Err(Failure::Unreachable { .. }) if missed < MISSED_LOOKS => {
                missed += 1;
                continue;
            }
            seen => seen?,
        };
        missed = 0;
        for line in progress.news(&execution, &steps, session.now()) {
            session.output.remark(&line)?;
            pause = FIRST_LOOK;
        }
        if is_completed(&execution) {
            return Ok(execution);
        }
    }
}

async fn look(session: &Session, id: &str) -> Result<(Value, Value), Failure> {
    let execution = session.api.get(&["executions", id], &[]).await?;
    let steps = if is_workflow(&execution) { steps_of(session, id).await? } else { json!([]) };
    Ok((execution, steps))
}

/// It has steps, or may get some.
pub(super) fn is_workflow(execution: &Value) -> bool {
    let runner = ["/action/runner_type", "/runner/name"].map(|pointer| text(execution, pointer));
    runner.contains(&"workflow") || execution["children"].as_array().is_some_and(|children| !children.is_empty())
}

/// All descendants.
pub(super) async fn steps_of(session: &Session, id: &str) -> Result<Value, Failure> {
    session.api.get(&["executions", id, "children"], &[("depth", "-1")]).await
}

/// What has been told already: every change of status is told once.
#[derive(Debug, Default)]
pub(super) struct Progress {
    told: BTreeMap<String, String>,
}

impl Progress {
    /// A line per change since the last look.
    pub(super) fn news(&mut self, execution: &Value, steps: &Value, now: Timestamp) -> Vec<String> {
        let mut steps: Vec<&Value> = steps.as_array().into_iter().flatten().collect();
        steps.sort_by_key(|step| (text(step, "/start_timestamp"), text(step, "/id")));
        let mut lines: Vec<String> = self.tell_whole(execution, now).into_iter().collect();
        lines.extend(steps.iter().filter_map(|step| self.tell_step(step, now)));
        lines
    }

    /// A line if the step has changed.
    pub(super) fn tell_step(&mut self, step: &Value, now: Timestamp) -> Option<String> {
        let status = text(step, "/status");
        let is_start = matches!(status, "requested" | "scheduled" | "running");
        let told_as = if is_start { "running" } else { status };
        let before = self.told.insert(text(step, "/id").to_owned(), told_as.to_owned());
        if before.as_deref() == Some(told_as) {
            return None;
        }
        let mark = match status {
            "succeeded" => "✓",
            "failed" | "timeout" | "abandoned" | "canceled" => "✗",
            _ => "·",
        };
        let took = moments::took(&step["start_timestamp"], &step["end_timestamp"], now);
        let end = if is_completed(step) && !took.is_empty() { format!(" ({took})") } else { String::new() };
        Some(format!("{mark} {:<9}  {}{end}", told_as, text(step, "/action/ref")))
    }

    /// A line with its id at the first look, and whenever the whole thing waits for somebody.
    fn tell_whole(&mut self, execution: &Value, now: Timestamp) -> Option<String> {
        let status = text(execution, "/status");
        let id = text(execution, "/id");
        let before = self.told.insert(id.to_owned(), status.to_owned());
        let is_news = before.as_deref() != Some(status);
        let way_out = match status {
            "paused" => format!("go on with `petrel execution resume {id}`"),
            "pending" => format!("answer with `petrel inquiry respond {id}`"),
            "delayed" => waiting_for(execution, now),
            _ => return before.is_none().then(|| format!("execution {id}")),
        };
        is_news.then(|| format!("· {status}: {way_out}").trim_end_matches(": ").to_owned())
    }
}

impl Session {
    /// The schemas of an action's parameters, its runner's included.
    pub(super) async fn schemas_of(&self, action: &str) -> Result<Schemas, Failure> {
        let action = self.api.get(&["actions", action], &[]).await?;
        let runners = self.api.get(&["runnertypes"], &[("name", text(&action, "/runner_type"))]).await?;
        let of_runner = runners.pointer("/0/runner_parameters").and_then(Value::as_object);
        let mut schemas: Map<String, Value> = of_runner.cloned().unwrap_or_default();
        for (name, own) in action["parameters"].as_object().into_iter().flatten() {
            lay_over(schemas.entry(name.clone()).or_insert(Value::Null), own);
        }
        Ok(schemas)
    }
}

/// An action may leave out what its runner says of the same parameter.
fn lay_over(schema: &mut Value, own: &Value) {
    match (schema.as_object_mut(), own.as_object()) {
        (Some(schema), Some(own)) => schema.extend(own.clone()),
        _ => schema.clone_from(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T08:30:10Z".parse().unwrap()
    }

    fn step(id: &str, status: &str) -> Value {
        json!({"id": id, "status": status, "action": {"ref": "core.local"},
            "start_timestamp": "2026-11-21T08:30:00Z", "end_timestamp": "2026-11-21T08:30:01.5Z"})
    }

    #[test]
    fn every_change_of_a_step_is_told_once() {
        let mut progress = Progress::default();
        let root = json!({"id": "r", "status": "running"});
        let mut news = |steps: Value| progress.news(&root, &steps, now());
        assert_eq!(news(json!([step("a", "running")])), ["execution r", "· running    core.local"]);
        assert_eq!(news(json!([step("a", "running")])), Vec::<String>::new());
        assert_eq!(
            news(json!([step("b", "requested"), step("a", "succeeded")])),
            ["✓ succeeded  core.local (1.5s)", "· running    core.local"]
        );
        assert_eq!(news(json!([step("b", "running")])), Vec::<String>::new());
    }

    #[test]
    fn an_execution_that_waits_for_somebody_says_how_to_go_on() {
        let mut progress = Progress::default();
        let told = progress.news(&json!({"id": "r", "status": "paused"}), &json!([]), now());
        assert_eq!(told, ["· paused: go on with `petrel execution resume r`"]);
    }

    #[test]
    fn an_action_lays_its_words_over_its_runners() {
        let mut schema = json!({"type": "integer", "default": 60});
        lay_over(&mut schema, &json!({"default": 5}));
        assert_eq!(schema, json!({"type": "integer", "default": 5}));
    }
}
