//! What people ask for by name, in chat above all: the actions of the pack `autoscale` that make groups and nodes, take
//! them away, and tell of them.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::governor::admission::Answer;
use crate::governor::call::{Done, answered, origin, parameters};
use crate::governor::defaults::filled;
use crate::governor::definition::NewGroup;
use crate::governor::error::GovernorError;
use crate::governor::service::Governor;
use crate::model::decision::{Delays, Request};
use crate::model::group::GroupName;
use crate::model::node::NodeName;
use crate::runners::{Call, Outcome};

pub(super) async fn list(governor: &Governor) -> Done {
    let groups = governor.list().await?;
    let rows = groups.iter().map(|group| {
        json!({
            "name": group.name, "mode": group.mode, "in_service": group.in_service, "total": group.total,
            "min_nodes": group.min_nodes, "max_nodes": group.max_nodes, "incidents": group.incidents.len(),
            "activity": group.activity.as_ref().map(|activity| activity.kind), "metrics": group.roles["metrics"],
        })
    });
    Ok(Outcome::succeeded(json!({ "groups": rows.collect::<Vec<Value>>() })))
}

#[derive(Deserialize)]
struct Explained {
    asg: GroupName,
    #[serde(default = "some")]
    limit: u32,
}

const fn some() -> u32 {
    5
}

pub(super) async fn explain(governor: &Governor, call: &Call) -> Done {
    let Explained { asg, limit } = parameters(call)?;
    governor.get(&asg).await?;
    let decisions = governor.explain(&asg, i64::from(limit.clamp(1, 100))).await?;
    let rows = decisions.iter().map(|row| json!({ "at": row.last_at, "times": row.times, "sentence": row.sentence }));
    Ok(Outcome::succeeded(json!({ "decisions": rows.collect::<Vec<Value>>() })))
}

/// A group that is there, as it was asked for before, is no error.
pub(super) async fn create(governor: &Governor, call: &Call) -> Done {
    let said = filled(&call.parameters, &governor.parts.catalogue.borrow());
    let new: NewGroup = serde_json::from_value(Value::Object(said))?;
    let name = new.name.clone();
    match governor.create(new, origin(call)).await {
        Ok(admission) => Ok(Outcome::succeeded(json!(admission.view()))),
        Err(GovernorError::Exists(_)) if call.attempt > 1 => {
            Ok(Outcome::succeeded(json!({ "verdict": "create_group", "reason": format!("group `{name}` is there") })))
        }
        Err(problem) => Err(problem.into()),
    }
}

#[derive(Deserialize)]
struct OfGroup {
    asg: GroupName,
}

/// Says yes to what waits for somebody's word.
pub(super) async fn approve(governor: &Governor, call: &Call) -> Done {
    let OfGroup { asg } = parameters(call)?;
    let request = Request::Approve { origin: origin(call) };
    Ok(answered(&governor.admit_for(call.execution, &asg, &request).await?, &request))
}

/// Says no to it; it is not asked again while it is wanted.
pub(super) async fn deny(governor: &Governor, call: &Call) -> Done {
    let OfGroup { asg } = parameters(call)?;
    let reason = if governor.deny(&asg, &call.user).await? {
        format!("{} said no", call.user)
    } else {
        format!("nothing waits for approval in group `{asg}`")
    };
    Ok(Outcome::succeeded(json!({ "verdict": "deny", "reason": reason })))
}

#[derive(Deserialize)]
struct Named {
    name: GroupName,
}

/// A group that is not there any more, after it was asked for before, is gone.
pub(super) async fn delete(governor: &Governor, call: &Call) -> Done {
    let Named { name } = parameters(call)?;
    let request = Request::Delete { origin: origin(call) };
    match governor.admit_for(call.execution, &name, &request).await {
        Ok(answer) => Ok(answered(&answer, &request)),
        Err(GovernorError::NoSuchGroup(_)) if call.attempt > 1 => {
            Ok(Outcome::succeeded(json!({ "verdict": "delete_group", "reason": format!("group `{name}` is gone") })))
        }
        Err(problem) => Err(problem.into()),
    }
}

#[derive(Deserialize)]
struct OneMore {
    asg: GroupName,
    #[serde(default)]
    force: bool,
}

pub(super) async fn add_node(governor: &Governor, call: &Call) -> Done {
    let OneMore { asg, force } = parameters(call)?;
    ask(governor, call, &asg, Request::AddNode { delays: delays(force), origin: origin(call) }).await
}

#[derive(Deserialize)]
struct OneLess {
    asg: GroupName,
    name: NodeName,
    #[serde(default)]
    force: bool,
}

pub(super) async fn delete_node(governor: &Governor, call: &Call) -> Done {
    let OneLess { asg, name, force } = parameters(call)?;
    ask(governor, call, &asg, Request::DeleteNode { name, delays: delays(force), origin: origin(call) }).await
}

const fn delays(force: bool) -> Delays {
    if force { Delays::Skip } else { Delays::Respect }
}

async fn ask(governor: &Governor, call: &Call, asg: &GroupName, request: Request) -> Done {
    let answer: Answer = governor.admit_for(call.execution, asg, &request).await?;
    Ok(answered(&answer, &request))
}
