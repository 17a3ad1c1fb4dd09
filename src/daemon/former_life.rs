//! Under which name a daemon's former life held its leases: what it had under way need not wait until they run out.

use std::path::Path;

use anyhow::Context;

use crate::private;

const FILE: &str = "owner";

/// Writes down the name of this life; gives back that of the one before, if there was one.
pub(super) async fn exchange(data_dir: &Path, owner: &str) -> anyhow::Result<Option<String>> {
    let file = data_dir.join(FILE);
    let former = match tokio::fs::read_to_string(&file).await {
        Ok(text) => Some(text.trim().to_owned()).filter(|name| !name.is_empty()),
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => None,
        Err(problem) => return Err(problem).with_context(|| format!("reading {}", file.display())),
    };
    private::replace_file(&file, owner.as_bytes()).with_context(|| format!("writing {}", file.display()))?;
    Ok(former)
}
