//! Messages of which nothing could be made, and the way back for them.

use serde_json::Value;

use crate::cli::args::DeadLetterCommand;
use crate::cli::commands::{Outcome, Session};
use crate::cli::output::Column;

pub(super) async fn execute(session: &Session, command: &DeadLetterCommand) -> Outcome {
    const COLUMNS: [Column; 5] = [
        Column::text("id", "/id"),
        Column::text("source", "/source"),
        Column::ago("received", "/received_at"),
        Column::text("bytes", "/size_bytes"),
        Column::line("reason", "/reason"),
    ];
    const ROWS: [Column; 6] = [
        Column::text("id", "/id"),
        Column::text("source", "/source"),
        Column::ago("received", "/received_at"),
        Column::text("reason", "/reason"),
        Column::text("encoding", "/encoding"),
        Column::text("body", "/body"),
    ];
    match command {
        DeadLetterCommand::List { limit } => {
            session.show_list(&["dead-letters"], &[("limit", &limit.to_string())], &COLUMNS).await
        }
        DeadLetterCommand::Show { id } => session.show_object(&["dead-letters", id], &ROWS).await,
        DeadLetterCommand::Requeue { id } => {
            let answer = session.api.post(&["dead-letters", id, "requeue"], &Value::Null).await?;
            let went = if answer["requeued"] == "landed" { "it has landed" } else { "it is in the queue again" };
            session.say(&answer, format!("{id}: {went}"))
        }
        DeadLetterCommand::Delete { id } => {
            let answer = session.api.delete(&["dead-letters", id], &[]).await?;
            session.say(&answer, format!("deleted {id}"))
        }
    }
}
