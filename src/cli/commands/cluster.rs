//! The daemons over one store.

use serde_json::Value;

use crate::cli::args::{ClusterCommand, Format};
use crate::cli::commands::{Outcome, Session};
use crate::cli::failure::Ending;
use crate::cli::output::Column;

pub(super) async fn execute(session: &Session, command: ClusterCommand) -> Outcome {
    match command {
        ClusterCommand::Status => status(session).await,
    }
}

async fn status(session: &Session) -> Outcome {
    const DAEMONS: [Column; 9] = [
        Column::text("host", "/host"),
        Column::text("pid", "/pid"),
        Column::text("state", "/state"),
        Column::with("roles", |daemon, _| roles(daemon)),
        Column::text("version", "/version"),
        Column::text("catalogue", "/catalogue_version"),
        Column::text("executions", "/executions"),
        Column::ago("started", "/started_at"),
        Column::text("api", "/api"),
    ];
    const LEASES: [Column; 2] = [Column::text("done by one daemon", "/name"), Column::text("which", "/api")];
    let answer = session.api.get(&["cluster"], &[]).await?;
    if session.output.format() != Format::Table {
        session.output.answer(&answer, String::new)?;
        return Ok(Ending::Done);
    }
    session.output.list(&answer["daemons"], &DAEMONS, session.now())?;
    let leases = with_apis(&answer);
    if leases.as_array().is_some_and(|leases| !leases.is_empty()) {
        session.output.list(&leases, &LEASES, session.now())?;
    }
    session.output.remark(&backlog(&answer))?;
    Ok(Ending::Done)
}

fn roles(daemon: &Value) -> String {
    const ALL: usize = 5;
    let roles: Vec<&str> = daemon["roles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if roles.len() == ALL { "all".to_owned() } else { roles.join(",") }
}

/// Leases name daemons by their ids, which say nothing to people.
fn with_apis(answer: &Value) -> Value {
    let daemons = answer["daemons"].as_array().map(Vec::as_slice).unwrap_or_default();
    let api_of = |id: &Value| daemons.iter().find(|daemon| daemon["id"] == *id).map(|daemon| daemon["api"].clone());
    let leases = answer["leases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = leases.iter().map(|lease| {
        let mut lease = lease.clone();
        lease["api"] = api_of(&lease["daemon"]).unwrap_or_else(|| lease["daemon"].clone());
        lease
    });
    named.collect()
}

fn backlog(answer: &Value) -> String {
    let executions = answer["executions_by_status"].as_object();
    let waiting = executions.map_or(0, |by| {
        let waiting = by.iter().filter(|(status, _)| *status != "running");
        waiting.filter_map(|(_, count)| count.as_u64()).sum::<u64>()
    });
    let running = executions.and_then(|by| by.get("running")).and_then(Value::as_u64).unwrap_or_default();
    let events = answer["pending_instances"].as_i64().unwrap_or_default();
    format!("{events} events to match, {running} executions running, {waiting} waiting")
}
