//! The daemon's own judgement of content, for whoever needs it: at each load, before a publication, in `petrel validate`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::chat::alias::{ChatAlias, Fault};
use crate::model::action::{Action, WORKFLOW_RUNNER};
use crate::model::pack::{Alias, Catalogue};
use crate::model::rule::Rule;
use crate::model::trigger::{Sensor, SensorSource};
use crate::packs::check::{Checks, CompileCheck, Problem, Runners};
use crate::packs::diagnostic::{Diagnostic, Report, Span};
use crate::packs::layout::{ContentRoots, label};
use crate::packs::load::{LastGood, Loaded, load};
use crate::rules::CompiledRule;
use crate::rules::commands::{EventDataInCommand, event_data_in_command};
use crate::sensors::mapping::{Mapper, Poller};
use crate::sensors::timers::Schedule;
use crate::workflows::{self, Bundle, CompileError};

/// Loads what lies below `roots` and checks it, as if nothing had been good before.
pub fn check(roots: &ContentRoots, runners: &Runners) -> Loaded {
    load_and_check(roots, &BTreeMap::new(), runners)
}

/// Loads what lies below `roots` and checks it.
pub(super) fn load_and_check(
    roots: &ContentRoots,
    last_good: &BTreeMap<String, LastGood>,
    runners: &Runners,
) -> Loaded {
    let mut loaded = load(roots, last_good, &Checks { runners, compile: &Compilers });
    loaded.diagnostics.extend(check_steps(&loaded.catalogue, &roots.site));
    loaded
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

    fn call(&self, rule: &Rule, action: &Action) -> Vec<Problem> {
        let found = event_data_in_command(rule, action).into_iter();
        let problem = |EventDataInCommand { parameter, what, help }: EventDataInCommand| {
            Problem::warning(&["action", "parameters", &parameter], what).with_help(Some(help))
        };
        found.map(problem).collect()
    }

    fn alias(&self, alias: &Alias) -> Vec<Problem> {
        let faults = ChatAlias::compile(alias).err().unwrap_or_default();
        let problem = |fault: Fault| {
            let path: Vec<&str> = fault.path.iter().map(String::as_str).collect();
            Problem::error(&path, fault.what.clone())
        };
        faults.into_iter().map(problem).collect()
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
fn check_steps(catalogue: &Catalogue, site: &Path) -> Vec<Diagnostic> {
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
