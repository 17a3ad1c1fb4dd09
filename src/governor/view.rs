//! Groups, decisions and activities as people and programs see them.

use serde::Serialize;
use serde_json::Value;

use crate::governor::error::GovernorError;
use crate::governor::service::{Governor, TRIES};
use crate::governor::workflow::{self, named_roles};
use crate::model::decision::Decision;
use crate::model::drift::Drifting;
use crate::model::group::{Group, GroupName, NodeCount, RoleParameters, Suspension};
use crate::model::group_config::{GroupConfig, Mode};
use crate::model::group_state::{Approval, GroupState};
use crate::model::incident::Incident;
use crate::model::node::{Node, NodeName, NodePhase};
use crate::model::scaling::ScalingActivity;
use crate::model::time::Timestamp;
use crate::store::StoreError;
use crate::store::damage::leave_out;
use crate::store::groups::DecisionRow;
use crate::store::rows::Page;

/// A group with all that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupView {
    /// Its name.
    pub name: GroupName,
    /// What alerts call it.
    pub application: String,
    /// DNS domain below which its nodes are named.
    pub domain: String,
    /// What the governor may do.
    pub mode: Mode,
    /// Limits, steps and delays.
    pub config: GroupConfig,
    /// Which pack plays which role, `none` where nobody does.
    pub roles: Value,
    /// What the provider's `create_node` is given.
    pub node_parameters: Value,
    /// What the packs of its other roles are told beside their own configuration.
    pub role_parameters: RoleParameters,
    /// Where notices go.
    pub channel: Option<String>,
    /// Nodes not proven gone.
    pub nodes: Vec<NodeView>,
    /// How many serve.
    pub in_service: NodeCount,
    /// How many are not proven gone.
    pub total: NodeCount,
    /// Lower limit at this moment.
    pub min_nodes: NodeCount,
    /// Upper limit.
    pub max_nodes: NodeCount,
    /// Incidents that are believed to go on.
    pub incidents: Vec<Incident>,
    /// The activity under way.
    pub activity: Option<ScalingActivity>,
    /// What was decided last.
    pub last_decision: Option<Explained>,
    /// What somebody suspended.
    pub suspensions: Vec<Suspension>,
    /// Where the world is not as the ledger says.
    pub drift: Vec<Drifting>,
    /// What waits for somebody's word.
    pub approval: Option<Approval>,
    /// It is being deleted.
    pub deleting: bool,
}

/// A node of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// How far it has come.
    pub phase: NodePhase,
    /// Where it answers.
    pub address: Option<String>,
    /// On which port, if its provider says one.
    pub port: Option<u16>,
    /// Since when it is in that phase.
    pub since: Timestamp,
    /// When its name was reserved.
    pub created_at: Timestamp,
    /// The governor never chooses it for removal.
    pub protected: bool,
}

/// A decision, how often it was made in a row, and what it says in words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    /// When it was made first.
    pub first_at: Timestamp,
    /// When it was made last.
    pub last_at: Timestamp,
    /// How often in a row.
    pub times: i64,
    /// In words. Empty if it was recorded by a Petrel of another age.
    pub sentence: String,
    /// All of it.
    pub decision: Value,
}

impl Governor {
    /// A group as it is now.
    pub async fn get(&self, name: &GroupName) -> Result<GroupView, GovernorError> {
        let state = self.read_whole(name).await?;
        let last = self.explain(name, 1).await?.into_iter().next();
        Ok(view(state, last, self.now()))
    }

    /// What nobody changed while it was read: half of a change would show a group that never was.
    async fn read_whole(&self, name: &GroupName) -> Result<GroupState, GovernorError> {
        for _ in 0..TRIES {
            let seen = self.read(name).await?;
            match self.parts.groups.group_version(name.as_str()).await {
                Ok(version) if version == seen.version => return Ok(seen.state),
                Ok(_) => {}
                Err(StoreError::NotFound(_)) => return Err(GovernorError::NoSuchGroup(name.clone())),
                Err(problem) => return Err(problem.into()),
            }
        }
        Err(GovernorError::Busy(name.clone()))
    }

    /// How the packs of a group show what they have.
    pub async fn lists(&self, name: &GroupName) -> Result<Value, GovernorError> {
        let group = self.read(name).await?.state.group;
        Ok(workflow::lists(&group, &self.parts.catalogue.borrow()))
    }

    /// All groups, by name.
    pub async fn list(&self) -> Result<Vec<GroupView>, GovernorError> {
        let mut groups = Vec::new();
        for name in self.names().await? {
            match self.get(&name).await {
                Ok(group) => groups.push(group),
                Err(GovernorError::NoSuchGroup(_)) => {} // deleted in the meantime
                Err(GovernorError::Store(problem @ StoreError::Corrupt(_))) => {
                    leave_out("asg_groups", name.as_str(), &problem);
                }
                Err(problem) => return Err(problem),
            }
        }
        Ok(groups)
    }

    /// A group's decisions, newest first; equal ones in a row are one. Also of a group that is no more.
    pub async fn explain(&self, name: &GroupName, limit: i64) -> Result<Vec<Explained>, GovernorError> {
        let rows = self.parts.groups.decision_list(name.as_str(), Page { limit, offset: 0 }).await?;
        Ok(rows.into_iter().map(explained).collect())
    }

    /// A group's activities, newest first. Also of a group that is no more.
    pub async fn activities(&self, name: &GroupName, page: Page) -> Result<Vec<Value>, GovernorError> {
        Ok(self.parts.groups.activity_list(name.as_str(), page).await?)
    }
}

fn view(state: GroupState, last_decision: Option<Explained>, now: Timestamp) -> GroupView {
    let (in_service, total) = (state.in_service(), state.total());
    let GroupState { group, nodes, incidents, activity, memory } = state;
    let Group {
        name,
        domain,
        application,
        config,
        roles,
        node_parameters,
        role_parameters,
        channel,
        suspensions,
        deleting,
    } = group;
    GroupView {
        name,
        application,
        domain,
        mode: config.mode,
        roles: named_roles(&roles),
        node_parameters: Value::Object(node_parameters.into_iter().collect()),
        role_parameters,
        channel,
        nodes: nodes.into_iter().filter(|node| node.phase.counts()).map(node_view).collect(),
        in_service,
        total,
        min_nodes: config.minimum(now),
        max_nodes: config.max_nodes,
        incidents: incidents.into_iter().filter(|incident| incident.is_open(now, config.alert_ttl)).collect(),
        activity,
        last_decision,
        suspensions: suspensions.into_iter().filter(|suspension| suspension.is_active(now)).collect(),
        drift: memory.drift,
        approval: memory.approval,
        deleting,
        config,
    }
}

fn node_view(node: Node) -> NodeView {
    let Node { name, group: _, phase, phase_since, created_at, protected, address, port, tag: _, activity: _ } = node;
    NodeView { name, phase, address, port, since: phase_since, created_at, protected }
}

fn explained(row: DecisionRow) -> Explained {
    let DecisionRow { first_at, last_at, times, decision } = row;
    let read = serde_json::from_value::<Decision>(decision.clone());
    let sentence = read.map(|decision| decision.to_string()).unwrap_or_default();
    Explained { first_at, last_at, times, sentence, decision }
}
