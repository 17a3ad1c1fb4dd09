//! The datastore from outside.

use serde_json::{Value, json};

use crate::cli::args::KeyCommand;
use crate::cli::commands::{Outcome, Session};
use crate::cli::failure::Ending;
use crate::cli::output::Column;
use crate::cli::parameters::read_standard_input;

const COLUMNS: [Column; 5] = [
    Column::text("name", "/name"),
    Column::line("value", "/value"),
    Column::text("scope", "/scope"),
    Column::text("secret", "/secret"),
    Column::ago("expires", "/expire_timestamp"),
];

pub(super) async fn execute(session: &Session, command: &KeyCommand) -> Outcome {
    match command {
        KeyCommand::List { prefix, decrypt } => {
            let mut query = vec![("decrypt", as_text(*decrypt)), ("scope", "all")];
            query.extend(prefix.as_deref().map(|prefix| ("prefix", prefix)));
            session.show_list(&["keys"], &query, &COLUMNS).await
        }
        KeyCommand::Get { name, decrypt, scope } => {
            let query = [("decrypt", as_text(*decrypt)), ("scope", scope.as_str())];
            let found = session.api.get(&["keys", name], &query).await?;
            session.output.answer_value(&found, &found["value"])?;
            Ok(Ending::Done)
        }
        KeyCommand::Set { .. } => set(session, command).await,
        KeyCommand::Delete { name, scope } => {
            let answer = session.api.delete(&["keys", name], &[("scope", scope)]).await?;
            session.say(&answer, format!("deleted {name}"))
        }
    }
}

async fn set(session: &Session, command: &KeyCommand) -> Outcome {
    let KeyCommand::Set { name, value, ttl, encrypt, scope } = command else {
        return Ok(Ending::Done);
    };
    let value = if value == "-" { read_standard_input()? } else { value.clone() };
    let mut body = json!({ "name": name, "value": value, "scope": scope, "user": null, "secret": encrypt });
    if let Some(ttl) = ttl {
        body["ttl"] = Value::from(ttl.as_secs().max(1));
    }
    let answer = session.api.put(&["keys", name], &body).await?;
    let warning = answer["warning"].as_str().map(|warning| format!("; {warning}")).unwrap_or_default();
    session.say(&answer, format!("set {name}{warning}"))
}

const fn as_text(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}
