//! The actions of the pack `dns`. All can be repeated: a second call finds what the first one did, also if the first
//! never heard so.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::records::{Claim, Held, Target, below, name_of, shown};
use super::settings::Settings;
use super::zone::{Removed, Written, Zone};
use crate::clock::Clock;
use crate::model::access::Permission;
use crate::model::pack::Catalogue;
use crate::runners::native::{Native, NativeAction, answer};
use crate::runners::{Call, Outcome, Stop};

/// Of the addresses for documentation: nobody is there.
const PROBE_ADDRESS: &str = "192.0.2.1";

/// Adds all actions of the pack. Its configuration is read at each call.
pub fn add_actions(native: &mut Native, catalogue: &watch::Receiver<Arc<Catalogue>>, clock: &Arc<dyn Clock>) {
    let pack = Pack { catalogue: catalogue.clone(), clock: Arc::clone(clock) };
    native.add("dns.upsert_record", Permission::GroupOperate, Arc::new(UpsertRecord(pack.clone())));
    native.add("dns.delete_record", Permission::GroupOperate, Arc::new(DeleteRecord(pack.clone())));
    native.add("dns.list_records", Permission::ExecutionRun, Arc::new(ListRecords(pack.clone())));
    native.add("dns.create_zone", Permission::GroupWrite, Arc::new(CreateZone(pack.clone())));
    native.add("dns.delete_zone", Permission::GroupWrite, Arc::new(DeleteZone(pack)));
}

#[derive(Clone)]
struct Pack {
    catalogue: watch::Receiver<Arc<Catalogue>>,
    clock: Arc<dyn Clock>,
}

impl Pack {
    fn settings(&self, call: &Call) -> anyhow::Result<Settings> {
        Settings::of(&self.catalogue.borrow(), &call.parameters)
    }
}

struct UpsertRecord(Pack);

#[derive(Deserialize)]
struct Upsert {
    domain: String,
    name: String,
    #[serde(rename = "type", default = "address")]
    kind: String,
    data: String,
    ttl: Option<u32>,
    owner: Option<String>,
}

#[async_trait]
impl NativeAction for UpsertRecord {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |upsert: Upsert| {
            let Upsert { domain, name, kind, data, ttl, owner } = upsert;
            let settings = self.0.settings(call)?;
            let claim = Claim::new(below(&domain, &name)?, owner.as_deref().or(settings.owner.as_deref()))?;
            let target = Target::new(&kind, &data, ttl.unwrap_or(settings.ttl_seconds))?;
            let mut zone = Zone::of(&claim.name, &settings, &self.0.clock).await?;
            let written = zone.upsert(&claim, &target).await?;
            Ok(json!({
                "name": shown(&claim.name),
                "type": target.kind().to_string(),
                "data": target.address,
                "ttl": target.ttl_seconds,
                "owner": claim.owner,
                "zone": shown(&zone.name),
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
    owner: Option<String>,
}

#[async_trait]
impl NativeAction for DeleteRecord {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |delete: Delete| {
            let Delete { domain, name, owner } = delete;
            let settings = self.0.settings(call)?;
            let claim = Claim::new(below(&domain, &name)?, owner.as_deref().or(settings.owner.as_deref()))?;
            let mut zone = Zone::of(&claim.name, &settings, &self.0.clock).await?;
            let removed = zone.delete(&claim).await?;
            let mut said = json!({ "name": shown(&claim.name), "zone": shown(&zone.name) });
            said["deleted"] = json!(removed == Removed::Now);
            // What is not ours is not there to be deleted: whoever undoes a claim that was refused is done.
            if let Removed::SomebodyElses(why) = removed {
                said["why"] = json!(why);
            }
            Ok(said)
        })
        .await
    }
}

/// A domain, and whose names in it.
#[derive(Deserialize)]
struct Domain {
    domain: String,
    owner: Option<String>,
}

struct ListRecords(Pack);

#[async_trait]
impl NativeAction for ListRecords {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |Domain { domain, owner }: Domain| {
            let (settings, domain) = (self.0.settings(call)?, name_of(&domain)?);
            let mut zone = Zone::of(&domain, &settings, &self.0.clock).await?;
            let held = zone.held(&domain, owner.as_deref().or(settings.owner.as_deref())).await?;
            Ok(json!({ "zone": shown(&zone.name), "names": names(&held), "records": rows(&held) }))
        })
        .await
    }
}

struct CreateZone(Pack);

#[async_trait]
impl NativeAction for CreateZone {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        let probe = format!("petrel-probe-{}", call.execution);
        answer(call, stop, async |Domain { domain, owner }: Domain| {
            let (settings, domain) = (self.0.settings(call)?, shown(&name_of(&domain)?));
            let name = below(&domain, &format!("{probe}.{domain}"))?;
            let claim = Claim::new(name, owner.as_deref().or(settings.owner.as_deref()))?;
            let target = Target::new("A", PROBE_ADDRESS, settings.ttl_seconds)?;
            let mut zone = Zone::of(&name_of(&domain)?, &settings, &self.0.clock).await?;
            zone.probe(&claim, &target).await?;
            Ok(json!({ "domain": domain, "zone": shown(&zone.name), "server": settings.server.to_string() }))
        })
        .await
    }
}

struct DeleteZone(Pack);

#[async_trait]
impl NativeAction for DeleteZone {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |Domain { domain, owner }: Domain| {
            let (settings, domain) = (self.0.settings(call)?, name_of(&domain)?);
            let mut zone = Zone::of(&domain, &settings, &self.0.clock).await?;
            let held = zone.held(&domain, owner.as_deref().or(settings.owner.as_deref())).await?;
            for held in &held {
                zone.delete(&held.claim).await?;
            }
            Ok(json!({ "domain": shown(&domain), "zone": shown(&zone.name), "deleted": names(&held) }))
        })
        .await
    }
}

fn names(held: &[Held]) -> Vec<String> {
    held.iter().map(|held| shown(&held.claim.name)).collect()
}

fn rows(held: &[Held]) -> Vec<Value> {
    let of_name = |held: &Held| {
        let Held { claim, addresses } = held;
        let row = addresses.iter().map(|address| {
            json!({
                "name": shown(&claim.name),
                "type": address.record_type().to_string(),
                "data": address.data.to_string(),
                "ttl": address.ttl,
                "owner": claim.owner,
            })
        });
        row.collect::<Vec<_>>()
    };
    held.iter().flat_map(of_name).collect()
}

fn address() -> String {
    "A".to_owned()
}
