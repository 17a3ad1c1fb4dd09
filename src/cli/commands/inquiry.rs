//! Answers to workflows that wait: inquiries and signals.

use serde_json::{Map, Value, json};

use crate::cli::args::{InquiryCommand, SignalArguments};
use crate::cli::commands::{Outcome, Session};
use crate::cli::output::Column;
use crate::cli::parameters::{read_json, read_object_file, read_words};

pub(super) async fn execute(session: &Session, command: &InquiryCommand) -> Outcome {
    const COLUMNS: [Column; 4] = [
        Column::text("id", "/id"),
        Column::text("route", "/route"),
        Column::text("users", "/users"),
        Column::text("roles", "/roles"),
    ];
    const ROWS: [Column; 6] = [
        Column::text("id", "/id"),
        Column::text("route", "/route"),
        Column::text("users", "/users"),
        Column::text("roles", "/roles"),
        Column::text("minutes left to answer", "/ttl"),
        Column::text("schema of the answer", "/schema"),
    ];
    match command {
        InquiryCommand::List => session.show_list(&["inquiries"], &[], &COLUMNS).await,
        InquiryCommand::Get { id } => session.show_object(&["inquiries", id], &ROWS).await,
        InquiryCommand::Respond { id, answer, json: file } => {
            let inquiry = session.api.get(&["inquiries", id], &[]).await?;
            let mut response = file.as_deref().map(read_object_file).transpose()?.unwrap_or_default();
            response.extend(read_words(answer, &members_of(&inquiry["schema"]))?);
            let said = session.api.put(&["inquiries", id], &json!({ "id": id, "response": response })).await?;
            session.say(&said, format!("answered {id}"))
        }
    }
}

/// Schemas by member: of a JSON Schema, or of StackStorm's plain map.
fn members_of(schema: &Value) -> Map<String, Value> {
    let properties = schema.get("properties").unwrap_or(schema);
    properties.as_object().cloned().unwrap_or_default()
}

pub(super) async fn signal(session: &Session, arguments: &SignalArguments) -> Outcome {
    let SignalArguments { name, correlation, payload, sender, ttl } = arguments;
    let payload = payload.as_deref().map(read_json).transpose()?;
    let mut body = json!({ "name": name, "correlation": correlation });
    let optional =
        [("payload", payload), ("sender", sender.clone().map(Value::from)), ("ttl", ttl.clone().map(Value::from))];
    for (member, value) in optional {
        if let Some(value) = value {
            body[member] = value;
        }
    }
    let answer = session.api.post(&["signals"], &body).await?;
    let is_new = answer["accepted"] != false;
    let sentence = if is_new { format!("sent {name}") } else { format!("{name} of this sender was there already") };
    session.say(&answer, sentence)
}
