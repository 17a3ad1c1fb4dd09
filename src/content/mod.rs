//! Keeps the catalogue: loads what was published or the daemon's own files, lays the API's own layer over them, remembers
//! what was good, hands the result to every engine, and does it again when something changed.

pub mod checks;
pub mod origin;
pub mod publish;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Topic};
use crate::clock::{self, Clock};
use crate::model::action::WORKFLOW_RUNNER;
use crate::model::pack::Catalogue;
use crate::packs::check::Runners;
use crate::packs::diagnostic::{Diagnostic, Report, Severity};
use crate::packs::layout::{ContentRoots, label};
use crate::packs::load::LastGood;
use crate::packs::metadata;
use crate::packs::metadata::rule::read_rule;
use crate::packs::publication::PublicationError;
use crate::packs::watch::{Fingerprint, Watcher};
use crate::packs::yaml::Node;
use crate::store::contents::RuleLayer;
use crate::store::{Contents, StoreError};
use crate::workflows;

use checks::load_and_check;
use origin::Origin;

pub use checks::{Compilers, check};
pub use origin::Origins;

/// A save is often several events: they are let settle.
const SETTLE: Duration = Duration::from_millis(200);
/// Changes that nobody announces (a network folder, a missed event) are found within this time.
const RESCAN: Duration = Duration::from_secs(10);
/// What another daemon changed in the store is found within this time, if nobody says so.
const LOOK: Duration = Duration::from_secs(2);

/// By uid: file and text.
type GoodVersions = BTreeMap<String, (String, String)>;

/// Who changes what the store holds of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// This daemon only: it hears of every change.
    Myself,
    /// Other daemons too: the store is looked at now and then.
    Others,
}

/// Why content could not be loaded. What was loaded before stays.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The store says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was published is damaged.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// What was published is not what is stored.
    #[error("the content of the published catalogue {version} does not have its digest; publish it again")]
    NotItself {
        /// Which one.
        version: u64,
    },
    /// The disk says no.
    #[error("cannot unpack the published catalogue {version}")]
    Unpack {
        /// Which one.
        version: u64,
        /// Why not.
        source: io::Error,
    },
    /// The disk says no.
    #[error("cannot unpack a catalogue to check it")]
    Draft {
        /// Why not.
        source: io::Error,
    },
}

/// Loads, watches, hands out.
pub struct ContentKeeper {
    origins: Origins,
    writers: Writers,
    contents: Contents,
    runners: Runners,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    catalogue: watch::Sender<Arc<Catalogue>>,
    diagnostics: Mutex<Arc<Vec<Diagnostic>>>,
    loaded: Mutex<Loaded>,
}

/// What was loaded last.
#[derive(Debug, Clone, Default)]
struct Loaded {
    origin: Origin,
    /// What the files looked like before they were loaded: what changes from then on is not loaded yet. Published
    /// catalogues do not change.
    files: Option<Fingerprint>,
    /// The number of the store's changes before.
    changes: Option<String>,
}

/// What a keeper works with.
pub struct Parts {
    /// Where content may come from.
    pub origins: Origins,
    /// Who else changes the store's part of it.
    pub writers: Writers,
    /// The store's part of it.
    pub contents: Contents,
    /// The parameters of all runners.
    pub runners: Runners,
    /// Tells of changes.
    pub bus: Arc<dyn Bus>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl std::fmt::Debug for ContentKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentKeeper")
    }
}

impl ContentKeeper {
    /// A keeper that hands out on `catalogue`; nothing is loaded yet.
    pub fn new(parts: Parts, catalogue: watch::Sender<Arc<Catalogue>>) -> Self {
        let Parts { origins, writers, contents, runners, bus, clock } = parts;
        let (diagnostics, loaded) = (Mutex::default(), Mutex::default());
        Self { origins, writers, contents, runners, bus, clock, catalogue, diagnostics, loaded }
    }

