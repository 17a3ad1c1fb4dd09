//! `petrel chat`: chat without a chat server. A line is a command as in a room, and what comes of it is said here.

use std::io::{BufRead as _, stdin};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::cli::args::chat::ChatArguments;
use crate::cli::commands::run::is_completed;
use crate::cli::commands::{Outcome, Session, text};
use crate::cli::failure::{Ending, Failure};
use crate::cli::sse::{Decoder, Event};
use crate::clock::timeout;

const ANNOUNCEMENT: &str = "st2.announcement__chatops";
/// The rule that answers is found by its route, too.
const ROUTE: &str = "terminal";
/// An answer follows its execution's end within this time, or the rule that gives it is off.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn execute(session: &Session, arguments: &ChatArguments) -> Outcome {
    if !arguments.line.is_empty() {
        return say(session, &arguments.line.join(" "), &arguments.channel).await;
    }
    session.output.remark("one command per line, `!help` shows them; end with Ctrl-D")?;
    for line in stdin().lock().lines() {
        let line = line.map_err(Failure::Output)?;
        if line.trim().is_empty() {
            continue;
        }
        match say(session, &line, &arguments.channel).await {
            Ok(_) => {}
            // In a room a mistake is answered, and the talk goes on.
            Err(failure @ (Failure::Refused { .. } | Failure::NotAllowed { .. })) => {
                session.output.complain(&failure)?;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(Ending::Done)
}

async fn say(session: &Session, line: &str, channel: &str) -> Outcome {
    if line.trim().trim_start_matches('!') == "help" {
        return help(session).await;
    }
    // Listened before it is said, so that no answer is missed.
    let response = session.api.events(&[("events", ANNOUNCEMENT)], None).await?;
    let said = json!({ "command": line, "source_channel": channel, "notification_route": ROUTE });
    let begun = session.api.post(&["aliasexecution", "match_and_execute"], &said).await?;
    let begun = &begun["results"][0];
    if !text(begun, "/message").is_empty() {
        session.output.remark(text(begun, "/message"))?;
    }
    let id = text(begun, "/execution/id").to_owned();
    let answer = answer_to(session, &id, response).await?;
    let ended = session.api.get(&["executions", &id], &[]).await?;
    let words = || match &answer {
        Some(answer) => text(answer, "/payload/message").to_owned(),
        None => format!("{}: no answer came; is the rule chatops.notify on?", text(&ended, "/status")),
    };
    session.output.answer(answer.as_ref().unwrap_or(&ended), words)?;
    Ok(if text(&ended, "/status") == "succeeded" { Ending::Done } else { Ending::ThingFailed })
}

/// What was announced of an execution; `None` if nothing was although it has ended.
async fn answer_to(session: &Session, id: &str, response: reqwest::Response) -> Result<Option<Value>, Failure> {
    let mut pieces = response.bytes_stream();
    let mut decoder = Decoder::default();
    loop {
        match timeout(&*session.clock, ANSWERED_WITHIN, pieces.next()).await {
            Ok(Some(Ok(piece))) => {
                if let Some(answer) = decoder.push(&piece).into_iter().find_map(|event| answer(&event, id)) {
                    return Ok(Some(answer));
                }
            }
            Ok(Some(Err(_)) | None) => return Ok(None),
            Err(_) if is_completed(&session.api.get(&["executions", id], &[]).await?) => return Ok(None),
            Err(_) => {}
        }
    }
}

fn answer(event: &Event, id: &str) -> Option<Value> {
    let data: Value = serde_json::from_str(&event.data).ok()?;
    (text(&data, "/payload/execution_id") == id).then_some(data)
}

async fn help(session: &Session) -> Outcome {
    let known = session.api.get(&["actionalias", "help"], &[]).await?;
    let lines = || {
        let lines = known["helpstrings"].as_array().into_iter().flatten();
        let lines: Vec<String> =
            lines.map(|line| format!("!{} - {}", text(line, "/display"), text(line, "/description"))).collect();
        lines.join("\n")
    };
    session.output.answer(&known, lines)?;
    Ok(Ending::Done)
}
