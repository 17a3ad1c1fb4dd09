//! What monitoring says: which groups a report concerns, how it enters their registers, and the look at each of them that
//! follows at once, so that nobody waits for the next tick.

use crate::governor::admission::Admission;
use crate::governor::error::GovernorError;
use crate::governor::ledger;
use crate::governor::service::Governor;
use crate::model::decision::Request;
use crate::model::group::GroupName;
use crate::model::group_state::GroupState;
use crate::model::incident::{IncidentState, Observation, Severity};
use crate::model::node::Node;
use crate::model::time::Timestamp;

/// What a source says about an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The applications and servers it is about.
    pub entities: Vec<String>,
    /// What the source calls the incident.
    pub key: String,
    /// How bad.
    pub severity: Severity,
    /// What is said.
    pub state: IncidentState,
    /// When the source said so, by its own clock, if it tells.
    pub at: Option<Timestamp>,
}

impl Governor {
    /// Takes a report in, and looks at every group it concerns. Gives back those groups with what was decided.
    ///
    /// A group that cannot be changed does not keep the report from the others; its error is given back at the end.
    pub async fn observe(&self, report: &Report) -> Result<Vec<(GroupName, Admission)>, GovernorError> {
        let mut seen = Vec::new();
        let mut first_problem = None;
        for name in self.names().await? {
            match self.observe_in(&name, report).await {
                Ok(admission) => seen.extend(admission.map(|admission| (name, admission))),
                Err(problem) => {
                    tracing::error!(group = %name, incident = report.key, %problem, "a report was not taken in");
                    first_problem.get_or_insert(problem);
                }
            }
        }
        first_problem.map_or(Ok(seen), Err)
    }

    async fn observe_in(&self, name: &GroupName, report: &Report) -> Result<Option<Admission>, GovernorError> {
        if !concerns(&self.read(name).await?.state, report) {
            return Ok(None);
        }
        self.change(name, |state, now| {
            ledger::observe(state, observation(state, report, now));
            Ok(())
        })
        .await?;
        self.admit(name, &Request::Tick).await.map(Some)
    }
}

fn observation(state: &GroupState, report: &Report, now: Timestamp) -> Observation {
    Observation {
        key: report.key.clone(),
        group: state.group.name.clone(),
        severity: report.severity,
        state: report.state,
        seen_at: report.at.unwrap_or(now),
        received_at: now,
    }
}

/// A report concerns the group whose application or node it names, and the one that knows the incident already: the
/// node may have gone in the meantime.
fn concerns(state: &GroupState, report: &Report) -> bool {
    let named = |entity: &String| {
        *entity == state.group.application || state.nodes.iter().any(|node| is_called(node, state, entity))
    };
    report.entities.iter().any(named) || state.incidents.iter().any(|incident| incident.key == report.key)
}

/// By its name, its full name in the group's domain, or its address.
fn is_called(node: &Node, state: &GroupState, entity: &str) -> bool {
    let full_name = || format!("{}.{}.{}", node.name, state.group.name, state.group.domain);
    node.name.as_str() == entity || node.address.as_deref() == Some(entity) || full_name() == entity
}
