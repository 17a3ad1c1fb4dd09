//! Keeps the catalogue: loads the files, lays the API's own layer over them, remembers what was good, publishes the
//! result to every engine, and does it again when something changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bus::{Bus, Topic};
use crate::clock::{self, Clock};
use crate::model::action::{Action, WORKFLOW_RUNNER};
use crate::model::pack::Catalogue;
use crate::model::rule::Rule;
use crate::model::trigger::{Sensor, SensorSource};
use crate::packs::check::{Checks, CompileCheck, Problem, Runners};
use crate::packs::diagnostic::{Diagnostic, Report, Severity, Span};
use crate::packs::layout::{ContentRoots, label};
use crate::packs::load::{LastGood, load};
use crate::packs::metadata::Origin;
use crate::packs::metadata::rule::read_rule;
use crate::packs::watch::{Fingerprint, Watcher};
use crate::packs::yaml::Node;
use crate::rules::CompiledRule;
use crate::sensors::mapping::{Mapper, Poller};
use crate::sensors::timers::Schedule;
use crate::store::contents::RuleLayer;
use crate::store::{Contents, StoreResult};
use crate::workflows::{self, Bundle, CompileError};

/// A save is often several events: they are let settle.
const SETTLE: Duration = Duration::from_millis(200);
/// Changes that nobody announces (a network folder, a missed event) are found within this time.
const RESCAN: Duration = Duration::from_secs(10);

/// By uid: file and text.
type GoodVersions = BTreeMap<String, (String, String)>;

/// Loads, watches, publishes.
pub struct ContentKeeper {
    roots: ContentRoots,
    contents: Contents,
    runners: Runners,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    catalogue: watch::Sender<Arc<Catalogue>>,
    diagnostics: Mutex<Arc<Vec<Diagnostic>>>,
    /// What the files looked like before the last load: what changes from then on is not loaded yet.
    loaded: Mutex<Option<Fingerprint>>,
}

impl std::fmt::Debug for ContentKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentKeeper")
    }
}

impl ContentKeeper {
    /// A keeper that publishes on `catalogue`; nothing is loaded yet.
    pub fn new(
        roots: ContentRoots,
        contents: Contents,
        runners: Runners,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        catalogue: watch::Sender<Arc<Catalogue>>,
    ) -> Self {
        Self {
            roots,
            contents,
            runners,
            bus,
            clock,
            catalogue,
            diagnostics: Mutex::default(),
            loaded: Mutex::default(),
        }
    }

    /// What the last load found.
    pub fn diagnostics(&self) -> Arc<Vec<Diagnostic>> {
        Arc::clone(&self.diagnostics.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Loads everything and publishes it, if it differs from what is published.
    pub async fn reload(&self) -> StoreResult<()> {
        let seen = Fingerprint::of(&self.roots).ok();
        let stored = self.contents.last_good_read().await?;
        let last_good = stored.clone().into_iter().map(|(uid, (file, text))| (uid, LastGood { file, text })).collect();
        let mut loaded = load(&self.roots, &last_good, &Checks { runners: &self.runners, compile: &Compilers });
        loaded.diagnostics.extend(check_steps(&loaded.catalogue, &self.roots.site));
        let layer = self.contents.rule_layer_read().await?;
        loaded.diagnostics.extend(apply_layer(&mut loaded.catalogue, &layer));
        let sources = loaded.sources.iter();
        let mut good: GoodVersions =
            sources.map(|(uid, source)| (uid.clone(), (source.file.clone(), source.text.to_string()))).collect();
        good.extend(good_scripts(&loaded.catalogue, &stored));
        self.contents.last_good_write(&good).await?;
        self.publish(loaded.catalogue);
        self.tell(loaded.diagnostics);
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        Ok(())
    }

    fn publish(&self, mut catalogue: Catalogue) {
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
                Severity::Error => tracing::error!("content:\n{diagnostic}"),
                Severity::Warning => tracing::warn!("content:\n{diagnostic}"),
                Severity::Note => {}
            }
        }
        *current = Arc::new(found);
    }

