//! The actions for the role `provider`: instances of EC2 as nodes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::instances::{Instance, TAG_GROUP, TAG_IDEM, TAG_PORT, Which};
use super::node_wish::{NodeWish, Several};
use super::pack::Pack;
use super::settings::{AddressType, Settings};
use crate::model::access::Permission;
use crate::model::group::GroupName;
use crate::model::node::NodeName;
use crate::model::time::deserialize_duration;
use crate::runners::native::{Native, NativeAction, answer};
use crate::runners::{Call, Outcome, Stop};

pub(super) fn add_actions(native: &mut Native, pack: &Pack) {
    native.add("aws.create_node", Permission::GroupOperate, Arc::new(CreateNode(pack.clone())));
    native.add("aws.wait_ready", Permission::GroupOperate, Arc::new(WaitReady(pack.clone())));
    native.add("aws.delete_node", Permission::GroupOperate, Arc::new(DeleteNode(pack.clone())));
    native.add("aws.list_nodes", Permission::ExecutionRun, Arc::new(ListNodes(pack.clone())));
}

struct CreateNode(Pack);

#[derive(Deserialize)]
struct Create {
    group: GroupName,
    name: NodeName,
    tag: String,
    instance_type: Option<Several>,
    size: Option<String>,
}

#[async_trait]
impl NativeAction for CreateNode {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |create: Create| {
            let Create { group, name, tag, instance_type, size } = create;
            let aws = self.0.aws(call)?;
            let own_type = instance_type.or_else(|| size.map(Several::One));
            let wish = NodeWish::new(&aws.settings, group, name, tag, own_type)?;
            let made = aws.create(&wish).await?;
            Ok(row(&made, &aws.settings))
        })
        .await
    }
}

struct WaitReady(Pack);

#[derive(Deserialize)]
struct Wait {
    group: GroupName,
    name: NodeName,
    #[serde(default = "default_limit", deserialize_with = "deserialize_duration")]
    within: Duration,
    address_type: Option<AddressType>,
}

#[async_trait]
impl NativeAction for WaitReady {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |wait: Wait| {
            let Wait { group, name, within, address_type } = wait;
            let aws = self.0.aws(call)?;
            let (instance, address) = aws.wait_ready(&group, &name, address_type, within).await?;
            let mut said = row(&instance, &aws.settings);
            said["address"] = json!(address);
            Ok(said)
        })
        .await
    }
}

struct DeleteNode(Pack);

#[derive(Deserialize)]
struct Delete {
    group: GroupName,
    name: NodeName,
    tag: Option<String>,
}

#[async_trait]
impl NativeAction for DeleteNode {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |delete: Delete| {
            let Delete { group, name, tag } = delete;
            let which = Which { group: Some(&group), name: Some(&name), tag: tag.as_deref() };
            let found = self.0.aws(call)?.delete(which).await?;
            Ok(json!({ "group": group, "name": name, "deleted": found }))
        })
        .await
    }
}

struct ListNodes(Pack);

#[derive(Deserialize)]
struct List {
    group: Option<GroupName>,
}

#[async_trait]
impl NativeAction for ListNodes {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |list: List| {
            let aws = self.0.aws(call)?;
            let which = Which { group: list.group.as_ref(), ..Which::default() };
            let instances = aws.instances(which).await?;
            Ok(json!({ "nodes": instances.iter().map(|it| row(it, &aws.settings)).collect::<Vec<_>>() }))
        })
        .await
    }
}

fn row(instance: &Instance, settings: &Settings) -> Value {
    json!({
        "group": instance.tag(TAG_GROUP),
        "name": instance.node(),
        "state": instance.state.as_str(),
        "alive": instance.state.is_alive(),
        "tag": instance.tag(TAG_IDEM),
        "address": instance.address(settings.address_type),
        "port": instance.tag(TAG_PORT).and_then(|port| port.parse::<u16>().ok()),
        "instance_id": instance.id,
        "size": instance.size,
        "zone": instance.zone,
        "created_at": instance.launched_at,
    })
}

const fn default_limit() -> Duration {
    Duration::from_mins(5)
}