    /// What the last load found.
    pub fn diagnostics(&self) -> Arc<Vec<Diagnostic>> {
        Arc::clone(&self.diagnostics.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Loads everything and hands it out, if it differs from what is out.
    pub async fn reload(&self) -> Result<(), ContentError> {
        let changes = self.contents.content_changes().await?;
        let origin = self.origins.current().await?;
        let files = if origin.published.is_none() { Fingerprint::of(&origin.roots).ok() } else { None };
        self.load_from(&origin).await?;
        let before = std::mem::replace(&mut *self.loaded(), Loaded { origin: origin.clone(), files, changes });
        if origin.published != before.origin.published {
            tracing::info!(catalogue = self.catalogue.borrow().source(), "content comes from here now");
        }
        if let Err(problem) = self.origins.tidy(&origin, &before.origin) {
            tracing::warn!(%problem, "older catalogues could not be removed from the data folder");
        }
        Ok(())
    }

    async fn load_from(&self, origin: &Origin) -> Result<(), ContentError> {
        let roots = &origin.roots;
        let stored = self.contents.last_good_read().await?;
        let last_good = stored.clone().into_iter().map(|(uid, (file, text))| (uid, LastGood { file, text })).collect();
        let mut loaded = load_and_check(roots, &last_good, &self.runners);
        let layer = self.contents.rule_layer_read().await?;
        loaded.diagnostics.extend(apply_layer(&mut loaded.catalogue, &layer));
        let sources = loaded.sources.iter();
        let mut good: GoodVersions =
            sources.map(|(uid, source)| (uid.clone(), (source.file.clone(), source.text.to_string()))).collect();
        good.extend(good_scripts(&loaded.catalogue, &stored, &roots.site));
        self.contents.last_good_write(&good).await?;
        loaded.catalogue.published = origin.published;
        self.hand_out(loaded.catalogue);
        self.tell(loaded.diagnostics);
        Ok(())
    }

    fn hand_out(&self, mut catalogue: Catalogue) {
        self.catalogue.send_if_modified(|current| {
            catalogue.version = current.version;
            if same(current, &catalogue) {
                return false;
            }
            catalogue.version += 1;
            *current = Arc::new(catalogue);
            true
        });
    }

    /// Says what is new among the findings.
    fn tell(&self, found: Vec<Diagnostic>) {
        let mut current = self.diagnostics.lock().unwrap_or_else(PoisonError::into_inner);
        for diagnostic in found.iter().filter(|diagnostic| !current.contains(diagnostic)) {
            match diagnostic.severity {
                Severity::Error => tracing::error!(excerpt = %diagnostic, "content:"),
                Severity::Warning => tracing::warn!(excerpt = %diagnostic, "content:"),
                Severity::Note => {}
            }
        }
        *current = Arc::new(found);
    }

    /// Reloads whenever something changed, until the token is cancelled.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut hints = self.bus.listen(Topic::Content);
        let mut rounds = Rounds::new(self.writers, &*self.clock);
        let mut watched = Watched::default();
        let mut because = Because::Start;
        // Registered before the first look: what is saved in between is not missed.
        watched.follow(&self.loaded().origin);
        while !stop.is_cancelled() {
            let is_outdated = self.is_outdated(because).await?;
            if is_outdated {
                self.reload().await?;
            }
            if is_outdated {
                watched.follow(&self.loaded().origin);
            }
            because = tokio::select! {
                () = hints.heard() => Because::Hint,
                () = watched.poked(&*self.clock) => Because::Files,
                because = rounds.next(&*self.clock) => because,
                () = stop.cancelled() => because,
            };
        }
        Ok(())
    }

    async fn is_outdated(&self, because: Because) -> anyhow::Result<bool> {
        Ok(match because {
            Because::Hint => true,
            Because::Files => self.files_differ()?,
            Because::Store => self.store_differs().await?,
            Because::Start => self.files_differ()? || self.store_differs().await?,
        })
    }

    fn files_differ(&self) -> io::Result<bool> {
        let Loaded { origin, files, .. } = self.loaded().clone();
        Ok(origin.published.is_none() && files != Some(Fingerprint::of(&origin.roots)?))
    }

    async fn store_differs(&self) -> Result<bool, StoreError> {
        let now = self.contents.content_changes().await?;
        Ok(self.loaded().changes != now)
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why to look whether something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Because {
    /// Nobody has looked yet.
    Start,
    /// Somebody said that the store's part changed.
    Hint,
    /// Files may have changed.
    Files,
    /// Somebody may have changed the store's part without our hearing of it.
    Store,
}

/// When to look at what nobody announces.
#[derive(Debug)]
struct Rounds {
    scan_at: Duration,
    look_at: Duration,
}

impl Rounds {
    fn new(writers: Writers, clock: &dyn Clock) -> Self {
        let now = clock.monotonic();
        let look_at = if writers == Writers::Others { now.saturating_add(LOOK) } else { Duration::MAX };
        Self { scan_at: now.saturating_add(RESCAN), look_at }
    }

    /// Waits for the next round; may be let go of before, and asked again.
    async fn next(&mut self, clock: &dyn Clock) -> Because {
        let at = self.scan_at.min(self.look_at);
        clock::sleep(clock, at.saturating_sub(clock.monotonic())).await;
        if self.look_at < self.scan_at {
            self.look_at = clock.monotonic().saturating_add(LOOK);
            return Because::Store;
        }
        self.scan_at = clock.monotonic().saturating_add(RESCAN);
        Because::Files
    }
}

/// The files that are watched: the daemon's own, and none of a published catalogue.
#[derive(Debug, Default)]
struct Watched {
    now: Option<(Watcher, watch::Receiver<u64>)>,
}

impl Watched {
    /// Watches what is loaded now.
    fn follow(&mut self, origin: &Origin) {
        if origin.published.is_some() {
            self.now = None;
            return;
        }
        match &mut self.now {
            Some((watcher, _)) => watcher.renew(),
            None => self.now = begin_to_watch(&origin.roots),
        }
    }

    /// Returns a moment after a poke; what came within that moment counts as answered.
    async fn poked(&mut self, clock: &dyn Clock) {
        let Some((_, pokes)) = &mut self.now else {
            return std::future::pending().await;
        };
        // A clone hears it first: whoever lets go of us before the moment is over has not heard it yet.
        if pokes.clone().changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        clock::sleep(clock, SETTLE).await;
        pokes.mark_unchanged();
    }
}

fn begin_to_watch(roots: &ContentRoots) -> Option<(Watcher, watch::Receiver<u64>)> {
    let watcher = Watcher::new(roots).inspect_err(|problem| tracing::warn!(%problem, "hot reload")).ok()?;
    let pokes = watcher.subscribe();
    Some((watcher, pokes))
}

fn same(a: &Catalogue, b: &Catalogue) -> bool {
    a.published == b.published
        && a.packs == b.packs
        && a.actions == b.actions
        && a.trigger_types == b.trigger_types
        && a.sensors == b.sensors
        && a.rules == b.rules
        && a.policies == b.policies
        && a.aliases == b.aliases
        && a.broken == b.broken
}

/// The scripts of workflows as they are, or as they last compiled.
fn good_scripts(catalogue: &Catalogue, stored: &GoodVersions, site: &Path) -> GoodVersions {
    let workflows = catalogue.actions.values().filter(|action| action.runner == WORKFLOW_RUNNER);
    let good = workflows.filter_map(|action| {
        let uid = workflows::runner::bundle_uid(&action.reference);
        let version = match workflows::runner::load_bundle(&action.entry_point) {
            Ok(bundle) => (label(&action.entry_point, site), serde_json::json!(bundle.sources()).to_string()),
            Err(_) => stored.get(&uid)?.clone(),
        };
        Some((uid, version))
    });
    good.collect()
}

/// Lays switches and rules made through the API over what came from files.
fn apply_layer(catalogue: &mut Catalogue, layer: &[RuleLayer]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for entry in layer {
        if let Some(definition) = &entry.definition {
            let mut report =
                Report::new(format!("rule {} (made through the API)", entry.rule), definition.to_string().into());
            let pack = entry.rule.pack().to_owned();
            let origin = metadata::Origin { pack, folder: std::path::PathBuf::new(), metadata_file: String::new() };
            if let Some(rule) = read_rule(&Node::from_json(definition), &origin, &mut report) {
                catalogue.rules.insert(entry.rule.clone(), Arc::new(rule));
            }
            found.extend(report.into_diagnostics().into_iter().filter(|d| d.severity == Severity::Error));
        }
        if let (Some(enabled), Some(rule)) = (entry.enabled, catalogue.rules.get_mut(&entry.rule)) {
            Arc::make_mut(rule).enabled = enabled;
        }
    }
    found
}

#[cfg(test)]
mod tests;
