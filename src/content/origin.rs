//! Where this daemon's content comes from: the catalogue that was published last for all daemons, or its own files.

use std::io;
use std::path::PathBuf;

use super::ContentError;
use crate::packs::layout::ContentRoots;
use crate::packs::publication::Publication;
use crate::packs::publication::shelf::{Draft, Shelf, roots_of};
use crate::store::Catalogues;
use crate::store::catalogues::PublishedRow;

/// Where content may come from.
#[derive(Debug)]
pub struct Origins {
    /// The daemon's own files, with the shipped packs as the last root.
    pub own: ContentRoots,
    /// The packs that travel in the binary.
    pub shipped: PathBuf,
    /// Where published catalogues lie unpacked.
    pub shelf: Shelf,
    /// What was published.
    pub catalogues: Catalogues,
}

/// What is loaded.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    pub(super) roots: ContentRoots,
    /// The published version; `None`: the daemon's own files.
    pub(super) published: Option<u64>,
}

impl Origins {
    /// What holds now. A published catalogue lies unpacked, and whole, when this returns.
    pub(super) async fn current(&self) -> Result<Origin, ContentError> {
        let Some(PublishedRow { version, digest: Some(digest), .. }) = self.catalogues.catalogue_current().await?
        else {
            return Ok(Origin { roots: self.own.clone(), published: None });
        };
        let folder = match self.shelf.find(version, &digest) {
            Some(folder) => folder,
            None => self.unpack(version, &digest).await?,
        };
        Ok(Origin { roots: roots_of(&folder, vec![self.shipped.clone()]), published: Some(version) })
    }

    async fn unpack(&self, version: u64, digest: &str) -> Result<PathBuf, ContentError> {
        let publication = Publication::from_bytes(&self.catalogues.catalogue_content(version).await?)?;
        if publication.digest() != digest {
            return Err(ContentError::NotItself { version });
        }
        let unpacking = |source: io::Error| ContentError::Unpack { version, source };
        let folder = self.shelf.put(version, &publication).map_err(unpacking)?;
        tracing::info!(version, files = publication.file_count(), "a published catalogue was unpacked");
        Ok(folder)
    }

    /// Removes what was unpacked before. The version that held until now stays: what was started from it may still
    /// read its files.
    pub(super) fn tidy(&self, now: &Origin, before: &Origin) -> io::Result<()> {
        match now.published {
            Some(version) => self.shelf.keep_only(&[version, before.published.unwrap_or(version)]),
            None => Ok(()),
        }
    }

    /// Unpacks it to be looked at.
    pub(super) fn draft(&self, publication: &Publication) -> io::Result<(Draft, ContentRoots)> {
        let draft = self.shelf.draft(publication)?;
        let roots = draft.roots(vec![self.shipped.clone()]);
        Ok((draft, roots))
    }
}
