//! Has content changed? A poke from the operating system says when to look, a fingerprint says whether it is true.
//!
//! Pokes can be lost (network file systems, too many watches), so the caller also looks from time to time.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::packs::layout::{ContentRoots, sorted_entries};

/// The site's folders that hold content.
const SITE_FOLDERS: [&str; 3] = ["rules", "workflows", "configs"];
/// Content does not lie deeper below a root; ends circles of symbolic links.
const MAX_DEPTH: usize = 6;
/// More than this much of a file is not looked at: its size must tell.
const MAX_HASHED: u64 = 1 << 20;

/// What all content files look like; equal exactly if nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint {
    files: BTreeMap<PathBuf, Print>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Print {
    size_bytes: u64,
    sha256: [u8; 32],
}

impl Fingerprint {
    /// Looks at every file below the roots; one that vanishes while we look counts as absent.
    pub fn of(roots: &ContentRoots) -> io::Result<Self> {
        let mut print = Self::default();
        for folder in folders(roots) {
            print.add_folder(&folder, 0)?;
        }
        Ok(print)
    }

    fn add_folder(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        for path in sorted_entries(folder)? {
            if !path.is_dir() {
                self.add_file(path)?;
            } else if depth < MAX_DEPTH {
                self.add_folder(&path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: PathBuf) -> io::Result<()> {
        match print_of(&path) {
            Ok(print) => {
                self.files.insert(path, print);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }
}

fn print_of(path: &Path) -> io::Result<Print> {
    let metadata = std::fs::metadata(path)?;
    let size_bytes = metadata.len();
    let mut content = Vec::new();
    if metadata.is_file() {
        std::fs::File::open(path)?.take(MAX_HASHED).read_to_end(&mut content)?;
    }
    Ok(Print { size_bytes, sha256: Sha256::digest(&content).into() })
}

fn folders(roots: &ContentRoots) -> Vec<PathBuf> {
    let own = SITE_FOLDERS.iter().map(|name| roots.site.join(name));
    own.chain(roots.packs.iter().cloned()).collect()
}

/// Why files cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch files for changes; they are still looked at from time to time")]
pub struct WatchError(#[from] notify::Error);

/// Pokes whoever listens when something below the roots may have changed.
#[derive(Debug)]
pub struct Watcher {
    roots: ContentRoots,
    inner: RecommendedWatcher,
    poke: watch::Receiver<u64>,
}

impl Watcher {
    /// Begins to watch. Roots that do not exist yet are found by [`Self::renew`].
    pub fn new(roots: &ContentRoots) -> Result<Self, WatchError> {
        let (sender, poke) = watch::channel(0_u64);
        let inner = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let only_read = event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
            if !only_read {
                sender.send_modify(|count| *count = count.wrapping_add(1));
            }
        })?;
        let mut watcher = Self { roots: roots.clone(), inner, poke };
        watcher.renew();
        Ok(watcher)
    }

    /// A receiver that changes with every poke; pokes that nobody has looked at yet are one. A save is often several
    /// events, so wait a moment by your own clock before you look.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.poke.clone()
    }

    /// Watches what has come to be since. To be called after every load.
    pub fn renew(&mut self) {
        self.add(&self.roots.site.clone(), RecursiveMode::NonRecursive);
        for folder in folders(&self.roots) {
            self.add(&folder, RecursiveMode::Recursive);
        }
    }

    fn add(&mut self, folder: &Path, mode: RecursiveMode) {
        if folder.is_dir()
            && let Err(error) = self.inner.watch(folder, mode)
        {
            tracing::warn!(folder = %folder.display(), %error, "cannot watch a folder; it is looked at from time to time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> (tempfile::TempDir, ContentRoots) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("rules")).unwrap();
        std::fs::write(folder.path().join("rules/a.yaml"), "name: a\n").unwrap();
        let roots = ContentRoots { site: folder.path().to_owned(), packs: vec![folder.path().join("packs")] };
        (folder, roots)
    }

    #[test]
    fn a_fingerprint_changes_exactly_with_the_content() {
        let (folder, roots) = site();
        let before = Fingerprint::of(&roots).unwrap();
        assert_eq!(Fingerprint::of(&roots).unwrap(), before);
        std::fs::write(folder.path().join("rules/a.yaml"), "name: b\n").unwrap();
        let changed = Fingerprint::of(&roots).unwrap();
        assert_ne!(changed, before, "same size, other content");
        std::fs::write(folder.path().join("notes.txt"), "not content").unwrap();
        assert_eq!(Fingerprint::of(&roots).unwrap(), changed);
        std::fs::remove_file(folder.path().join("rules/a.yaml")).unwrap();
        assert_eq!(Fingerprint::of(&roots).unwrap(), Fingerprint::default());
    }

    #[tokio::test]
    async fn saving_a_file_pokes() {
        let (folder, roots) = site();
        let watcher = Watcher::new(&roots).unwrap();
        let mut poke = watcher.subscribe();
        std::fs::write(folder.path().join("rules/b.yaml"), "name: b\n").unwrap();
        poke.changed().await.unwrap();
    }
}
