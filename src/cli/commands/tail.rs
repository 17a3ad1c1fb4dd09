//! `petrel execution tail`: output as it comes. A lost connection is taken up again after the last event that came.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::cli::args::Format;
use crate::cli::commands::run::{Progress, ending_of, is_completed, is_workflow, steps_of};
use crate::cli::commands::{Outcome, Session, text};
use crate::cli::failure::Failure;
use crate::cli::sse::{Decoder, Event};
use crate::clock::sleep;

const OUTPUT: &str = "st2.execution.output__create";
const UPDATE: &str = "st2.execution__update";
/// The stream keeps what was said: from here on nothing is missed.
const FROM_THE_BEGINNING: &str = "0";
/// A daemon that restarts is back within some of these.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);
/// A minute of a daemon that is away.
const RECONNECTS: u32 = 120;

pub(super) async fn tail(session: &Session, id: &str) -> Outcome {
    let execution = session.api.get(&["executions", id], &[]).await?;
    if is_completed(&execution) {
        show_stored(session, id).await?;
        return Ok(ending_of(&execution));
    }
    let mut tailing = Tailing::begin(session, &execution).await?;
    let mut attempts = 0;
    loop {
        match tailing.follow().await {
            Ok(true) => break,
            Ok(false) => attempts = 0,
            Err(Failure::Unreachable { .. }) if attempts < RECONNECTS => attempts += 1,
            Err(failure) => return Err(failure),
        }
        sleep(&*session.clock, RECONNECT_AFTER).await;
    }
    let ended = session.api.get(&["executions", id], &[]).await?;
    session.output.remark(&format!("execution {id} {}", text(&ended, "/status")))?;
    Ok(ending_of(&ended))
}

async fn show_stored(session: &Session, id: &str) -> Result<(), Failure> {
    let stored = session.api.text(&["executions", id, "output"]).await?;
    session.output.answer_in_stream(&json!({ "execution_id": id, "data": stored }), &stored)
}

/// One execution that is being watched, with its steps.
struct Tailing<'a> {
    session: &'a Session,
    id: String,
    known: BTreeSet<String>,
    is_workflow: bool,
    last_event: Option<String>,
    progress: Progress,
}

impl<'a> Tailing<'a> {
    /// A workflow's events can't be picked by id, as its steps are not known yet: what they have said so far is read
    /// from the store. Everything else replays its own events from the beginning.
    async fn begin(session: &'a Session, execution: &Value) -> Result<Self, Failure> {
        let id = text(execution, "/id").to_owned();
        let is_workflow = is_workflow(execution);
        let mut tailing = Self {
            session,
            known: BTreeSet::from([id.clone()]),
            is_workflow,
            last_event: (!is_workflow).then(|| FROM_THE_BEGINNING.to_owned()),
            progress: Progress::default(),
            id,
        };
        if is_workflow {
            let steps = steps_of(session, &tailing.id).await?;
            for step in steps.as_array().into_iter().flatten() {
                tailing.tell_step(step)?;
                show_stored(session, text(step, "/id")).await?;
            }
        }
        Ok(tailing)
    }

    /// Shows events until the execution ends (true) or the connection does.
    async fn follow(&mut self) -> Result<bool, Failure> {
        let events = format!("{UPDATE},{OUTPUT}");
        let mut query = vec![("events", events.as_str()), ("end_event", UPDATE), ("end_execution_id", &self.id)];
        if !self.is_workflow {
            query.push(("execution_ids", &self.id));
        }
        let response = self.session.api.events(&query, self.last_event.as_deref()).await?;
        if self.is_workflow && self.has_ended().await? {
            return Ok(true);
        }
        let mut pieces = response.bytes_stream();
        let mut decoder = Decoder::default();
        while let Some(Ok(piece)) = pieces.next().await {
            for event in decoder.push(&piece) {
                if self.take(event)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The end may have come before the stream was there.
    async fn has_ended(&self) -> Result<bool, Failure> {
        let query = [("exclude_attributes", "result")];
        Ok(is_completed(&self.session.api.get(&["executions", &self.id], &query).await?))
    }

    /// Shows one event; true if it was the last.
    fn take(&mut self, event: Event) -> Result<bool, Failure> {
        let data: Value = serde_json::from_str(&event.data)
            .map_err(|error| self.session.api.unexpected(format!("an event is no JSON: {error}")))?;
        if !event.id.is_empty() {
            self.last_event = Some(event.id);
        }
        match event.name.as_str() {
            OUTPUT if self.known.contains(text(&data, "/execution_id")) => {
                self.session.output.answer_in_stream(&data, text(&data, "/data"))?;
            }
            UPDATE if text(&data, "/id") == self.id => return Ok(is_completed(&data)),
            UPDATE if self.known.contains(parent_of(&data)) => self.tell_step(&data)?,
            _ => {}
        }
        Ok(false)
    }

    fn tell_step(&mut self, step: &Value) -> Result<(), Failure> {
        self.known.insert(text(step, "/id").to_owned());
        match self.progress.tell_step(step, self.session.now()) {
            Some(line) if self.session.output.format() == Format::Table => self.session.output.remark(&line),
            _ => Ok(()),
        }
    }
}

fn parent_of(execution: &Value) -> &str {
    match text(execution, "/parent") {
        "" => text(execution, "/context/parent/execution_id"),
        parent => parent,
    }
}
