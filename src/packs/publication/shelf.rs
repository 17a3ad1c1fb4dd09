//! Where a daemon keeps publications unpacked: `<folder>/<version>/`, written beside and renamed, so that a half-written
//! one is never used.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::collect::read_back;
use super::{PACKS_FOLDER, Publication};
use crate::packs::layout::ContentRoots;
use crate::private::Readers;

/// A folder of unpacked publications. One daemon's own.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    readers: Readers,
    drafts: AtomicU64,
}

/// A publication on disk that goes when this is dropped.
#[derive(Debug)]
pub struct Draft {
    folder: PathBuf,
}

impl Shelf {
    /// Below this folder, which need not exist yet, for its owner only.
    pub const fn new(folder: PathBuf) -> Self {
        Self::with_readers(folder, Readers::Owner)
    }

    /// The same for these readers.
    pub const fn with_readers(folder: PathBuf, readers: Readers) -> Self {
        Self { folder, readers, drafts: AtomicU64::new(0) }
    }

    /// The unpacked `version`, if it lies here and still has this digest.
    pub fn find(&self, version: u64, digest: &str) -> Option<PathBuf> {
        let folder = self.folder_of(version);
        let found = folder.is_dir().then(|| read_back(&folder))?;
        match found {
            Ok(publication) if publication.digest() == digest => Some(folder),
            Ok(_) => None,
            Err(problem) => {
                tracing::debug!(folder = %folder.display(), %problem, "an unpacked catalogue is unpacked again");
                None
            }
        }
    }

    /// Unpacks it as `version`, in the place of whatever lies there.
    pub fn put(&self, version: u64, publication: &Publication) -> io::Result<PathBuf> {
        let target = self.folder_of(version);
        let draft = self.draft(publication)?;
        if target.exists() {
            std::fs::remove_dir_all(&target)?;
        }
        std::fs::rename(&draft.folder, &target)?;
        Ok(target)
    }

    /// Unpacks it to be looked at.
    pub fn draft(&self, publication: &Publication) -> io::Result<Draft> {
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        let draft = Draft { folder: self.folder.join(format!("{}{number}", draft_prefix())) };
        write_below(&draft.folder, publication, self.readers)?;
        Ok(draft)
    }

    /// Removes all but these versions, and the drafts of daemons that are no more.
    pub fn keep_only(&self, versions: &[u64]) -> io::Result<()> {
        let kept: Vec<String> = versions.iter().map(u64::to_string).collect();
        let ours = draft_prefix();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !kept.contains(&name) && !name.starts_with(&ours) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn folder_of(&self, version: u64) -> PathBuf {
        self.folder.join(version.to_string())
    }
}

fn draft_prefix() -> String {
    format!(".draft-{}-", std::process::id())
}

impl Draft {
    /// What is loaded from it, before `others`.
    pub fn roots(&self, others: Vec<PathBuf>) -> ContentRoots {
        roots_of(&self.folder, others)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.folder) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %self.folder.display(), %problem, "a temporary folder is left behind");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// What is loaded from the folder of a publication, before `others`.
pub fn roots_of(folder: &Path, others: Vec<PathBuf>) -> ContentRoots {
    let packs = [folder.join(PACKS_FOLDER)].into_iter().chain(others).collect();
    ContentRoots { site: folder.to_owned(), packs }
}

fn write_below(folder: &Path, publication: &Publication, readers: Readers) -> io::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?; // of a daemon with our number, before the machine was started again
    }
    readers.create_folder(folder)?;
    for (path, file) in publication.files() {
        // Configurations hold credentials, and no script reads them.
        let readers = if path.as_str().starts_with("configs/") { Readers::Owner } else { readers };
        let target = folder.join(path.as_str());
        readers.create_folder(target.parent().unwrap_or(folder))?;
        readers.write_file(&target, &file.content, file.executable)?;
    }
    Ok(())
}
