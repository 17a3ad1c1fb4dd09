//! The governor's own look at all groups, which a timer asks for through a rule like any other.

use futures_util::{StreamExt, stream};
use serde::Serialize;

use crate::governor::admission::{Admission, AdmissionView};
use crate::governor::error::GovernorError;
use crate::governor::service::Governor;
use crate::model::decision::Request;
use crate::model::group::GroupName;

/// Groups looked at side by side: enough to hide the store's latency, few enough to leave it to others.
const AT_ONCE: usize = 8;

/// What a look at all groups has brought.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct TickReport {
    /// How many groups there are.
    pub groups: usize,
    /// Groups in which something was started, and what.
    pub acted: Vec<(GroupName, AdmissionView)>,
    /// Groups that could not be looked at, and why.
    pub problems: Vec<(GroupName, String)>,
}

impl Governor {
    /// Looks at every group once. A broken group costs itself and no other.
    pub async fn tick_all(&self) -> Result<TickReport, GovernorError> {
        let names = self.names().await?;
        let mut report = TickReport { groups: names.len(), ..TickReport::default() };
        let mut looks = stream::iter(names.into_iter().map(|name| self.look(name))).buffer_unordered(AT_ONCE);
        while let Some((name, outcome)) = looks.next().await {
            report.add(name, outcome);
        }
        report.acted.sort_by(|(a, _), (b, _)| a.cmp(b));
        report.problems.sort();
        Ok(report)
    }

    async fn look(&self, name: GroupName) -> (GroupName, Result<Admission, GovernorError>) {
        let outcome = self.admit(&name, &Request::Tick).await;
        (name, outcome)
    }
}

impl TickReport {
    fn add(&mut self, group: GroupName, outcome: Result<Admission, GovernorError>) {
        match outcome {
            Ok(admission) if admission.decision.verdict.acts() => self.acted.push((group, admission.view())),
            // deleted between the list and the look
            Ok(_) | Err(GovernorError::NoSuchGroup(_)) => {}
            Err(problem) => {
                tracing::error!(%group, %problem, "the governor could not look at a group");
                self.problems.push((group, problem.to_string()));
            }
        }
    }
}
