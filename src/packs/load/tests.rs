use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::model::action::{Action, ParameterSpec};
use crate::model::rule::Rule;
use crate::packs::check::{CompileCheck, Problem, Runners};

const HOOK: &str = "trigger: {type: core.st2.webhook, parameters: {url: a}}";

/// A site in a folder of its own.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        let packs = Path::new(env!("CARGO_MANIFEST_DIR")).join("packs/core");
        site.write("packs/core/pack.yaml", &std::fs::read_to_string(packs.join("pack.yaml")).unwrap());
        for file in ["actions/local.yaml", "actions/noop.yaml", "triggers/webhook.yaml"] {
            site.write(&format!("packs/core/{file}"), &std::fs::read_to_string(packs.join(file)).unwrap());
        }
        site
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn remove(&self, file: &str) {
        std::fs::remove_file(self.folder.path().join(file)).unwrap();
    }

    fn roots(&self) -> ContentRoots {
        let site = self.folder.path().to_owned();
        ContentRoots { packs: vec![site.join("packs")], site }
    }

    fn load(&self) -> Loaded {
        self.load_after(&Loaded::default())
    }

    /// Loads with what was good in an earlier load.
    fn load_after(&self, earlier: &Loaded) -> Loaded {
        load(&self.roots(), &last_good(earlier), &Checks { runners: &runners(), compile: &NoCurses })
    }
}

fn last_good(loaded: &Loaded) -> BTreeMap<String, LastGood> {
    let good = |source: &Source| LastGood { file: source.file.clone(), text: source.text.to_string() };
    loaded.sources.iter().map(|(uid, source)| (uid.clone(), good(source))).collect()
}

fn runners() -> Runners {
    let cmd = ParameterSpec { schema: json!({"type": "string"}), ..ParameterSpec::default() };
    let of = |name: &str, parameters: &[&str]| {
        (name.to_owned(), parameters.iter().map(|name| ((*name).to_owned(), cmd.clone())).collect())
    };
    BTreeMap::from([of("local-shell-cmd", &["cmd", "cwd"]), of("noop", &[]), of("workflow", &[])])
}

/// A compiler that refuses descriptions with a curse in them.
struct NoCurses;

impl CompileCheck for NoCurses {
    fn rule(&self, rule: &Rule) -> Vec<Problem> {
        let cursed = rule.description.contains("damn");
        cursed.then(|| Problem::error(&["description"], "no curses")).into_iter().collect()
    }

    fn action(&self, action: &Action) -> Vec<Problem> {
        let cursed = action.description.contains("damn");
        cursed.then(|| Problem::error(&["description"], "no curses")).into_iter().collect()
    }
}

fn rule(name: &str, action: &str) -> String {
    format!("name: {name}\nenabled: true\n{HOOK}\naction:\n  {action}\n")
}

fn findings(loaded: &Loaded) -> Vec<String> {
    loaded
        .diagnostics
        .iter()
        .map(|found| format!("{} {}: {}", found.file, found.severity.as_str(), found.what))
        .collect()
}

fn has_rule(loaded: &Loaded, name: &str) -> bool {
    loaded.catalogue.rules.contains_key(&format!("default.{name}").parse().unwrap())
}

#[test]
fn a_good_site_loads_without_a_finding() {
    let site = Site::new();
    site.write("rules/a.yaml", &rule("a", "ref: core.local\n  parameters: {cmd: date}"));
    site.write("workflows/grow.yaml", "name: grow\ndescription: Grows.\nparameters: {group: {type: string}}\n");
    site.write("workflows/grow.rhai", "42");
    let loaded = site.load();
    assert_eq!(findings(&loaded), Vec::<String>::new());
    let action = &loaded.catalogue.actions[&"default.grow".parse().unwrap()];
    assert_eq!(action.runner, "workflow");
    assert_eq!(action.entry_point, site.folder.path().join("workflows/grow.rhai"));
    assert_eq!(loaded.sources["rule:default:a"].file, "rules/a.yaml");
    assert_eq!(loaded.catalogue.packs["core"].version, "1.0.0");
}

