//! The governor's own actions, which rules, workflows and people call like any other: the pack `autoscale`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::governor::call::{Done, Problem, answered, origin, parameters};
use crate::governor::drift::Seen;
use crate::governor::incidents::Report;
use crate::governor::phases::NodeReport;
use crate::governor::requested;
use crate::governor::service::Governor;
use crate::model::access::Permission;
use crate::model::decision::{Delays, Request};
use crate::model::group::{GroupName, NodeCount};
use crate::model::incident::{IncidentState, Severity};
use crate::model::load::Load;
use crate::model::node::{NodeName, NodePhase};
use crate::model::time::Timestamp;
use crate::runners::native::NativeAction;
use crate::runners::{Call, Outcome, Stop};

/// While the store is away.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// The native actions with their references and the permission that a user needs for each, to be registered with the
/// runner. It is the permission of the route that does the same; what only workflows call writes the ledger.
pub fn actions(governor: &Arc<Governor>) -> Vec<(&'static str, Permission, Arc<dyn NativeAction>)> {
    let action = |verb| Arc::new(GovernorAction { governor: Arc::clone(governor), verb }) as Arc<dyn NativeAction>;
    VERBS.iter().map(|(name, permission, verb)| (*name, *permission, action(*verb))).collect()
}

const VERBS: [(&str, Permission, Verb); 17] = [
    ("autoscale.governor_tick", Permission::GroupOperate, Verb::Tick),
    ("autoscale.alert", Permission::GroupOperate, Verb::Alert),
    ("autoscale.expand", Permission::GroupOperate, Verb::Expand),
    ("autoscale.deflate", Permission::GroupOperate, Verb::Deflate),
    ("autoscale.node_phase", Permission::GroupWrite, Verb::NodePhase),
    ("autoscale.group_info", Permission::ExecutionRun, Verb::GroupInfo),
    ("autoscale.observe", Permission::GroupWrite, Verb::Observe),
    ("autoscale.list", Permission::ExecutionRun, Verb::List),
    ("autoscale.explain", Permission::ExecutionRun, Verb::Explain),
    ("autoscale.create", Permission::GroupWrite, Verb::Create),
    ("autoscale.delete", Permission::GroupWrite, Verb::Delete),
    ("autoscale.add_node", Permission::GroupOperate, Verb::AddNode),
    ("autoscale.delete_node", Permission::GroupOperate, Verb::DeleteNode),
    ("autoscale.approve", Permission::GroupOperate, Verb::Approve),
    ("autoscale.deny", Permission::GroupOperate, Verb::Deny),
    ("autoscale.load", Permission::GroupOperate, Verb::Load),
    ("autoscale.configure", Permission::GroupWrite, Verb::Configure),
];

#[derive(Debug, Clone, Copy)]
enum Verb {
    Tick,
    Alert,
    Expand,
    Deflate,
    NodePhase,
    GroupInfo,
    Load,
    Configure,
    Observe,
    List,
    Explain,
    Create,
    Delete,
    AddNode,
    DeleteNode,
    Approve,
    Deny,
}

struct GovernorAction {
    governor: Arc<Governor>,
    verb: Verb,
}

#[async_trait]
impl NativeAction for GovernorAction {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        loop {
            let problem = match self.once(call).await {
                Ok(outcome) => return outcome,
                Err(problem) => problem,
            };
            if !problem.passes() || stop.is_raised() {
                return Outcome::error(problem.to_string());
            }
            tracing::warn!(execution = %call.execution, %problem, "the governor's action waits for the store");
            tokio::select! {
                () = stop.raised() => {}
                () = self.governor.pause(BETWEEN_TRIES) => {}
            }
        }
    }
}

impl GovernorAction {
    /// Each may be repeated although it was not heard that it was done.
    async fn once(&self, call: &Call) -> Done {
        match self.verb {
            Verb::Tick => tick(&self.governor).await,
            Verb::Alert => alert(&self.governor, call).await,
            Verb::Expand => expand(&self.governor, call).await,
            Verb::Deflate => deflate(&self.governor, call).await,
            Verb::NodePhase => node_phase(&self.governor, call).await,
            Verb::GroupInfo => group_info(&self.governor, call).await,
            Verb::Observe => observe(&self.governor, call).await,
            Verb::List => requested::list(&self.governor).await,
            Verb::Explain => requested::explain(&self.governor, call).await,
            Verb::Create => requested::create(&self.governor, call).await,
            Verb::Delete => requested::delete(&self.governor, call).await,
            Verb::AddNode => requested::add_node(&self.governor, call).await,
            Verb::DeleteNode => requested::delete_node(&self.governor, call).await,
            Verb::Approve => requested::approve(&self.governor, call).await,
            Verb::Deny => requested::deny(&self.governor, call).await,
            Verb::Load => load(&self.governor, call).await,
            Verb::Configure => configure(&self.governor, call).await,
        }
    }
}

