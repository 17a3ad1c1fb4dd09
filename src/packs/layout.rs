//! Which files are content, and of what kind: StackStorm's pack layout, and the site's own folders.

use std::io;
use std::path::{Path, PathBuf};

/// Where content lies.
#[derive(Debug, Clone, Default)]
pub struct ContentRoots {
    /// The site's root: `rules/` and `workflows/` are the pack `default`, `configs/` holds the packs' values.
    pub site: PathBuf,
    /// Folders of packs; a pack that is found twice is taken from the earlier one.
    pub packs: Vec<PathBuf>,
}

/// The pack that the site's own files form.
pub const SITE_PACK: &str = "default";

/// What a metadata file describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Trigger,
    Sensor,
    Action,
    Rule,
    Alias,
    Policy,
}

const PACK_FOLDERS: [(&str, Kind); 6] = [
    ("triggers", Kind::Trigger),
    ("sensors", Kind::Sensor),
    ("actions", Kind::Action),
    ("rules", Kind::Rule),
    ("aliases", Kind::Alias),
    ("policies", Kind::Policy),
];
const SITE_FOLDERS: [(&str, Kind); 2] = [("workflows", Kind::Action), ("rules", Kind::Rule)];

/// One metadata file of a pack.
#[derive(Debug, Clone)]
pub(crate) struct ContentFile {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    /// Relative to the pack: `actions/local.yaml`.
    pub(crate) metadata_file: String,
}

/// The metadata files of a pack, in StackStorm's order of kinds and then by name.
pub(crate) fn pack_files(pack: &Path) -> io::Result<Vec<ContentFile>> {
    files_in(pack, &PACK_FOLDERS)
}

/// The site's own metadata files.
pub(crate) fn site_files(site: &Path) -> io::Result<Vec<ContentFile>> {
    files_in(site, &SITE_FOLDERS)
}

fn files_in(root: &Path, folders: &[(&str, Kind)]) -> io::Result<Vec<ContentFile>> {
    let mut files = Vec::new();
    for (folder, kind) in folders {
        for path in sorted_entries(&root.join(folder))? {
            if is_metadata(&path) && path.is_file() {
                let metadata_file = format!("{folder}/{}", file_name(&path));
                files.push(ContentFile { kind: *kind, path, metadata_file });
            }
        }
    }
    Ok(files)
}

/// The folders directly below a folder of packs.
pub(crate) fn pack_folders(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = sorted_entries(root)?;
    folders.retain(|path| path.is_dir());
    Ok(folders)
}

/// `stem` with one of the extensions of metadata, if there is such a file.
pub(crate) fn find_metadata(folder: &Path, stem: &str) -> Option<PathBuf> {
    let candidates = ["yaml", "yml", "json"].map(|extension| folder.join(format!("{stem}.{extension}")));
    candidates.into_iter().find(|path| path.is_file())
}

/// How a file is shown to people: relative to the site where it lies in it.
pub(crate) fn label(path: &Path, site: &Path) -> String {
    path.strip_prefix(site).unwrap_or(path).display().to_string()
}

/// Entries of a folder by name, without the hidden ones; a folder that is not there has none.
pub(crate) fn sorted_entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| !file_name(path).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn is_metadata(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
