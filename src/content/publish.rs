//! Publishes a catalogue for all daemons over one store: checked first, whole or not at all.

use super::checks::check;
use super::{ContentError, ContentKeeper};
use crate::bus::Topic;
use crate::model::pack::Catalogue;
use crate::packs::diagnostic::Diagnostic;
use crate::packs::layout::SITE_PACK;
use crate::packs::publication::Publication;
use crate::store::StoreError;
use crate::store::catalogues::PublishedRow;

/// A publication without errors. There is no other way to publish.
#[derive(Debug)]
pub struct Checked {
    publication: Publication,
    digest: String,
    counts: Counts,
}

/// How much there is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Files of any kind.
    pub files: usize,
    /// Their bytes.
    pub size_bytes: usize,
    /// Packs, without the shipped ones and the site's own.
    pub packs: usize,
    /// Rules of those packs and of the site.
    pub rules: usize,
    /// Their actions, workflows among them.
    pub actions: usize,
}

/// Why it cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It has errors; all findings.
    #[error("{}", in_words(.0))]
    Bad(Vec<Diagnostic>),
    /// It could not be looked at.
    #[error(transparent)]
    Content(#[from] ContentError),
}

fn in_words(findings: &[Diagnostic]) -> String {
    let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
    format!("nothing was published: the catalogue has errors\n{}", shown.join("\n"))
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It holds from now on.
    Now(PublishedRow),
    /// It held already.
    Before(PublishedRow),
}

impl Checked {
    /// The digest of its content.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How much there is in it.
    pub const fn counts(&self) -> Counts {
        self.counts
    }
}

impl ContentKeeper {
    /// Loads it as a daemon would that has nothing else. Works on files: call it where one may block.
    pub fn check(&self, publication: Publication) -> Result<Checked, Refusal> {
        let drafting = |source| ContentError::Draft { source };
        let (_draft, roots) = self.origins.draft(&publication).map_err(drafting)?;
        let loaded = check(&roots, &self.runners);
        if loaded.has_errors() {
            return Err(Refusal::Bad(loaded.diagnostics));
        }
        let counts = self.count(&publication, &loaded.catalogue);
        Ok(Checked { digest: publication.digest(), publication, counts })
    }

    fn count(&self, publication: &Publication, catalogue: &Catalogue) -> Counts {
        let shipped =
            |pack: &str| catalogue.packs.get(pack).is_some_and(|pack| pack.path.starts_with(&self.origins.shipped));
        Counts {
            files: publication.file_count(),
            size_bytes: publication.size_bytes(),
            packs: catalogue.packs.keys().filter(|pack| *pack != SITE_PACK && !shipped(pack)).count(),
            rules: catalogue.rules.keys().filter(|rule| !shipped(rule.pack())).count(),
            actions: catalogue.actions.keys().filter(|action| !shipped(action.pack())).count(),
        }
    }

    /// Publishes it as the next version. [`StoreError::Conflict`]: somebody else has published meanwhile.
    pub async fn publish(&self, checked: &Checked, by: &str) -> Result<Published, StoreError> {
        let current = self.origins.catalogues.catalogue_current().await?;
        if let Some(row) = current.as_ref().filter(|row| row.digest.as_deref() == Some(checked.digest())) {
            return Ok(Published::Before(row.clone()));
        }
        let row = self.next(current.as_ref(), Some(checked.digest.clone()), by);
        self.origins.catalogues.catalogue_publish(&row, &checked.publication.to_bytes()).await?;
        Ok(self.told(row))
    }

    /// Publishes an earlier version once more, as the next one. It was checked when it was first published.
    pub async fn publish_again(&self, earlier: u64, by: &str) -> Result<Published, StoreError> {
        let kept = self.origins.catalogues.catalogue_list().await?;
        let digest = kept.iter().find(|row| row.version == earlier).and_then(|row| row.digest.clone());
        let Some(digest) = digest else {
            return Err(StoreError::NotFound(format!("a published catalogue of version {earlier}")));
        };
        let current = kept.first();
        if let Some(row) = current.filter(|row| row.digest.as_ref() == Some(&digest)) {
            return Ok(Published::Before(row.clone()));
        }
        let row = self.next(current, Some(digest), by);
        self.origins.catalogues.catalogue_publish_again(&row, earlier).await?;
        Ok(self.told(row))
    }

    /// Sends all daemons back to their own files.
    pub async fn unpublish(&self, by: &str) -> Result<Published, StoreError> {
        match self.origins.catalogues.catalogue_current().await? {
            None => Err(StoreError::NotFound("a published catalogue".to_owned())),
            Some(row) if row.digest.is_none() => Ok(Published::Before(row)),
            Some(current) => {
                let row = self.next(Some(&current), None, by);
                self.origins.catalogues.catalogue_withdraw(&row).await?;
                Ok(self.told(row))
            }
        }
    }

    /// All publications that are kept, the last one first.
    pub async fn publications(&self) -> Result<Vec<PublishedRow>, StoreError> {
        self.origins.catalogues.catalogue_list().await
    }

    fn next(&self, current: Option<&PublishedRow>, digest: Option<String>, by: &str) -> PublishedRow {
        let version = current.map_or(1, |row| row.version.saturating_add(1));
        PublishedRow { version, digest, published_by: by.to_owned(), published_at: self.clock.now() }
    }

    fn told(&self, row: PublishedRow) -> Published {
        self.bus.hint(Topic::Content);
        Published::Now(row)
    }
}
