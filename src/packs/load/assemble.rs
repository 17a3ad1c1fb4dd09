//! From objects to the catalogue: cross-checks, last good versions, and what is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::pack::Catalogue;
use crate::model::trigger::TriggerType;
use crate::packs::check::{Checks, Problem, check_policy, spread};
use crate::packs::diagnostic::{Report, Severity};
use crate::packs::digest::sha256;

use super::object::{Item, Object, read_item};
use super::read::parse_good;
use super::{Loaded, Loading, Source};

/// Checks what was read; objects that fail are replaced by their last good version and all is checked again.
pub(super) fn finish(mut loading: Loading<'_>, checks: &Checks<'_>) -> Loaded {
    let catalogue = catalogue_of(&loading);
    let problems = check_all(&loading.objects, &catalogue, checks);
    let replaced = replace_failed(&mut loading, &problems);
    if replaced.is_empty() {
        return conclude(loading, catalogue, problems, &replaced);
    }
    report(&mut loading, problems.into_iter().filter(|(uid, _)| replaced.contains(uid)).collect());
    let catalogue = catalogue_of(&loading);
    let problems = check_all(&loading.objects, &catalogue, checks);
    conclude(loading, catalogue, problems, &replaced)
}

/// What was found, by unique id.
type Problems = BTreeMap<String, Vec<Problem>>;

fn catalogue_of(loading: &Loading<'_>) -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (reference, pack) in &loading.packs {
        catalogue.packs.insert(reference.clone(), Arc::new(pack.clone()));
    }
    for object in loading.objects.values() {
        match &object.parsed.value {
            Item::Trigger(item) => add_trigger_type(&mut catalogue, item),
            Item::Sensor(item, types) => {
                for declared in types {
                    add_trigger_type(&mut catalogue, declared);
                }
                catalogue.sensors.insert(item.reference.clone(), Arc::new((**item).clone()));
            }
            Item::Action(item) => {
                catalogue.actions.insert(item.reference.clone(), Arc::new((**item).clone()));
            }
            Item::Rule(item) => {
                catalogue.rules.insert(item.reference.clone(), Arc::new((**item).clone()));
            }
            Item::Alias(item) => {
                catalogue.aliases.insert(item.reference.clone(), Arc::new((**item).clone()));
            }
            Item::Policy(item) => {
                catalogue.policies.insert(item.reference.clone(), Arc::new((**item).clone()));
            }
        }
    }
    catalogue
}

/// Several sensors may declare one type; a file of its own says it best.
fn add_trigger_type(catalogue: &mut Catalogue, declared: &TriggerType) {
    let known = catalogue.trigger_types.entry(declared.reference.clone());
    let by_file = declared.metadata_file.starts_with("triggers/");
    let entry = known.or_insert_with(|| Arc::new(declared.clone()));
    if by_file {
        *entry = Arc::new(declared.clone());
    }
}

fn check_all(objects: &BTreeMap<String, Object>, catalogue: &Catalogue, checks: &Checks<'_>) -> Problems {
    let check = |object: &Object| match &object.parsed.value {
        Item::Trigger(_) => Vec::new(),
        Item::Sensor(item, _) => checks.sensor(item),
        Item::Action(item) => checks.action(item),
        Item::Rule(item) => checks.rule(item, catalogue),
        Item::Alias(item) => checks.alias(item, catalogue),
        Item::Policy(item) => check_policy(item, catalogue),
    };
    let found = objects.iter().map(|(uid, object)| (uid.clone(), check(object)));
    found.filter(|(_, problems)| !problems.is_empty()).collect()
}

/// Puts the last good version in the place of every object that was changed and is no good any more.
fn replace_failed(loading: &mut Loading<'_>, problems: &Problems) -> BTreeSet<String> {
    let mut replaced = BTreeSet::new();
    for (uid, found) in problems {
        if !found.iter().any(|problem| problem.severity == Severity::Error) {
            continue;
        }
        let (Some(object), Some(good)) = (loading.objects.get_mut(uid), loading.reader.last_good.get(uid)) else {
            continue;
        };
        if object.parsed.kept || *object.parsed.text == *good.text {
            continue;
        }
        let read = |node: &_, report: &mut Report| read_item(object.kind, node, &object.origin, report);
        let Some(parsed) = parse_good(good, &object.label, &read).filter(|parsed| parsed.value.uid() == *uid) else {
            continue;
        };
        replaced.insert(uid.clone());
        let bad = std::mem::replace(&mut object.parsed, parsed);
        loading.reader.superseded.insert(uid.clone(), bad);
        let (label, text) = (object.label.clone(), Arc::clone(&object.parsed.text));
        loading.reader.say_kept(uid, &label, &text);
    }
    replaced
}

/// Turns problems into diagnostics that point at the text they were found in.
fn report(loading: &mut Loading<'_>, problems: Problems) {
    for (uid, found) in problems {
        let Some(object) = loading.objects.get(&uid) else {
            continue;
        };
        let parsed = loading.reader.superseded.get(&uid).unwrap_or(&object.parsed);
        let mut report = Report::new(object.label.clone(), Arc::clone(&parsed.text));
        report.name_object(&uid);
        for problem in found {
            report.add(problem.severity, parsed.node.locate(&problem.path), problem.what);
            if let Some(help) = problem.help {
                report.help(help);
            }
        }
        loading.reader.diagnostics.extend(report.into_diagnostics());
    }
}

/// Marks what is broken and sums up; findings about `replaced` objects were reported with the text that was given up.
fn conclude(
    mut loading: Loading<'_>,
    mut catalogue: Catalogue,
    mut problems: Problems,
    replaced: &BTreeSet<String>,
) -> Loaded {
    for (uid, found) in &problems {
        if let Some(reason) = found.iter().find(|problem| problem.breaks) {
            catalogue.broken.insert(uid.clone(), reason.what.clone());
        }
    }
    problems.retain(|uid, _| !replaced.contains(uid));
    report(&mut loading, problems);
    let spread = spread(&mut catalogue);
    report(&mut loading, spread);
    keep_sources(&mut loading, &catalogue);
    let sources = std::mem::take(&mut loading.sources);
    let mut diagnostics = loading.reader.into_diagnostics();
    diagnostics.sort_by_key(|found| (found.file.clone(), found.span.map_or((0, 0), |span| (span.line, span.column))));
    Loaded { catalogue, diagnostics, sources }
}

/// What works is kept as good; what is broken keeps what was good before.
fn keep_sources(loading: &mut Loading<'_>, catalogue: &Catalogue) {
    for (uid, object) in &loading.objects {
        if !catalogue.broken.contains_key(uid) {
            loading.sources.insert(uid.clone(), object.parsed.source());
        } else if let Some(good) = loading.reader.last_good.get(uid) {
            let text: Arc<str> = good.text.as_str().into();
            let source = Source { file: good.file.clone(), sha256: sha256(&text), text };
            loading.sources.insert(uid.clone(), source);
        }
    }
}
