//! Collects what is to be published from disk.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{
    ContentFile, ContentPath, MOST_BYTES, MOST_FILES, PACKS_FOLDER, Publication, PublicationError, SITE_FOLDERS,
};
use crate::packs::layout::sorted_entries;

/// A pack to be published: its name and its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackFolder {
    /// By its `pack.yaml`; the name of its folder in the publication.
    pub reference: String,
    /// Where it lies.
    pub folder: PathBuf,
}

/// The content of a site and these packs. Hidden files and what editors and interpreters leave behind are passed over.
pub fn collect(site: &Path, packs: &[PackFolder]) -> Result<Publication, PublicationError> {
    let mut walk = Walk { found: Vec::new(), size_bytes: 0, boundary: canonical(site)? };
    for folder in SITE_FOLDERS {
        walk.add_entry(&site.join(folder), folder)?;
    }
    for pack in packs {
        walk.boundary = canonical(pack.folder.parent().unwrap_or(&pack.folder))?;
        walk.add_entry(&pack.folder, &format!("{PACKS_FOLDER}/{}", pack.reference))?;
    }
    Publication::new(walk.found.into_iter().map(Ok))
}

/// What a folder holds that a publication was unpacked to.
pub fn read_back(folder: &Path) -> Result<Publication, PublicationError> {
    let mut walk = Walk { found: Vec::new(), size_bytes: 0, boundary: canonical(folder)? };
    for top in SITE_FOLDERS.into_iter().chain([PACKS_FOLDER]) {
        walk.add_entry(&folder.join(top), top)?;
    }
    Publication::new(walk.found.into_iter().map(Ok))
}

struct Walk {
    found: Vec<(ContentPath, ContentFile)>,
    size_bytes: usize,
    /// No link may lead out of it.
    boundary: PathBuf,
}

impl Walk {
    /// Adds the file or folder at `path` as `name`; what is not there is nothing.
    fn add_entry(&mut self, path: &Path, name: &str) -> Result<(), PublicationError> {
        let metadata = match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(unreadable(path))?,
        };
        if metadata.is_symlink() && !canonical(path)?.starts_with(&self.boundary) {
            return Err(PublicationError::LinkLeaves(path.display().to_string()));
        }
        let metadata = std::fs::metadata(path).map_err(unreadable(path))?;
        if metadata.is_dir() {
            return self.add_folder(path, name);
        }
        if !metadata.is_file() {
            return Err(PublicationError::NoFile(path.display().to_string()));
        }
        self.add_file(path, name, &metadata)
    }

    fn add_folder(&mut self, folder: &Path, name: &str) -> Result<(), PublicationError> {
        if name.split('/').count() >= ContentPath::MOST_PARTS {
            let (path, why) = (folder.display().to_string(), "it is too deep, or links make a circle");
            return Err(PublicationError::BadPath { path, why });
        }
        for path in sorted_entries(folder).map_err(unreadable(folder))? {
            let entry = path.file_name().unwrap_or_default().to_str();
            let Some(entry) = entry else {
                let (path, why) = (path.display().to_string(), "its name is not UTF-8");
                return Err(PublicationError::BadPath { path, why });
            };
            if !is_left_over(entry) {
                self.add_entry(&path, &format!("{name}/{entry}"))?;
            }
        }
        Ok(())
    }

    /// Bounds are kept here already: what is too much is not read.
    fn add_file(&mut self, path: &Path, name: &str, metadata: &std::fs::Metadata) -> Result<(), PublicationError> {
        let size_bytes = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        if self.size_bytes.saturating_add(size_bytes) > MOST_BYTES {
            return Err(PublicationError::TooLarge);
        }
        if self.found.len() == MOST_FILES {
            return Err(PublicationError::TooMany);
        }
        let content = std::fs::read(path).map_err(unreadable(path))?;
        self.size_bytes = self.size_bytes.saturating_add(content.len());
        let executable = metadata.permissions().mode() & 0o111 != 0;
        self.found.push((name.parse()?, ContentFile { content, executable }));
        Ok(())
    }
}

/// What the loader passes over too: copies that editors leave behind, and what Python compiles beside its sources.
fn is_left_over(name: &str) -> bool {
    let endings = ["~", ".swp", ".swo", ".bak", ".orig", ".rej", ".tmp", ".pyc"];
    name == "__pycache__" || name.starts_with('#') || endings.iter().any(|ending| name.ends_with(ending))
}

fn canonical(path: &Path) -> Result<PathBuf, PublicationError> {
    path.canonicalize().map_err(unreadable(path))
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> PublicationError {
    move |source| PublicationError::Unreadable { path: path.display().to_string(), source }
}