#[test]
fn one_bad_file_loses_only_itself() {
    let site = Site::new();
    site.write("rules/a.yaml", "name: a\naction: {ref: [\n");
    site.write("rules/b.yaml", &rule("b", "ref: core.noop"));
    std::fs::write(site.folder.path().join("rules/c.yaml"), [0xff, 0xfe]).unwrap();
    let loaded = site.load();
    assert!(has_rule(&loaded, "b") && !has_rule(&loaded, "a") && !has_rule(&loaded, "c"));
    let bad: Vec<&str> = loaded.diagnostics.iter().map(|found| found.file.as_str()).collect();
    assert_eq!(bad, ["rules/a.yaml", "rules/c.yaml"]);
    assert!(loaded.has_errors());
}

#[test]
fn a_pack_whose_pack_file_is_broken_still_has_its_actions() {
    let site = Site::new();
    site.write("packs/core/pack.yaml", "name: [");
    let loaded = site.load();
    assert!(loaded.catalogue.actions.contains_key(&"core.local".parse().unwrap()));
    assert!(findings(&loaded)[0].starts_with("packs/core/pack.yaml error: broken YAML"));
}

#[test]
fn a_file_that_breaks_keeps_its_last_good_version() {
    let site = Site::new();
    site.write("rules/a.yaml", &rule("a", "ref: core.noop"));
    let first = site.load();
    site.write("rules/a.yaml", "name: a\n\tenabled: true\n");
    let second = site.load_after(&first);
    assert!(has_rule(&second, "a"));
    assert_eq!(second.sources["rule:default:a"], first.sources["rule:default:a"], "also across the next restart");
    assert!(second.has_errors());
    assert!(findings(&second).iter().any(|found| found.contains("keeping the version of `rule:default:a`")));
    assert!(second.diagnostics.iter().all(|found| found.object.as_deref() == Some("rule:default:a")));
}

#[test]
fn a_change_that_does_not_compile_keeps_the_last_good_version() {
    let site = Site::new();
    let good = rule("a", "ref: core.noop");
    site.write("rules/a.yaml", &good);
    let first = site.load();
    site.write("rules/a.yaml", &format!("description: damn\n{good}"));
    let second = site.load_after(&first);
    let kept = &second.catalogue.rules[&"default.a".parse().unwrap()];
    assert_eq!(kept.description, "");
    assert_eq!(second.catalogue.broken, BTreeMap::new());
    assert!(second.diagnostics[0].what.starts_with("keeping the version of `rule:default:a`"));
    assert_eq!(
        second.diagnostics[1].render(),
        "\
error: no curses
 --> rules/a.yaml:1:14
  |
1 | description: damn
  |              ^^^^"
    );
}

#[test]
fn a_change_to_an_unknown_action_keeps_the_last_good_version() {
    let site = Site::new();
    site.write("rules/a.yaml", &rule("a", "ref: core.noop"));
    let first = site.load();
    site.write("rules/a.yaml", &rule("a", "ref: core.nop"));
    let second = site.load_after(&first);
    let kept = &second.catalogue.rules[&"default.a".parse().unwrap()];
    assert_eq!(kept.action.reference.as_str(), "core.noop");
    assert_eq!(second.catalogue.broken_rule(&kept.reference), None);
}

#[test]
fn what_depended_on_something_that_vanished_is_broken_and_not_deleted() {
    let site = Site::new();
    site.write("rules/a.yaml", &rule("a", "ref: core.noop"));
    let first = site.load();
    site.remove("packs/core/actions/noop.yaml");
    let second = site.load_after(&first);
    assert!(has_rule(&second, "a"));
    assert_eq!(second.catalogue.broken["rule:default:a"], "there is no action `core.noop`");
    assert_eq!(second.sources["rule:default:a"], first.sources["rule:default:a"]);
    site.write("packs/core/actions/noop.yaml", "name: noop\nrunner_type: noop\n");
    assert_eq!(site.load_after(&second).catalogue.broken, BTreeMap::new(), "it mends by itself");
}

