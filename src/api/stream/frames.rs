//! From an announcement to the text of its events: what there is to say is read when somebody listens.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::wanted::Wanted;
use crate::api::shape::{Secrets, Shaper};
use crate::model::refs::ExecutionId;
use crate::model::time::Timestamp;
use crate::store::output::OutputRow;
use crate::store::rows::ExecutionRow;
use crate::store::stream::AnnouncementRow;
use crate::store::{Executions, Outputs, StoreError, StoreResult};

const OUTPUT_EVENT: &str = "st2.execution.output__create";
const UPDATE_EVENT: &str = "st2.execution__update";
/// So many chunks of output are read at once.
const OUTPUT_PAGE: i64 = 500;

/// What an announcement became.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// One per event.
    pub(super) texts: Vec<String>,
    /// Nothing more is wanted.
    pub(super) is_the_end: bool,
}

/// Makes frames for one listener; remembers how much of each output it has.
pub(super) struct Frames {
    executions: Executions,
    outputs: Outputs,
    shaper: Shaper,
    /// Output written before is known to the listener, or was never asked for.
    since: Timestamp,
    output_seen: HashMap<ExecutionId, i64>,
}

impl Frames {
    pub(super) fn new(executions: Executions, outputs: Outputs, shaper: Shaper, since: Timestamp) -> Self {
        Self { executions, outputs, shaper, since, output_seen: HashMap::new() }
    }

    /// The frames of one announcement.
    pub(super) async fn of(&mut self, row: &AnnouncementRow, wanted: &Wanted) -> StoreResult<Made> {
        if let Some(payload) = &row.payload {
            return Ok(Made { texts: vec![frame(row.sequence, &row.name, payload)], is_the_end: false });
        }
        if !row.name.starts_with("st2.execution") {
            let payload = json!({ "ref": row.subject });
            return Ok(Made { texts: vec![frame(row.sequence, &row.name, &payload)], is_the_end: false });
        }
        let Some(execution) = self.subject(row).await? else { return Ok(Made::default()) };
        if !wanted.execution(&execution) {
            return Ok(Made::default());
        }
        let texts = if row.name == OUTPUT_EVENT {
            self.output(row.sequence, &execution).await?
        } else {
            vec![frame(row.sequence, &row.name, &self.shaper.execution(&execution, Secrets::Masked))]
        };
        Ok(Made { texts, is_the_end: wanted.is_the_end(&row.name, &execution) })
    }

    /// The state of an execution as an update of its own.
    pub(super) fn update(&self, sequence: i64, row: &ExecutionRow) -> String {
        frame(sequence, UPDATE_EVENT, &self.shaper.execution(row, Secrets::Masked))
    }

    /// What was announced, unless it was deleted since.
    async fn subject(&self, row: &AnnouncementRow) -> StoreResult<Option<ExecutionRow>> {
        let Ok(id) = row.subject.parse() else { return Ok(None) };
        match self.executions.execution_get(id).await {
            Ok(execution) => Ok(Some(execution)),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    async fn output(&mut self, sequence: i64, execution: &ExecutionRow) -> StoreResult<Vec<String>> {
        let known = self.output_seen.get(&execution.id).copied();
        let (mut after, mut texts) = (known.unwrap_or(0), Vec::new());
        loop {
            let rows = self.outputs.output_read(execution.id, after, OUTPUT_PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = last.sequence;
            let news = rows.iter().filter(|row| known.is_some() || row.written_at > self.since);
            texts.extend(news.map(|row| frame(sequence, OUTPUT_EVENT, &chunk(row, execution))));
        }
        self.output_seen.insert(execution.id, after);
        Ok(texts)
    }
}

fn chunk(row: &OutputRow, execution: &ExecutionRow) -> Value {
    json!({
        "id": format!("{}-{}", execution.id, row.sequence),
        "execution_id": execution.id,
        "action_ref": execution.action,
        "runner_ref": execution.runner,
        "timestamp": row.written_at,
        "output_type": row.stream,
        "data": row.text,
    })
}

/// JSON has no line breaks, so that one `data:` line carries all of it.
fn frame(sequence: i64, event: &str, data: &Value) -> String {
    format!("id: {sequence}\nevent: {event}\ndata: {data}\n\n")
}