    /// Reloads whenever something changed, until the token is cancelled.
    pub async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut watcher = Watcher::new(&self.roots).inspect_err(|problem| tracing::warn!(%problem, "hot reload")).ok();
        let mut pokes = watcher.as_ref().map(Watcher::subscribe);
        let mut hints = self.bus.listen(Topic::Content);
        let mut because = Because::Files;
        while !stop.is_cancelled() {
            if because == Because::Hint || self.differs(&Fingerprint::of(&self.roots)?) {
                self.reload().await?;
                if let Some(watcher) = &mut watcher {
                    watcher.renew();
                }
            }
            because = self.next_change(pokes.as_mut(), &mut hints, &stop).await;
        }
        Ok(())
    }

    fn differs(&self, now: &Fingerprint) -> bool {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).as_ref() != Some(now)
    }

    async fn next_change(
        &self,
        pokes: Option<&mut watch::Receiver<u64>>,
        hints: &mut crate::bus::Hints,
        stop: &CancellationToken,
    ) -> Because {
        let poked = async {
            match pokes {
                Some(pokes) => settled(pokes, &*self.clock).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = hints.heard() => Because::Hint,
            () = poked => Because::Files,
            () = clock::sleep(&*self.clock, RESCAN) => Because::Files,
            () = stop.cancelled() => Because::Files,
        }
    }
}

/// Returns a moment after a poke; what came within that moment counts as answered.
async fn settled(pokes: &mut watch::Receiver<u64>, clock: &dyn Clock) {
    if pokes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    clock::sleep(clock, SETTLE).await;
    pokes.mark_unchanged();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Because {
    /// The API's layer changed.
    Hint,
    /// Files may have changed.
    Files,
}

fn same(a: &Catalogue, b: &Catalogue) -> bool {
    a.packs == b.packs
        && a.actions == b.actions
        && a.trigger_types == b.trigger_types
        && a.sensors == b.sensors
        && a.rules == b.rules
        && a.policies == b.policies
        && a.aliases == b.aliases
        && a.broken == b.broken
}

/// The compilers of every engine, for the loader's cross-checks.
#[derive(Debug)]
pub struct Compilers;

impl CompileCheck for Compilers {
    fn rule(&self, rule: &Rule) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(found) = CompiledRule::compile(rule) {
            problems.extend(found.into_iter().map(|problem| {
                let path: Vec<&str> = split_path(&problem.where_);
                Problem::error(&path, problem.message.clone()).with_help(Some(problem.help.clone()))
            }));
        }
        if is_timer(rule)
            && let Err(problem) = Schedule::parse(&rule.trigger)
        {
            problems.push(Problem::error(&["trigger", "parameters"], problem.to_string()));
        }
        problems
    }

    fn sensor(&self, sensor: &Sensor) -> Vec<Problem> {
        let problem = match &sensor.source {
            SensorSource::Webhook(hook) => {
                Mapper::compile(&hook.source, &hook.script.display().to_string()).err().map(|e| e.to_string())
            }
            SensorSource::Polling(poll) => {
                Poller::compile(&poll.source, &poll.script.display().to_string()).err().map(|e| e.to_string())
            }
            SensorSource::Python { .. } => None,
        };
        problem.into_iter().map(|problem| Problem::error(&["script"], problem)).collect()
    }
}

/// Only the first two levels are keys of the file; what follows may itself hold dots.
fn split_path(place: &str) -> Vec<&str> {
    place.splitn(if place.starts_with("criteria") { 2 } else { 3 }, '.').collect()
}

fn is_timer(rule: &Rule) -> bool {
    use crate::sensors::timers::{CRON_TIMER, DATE_TIMER, INTERVAL_TIMER};
    [INTERVAL_TIMER, CRON_TIMER, DATE_TIMER].contains(&rule.trigger.trigger_type.as_str())
}

