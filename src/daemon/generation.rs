//! Notices a database that is older than the daemon's last life: a backup that was put back. It starts frozen, because
//! what it remembers of nodes and activities may not be true any more.

use std::path::Path;

use anyhow::Context;

use super::engine::Engine;
use crate::private;
use crate::store::Contents;

const SETTING: &str = "generation";
const FILE: &str = "generation";
/// Written by `petrel restore`, so that the first start after it knows.
pub(super) const RESTORED: &str = "restored";

/// Compares the store's count of starts with the folder's own, and counts this one in both. Freezes if the store is
/// behind.
pub(super) async fn count_start(engine: &Engine, data_dir: &Path) -> anyhow::Result<()> {
    let contents = engine.store.contents();
    let of_store = generation_of_store(&contents).await?;
    let of_folder = generation_of_folder(data_dir).await?;
    if of_store < of_folder || contents.setting_get(RESTORED).await?.is_some() {
        engine.governor.freeze_after_restore(None).await?;
        contents.setting_put(RESTORED, None).await?;
        tracing::warn!(
            "the database is older than this data folder: it was restored from a backup. Everything is recorded and \
             nothing is done until `petrel thaw`; look at `petrel asg list` first"
        );
    }
    let next = of_store.max(of_folder) + 1;
    contents.setting_put(SETTING, Some(&next.to_string())).await?;
    let file = data_dir.join(FILE);
    private::replace_file(&file, next.to_string().as_bytes()).with_context(|| format!("writing {}", file.display()))
}

/// Whether a daemon was ever started over this store.
pub(super) async fn is_known(contents: &Contents) -> anyhow::Result<bool> {
    Ok(contents.setting_get(SETTING).await?.is_some() || contents.setting_get(RESTORED).await?.is_some())
}

async fn generation_of_store(contents: &Contents) -> anyhow::Result<u64> {
    let text = contents.setting_get(SETTING).await?.unwrap_or_default();
    Ok(text.parse().unwrap_or(0))
}

async fn generation_of_folder(data_dir: &Path) -> anyhow::Result<u64> {
    match tokio::fs::read_to_string(data_dir.join(FILE)).await {
        Ok(text) => Ok(text.trim().parse().unwrap_or(0)),
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(problem) => Err(problem).context("reading the data folder's generation"),
    }
}
