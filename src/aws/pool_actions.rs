//! The actions for the role `load_balancer`: nodes as targets of a target group.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::instances::{Instance, Which};
use super::pack::{OfGroup, Pack};
use super::settings::Settings;
use super::target_group::Deletion;
use super::targets::{Left, Target};
use crate::model::access::Permission;
use crate::model::group::GroupName;
use crate::model::node::NodeName;
use crate::model::time::deserialize_duration;
use crate::runners::native::{Native, NativeAction, answer};
use crate::runners::{Call, Outcome, Stop};

pub(super) fn add_actions(native: &mut Native, pack: &Pack) {
    native.add("aws.create_pool", Permission::GroupWrite, Arc::new(CreatePool(pack.clone())));
    native.add("aws.delete_pool", Permission::GroupWrite, Arc::new(DeletePool(pack.clone())));
    native.add("aws.add_backend", Permission::GroupOperate, Arc::new(AddBackend(pack.clone())));
    native.add("aws.drain_backend", Permission::GroupOperate, Arc::new(DrainBackend(pack.clone())));
    native.add("aws.remove_backend", Permission::GroupOperate, Arc::new(RemoveBackend(pack.clone())));
    native.add("aws.list_backends", Permission::ExecutionRun, Arc::new(ListBackends(pack.clone())));
}

struct CreatePool(Pack);

#[async_trait]
impl NativeAction for CreatePool {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |OfGroup { group }: OfGroup| {
            let (pool, created) = self.0.aws(call)?.create_pool(&group).await?;
            Ok(json!({ "group": group, "target_group": pool.name, "arn": pool.arn, "created": created }))
        })
        .await
    }
}

struct DeletePool(Pack);

#[async_trait]
impl NativeAction for DeletePool {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |OfGroup { group }: OfGroup| {
            let deletion = self.0.aws(call)?.delete_pool(&group).await?;
            let mut said = json!({ "group": group, "deleted": deletion == Deletion::Deleted });
            if let Deletion::Stays(why) = deletion {
                said["why"] = json!(why);
            }
            Ok(said)
        })
        .await
    }
}

struct AddBackend(Pack);

#[derive(Deserialize)]
struct Add {
    group: GroupName,
    name: NodeName,
    port: Option<NonZeroU16>,
    #[serde(default = "default_check", deserialize_with = "deserialize_duration")]
    within: Duration,
}

#[async_trait]
impl NativeAction for AddBackend {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |add: Add| {
            let Add { group, name, port, within } = add;
            let aws = self.0.aws(call)?;
            let pool = aws.target_group(&group).await?;
            let port = port.map(NonZeroU16::get);
            let (instance, target) = aws.add_target(&pool, &group, &name, port, within).await?;
            let mut said = row(&target, Some(&instance), &aws.settings);
            said["group"] = json!(group);
            said["target_group"] = json!(pool.name);
            Ok(said)
        })
        .await
    }
}

struct DrainBackend(Pack);

#[derive(Deserialize)]
struct Drain {
    group: GroupName,
    name: NodeName,
    #[serde(default = "default_drain", deserialize_with = "deserialize_duration")]
    within: Duration,
}

#[async_trait]
impl NativeAction for DrainBackend {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |drain: Drain| {
            let Drain { group, name, within } = drain;
            let aws = self.0.aws(call)?;
            let pool = aws.find_target_group(&aws.target_group_name(&group)?).await?;
            let left = match pool {
                Some(pool) => aws.drain_target(&pool, &group, &name, within).await?,
                None => Left::WasNotThere,
            };
            let (found, drained) = (left != Left::WasNotThere, left != Left::StillDraining);
            Ok(json!({ "group": group, "name": name, "found": found, "drained": drained }))
        })
        .await
    }
}

struct RemoveBackend(Pack);

#[derive(Deserialize)]
struct Remove {
    group: GroupName,
    name: NodeName,
}

#[async_trait]
impl NativeAction for RemoveBackend {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |Remove { group, name }: Remove| {
            let aws = self.0.aws(call)?;
            let pool = aws.find_target_group(&aws.target_group_name(&group)?).await?;
            let found = match pool {
                Some(pool) => aws.remove_target(&pool, &group, &name).await?,
                None => false,
            };
            Ok(json!({ "group": group, "name": name, "found": found, "deleted": found }))
        })
        .await
    }
}

struct ListBackends(Pack);

#[async_trait]
impl NativeAction for ListBackends {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |OfGroup { group }: OfGroup| {
            let aws = self.0.aws(call)?;
            let pool = aws.target_group(&group).await?;
            let instances = aws.instances(Which { group: Some(&group), ..Which::default() }).await?;
            let by_id: BTreeMap<&str, &Instance> = instances.iter().map(|it| (it.id.as_str(), it)).collect();
            let targets = aws.targets(&pool).await?;
            let rows = targets.iter().map(|target| row(target, by_id.get(target.id.as_str()).copied(), &aws.settings));
            Ok(json!({ "group": group, "target_group": pool.name, "backends": rows.collect::<Vec<_>>() }))
        })
        .await
    }
}

/// What is no node of the group is shown by the name that AWS gives it.
fn row(target: &Target, instance: Option<&Instance>, settings: &Settings) -> Value {
    let Target { id, port, health, reason, description } = target;
    json!({
        "name": instance.and_then(Instance::node).unwrap_or(id),
        "address": instance.and_then(|instance| instance.address(settings.address_type)),
        "port": port,
        "state": state(health),
        "health": health,
        "reason": reason,
        "description": description,
        "instance_id": id,
    })
}

/// In the words that all load balancers share: `maint` gets no requests and is meant to.
fn state(health: &str) -> &'static str {
    match health {
        "healthy" => "ready",
        "draining" | "unused" => "maint",
        _ => "down",
    }
}

/// ELBv2's own checks take five times half a minute.
const fn default_check() -> Duration {
    Duration::from_mins(4)
}

const fn default_drain() -> Duration {
    Duration::from_mins(1)
}
