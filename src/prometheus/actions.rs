//! The actions of the pack `prometheus`. Both can be repeated: what is written says all there is, and what is gone is gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::targets::{Folder, Targets};
use crate::model::group::GroupName;
use crate::model::pack::Catalogue;
use crate::runners::native::{Native, NativeAction, answer};
use crate::runners::{Call, Outcome, Stop};

/// Adds all actions of the pack. Its configuration is read at each call.
pub fn add_actions(native: &mut Native, catalogue: &watch::Receiver<Arc<Catalogue>>) {
    native.add("prometheus.write_targets", Arc::new(WriteTargets(catalogue.clone())));
    native.add("prometheus.remove_targets", Arc::new(RemoveTargets(catalogue.clone())));
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
