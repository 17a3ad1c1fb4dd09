//! Where a demo plays: a folder that somebody names and keeps, or one of its own that vanishes when all went well.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::clock::{Clock, Ids, SystemIds};
use crate::config::process_environment;
use crate::private;

/// A folder that was empty at first.
#[derive(Debug)]
pub(super) enum Folder {
    /// Named by somebody.
    Kept(PathBuf),
    /// Made for this demo.
    Own(PathBuf),
}

impl Folder {
    /// The named folder, or one of its own among the temporary files.
    pub(super) fn make(named: Option<&Path>, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        if let Some(path) = named {
            return Ok(Self::Kept(empty(path)?));
        }
        let environment = process_environment();
        let parent = environment.get("TMPDIR").map_or("/tmp", String::as_str);
        let name = format!("petrel-demo-{:012x}", SystemIds::new(Arc::clone(clock)).random_u64() >> 16);
        let path = std::path::absolute(Path::new(parent).join(name))?;
        builder().create(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self::Own(path))
    }

    /// Where it is, absolutely.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) | Self::Own(path) => path,
        }
    }

    /// Leaves no trace of a folder of its own.
    pub(super) fn remove(self) -> anyhow::Result<()> {
        match self {
            Self::Kept(_) => Ok(()),
            Self::Own(path) => std::fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display())),
        }
    }
}

/// The story begins with nothing: what an earlier one has left would be counted as a difference.
fn empty(path: &Path) -> anyhow::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    private::ensure_folder(&path)?;
    let has_content = std::fs::read_dir(&path)?.next().is_some();
    anyhow::ensure!(!has_content, "{} is not empty; name a new folder, or leave out --data-dir", path.display());
    Ok(path)
}

fn builder() -> std::fs::DirBuilder {
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_named_folder_is_kept_and_must_be_empty_and_an_own_one_vanishes() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let parent = tempfile::tempdir().unwrap();
        let named = parent.path().join("new/folder");
        Folder::make(Some(&named), &clock).unwrap().remove().unwrap();
        assert!(named.is_dir());
        let refusal = Folder::make(Some(parent.path()), &clock).unwrap_err();
        assert!(refusal.to_string().contains("is not empty"), "{refusal}");

        let own = Folder::make(None, &clock).unwrap();
        let path = own.path().to_owned();
        assert!(path.is_dir() && path.is_absolute());
        own.remove().unwrap();
        assert!(!path.exists());
    }
}