async fn tick(governor: &Governor) -> Done {
    let report = governor.tick_all().await?;
    let result = json!(report);
    Ok(if report.problems.is_empty() { Outcome::succeeded(result) } else { Outcome::failed(result) })
}

#[derive(Deserialize)]
struct Alert {
    application: Option<String>,
    server: Option<String>,
    #[serde(default)]
    entities: Vec<String>,
    incident_key: String,
    severity: String,
    state: String,
    at: Option<Timestamp>,
}

async fn alert(governor: &Governor, call: &Call) -> Done {
    let alert: Alert = parameters(call)?;
    let state = match alert.state.as_str() {
        "closed" | "canceled" => IncidentState::Closed,
        "acknowledged" => IncidentState::Acknowledged,
        _ => IncidentState::Open,
    };
    let severity = if alert.severity == "critical" { Severity::Critical } else { Severity::Warning };
    if alert.severity == "info" && state != IncidentState::Closed {
        return Ok(Outcome::succeeded(json!({ "groups": {}, "ignored": "information only: not an incident" })));
    }
    let mut entities = alert.entities;
    entities.extend([alert.application, alert.server].into_iter().flatten());
    if entities.is_empty() {
        return Err(Problem::AboutNothing);
    }
    let report = Report { entities, key: alert.incident_key, severity, state, at: alert.at };
    let seen = governor.observe(&report).await?;
    let groups: Map<String, Value> =
        seen.iter().map(|(group, admission)| (group.to_string(), json!(admission.view()))).collect();
    Ok(Outcome::succeeded(json!({ "groups": groups })))
}

#[derive(Deserialize)]
struct Scale {
    asg: GroupName,
    by: Option<NodeCount>,
    #[serde(default)]
    force: bool,
}

impl Scale {
    const fn delays(&self) -> Delays {
        if self.force { Delays::Skip } else { Delays::Respect }
    }
}

async fn expand(governor: &Governor, call: &Call) -> Done {
    let scale: Scale = parameters(call)?;
    let request = Request::Expand { by: scale.by, delays: scale.delays(), origin: origin(call) };
    let answer = governor.admit_for(call.execution, &scale.asg, &request).await?;
    Ok(answered(&answer, &request))
}

async fn deflate(governor: &Governor, call: &Call) -> Done {
    let scale: Scale = parameters(call)?;
    let request = Request::Deflate { by: scale.by, delays: scale.delays(), origin: origin(call) };
    let answer = governor.admit_for(call.execution, &scale.asg, &request).await?;
    Ok(answered(&answer, &request))
}

#[derive(Deserialize)]
struct Progress {
    group: GroupName,
    node: NodeName,
    phase: NodePhase,
    address: Option<String>,
    port: Option<u16>,
}

async fn node_phase(governor: &Governor, call: &Call) -> Done {
    let Progress { group, node, phase, address, port } = parameters(call)?;
    let phase = governor.node_phase(&group, &NodeReport { node, phase, address, port }).await?;
    Ok(Outcome::succeeded(json!({ "phase": phase })))
}

#[derive(Deserialize)]
struct Info {
    group: GroupName,
}

async fn group_info(governor: &Governor, call: &Call) -> Done {
    let Info { group } = parameters(call)?;
    let mut info = json!(governor.get(&group).await?);
    info["lists"] = json!(governor.lists(&group).await?);
    Ok(Outcome::succeeded(info))
}

#[derive(Deserialize)]
struct Look {
    group: GroupName,
    began_at: Timestamp,
    #[serde(flatten)]
    seen: Seen,
}

async fn observe(governor: &Governor, call: &Call) -> Done {
    let Look { group, began_at, seen } = parameters(call)?;
    let drift = governor.observe_surroundings(&group, &seen, began_at).await?;
    Ok(Outcome::succeeded(json!({ "drift": drift })))
}

#[derive(Deserialize)]
struct LoadReport {
    asg: GroupName,
    load: Load,
}

async fn load(governor: &Governor, call: &Call) -> Done {
    let LoadReport { asg, load } = parameters(call)?;
    governor.report_load(&asg, load).await?;
    Ok(Outcome::succeeded(json!({ "load": load })))
}

#[derive(Deserialize)]
struct Configuration {
    asg: GroupName,
    config: Map<String, Value>,
}

async fn configure(governor: &Governor, call: &Call) -> Done {
    let Configuration { asg, config } = parameters(call)?;
    governor.configure(&asg, &config).await?;
    Ok(Outcome::succeeded(json!(governor.get(&asg).await?.config)))
}
