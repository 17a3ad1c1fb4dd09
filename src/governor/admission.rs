//! Admission: from a request to a decision that is written together with everything it brings about: the activity, the
//! rows of the nodes it reserves, and the execution that carries it out. Only then is anything outside touched.

use serde::Serialize;
use serde_json::json;

use crate::governor::decide::decide;
use crate::governor::error::GovernorError;
use crate::governor::ledger;
use crate::governor::rows::{self, Versioned};
use crate::governor::service::{Governor, TRIES};
use crate::governor::workflow;
use crate::model::decision::{Decision, Notice, Request, Verdict};
use crate::model::group::{Freeze, Group, GroupName};
use crate::model::group_state::GroupState;
use crate::model::node::NodeName;
use crate::model::reason::Reason;
use crate::model::refs::{ActivityId, ExecutionId};
use crate::model::scaling::{ActivityStatus, ScalingActivity};
use crate::model::time::Timestamp;
use crate::requests::{Cancellation, Plan, RequestError};
use crate::store::StoreError;
use crate::store::groups::{DecisionWrite, GroupChange, GroupWrite};

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    /// What was decided, as recorded.
    pub decision: Decision,
    /// The activity that was opened.
    pub activity: Option<ActivityId>,
    /// The workflow that carries it out.
    pub execution: Option<ExecutionId>,
}

/// The answer to somebody who may have asked before.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It was decided now.
    Now(Box<Admission>),
    /// It was granted before, and this was opened.
    Earlier(ScalingActivity),
}

/// An admission as people and programs see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdmissionView {
    /// As `expand`, `hold`, `refuse`, `record`.
    pub verdict: String,
    /// Why, in words.
    pub reason: String,
    /// The activity that was opened.
    pub activity: Option<ActivityId>,
    /// The workflow that carries it out.
    pub execution: Option<ExecutionId>,
    /// The nodes it is about.
    pub nodes: Vec<NodeName>,
}

impl Admission {
    /// What was asked is not going to happen; [`Admission::reason`] says why.
    pub const fn is_refused(&self) -> bool {
        matches!(self.decision.verdict, Verdict::Refuse)
    }

    /// Why, in words.
    pub fn reason(&self) -> String {
        self.decision.reason.to_string()
    }

    /// For people and programs.
    pub fn view(&self) -> AdmissionView {
        let verdict = &self.decision.verdict;
        let word = json!(verdict).get("is").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        AdmissionView {
            verdict: word,
            reason: self.reason(),
            activity: self.activity,
            execution: self.execution,
            nodes: [verdict.reserved(), verdict.removed()].concat(),
        }
    }
}

impl Answer {
    /// Why what was asked is not going to happen, if it is not.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Now(admission) => admission.is_refused().then(|| admission.decision.reason_and_time()),
            Self::Earlier(_) => None,
        }
    }

    /// For people and programs.
    pub fn view(&self) -> AdmissionView {
        match self {
            Self::Now(admission) => admission.view(),
            Self::Earlier(activity) => AdmissionView {
                verdict: activity.kind.to_string(),
                reason: activity.reason.clone(),
                activity: Some(activity.id),
                execution: activity.execution,
                nodes: activity.nodes.clone(),
            },
        }
    }
}

/// A decision with the state it leads to, ready to be written.
pub(super) struct Prepared {
    pub(super) decision: Decision,
    pub(super) after: GroupState,
    plan: Option<Box<dyn Plan>>,
}

impl Governor {
    /// Decides about a request and, if it is granted, reserves what it needs and starts its workflow.
    pub async fn admit(&self, name: &GroupName, request: &Request) -> Result<Admission, GovernorError> {
        for _ in 0..TRIES {
            let seen = self.read(name).await?;
            if let Some(admission) = self.admit_as_seen(name, seen, request, None).await? {
                return Ok(admission);
            }
        }
        Err(GovernorError::Busy(name.clone()))
    }

    /// [`Governor::admit`] for an execution that may ask again because it was killed, or the store fell silent, before
    /// it had its answer: what was opened for it then is its answer now.
    pub async fn admit_for(
        &self,
        asker: ExecutionId,
        name: &GroupName,
        request: &Request,
    ) -> Result<Answer, GovernorError> {
        for _ in 0..TRIES {
            let seen = self.read(name).await?;
            // after the group: what is opened from now on moves the version
            if let Some(activity) = self.opened_for(asker).await? {
                return Ok(Answer::Earlier(activity));
            }
            if let Some(admission) = self.admit_as_seen(name, seen, request, Some(asker)).await? {
                return Ok(Answer::Now(Box::new(admission)));
            }
        }
        Err(GovernorError::Busy(name.clone()))
    }

    async fn opened_for(&self, asker: ExecutionId) -> Result<Option<ScalingActivity>, GovernorError> {
        let Some(state) = self.parts.groups.activity_asked_by(asker).await? else { return Ok(None) };
        let activity = serde_json::from_value(state);
        activity.map(Some).map_err(|problem| StoreError::Corrupt(format!("an activity for {asker}: {problem}")).into())
    }

