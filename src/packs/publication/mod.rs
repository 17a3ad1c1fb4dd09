//! A catalogue as it is published for many daemons: the content files of a site and its packs, as one bounded value.
//!
//! Files lie in it as in a site: `rules/`, `workflows/`, `configs/`, `profiles/`, and `packs/<pack>/`. Whoever unpacks it has a site.

pub mod collect;
mod path;
pub mod shelf;
pub mod wire;

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::packs::digest::sha256_of_bytes;

pub use path::ContentPath;

/// The folders of a site that are published.
pub(crate) const SITE_FOLDERS: [&str; 4] = ["rules", "workflows", "configs", "profiles"];
/// Packs, each in a folder of its own name.
pub(crate) const PACKS_FOLDER: &str = "packs";
/// More would not be content but somebody's home.
pub const MOST_FILES: usize = 5_000;
/// All of it travels in one request and lies in the store ten times.
pub const MOST_BYTES: usize = 32 * 1024 * 1024;

/// Why files cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublicationError {
    /// Nothing to publish.
    #[error("there is nothing to publish: no file below rules/, workflows/, configs/, profiles/ or a pack")]
    Empty,
    /// Too many files.
    #[error("there are more than {MOST_FILES} files; publish fewer")]
    TooMany,
    /// Too many bytes.
    #[error("the files have more than {} MiB in all; publish less", MOST_BYTES / 1024 / 1024)]
    TooLarge,
    /// A path that leads nowhere good.
    #[error("the path `{path}` cannot be published: {why}")]
    BadPath {
        /// The path.
        path: String,
        /// What is wrong with it, and what to write.
        why: &'static str,
    },
    /// Two files for one place.
    #[error("the file `{0}` comes twice, or lies below another file")]
    Twice(ContentPath),
    /// Text that should be base64.
    #[error("the content of `{0}` is no base64")]
    NotBase64(ContentPath),
    /// A link out of the folder.
    #[error("{0} is a link that leaves its folder; put what it points to in its place")]
    LinkLeaves(String),
    /// A pipe, a device.
    #[error("{0} is neither a file nor a folder; take it away")]
    NoFile(String),
    /// The system says no.
    #[error("cannot read {path}")]
    Unreadable {
        /// What.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// Bytes that are no publication.
    #[error("what was published cannot be read any more: {0}")]
    Damaged(&'static str),
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentFile {
    /// Its bytes.
    pub content: Vec<u8>,
    /// May it be run?
    pub executable: bool,
}

/// Files within bounds; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    files: BTreeMap<ContentPath, ContentFile>,
    size_bytes: usize,
}

/// The head of the stored form: the files' contents follow, in this order.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    path: String,
    size_bytes: usize,
    executable: bool,
}

impl Publication {
    /// Of these files, if they keep within the bounds.
    pub fn new(
        files: impl IntoIterator<Item = Result<(ContentPath, ContentFile), PublicationError>>,
    ) -> Result<Self, PublicationError> {
        let mut publication = Self { files: BTreeMap::new(), size_bytes: 0 };
        for file in files {
            let (path, file) = file?;
            publication.add(path, file)?;
        }
        publication.check_tree()?;
        Ok(publication)
    }

    fn add(&mut self, path: ContentPath, file: ContentFile) -> Result<(), PublicationError> {
        if self.files.len() == MOST_FILES {
            return Err(PublicationError::TooMany);
        }
        self.size_bytes = self.size_bytes.saturating_add(file.content.len());
        if self.size_bytes > MOST_BYTES {
            return Err(PublicationError::TooLarge);
        }
        match self.files.insert(path.clone(), file) {
            None => Ok(()),
            Some(_) => Err(PublicationError::Twice(path)),
        }
    }

    /// A folder on disk holds it only if no file is where another one's folder must be.
    fn check_tree(&self) -> Result<(), PublicationError> {
        if self.files.is_empty() {
            return Err(PublicationError::Empty);
        }
        let below_a_file = |path: &&ContentPath| path.folders().any(|folder| self.files.contains_key(folder));
        match self.files.keys().find(below_a_file) {
            None => Ok(()),
            Some(path) => Err(PublicationError::Twice(path.clone())),
        }
    }

    /// Path and file, in the order of paths.
    pub fn files(&self) -> impl Iterator<Item = (&ContentPath, &ContentFile)> {
        self.files.iter()
    }

    /// How many files.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Bytes of all files.
    pub const fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// As it is stored: equal publications have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let head = |(path, file): (&ContentPath, &ContentFile)| Head {
            path: path.to_string(),
            size_bytes: file.content.len(),
            executable: file.executable,
        };
        let heads: Vec<Head> = self.files().map(head).collect();
        let mut bytes = serde_json::json!(heads).to_string().into_bytes();
        bytes.push(b'\n');
        self.files().for_each(|(_, file)| bytes.extend_from_slice(&file.content));
        bytes
    }

    /// What [`Self::to_bytes`] gave, looked at as sternly as if it came from a stranger.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PublicationError> {
        let damaged = PublicationError::Damaged;
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no head"))?;
        let (head, mut rest) = bytes.split_at(end + 1);
        let heads: Vec<Head> = serde_json::from_slice(head).map_err(|_| damaged("its head is no list of files"))?;
        let publication = Self::new(heads.into_iter().map(|Head { path, size_bytes, executable }| {
            let (content, after) = rest.split_at_checked(size_bytes).ok_or_else(|| damaged("its end is missing"))?;
            rest = after;
            Ok((path.parse()?, ContentFile { content: content.to_owned(), executable }))
        }))?;
        if rest.is_empty() { Ok(publication) } else { Err(damaged("something follows its end")) }
    }

    /// The digest by which versions are told apart.
    pub fn digest(&self) -> String {
        sha256_of_bytes(&self.to_bytes())
    }
}

#[cfg(test)]
mod tests;
