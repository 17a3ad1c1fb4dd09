//! A site whose actions leave a line in a file for each time they really run, so that runs can be counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::support::site::Site;

/// Both ways to wait for a step: on a thread, and in the journal only.
pub(super) const PARKING: [&str; 2] = ["5s", "0"];

/// A pack `t`: `keyed` may be run again after a crash under the same execution id, `once` must not be; `fragile` fails
/// the first time; `slow_keyed` and `slow_once` say when they begin and take their time.
pub(super) fn site() -> Site {
    let site = Site::new();
    let folder = site.path().display().to_string();
    let line = |file: &str| format!("echo {{{{ tag }}}} $PETREL_EXECUTION_ID >> {folder}/{file}");
    let slow = |file: &str| format!("{}; sleep {{{{ seconds }}}}; {}", line("begun"), line(file));
    let fragile = format!("{}; mkdir {folder}/tried-{{{{ tag }}}} && exit 1; exit 0", line("fragile"));
    site.file("packs/t/pack.yaml", "name: t\nref: t\nversion: 1.0.0\n")
        .file("packs/t/actions/keyed.yaml", &action("keyed", "retry", &line("keyed")))
        .file("packs/t/actions/once.yaml", &action("once", "fail", &line("once")))
        .file("packs/t/actions/fragile.yaml", &action("fragile", "retry", &fragile))
        .file("packs/t/actions/slow_keyed.yaml", &action("slow_keyed", "retry", &slow("keyed")))
        .file("packs/t/actions/slow_once.yaml", &action("slow_once", "fail", &slow("once")))
        .setting("packs", &format!("{folder}/packs"))
}

fn action(name: &str, on_lost: &str, command: &str) -> String {
    format!(
        "name: {name}\nrunner_type: local-shell-cmd\non_lost: {on_lost}\nparameters:\n  tag: {{type: string}}\n  \
         seconds: {{type: number, default: 0.3}}\n  cmd:\n    immutable: true\n    default: '{command}'\n"
    )
}

/// A rule that runs an action on a webhook's body.
pub(super) fn rule(hook: &str, action: &str, parameters: &str) -> String {
    format!(
        "name: on_{hook}\nenabled: true\ntrigger:\n  type: core.st2.webhook\n  parameters: {{url: {hook}}}\naction:\n  \
         ref: {action}\n  parameters: {parameters}\n"
    )
}

/// The lines of a file of effects: tag and execution id.
pub(super) fn lines(site: &Site, file: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(site.path().join(file)).unwrap_or_default();
    let pair = |line: &str| line.split_once(' ').map(|(tag, id)| (tag.to_owned(), id.to_owned()));
    text.lines().filter_map(pair).collect()
}

/// Under which execution ids each tag ran.
pub(super) fn ids_by_tag(site: &Site, file: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tag, id) in lines(site, file) {
        found.entry(tag).or_default().insert(id);
    }
    found
}

/// How often each tag ran.
pub(super) fn times_by_tag(site: &Site, file: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (tag, _) in lines(site, file) {
        *found.entry(tag).or_default() += 1;
    }
    found
}
