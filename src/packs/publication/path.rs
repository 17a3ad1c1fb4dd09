//! Where a published file lies: a path that stays where it belongs, whoever wrote it.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use super::{PACKS_FOLDER, PublicationError, SITE_FOLDERS};

/// What file systems take for one name.
const MOST_NAME_BYTES: usize = 255;

/// A path as `rules/restart_web.yaml` or `packs/github/actions/merge.py`: relative, without tricks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentPath(String);

impl ContentPath {
    /// Deeper is nothing that a pack needs; it also ends circles of links.
    pub(super) const MOST_PARTS: usize = 16;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders it lies in, from the outermost.
    pub(super) fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(end, _)| self.0.get(..end))
    }
}

impl FromStr for ContentPath {
    type Err = PublicationError;

    fn from_str(text: &str) -> Result<Self, PublicationError> {
        match wrong_with(text) {
            None => Ok(Self(text.to_owned())),
            Some(why) => Err(PublicationError::BadPath { path: text.chars().take(200).collect(), why }),
        }
    }
}

fn wrong_with(path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.split('/').collect();
    let first = parts.first().copied().unwrap_or_default();
    let names_what_is_not_published = parts.iter().any(|part| part.starts_with('.'));
    if parts.iter().any(|part| part.is_empty()) {
        Some("write it relative and without empty parts, as rules/a.yaml")
    } else if names_what_is_not_published {
        Some("no part of it may begin with a dot: it would leave its folder, or be hidden from the loader")
    } else if path.chars().any(|c| c.is_control() || c == '\\') {
        Some("control characters and backslashes have no place in it")
    } else if parts.iter().any(|part| part.len() > MOST_NAME_BYTES) {
        Some("a part of it is longer than 255 bytes")
    } else if parts.len() > ContentPath::MOST_PARTS {
        Some("it is deeper than 16 levels")
    } else if first == PACKS_FOLDER && parts.len() < 3 {
        Some("files of a pack lie in the pack's folder, as packs/github/pack.yaml")
    } else if first != PACKS_FOLDER && (!SITE_FOLDERS.contains(&first) || parts.len() < 2) {
        Some("only what lies below rules/, workflows/, configs/, profiles/ or packs/ is content")
    } else {
        None
    }
}

impl fmt::Display for ContentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for ContentPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}
