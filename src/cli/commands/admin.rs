//! The installation itself: freeze, users, keys for programs, backup, status.

use serde_json::{Value, json};

use crate::cli::args::admin::{BackupArguments, FreezeArguments};
use crate::cli::args::{ApiKeyCommand, TokenCommand, UserCommand};
use crate::cli::commands::{Outcome, Session, text};
use crate::cli::failure::{Ending, Failure};
use crate::cli::output::Column;
use crate::cli::parameters::{read_free_words, read_standard_input};

pub(super) async fn freeze(session: &Session, arguments: &FreezeArguments) -> Outcome {
    let mut body = json!({ "reason": arguments.reason });
    if let Some(duration) = &arguments.duration {
        body["for"] = duration.as_str().into();
    }
    let answer = session.api.post(&["freeze"], &body).await?;
    let end = arguments.duration.as_ref().map_or_else(|| "until `petrel thaw`".to_owned(), |it| format!("for {it}"));
    session.say(&answer, format!("frozen {end}: everything is recorded, nothing is done"))
}

pub(super) async fn thaw(session: &Session) -> Outcome {
    let answer = session.api.delete(&["freeze"], &[]).await?;
    session.say(&answer, "thawed".to_owned())
}

pub(super) async fn execute_user(session: &Session, command: &UserCommand) -> Outcome {
    const COLUMNS: [Column; 3] =
        [Column::text("name", "/name"), Column::text("role", "/role"), Column::ago("created", "/created_at")];
    match command {
        UserCommand::List => session.show_list(&["users"], &[], &COLUMNS).await,
        UserCommand::Create { name, role, no_password } => {
            let mut body = json!({ "name": name, "role": role.as_str() });
            if !no_password {
                body["password"] = read_password(session)?.into();
            }
            let answer = session.api.post(&["users"], &body).await?;
            session.say(&answer, format!("created {name} as {}", role.as_str()))
        }
        UserCommand::Delete { name } => {
            let answer = session.api.delete(&["users", name], &[]).await?;
            session.say(&answer, format!("deleted {name}"))
        }
    }
}

fn read_password(session: &Session) -> Result<String, Failure> {
    session.output.remark("reading the password from standard input (end with ctrl-d)")?;
    let text = read_standard_input()?;
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err(Failure::Usage("the password is empty; --no-password makes a user without one".to_owned()));
    }
    Ok(password.to_owned())
}

pub(super) async fn execute_api_key(session: &Session, command: &ApiKeyCommand) -> Outcome {
    const COLUMNS: [Column; 5] = [
        Column::text("id", "/id"),
        Column::text("user", "/user"),
        Column::text("enabled", "/enabled"),
        Column::ago("created", "/created_at"),
        Column::line("metadata", "/metadata"),
    ];
    match command {
        ApiKeyCommand::List => session.show_list(&["apikeys"], &[], &COLUMNS).await,
        ApiKeyCommand::Create { user, metadata } => {
            let mut body = json!({ "metadata": read_free_words(metadata)? });
            if let Some(user) = user {
                body["user"] = user.as_str().into();
            }
            let answer = session.api.post(&["apikeys"], &body).await?;
            session.output.answer(&answer, || text(&answer, "/key").to_owned())?;
            session.output.remark("keep it: it is not shown again")?;
            Ok(Ending::Done)
        }
        ApiKeyCommand::Enable { id } => switch_api_key(session, id, true).await,
        ApiKeyCommand::Disable { id } => switch_api_key(session, id, false).await,
        ApiKeyCommand::Delete { id } => {
            let answer = session.api.delete(&["apikeys", id], &[]).await?;
            session.say(&answer, format!("deleted {id}"))
        }
    }
}

pub(super) async fn execute_token(session: &Session, command: &TokenCommand) -> Outcome {
    const COLUMNS: [Column; 4] = [
        Column::text("id", "/id"),
        Column::text("user", "/user"),
        Column::ago("created", "/created_at"),
        Column::text("expires", "/expiry"),
    ];
    match command {
        TokenCommand::List { user } => {
            let query: Vec<(&str, &str)> = user.iter().map(|user| ("user", user.as_str())).collect();
            session.show_list(&["tokens"], &query, &COLUMNS).await
        }
        TokenCommand::Revoke { id } => {
            let answer = session.api.delete(&["tokens", id], &[]).await?;
            session.say(&answer, format!("revoked {id}"))
        }
    }
}

/// StackStorm's way: the whole object with its flag turned.
async fn switch_api_key(session: &Session, id: &str, enabled: bool) -> Outcome {
    let mut key = session.api.get(&["apikeys", id], &[]).await?;
    key["enabled"] = enabled.into();
    let answer = session.api.put(&["apikeys", id], &key).await?;
    session.say(&answer, format!("{id} is {}", if enabled { "enabled" } else { "disabled" }))
}

pub(super) async fn backup(session: &Session, arguments: &BackupArguments) -> Outcome {
    let path = std::path::absolute(&arguments.path);
    let path = path.map_err(|source| Failure::Local { doing: "find the current folder".to_owned(), source })?;
    let answer = session.api.post(&["backup"], &json!({ "path": path })).await?;
    let written = match text(&answer, "/path") {
        "" => path.display().to_string(),
        written => written.to_owned(),
    };
    let size = answer["bytes"].as_u64().map(|bytes| format!(" ({bytes} bytes)")).unwrap_or_default();
    session.say(&answer, format!("wrote {written}{size}"))
}

pub(super) async fn status(session: &Session) -> Outcome {
    const ROWS: [Column; 6] = [
        Column::text("version", "/version"),
        Column::text("catalogue", "/catalogue_version"),
        Column::with("frozen", |status, _| frozen(&status["freeze"])),
        Column::text("events to match", "/pending_instances"),
        Column::text("executions", "/executions_by_status"),
        Column::text("tasks", "/tasks"),
    ];
    session.show_object(&["status"], &ROWS).await
}

fn frozen(freeze: &Value) -> String {
    if !freeze.is_object() {
        return String::new();
    }
    let until = match text(freeze, "/until") {
        "" => "`petrel thaw`",
        until => until,
    };
    format!("by {} until {until}: {}", text(freeze, "/author"), text(freeze, "/reason"))
}

pub(super) async fn whoami(session: &Session) -> Outcome {
    const ROWS: [Column; 4] = [
        Column::text("user", "/username"),
        Column::text("by", "/authentication/method"),
        Column::text("roles", "/rbac/roles"),
        Column::text("admin", "/rbac/is_admin"),
    ];
    session.show_object(&["user"], &ROWS).await
}