/// Every step of a workflow that names its action in so many words names one that exists, with parameters it has. Files
/// are named as seen from `site`.
pub fn check_steps(catalogue: &Catalogue, site: &Path) -> Vec<Diagnostic> {
    let workflows = catalogue.actions.values().filter(|action| action.runner == WORKFLOW_RUNNER);
    workflows.flat_map(|action| check_workflow(action, catalogue, site)).collect()
}

fn check_workflow(action: &Action, catalogue: &Catalogue, site: &Path) -> Vec<Diagnostic> {
    match workflows::runner::load_bundle(&action.entry_point) {
        Ok(bundle) => check_bundle(action, &bundle, catalogue, site),
        Err(problem) if action.entry_point.is_file() => tell_place(action, &problem, site),
        Err(_) => Vec::new(), // the metadata's own check says so
    }
}

/// Where in the script, or in what it imports, the compiler stopped. The action is not refused for it: its last good
/// script works on, and without one the run says why.
fn tell_place(action: &Action, problem: &CompileError, site: &Path) -> Vec<Diagnostic> {
    let script = action.entry_point.with_file_name(format!("{}.rhai", problem.file));
    let source: Arc<str> = std::fs::read_to_string(&script).unwrap_or_default().into();
    let mut report = Report::new(label(&script, site), source);
    report.name_object(&action.reference.uid());
    let place = (problem.line > 0).then(|| Span::point(problem.line, problem.column.max(1)));
    report.error(place, problem.message.clone());
    report.into_diagnostics()
}

/// The scripts of workflows as they are, or as they last compiled.
fn good_scripts(catalogue: &Catalogue, stored: &GoodVersions) -> GoodVersions {
    let workflows = catalogue.actions.values().filter(|action| action.runner == WORKFLOW_RUNNER);
    let good = workflows.filter_map(|action| {
        let uid = workflows::runner::bundle_uid(&action.reference);
        let version = match workflows::runner::load_bundle(&action.entry_point) {
            Ok(bundle) => (action.entry_point.display().to_string(), serde_json::json!(bundle.sources()).to_string()),
            Err(_) => stored.get(&uid)?.clone(),
        };
        Some((uid, version))
    });
    good.collect()
}

fn check_bundle(action: &Action, bundle: &Bundle, catalogue: &Catalogue, site: &Path) -> Vec<Diagnostic> {
    let source: Arc<str> = std::fs::read_to_string(&action.entry_point).unwrap_or_default().into();
    let mut report = Report::new(label(&action.entry_point, site), source);
    report.name_object(&action.reference.uid());
    for call in workflows::lint(bundle) {
        let Some(reference) = &call.action else { continue };
        let place = Some(Span::point(call.line, call.column));
        match catalogue.actions.get(reference) {
            None => {
                report
                    .error(place, format!("step `{reference}` does not exist"))
                    .help("`petrel action list` shows what does; a pack may be missing");
            }
            Some(target) => {
                for name in call.params.iter().flatten().filter(|name| !target.parameters.contains_key(*name)) {
                    if !has_runner_parameters(target) {
                        report.error(place, format!("step `{reference}` has no parameter `{name}`"));
                    }
                }
            }
        }
    }
    report.into_diagnostics()
}

/// Parameters that come with a runner are checked when the step is planned.
fn has_runner_parameters(target: &Action) -> bool {
    !matches!(target.runner.as_str(), "workflow" | "native" | "rhai")
}

/// Lays switches and rules made through the API over what came from files.
fn apply_layer(catalogue: &mut Catalogue, layer: &[RuleLayer]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for entry in layer {
        if let Some(definition) = &entry.definition {
            let mut report =
                Report::new(format!("rule {} (made through the API)", entry.rule), definition.to_string().into());
            let pack = entry.rule.pack().to_owned();
            let origin = Origin { pack, folder: std::path::PathBuf::new(), metadata_file: String::new() };
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
