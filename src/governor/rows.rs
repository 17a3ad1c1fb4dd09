//! A group's state as rows of the store and back. What is written is the difference between two states, so that whoever
//! changes a state cannot forget a row.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::group::Group;
use crate::model::group_state::{GroupMemory, GroupState};
use crate::model::scaling::ScalingActivity;
use crate::store::groups::{GroupRow, GroupWrite};
use crate::store::{StoreError, StoreResult};

/// A group's state and the version it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned {
    /// Guards whatever is made of the state.
    pub version: i64,
    /// The state.
    pub state: GroupState,
}

/// The group's own row.
#[derive(Deserialize)]
struct OwnRow {
    group: Group,
    memory: GroupMemory,
}

/// The state that the rows of a group hold.
pub fn read(row: GroupRow) -> StoreResult<Versioned> {
    let GroupRow { name, version, state, nodes, incidents, activities } = row;
    let damaged = |problem: serde_json::Error| StoreError::Corrupt(format!("group `{name}`: {problem}"));
    let own: OwnRow = serde_json::from_value(state).map_err(damaged)?;
    let state = GroupState {
        group: own.group,
        memory: own.memory,
        nodes: nodes.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(damaged)?,
        incidents: incidents.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(damaged)?,
        activity: activities.into_iter().next().map(serde_json::from_value).transpose().map_err(damaged)?,
    };
    Ok(Versioned { version, state })
}

/// What must be written for `before` to become `after`. Nodes that are gone lose their rows.
pub fn changes(before: &GroupState, after: &GroupState) -> Vec<GroupWrite> {
    let mut writes = Vec::new();
    if (&before.group, &before.memory) != (&after.group, &after.memory) {
        writes.push(own_row(after));
    }
    push_nodes(&mut writes, before, after);
    push_incidents(&mut writes, before, after);
    let activity = after.activity.as_ref().filter(|activity| before.activity.as_ref() != Some(activity));
    writes.extend(activity.map(activity_row));
    writes
}

/// The group's own row.
pub fn own_row(state: &GroupState) -> GroupWrite {
    GroupWrite::Group(json!({ "group": state.group, "memory": state.memory }))
}

/// An activity's row; one that has ended is no part of its group's state any more and is written by itself.
pub fn activity_row(activity: &ScalingActivity) -> GroupWrite {
    GroupWrite::Activity {
        id: activity.id,
        status: activity.status.as_str().to_owned(),
        execution: activity.execution,
        asked_by: activity.asked_by,
        state: json!(activity),
    }
}

/// What is told in the group's channel.
pub(super) fn notice(group: &Group, message: &str, what: &Value) -> GroupWrite {
    GroupWrite::Notice {
        route: group.channel.clone().unwrap_or_else(|| "general".to_owned()),
        payload: json!({ "channel": group.channel, "message": message, "group": group.name, "notice": what }),
    }
}

fn push_nodes(writes: &mut Vec<GroupWrite>, before: &GroupState, after: &GroupState) {
    let is_left = |name| after.nodes.iter().any(|node| node.name == name && node.phase.counts());
    let gone = before.nodes.iter().filter(|node| !is_left(node.name.clone()));
    writes.extend(gone.map(|node| GroupWrite::NodeGone(node.name.to_string())));
    let left = after.nodes.iter().filter(|node| node.phase.counts() && !before.nodes.contains(node));
    writes.extend(left.map(|node| GroupWrite::Node {
        name: node.name.to_string(),
        phase: node.phase.as_str().to_owned(),
        state: json!(node),
    }));
}

fn push_incidents(writes: &mut Vec<GroupWrite>, before: &GroupState, after: &GroupState) {
    let is_left = |key: &str| after.incidents.iter().any(|incident| incident.key == key);
    let gone = before.incidents.iter().filter(|incident| !is_left(&incident.key));
    writes.extend(gone.map(|incident| GroupWrite::IncidentGone(incident.key.clone())));
    let changed = after.incidents.iter().filter(|incident| !before.incidents.contains(incident));
    writes.extend(changed.map(|incident| GroupWrite::Incident { key: incident.key.clone(), state: json!(incident) }));
}
