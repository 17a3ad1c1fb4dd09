//! What a listener asked to hear.

use axum::http::HeaderMap;
use regex::RegexSet;
use serde::Deserialize;

use crate::api::error::{ApiError, ApiResult};
use crate::model::refs::{ActionRef, ExecutionId};
use crate::store::rows::ExecutionRow;

/// Heard by whoever does not say what to hear; output only on request.
const DEFAULT_EVENTS: &str = "st2.announcement__*,st2.execution__create,st2.execution__update,st2.execution__delete";

/// StackStorm's parameters.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StreamQuery {
    events: Option<String>,
    action_refs: Option<String>,
    execution_ids: Option<String>,
    end_event: Option<String>,
    end_execution_id: Option<ExecutionId>,
    /// For clients that cannot set headers.
    last_event_id: Option<i64>,
}

/// The same, understood.
#[derive(Debug)]
pub(super) struct Wanted {
    events: RegexSet,
    actions: Vec<ActionRef>,
    executions: Vec<ExecutionId>,
    end_event: String,
    pub(super) end_execution: Option<ExecutionId>,
    pub(super) last_event_id: Option<i64>,
}

impl StreamQuery {
    pub(super) fn understand(self, headers: &HeaderMap) -> ApiResult<Wanted> {
        let header = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        let header = header.map(str::parse::<i64>).transpose();
        let header = header.map_err(|problem| ApiError::bad_request(format!("Last-Event-ID: {problem}")))?;
        let events = self.events.as_deref().unwrap_or(DEFAULT_EVENTS);
        Ok(Wanted {
            events: RegexSet::new(list(events).map(pattern)).map_err(|problem| ApiError::internal(&problem))?,
            actions: parsed(self.action_refs.as_deref())?,
            executions: parsed(self.execution_ids.as_deref())?,
            end_event: self.end_event.unwrap_or_else(|| "st2.execution__update".to_owned()),
            end_execution: self.end_execution_id,
            last_event_id: header.or(self.last_event_id),
        })
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: Option<&str>) -> ApiResult<Vec<T>> {
    let items = list(text.unwrap_or_default()).map(str::parse);
    items.collect::<Result<_, T::Err>>().map_err(|problem| ApiError::bad_request(problem.to_string()))
}

/// A shell's pattern as a regular expression.
fn pattern(glob: &str) -> String {
    format!("^{}$", regex::escape(glob).replace(r"\*", ".*").replace(r"\?", "."))
}

impl Wanted {
    /// Is this event wanted at all?
    pub(super) fn event(&self, name: &str) -> bool {
        self.events.is_match(name)
    }

    /// Is this execution wanted? Whoever names a workflow hears of its steps.
    pub(super) fn execution(&self, row: &ExecutionRow) -> bool {
        let of_action = self.actions.is_empty() || self.actions.contains(&row.action);
        let parent = row.parent.as_ref().map(|(parent, _)| parent);
        let family = [Some(&row.id), Some(&row.root), parent];
        let of_family =
            self.executions.is_empty() || family.into_iter().flatten().any(|id| self.executions.contains(id));
        of_action && of_family
    }

    /// Is this the last that is wanted?
    pub(super) fn is_the_end(&self, event: &str, row: &ExecutionRow) -> bool {
        self.end_execution == Some(row.id) && event == self.end_event && row.status.is_completed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_chosen_by_patterns_and_output_only_on_request() {
        let wanted = |events: Option<&str>| {
            let query = StreamQuery { events: events.map(str::to_owned), ..StreamQuery::default() };
            query.understand(&HeaderMap::new()).unwrap()
        };
        let all = wanted(None);
        assert!(all.event("st2.announcement__chatops") && all.event("st2.execution__update"));
        assert!(!all.event("st2.execution.output__create"));
        let output = wanted(Some("st2.execution.output__*, x?"));
        assert!(output.event("st2.execution.output__create") && output.event("x1"));
        assert!(!output.event("st2Xexecution.output__create") && !output.event("st2.execution__update"));
    }
}
