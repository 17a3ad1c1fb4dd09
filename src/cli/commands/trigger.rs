//! What can happen, what has happened, and letting it happen.

use serde_json::json;

use crate::cli::args::{TriggerCommand, TriggerInstanceCommand};
use crate::cli::commands::content::in_pack;
use crate::cli::commands::{Outcome, Session, text};
use crate::cli::output::Column;
use crate::cli::parameters::read_json;

pub(super) async fn execute(session: &Session, command: &TriggerCommand) -> Outcome {
    const COLUMNS: [Column; 2] = [Column::text("ref", "/ref"), Column::line("description", "/description")];
    const ROWS: [Column; 4] = [
        Column::text("ref", "/ref"),
        Column::text("description", "/description"),
        Column::text("parameters", "/parameters_schema"),
        Column::text("payload", "/payload_schema"),
    ];
    match command {
        TriggerCommand::List(filter) => session.show_list(&["triggertypes"], &in_pack(filter), &COLUMNS).await,
        TriggerCommand::Get { reference } => session.show_object(&["triggertypes", reference], &ROWS).await,
        TriggerCommand::Emit { reference, payload } => {
            let body = json!({ "trigger": reference, "payload": read_json(payload)? });
            let answer = session.api.post(&["webhooks", "st2"], &body).await?;
            let id = ["/id", "/trigger_instance_id"].map(|pointer| text(&answer, pointer));
            let id = id.into_iter().find(|id| !id.is_empty());
            let sentence = id.map_or_else(|| "accepted".to_owned(), |id| format!("accepted as trigger instance {id}"));
            session.say(&answer, sentence)
        }
    }
}

pub(super) async fn execute_instance(session: &Session, command: &TriggerInstanceCommand) -> Outcome {
    const COLUMNS: [Column; 4] = [
        Column::text("id", "/id"),
        Column::text("trigger", "/trigger"),
        Column::ago("occurred", "/occurrence_time"),
        Column::text("status", "/status"),
    ];
    const ROWS: [Column; 5] = [
        Column::text("id", "/id"),
        Column::text("trigger", "/trigger"),
        Column::moment("occurred", "/occurrence_time"),
        Column::text("status", "/status"),
        Column::text("payload", "/payload"),
    ];
    match command {
        TriggerInstanceCommand::List { limit, trigger, status } => {
            let limit = limit.to_string();
            let mut query = vec![("limit", limit.as_str())];
            query.extend(trigger.as_deref().map(|trigger| ("trigger", trigger)));
            query.extend(status.as_deref().map(|status| ("status", status)));
            session.show_list(&["triggerinstances"], &query, &COLUMNS).await
        }
        TriggerInstanceCommand::Get { id } => session.show_object(&["triggerinstances", id], &ROWS).await,
        TriggerInstanceCommand::ReEmit { id } => {
            let answer = session.api.post(&["triggerinstances", id, "re_emit"], &json!(null)).await?;
            let sentence = match text(&answer, "/message") {
                "" => format!("{id} happens again"),
                message => message.to_owned(),
            };
            session.say(&answer, sentence)
        }
    }
}
