//! The actions of the pack `prometheus`. All can be repeated: what is written says all there is, what is gone is gone, and a
//! question changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::query::{Settings, evaluate};
use super::targets::{Folder, Targets};
use crate::model::access::Permission;
use crate::model::group::GroupName;
use crate::model::pack::Catalogue;
use crate::runners::native::{Native, NativeAction, answer};
use crate::runners::{Call, Outcome, Stop};

/// Adds all actions of the pack. Its configuration is read at each call.
pub fn add_actions(native: &mut Native, catalogue: &watch::Receiver<Arc<Catalogue>>) {
    native.add("prometheus.write_targets", Permission::GroupOperate, Arc::new(WriteTargets(catalogue.clone())));
    native.add("prometheus.remove_targets", Permission::GroupOperate, Arc::new(RemoveTargets(catalogue.clone())));
    let http = reqwest::Client::new();
    native.add(
        "prometheus.query",
        Permission::ExecutionRun,
        Arc::new(Query { catalogue: catalogue.clone(), http: http.clone() }),
    );
    native.add(
        "prometheus.measure_load",
        Permission::ExecutionRun,
        Arc::new(MeasureLoad { catalogue: catalogue.clone(), http }),
    );
}

struct WriteTargets(watch::Receiver<Arc<Catalogue>>);

#[derive(Deserialize)]
struct Write {
    group: GroupName,
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[async_trait]
impl NativeAction for WriteTargets {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |write: Write| {
            let Write { group, targets, labels } = write;
            let (folder, count) = (Folder::of(&self.0.borrow())?, targets.len());
            folder.write(&group, &Targets::new(&group, targets, labels)?, call.execution).await?;
            Ok(json!({ "group": group, "targets": count, "file": folder.file(&group) }))
        })
        .await
    }
}

struct RemoveTargets(watch::Receiver<Arc<Catalogue>>);

#[derive(Deserialize)]
struct Remove {
    group: GroupName,
}

#[async_trait]
impl NativeAction for RemoveTargets {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |Remove { group }: Remove| {
            let folder = Folder::of(&self.0.borrow())?;
            let removed = folder.remove(&group).await?;
            Ok(json!({ "group": group, "removed": removed }))
        })
        .await
    }
}

struct Query {
    catalogue: watch::Receiver<Arc<Catalogue>>,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Question {
    query: String,
    #[serde(flatten)]
    said: Map<String, Value>,
}

#[async_trait]
impl NativeAction for Query {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |Question { query, said }: Question| {
            let settings = Settings::of(&self.catalogue.borrow(), &said)?;
            let evaluated = evaluate(&self.http, &settings, &query).await?;
            Ok(json!({ "type": evaluated.kind, "result": evaluated.result }))
        })
        .await
    }
}

struct MeasureLoad {
    catalogue: watch::Receiver<Arc<Catalogue>>,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct Measure {
    group: GroupName,
    #[serde(flatten)]
    said: Map<String, Value>,
}

#[async_trait]
impl NativeAction for MeasureLoad {
    async fn run(&self, call: &Call, stop: &Stop) -> Outcome {
        answer(call, stop, async |Measure { group, said }: Measure| {
            let settings = Settings::of(&self.catalogue.borrow(), &said)?;
            let query = settings.load_query(&group)?;
            let evaluated = evaluate(&self.http, &settings, &query).await?;
            let load =
                evaluated.number().with_context(|| format!("the load of `{group}` is not known by `{query}`"))?;
            Ok(json!({ "group": group, "load": load }))
        })
        .await
    }
}
