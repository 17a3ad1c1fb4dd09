//! `/cluster`: the daemons over this store, who does what alone, and how much there is to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::api::error::ApiResult;
use crate::api::gate::Authenticated;
use crate::clock::Clock;
use crate::cluster::{FORGOTTEN_AFTER, SEEN_EVERY};
use crate::model::pack::Catalogue;
use crate::model::time::Timestamp;
use crate::store::daemons::DaemonRow;
use crate::store::{Daemons, Events, Executions};

/// What this route reaches for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) daemons: Daemons,
    pub(super) events: Events,
    pub(super) executions: Executions,
    pub(super) me: DaemonRow,
    pub(super) catalogue: watch::Receiver<Arc<Catalogue>>,
    pub(super) clock: Arc<dyn Clock>,
}

pub(super) fn router(door: Door) -> Router {
    Router::new().route("/cluster", get(cluster)).with_state(door)
}

async fn cluster(State(door): State<Door>, _caller: Authenticated) -> ApiResult<Json<Value>> {
    let now = door.clock.now();
    let by_status = door.executions.execution_count_by_status().await?.into_iter();
    let by_status: Map<String, Value> = by_status.map(|(status, count)| (status.to_string(), json!(count))).collect();
    let under_way: BTreeMap<String, i64> = door.daemons.running_by_owner().await?.into_iter().collect();
    let daemons = door.daemons(now).await?;
    let daemons: Vec<Value> = daemons.iter().map(|daemon| shape(daemon, &under_way, now)).collect();
    let alone = door.daemons.lease_list(now).await?;
    let alone: Vec<Value> =
        alone.iter().map(|lease| json!({ "name": lease.name, "daemon": lease.owner, "until": lease.until })).collect();
    Ok(Json(json!({
        "daemons": daemons,
        "leases": alone,
        "pending_instances": door.events.instances_pending_count().await?,
        "executions_by_status": by_status,
    })))
}

impl Door {
    /// Those that are listed, and this one, which alone over its store need not say that it lives.
    async fn daemons(&self, now: Timestamp) -> ApiResult<Vec<DaemonRow>> {
        let mut daemons = self.daemons.daemon_list(now.minus(FORGOTTEN_AFTER)).await?;
        if daemons.iter().all(|daemon| daemon.owner != self.me.owner) {
            let catalogue = self.catalogue.borrow().source();
            daemons.push(DaemonRow { catalogue, seen_at: now, ..self.me.clone() });
        }
        Ok(daemons)
    }
}

fn shape(daemon: &DaemonRow, under_way: &BTreeMap<String, i64>, now: Timestamp) -> Value {
    let is_silent = now.since(daemon.seen_at) > SEEN_EVERY * 3;
    json!({
        "id": daemon.owner,
        "host": daemon.host,
        "pid": daemon.pid,
        "version": daemon.version,
        "roles": daemon.roles.split(',').collect::<Vec<_>>(),
        "api": daemon.api,
        "catalogue_version": daemon.catalogue,
        "state": if is_silent { "silent" } else { "alive" },
        "executions": under_way.get(&daemon.owner).copied().unwrap_or_default(),
        "started_at": daemon.started_at,
        "seen_at": daemon.seen_at,
    })
}
