//! The actions for the role `dns`: names of nodes in a hosted zone of Route 53.

use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::hosted_zone::{Removed, Written};
use super::naming::{below, domain_name};
use super::pack::Pack;
use super::record_sets::{Claim, RecordSet, Target, held};
use crate::model::access::Permission;
use crate::runners::native::{Native, NativeAction, answer};
use crate::runners::{Call, Outcome, Stop};

/// Short, because the name of a node that is gone must not be believed for long.
const DEFAULT_TTL_SECONDS: u32 = 30;

pub(super) fn add_actions(native: &mut Native, pack: &Pack) {
    native.add("aws.upsert_record", Permission::GroupOperate, Arc::new(UpsertRecord(pack.clone())));
    native.add("aws.delete_record", Permission::GroupOperate, Arc::new(DeleteRecord(pack.clone())));
    native.add("aws.list_records", Permission::ExecutionRun, Arc::new(ListRecords(pack.clone())));
    native.add("aws.create_zone", Permission::GroupWrite, Arc::new(CreateZone(pack.clone())));
    native.add("aws.delete_zone", Permission::GroupWrite, Arc::new(DeleteZone(pack.clone())));
}

struct UpsertRecord(Pack);

#[derive(Deserialize)]
struct Upsert {
    domain: String,
    name: String,
    #[serde(rename = "type", default = "address")]
    kind: String,
    data: String,
}

/// What the configuration and the call say about all records.
#[derive(Deserialize)]
struct Lasting {
    ttl: Option<u32>,
}

#[async_trait]
impl NativeAction for UpsertRecord {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |upsert: Upsert| {
            let Upsert { domain, name, kind, data } = upsert;
            let aws = self.0.aws(call)?;
            let claim = Claim::new(below(&domain, &name)?, aws.settings.owner.as_deref())?;
            let Lasting { ttl } = aws.settings.part().context("`ttl` is in seconds")?;
            let target = Target::new(&kind, &data, ttl.unwrap_or(DEFAULT_TTL_SECONDS))?;
            let zone = aws.zone(&claim.name).await?;
            let written = aws.point(&zone, &claim, &target).await?;
            Ok(json!({
                "name": claim.name,
                "type": target.kind(),
                "data": target.address,
                "ttl": target.ttl_seconds,
                "owner": claim.owner,
                "zone": zone.name,
                "created": written == Written::Created,
            }))
        })
        .await
    }
}

struct DeleteRecord(Pack);

#[derive(Deserialize)]
struct Delete {
    domain: String,
    name: String,
}

#[async_trait]
impl NativeAction for DeleteRecord {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |Delete { domain, name }: Delete| {
            let aws = self.0.aws(call)?;
            let claim = Claim::new(below(&domain, &name)?, aws.settings.owner.as_deref())?;
            // Where there is no zone there is no name.
            let Some(zone) = aws.zone_of(&claim.name).await? else {
                return Ok(json!({ "name": claim.name, "zone": null, "deleted": false }));
            };
            let removed = aws.free(&zone, &claim).await?;
            let mut said = json!({ "name": claim.name, "zone": zone.name, "deleted": removed == Removed::Now });
            // What is not ours is not there to be deleted: whoever undoes a claim that was refused is done.
            if let Removed::SomebodyElses(why) = removed {
                said["why"] = json!(why);
            }
            Ok(said)
        })
        .await
    }
}

/// A domain, with all below it.
#[derive(Deserialize)]
struct Domain {
    domain: String,
    #[serde(default)]
    create_hosted_zone: bool,
}

struct ListRecords(Pack);

#[async_trait]
impl NativeAction for ListRecords {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |Domain { domain, .. }: Domain| {
            let (aws, domain) = (self.0.aws(call)?, domain_name(&domain)?);
            let zone = aws.zone(&domain).await?;
            let held = held(&aws.records_in(&zone, &domain).await?, aws.settings.owner.as_deref());
            let names: Vec<&str> = held.iter().map(|(claim, _)| claim.name.as_str()).collect();
            let rows: Vec<Value> = held.iter().flat_map(|(claim, sets)| rows(claim, sets)).collect();
            Ok(json!({ "zone": zone.name, "names": names, "records": rows }))
        })
        .await
    }
}

struct CreateZone(Pack);

#[async_trait]
impl NativeAction for CreateZone {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |Domain { domain, create_hosted_zone }: Domain| {
            let (aws, domain) = (self.0.aws(call)?, domain_name(&domain)?);
            let there = aws.zone_of(&domain).await?;
            let created = there.is_none() && create_hosted_zone;
            let zone = match there {
                Some(zone) => zone,
                None if create_hosted_zone => aws.create_zone(&domain, &format!("{domain}-{}", call.execution)).await?,
                None => aws.zone(&domain).await?,
            };
            Ok(json!({ "domain": domain, "zone": zone.name, "hosted_zone_id": zone.id, "created": created }))
        })
        .await
    }
}

struct DeleteZone(Pack);

#[async_trait]
impl NativeAction for DeleteZone {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |Domain { domain, .. }: Domain| {
            let (aws, domain) = (self.0.aws(call)?, domain_name(&domain)?);
            let Some(zone) = aws.zone_of(&domain).await? else {
                return Ok(json!({ "domain": domain, "zone": null, "deleted": [], "zone_deleted": false }));
            };
            let held = held(&aws.records_in(&zone, &domain).await?, aws.settings.owner.as_deref());
            for (claim, _) in &held {
                aws.free(&zone, claim).await?;
            }
            let is_ours = zone.name == domain && zone.is_ours();
            let zone_deleted = is_ours && aws.delete_zone(&zone).await?;
            let names: Vec<&str> = held.iter().map(|(claim, _)| claim.name.as_str()).collect();
            Ok(json!({ "domain": domain, "zone": zone.name, "deleted": names, "zone_deleted": zone_deleted }))
        })
        .await
    }
}

fn rows(claim: &Claim, sets: &[RecordSet]) -> Vec<Value> {
    let of_set = |set: &RecordSet| {
        let row = |data: &String| {
            json!({
                "name": claim.name, "type": set.kind, "data": data, "ttl": set.ttl.parse::<u32>().ok(), "owner": claim.owner,
            })
        };
        set.values.iter().map(row).collect::<Vec<_>>()
    };
    sets.iter().flat_map(of_set).collect()
}

fn address() -> String {
    "A".to_owned()
}