    /// `None`: the group has changed since it was seen.
    async fn admit_as_seen(
        &self,
        name: &GroupName,
        Versioned { version, state: before }: Versioned,
        request: &Request,
        asker: Option<ExecutionId>,
    ) -> Result<Option<Admission>, GovernorError> {
        let now = self.now();
        // after the group: a freeze that comes in between moves the version
        let freeze = self.freezer.active(now).await?;
        let mut prepared = self.prepare(&before, request, now, freeze.as_ref());
        if prepared.plan.is_some() {
            prepared.after.activity.iter_mut().for_each(|activity| activity.asked_by = asker);
        }
        let change = prepared.change(name, version, rows::changes(&before, &prepared.after));
        if !self.parts.groups.group_change(&change).await? {
            return Ok(None);
        }
        self.committed(name, prepared).await.map(Some)
    }

    /// Nothing is written and nothing outside is touched yet.
    pub(super) fn prepare(
        &self,
        before: &GroupState,
        request: &Request,
        now: Timestamp,
        freeze: Option<&Freeze>,
    ) -> Prepared {
        let decision = decide(before, request, now, freeze);
        let id = ActivityId::from_bytes(self.parts.ids.next());
        let mut prepared = Prepared { after: admitted(before, &decision, id), decision, plan: None };
        let opened = prepared.after.activity.as_ref().filter(|activity| activity.id == id);
        match opened.map(|activity| {
            self.parts.requests.plan(workflow::wanted(&prepared.after, activity, &self.parts.catalogue.borrow()))
        }) {
            None => prepared,
            Some(Ok(plan)) => {
                let execution = plan.execution().id;
                prepared.after.activity.iter_mut().for_each(|activity| activity.execution = Some(execution));
                Prepared { plan: Some(plan), ..prepared }
            }
            Some(Err(problem)) => {
                let decision = without_workflow(prepared.decision, &problem);
                Prepared { after: admitted(before, &decision, id), decision, plan: None }
            }
        }
    }

    /// What follows once a decision is written.
    pub(super) async fn committed(&self, name: &GroupName, prepared: Prepared) -> Result<Admission, GovernorError> {
        let Prepared { decision, after, plan } = prepared;
        let execution = plan.as_ref().map(|plan| plan.execution().id);
        let opened = after.activity.as_ref().filter(|_| plan.is_some());
        let admission = Admission { activity: opened.map(|activity| activity.id), execution, decision };
        if let Some(plan) = plan {
            tracing::info!(group = %name, decision = %admission.decision, "admitted");
            plan.committed();
        }
        self.hint();
        if let Some(activity) = after.activity.filter(|it| it.status == ActivityStatus::Compensating) {
            self.stop(name, &activity).await?;
        }
        Ok(admission)
    }

    /// Cancels a stuck activity's workflow. Said again with each look until it has ended, in case nobody heard it.
    async fn stop(&self, name: &GroupName, activity: &ScalingActivity) -> Result<(), GovernorError> {
        let cancellation = match activity.execution {
            Some(execution) => self.parts.cancels.request_cancel(execution).await?,
            None => Cancellation::Over,
        };
        match cancellation {
            Cancellation::Underway => Ok(()),
            Cancellation::Over => self.end_orphan(name, activity.id).await,
        }
    }
}

impl Prepared {
    pub(super) fn change(&self, name: &GroupName, version: i64, mut writes: Vec<GroupWrite>) -> GroupChange {
        let notices = self.decision.notices.iter();
        writes.extend(notices.map(|notice| told(&self.after.group, notice, &self.decision)));
        let decision = DecisionWrite {
            fingerprint: self.decision.fingerprint(),
            decision: json!(self.decision),
            at: self.decision.at,
        };
        GroupChange {
            group: name.to_string(),
            version,
            writes,
            decision: Some(decision),
            execution: self.plan.as_ref().map(|plan| plan.execution().clone()),
            at: self.decision.at,
        }
    }
}

fn admitted(before: &GroupState, decision: &Decision, id: ActivityId) -> GroupState {
    let mut after = before.clone();
    ledger::admit(&mut after, decision, id);
    ledger::forget(&mut after, decision.at);
    after
}

/// What cannot be carried out is refused before anything is reserved for it.
fn without_workflow(granted: Decision, problem: &RequestError) -> Decision {
    tracing::error!(%problem, "a scaling was granted, but its workflow cannot be asked for");
    let reason = Reason::NoWorkflow { problem: problem.to_string(), would: Box::new(granted.reason) };
    Decision { verdict: Verdict::Refuse, reason, ..granted }
}

fn told(group: &Group, notice: &Notice, decision: &Decision) -> GroupWrite {
    let message = match notice {
        Notice::Escalate { incident } => format!("ASG[{}] needs somebody: {incident}: {decision}", group.name),
        Notice::Warning { incident } => format!("ASG[{}] warning: {incident}: {decision}", group.name),
        Notice::CircuitOpen => format!("ASG[{}] needs somebody: {decision}", group.name),
        Notice::Approval { wish } => {
            format!("ASG[{0}] wants to {wish} and waits for `petrel asg approve {0}`: {decision}", group.name)
        }
    };
    rows::notice(group, &message, &json!(notice))
}
