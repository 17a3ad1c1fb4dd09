//! The actions of the pack `local`. All can be repeated: a second call finds what the first one did.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::nodes::{Knobs, LocalNodes, NodeStatus, Registration, Running};
use crate::clock::Clock;
use crate::model::access::Permission;
use crate::model::group::GroupName;
use crate::model::node::NodeName;
use crate::model::time::deserialize_duration;
use crate::runners::native::{Native, NativeAction, answer};
use crate::runners::{Call, Outcome, Stop};

/// Adds all actions of the pack.
pub fn add_actions(native: &mut Native, nodes: &Arc<LocalNodes>, clock: &Arc<dyn Clock>) {
    let create = CreateNode { nodes: Arc::clone(nodes), clock: Arc::clone(clock) };
    native.add("local.create_node", Permission::GroupOperate, Arc::new(create));
    native.add("local.delete_node", Permission::GroupOperate, Arc::new(DeleteNode(Arc::clone(nodes))));
    native.add("local.list_nodes", Permission::ExecutionRun, Arc::new(ListNodes(Arc::clone(nodes))));
    native.add("local.wait_ready", Permission::GroupOperate, Arc::new(WaitReady(Arc::clone(nodes))));
    native.add("local.crash_node", Permission::GroupOperate, Arc::new(CrashNode(Arc::clone(nodes))));
}

struct CreateNode {
    nodes: Arc<LocalNodes>,
    clock: Arc<dyn Clock>,
}

#[derive(Deserialize)]
struct Create {
    group: GroupName,
    name: NodeName,
    tag: String,
    size: Option<String>,
    #[serde(flatten)]
    knobs: Knobs,
}

#[async_trait]
impl NativeAction for CreateNode {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |create: Create| {
            let Create { group, name, tag, size, knobs } = create;
            let wanted = Registration { group, name, tag, size, knobs, created_at: self.clock.now() };
            let running = self.nodes.create(&wanted).await?;
            Ok(place(&wanted.group, &wanted.name, &running))
        })
        .await
    }
}

struct DeleteNode(Arc<LocalNodes>);

#[derive(Deserialize)]
struct Delete {
    group: GroupName,
    name: NodeName,
    tag: Option<String>,
    #[serde(default = "default_drain", deserialize_with = "deserialize_duration")]
    drain: Duration,
}

#[async_trait]
impl NativeAction for DeleteNode {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |delete: Delete| {
            let Delete { group, name, tag, drain } = delete;
            let found = self.0.delete(&group, &name, tag.as_deref(), drain).await?;
            Ok(json!({ "group": group, "name": name, "deleted": found }))
        })
        .await
    }
}

struct ListNodes(Arc<LocalNodes>);

#[derive(Deserialize)]
struct List {
    group: Option<GroupName>,
}

#[async_trait]
impl NativeAction for ListNodes {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |list: List| {
            let nodes = list.group.map_or_else(|| self.0.list(), |group| self.0.list_group(&group))?;
            Ok(json!({ "nodes": nodes.iter().map(row).collect::<Vec<_>>() }))
        })
        .await
    }
}

struct WaitReady(Arc<LocalNodes>);

#[derive(Deserialize)]
struct Wait {
    group: GroupName,
    name: NodeName,
    #[serde(default = "default_limit", deserialize_with = "deserialize_duration")]
    within: Duration,
}

#[async_trait]
impl NativeAction for WaitReady {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |wait: Wait| {
            let running = self.0.wait_ready(&wait.group, &wait.name, wait.within).await?;
            Ok(place(&wait.group, &wait.name, &running))
        })
        .await
    }
}

struct CrashNode(Arc<LocalNodes>);

#[derive(Deserialize)]
struct Crash {
    group: GroupName,
    name: NodeName,
}

#[async_trait]
impl NativeAction for CrashNode {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |crash: Crash| {
            let killed = self.0.crash(&crash.group, &crash.name)?;
            Ok(json!({ "group": crash.group, "name": crash.name, "crashed": killed }))
        })
        .await
    }
}

fn place(group: &GroupName, name: &NodeName, running: &Running) -> Value {
    json!({
        "group": group,
        "name": name,
        "address": running.address,
        "port": running.port,
        "url": running.url(),
        "pid": running.process.pid(),
    })
}

fn row(node: &NodeStatus) -> Value {
    let registration = node.registration.as_ref();
    let running = node.running.as_ref().filter(|_| node.state.is_alive());
    json!({
        "group": node.group,
        "name": node.name,
        "state": node.state,
        "alive": node.state.is_alive(),
        "tag": registration.map(|registration| &registration.tag),
        "size": registration.and_then(|registration| registration.size.as_ref()),
        "version": registration.map(|registration| &registration.knobs.version),
        "created_at": registration.map(|registration| registration.created_at),
        "address": running.map(|running| running.address),
        "port": running.map(|running| running.port),
        "url": running.map(Running::url),
        "pid": running.map(|running| running.process.pid()),
    })
}

const fn default_drain() -> Duration {
    Duration::from_secs(5)
}

const fn default_limit() -> Duration {
    Duration::from_mins(1)
}