#[test]
fn a_rule_is_broken_with_its_action() {
    let site = Site::new();
    site.write("packs/core/actions/py.yaml", "name: py\nrunner_type: run-python\nentry_point: py.py\n");
    site.write("rules/a.yaml", &rule("a", "ref: core.py"));
    let loaded = site.load();
    assert!(!loaded.has_errors(), "StackStorm would take it: {:?}", findings(&loaded));
    let reference = "default.a".parse().unwrap();
    let reason = loaded.catalogue.broken_rule(&reference).unwrap();
    assert!(reason.starts_with("its action `core.py` is broken: there is no runner `python-script` here"), "{reason}");
}

#[test]
fn a_rule_that_was_never_good_is_listed_as_broken() {
    let site = Site::new();
    site.write("rules/a.yaml", &rule("a", "ref: core.nop"));
    let loaded = site.load();
    assert!(has_rule(&loaded, "a"));
    assert!(!loaded.sources.contains_key("rule:default:a"));
    assert_eq!(
        loaded.diagnostics[0].render(),
        "\
error: there is no action `core.nop`
 --> rules/a.yaml:5:8
  |
5 |   ref: core.nop
  |        ^^^^^^^^
  |
  = help: did you mean `core.noop`?"
    );
}

#[test]
fn a_name_that_is_taken_twice_belongs_to_the_first_file() {
    let site = Site::new();
    site.write("rules/a.yaml", &rule("a", "ref: core.noop"));
    site.write("rules/b.yaml", &rule("a", "ref: core.local\n  parameters: {cmd: date}"));
    let loaded = site.load();
    assert_eq!(
        findings(&loaded),
        ["rules/b.yaml error: `rule:default:a` is already defined in rules/a.yaml; this one is left out",]
    );
    let rule = &loaded.catalogue.rules[&"default.a".parse().unwrap()];
    assert_eq!(rule.action.reference.as_str(), "core.noop");
}

#[test]
fn the_earlier_root_wins_when_a_pack_is_found_twice() {
    let site = Site::new();
    site.write("other/core/pack.yaml", "name: core\nversion: 9.9.9\n");
    let roots = site.roots();
    let packs: Vec<PathBuf> = vec![site.folder.path().join("other"), roots.packs[0].clone()];
    let roots = ContentRoots { packs, ..roots };
    let loaded = load(&roots, &BTreeMap::new(), &Checks { runners: &runners(), compile: &() });
    assert_eq!(loaded.catalogue.packs["core"].version, "9.9.9");
    assert!(loaded.catalogue.actions.is_empty(), "a pack is taken as a whole");
}

#[test]
fn a_folder_without_pack_file_is_named_and_left_out() {
    let site = Site::new();
    site.write("packs/stray/actions/a.yaml", "name: a\nrunner_type: noop\n");
    let loaded = site.load();
    assert_eq!(
        findings(&loaded),
        ["packs/stray warning: this folder has no pack.yaml, so it is not a pack and is left out",]
    );
}

#[test]
fn configuration_is_read_and_compared_with_its_schema() {
    let site = Site::new();
    site.write("packs/core/config.schema.yaml", "token: {type: string, secret: true, required: true}\n");
    site.write("configs/core.yaml", "token: x\ntokn: y\n");
    let loaded = site.load();
    let core = &loaded.catalogue.packs["core"];
    assert!(core.config_schema["token"].secret);
    assert_eq!(core.config["token"], "x");
    assert_eq!(
        findings(&loaded),
        [
            "configs/core.yaml warning: `token` is secret, and too short to be masked where it shows",
            "configs/core.yaml warning: the configuration schema of pack `core` has no `tokn`",
        ]
    );
}

#[test]
fn a_broken_configuration_keeps_its_last_good_values() {
    let site = Site::new();
    site.write("packs/core/config.schema.yaml", "token: {type: string}\n");
    site.write("configs/core.yaml", "token: x\n");
    let first = site.load();
    site.write("configs/core.yaml", "token: [\n");
    let second = site.load_after(&first);
    assert_eq!(second.catalogue.packs["core"].config["token"], "x");
}
