//! The shape of the house, held by a test: who may know whom, where SQL, the hour and child processes live, and how big
//! a file may grow. ARCHITECTURE.md says the same in words, and the first test compares the two.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Every module at the top of `src/` and the modules it may import. `-`: none. The same table stands in
/// ARCHITECTURE.md.
const MAY_KNOW: &[(&str, &str)] = &[
    ("model", "-"),
    ("memory", "-"),
    ("scripts", "memory"),
    ("templates", "-"),
    ("private", "-"),
    ("secrets", "private"),
    ("clock", "model"),
    ("bus", "model"),
    ("schema", "model"),
    ("runners", "model clock scripts"),
    ("store", "model clock private"),
    ("auth", "model secrets"),
    ("supervise", "model clock"),
    ("config", "model auth secrets private"),
    ("packs", "model schema private"),
    ("requests", "model store"),
    ("evaluation", "model store clock metrics"),
    ("intake", "model store bus clock secrets"),
    ("metrics", "model intake"),
    ("amqp", "model store bus clock supervise secrets config runners intake metrics"),
    ("datastore", "model store clock secrets templates"),
    ("cluster", "model store clock"),
    ("health", ""),
    ("timekeeping", "model store clock health"),
    ("housekeeping", "model store clock config"),
    ("sensors", "model store clock supervise intake cluster scripts"),
    ("local", "model clock private runners"),
    ("haproxy", "model clock runners"),
    ("dns", "model clock runners"),
    ("aws", "model clock runners"),
    ("ssh", "model templates runners"),
    ("prometheus", "model runners"),
    ("irc", "model store bus clock supervise cluster chat"),
    ("slack", "model store bus clock supervise secrets auth intake metrics runners cluster chat"),
    ("core_pack", "model store bus clock intake runners"),
    ("rules", "model store bus clock templates datastore requests evaluation scripts"),
    ("governor", "model store bus clock runners requests"),
    ("chat", "model store bus clock templates runners datastore requests"),
    ("workflows", "model store bus clock supervise runners datastore requests scripts"),
    (
        "dispatch",
        "model store bus clock supervise secrets schema templates runners datastore requests workflows metrics \
         evaluation",
    ),
    ("content", "model store bus clock packs rules sensors workflows chat"),
    (
        "api",
        "model store bus clock health supervise config secrets private auth schema templates packs intake rules \
         requests dispatch datastore runners sensors metrics content cluster chat",
    ),
    ("cli", "model clock config packs content"),
];

/// They put the parts together and know all of them; nobody below knows them.
const ROOTS: &[&str] = &["main", "lib", "daemon", "demo"];

/// The one place that reads the clocks of the machine.
const KNOWS_THE_HOUR: &[&str] = &["clock/mod.rs"];

/// The places that start processes. A guard is a process of its own between the daemon and what it runs; what is
/// detached is meant to outlive both. The demo is a supervisor of its own, of daemons and of the servers around them.
const STARTS_PROCESSES: &[&str] = &[
    "runners/process.rs",
    "runners/guard.rs",
    "runners/as_user.rs",
    "runners/detached.rs",
    "demo/child.rs",
    "demo/full/server.rs",
];

/// `cfg(test)` on something else than a module of tests, each for a reason.
const TEST_SEAMS: &[(&str, &str)] = &[("cli/output.rs", "answers caught in memory instead of standard output")];

const MOST_CODE_LINES: usize = 500;
/// Whoever composes must not begin to decide.
const MOST_CODE_LINES_IN_DAEMON: usize = 300;
const BANNED_NAMES: &[&str] = &["utils", "util", "common", "helper", "helpers", "misc", "manager", "data", "info"];
const BANNED_CRATES: &[&str] = &["serde_yml", "libyml", "openssl", "openssl-sys", "native-tls", "sqlx", "async-std"];
/// What is locked today, and a few more; raise it on purpose.
const MOST_LOCKED_CRATES: usize = 494;

#[test]
fn the_table_of_layers_is_the_one_in_the_paper() {
    let here: BTreeMap<String, BTreeSet<String>> =
        MAY_KNOW.iter().map(|(name, known)| ((*name).to_owned(), words(known))).collect();
    let paper = read("ARCHITECTURE.md");
    let table = paper.split("```layers\n").nth(1).and_then(|rest| rest.split("```").next());
    let table = table.expect("ARCHITECTURE.md has a block ```layers");
    let there: BTreeMap<String, BTreeSet<String>> = table
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, known)| (name.trim().to_owned(), words(known)))
        .collect();
    assert_eq!(here, there, "tests/it/architecture.rs and ARCHITECTURE.md disagree");
}

#[test]
fn dependencies_point_one_way() {
    let mut wrong = Vec::new();
    for (file, text) in production() {
        let me = module_of(&file);
        if ROOTS.contains(&me) {
            continue;
        }
        let Some((_, allowed)) = MAY_KNOW.iter().find(|(name, _)| *name == me) else {
            wrong.push(format!("{file}: `{me}` has no line in the table of layers"));
            continue;
        };
        let allowed = words(allowed);
        let strangers = imports(&text).into_iter().filter(|target| target != me && !allowed.contains(target));
        wrong.extend(strangers.map(|target| format!("{file}: `{me}` must not know `{target}`")));
    }
    assert_none(&wrong);
}

#[test]
fn the_layers_have_no_cycles() {
    let mut left: BTreeMap<&str, BTreeSet<String>> =
        MAY_KNOW.iter().map(|(name, known)| (*name, words(known))).collect();
    while let Some(lowest) = left.iter().find(|(_, known)| known.is_empty()).map(|(name, _)| *name) {
        left.remove(lowest);
        for known in left.values_mut() {
            known.remove(lowest);
        }
    }
    assert!(left.is_empty(), "these know each other in a circle, or somebody without a line: {left:?}");
}

#[test]
fn sql_lives_in_the_store() {
    let verbs = ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "CREATE TABLE ", "PRAGMA "];
    let outside = production().into_iter().filter(|(file, _)| !file.starts_with("store/"));
    let with_sql = outside.filter(|(_, text)| literals(text).iter().any(|text| verbs.iter().any(|v| text.contains(v))));
    assert_none(&with_sql.map(|(file, _)| format!("{file}: SQL outside of src/store")).collect::<Vec<_>>());
}

#[test]
fn one_file_reads_the_clock() {
    let readings = [
        "SystemTime::now",
        "Instant::now",
        "Timestamp::now",
        "Zoned::now",
        "Utc::now",
        "thread::sleep",
        "tokio::time::",
    ];
    assert_none(&users_of(&readings, KNOWS_THE_HOUR));
}

#[test]
fn few_files_start_processes() {
    assert_none(&users_of(&[" Command::new(", "(Command::new(", "process::Command::new("], STARTS_PROCESSES));
}

#[test]
fn files_introduce_themselves_and_are_named_by_what_they_own() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if !is_test(&file) && !text.starts_with("//!") {
            wrong.push(format!("{file}: the first line says why the file exists (`//!`)"));
        }
        let stem = file.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        if BANNED_NAMES.contains(&stem) {
            wrong.push(format!("{file}: name it by what it owns"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn only_tests_are_compiled_for_tests() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let mut marked = text.split("#[cfg(test)]").skip(1);
        let seam = TEST_SEAMS.iter().any(|(name, _)| *name == file);
        if !seam && marked.any(|rest| !is_module_of_tests(rest)) {
            wrong.push(format!("{file}: `cfg(test)` belongs on modules of tests; find a seam"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn files_stay_small() {
    let mut wrong = Vec::new();
    for (file, text) in production() {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count();
        let most = if file.starts_with("daemon/") { MOST_CODE_LINES_IN_DAEMON } else { MOST_CODE_LINES };
        if lines > most {
            wrong.push(format!("{file}: {lines} lines of code; look for the seam"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_folder_is_in_the_paper() {
    let paper = read("ARCHITECTURE.md");
    let mut places = BTreeSet::new();
    for (file, _) in sources() {
        match file.split_once('/') {
            None => places.extend((!ROOTS.contains(&module_of(&file))).then(|| file.clone())),
            Some(_) => {
                let folder = file.rsplit_once('/').map(|(folder, _)| folder).unwrap_or_default();
                places.extend((!is_test(&file)).then(|| format!("{folder}/")));
            }
        }
    }
    let missing = places.iter().filter(|place| !paper.contains(&format!("`{place}`")));
    assert_none(&missing.map(|place| format!("ARCHITECTURE.md does not say what `{place}` is")).collect::<Vec<_>>());
}

#[test]
fn the_lock_file_stays_lean() {
    let lock = read("Cargo.lock");
    let names: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    let banned: Vec<_> = BANNED_CRATES.iter().filter(|name| names.contains(name)).collect();
    assert!(banned.is_empty(), "banned crates in Cargo.lock: {banned:?}");
    assert!(names.len() <= MOST_LOCKED_CRATES, "{} crates are locked: raise the limit on purpose", names.len());
}

/// Files beside `owners` whose code has one of `words` in it.
fn users_of(words: &[&str], owners: &[&str]) -> Vec<String> {
    let others = production().into_iter().filter(|(file, _)| !owners.contains(&file.as_str()));
    let found = others.flat_map(|(file, text)| {
        let text = without_comments(&text);
        let used: Vec<_> = words.iter().filter(|word| text.contains(**word)).collect();
        used.into_iter().map(|word| format!("{file}: `{}` belongs into {owners:?}", word.trim())).collect::<Vec<_>>()
    });
    found.collect()
}

/// The modules at the top of the crate that a text names: `crate::a::b`, `use crate::{a::b, c}`. Paths with `super`
/// never leave their module by the house style.
fn imports(text: &str) -> BTreeSet<String> {
    let code = without_comments(text);
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{').and_then(|group| group.split_once('}')) {
            Some((group, _)) => found.extend(group.split(',').map(first_word)),
            None => found.extend([first_word(rest)]),
        }
    }
    let modules = modules();
    found.retain(|name| modules.contains(name));
    found
}

fn first_word(text: &str) -> String {
    text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// What stands between quotes, roughly: enough to find the verbs of SQL.
fn literals(text: &str) -> Vec<String> {
    without_comments(text).split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    code.collect::<Vec<_>>().join("\n")
}

fn modules() -> BTreeSet<String> {
    sources().keys().map(|file| module_of(file).to_owned()).collect()
}

fn module_of(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs") || file.contains("/tests/")
}

fn is_module_of_tests(marked: &str) -> bool {
    let item = marked.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#["));
    item.is_some_and(|line| line.starts_with("mod ") && line.trim_end_matches([';', '{', ' ']).ends_with("tests"))
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().filter(|word| *word != "-").map(str::to_owned).collect()
}

/// All sources without their tests.
fn production() -> BTreeMap<String, String> {
    let files = sources().into_iter().filter(|(file, _)| !is_test(file));
    files.map(|(file, text)| (file, before_tests(&text))).collect()
}

fn before_tests(text: &str) -> String {
    let mut parts = text.split("#[cfg(test)]");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.take_while(|part| !begins_with_tests(part)).fold(first, |kept, part| kept + part)
}

/// Tests that stand in this very file, and so end it.
fn begins_with_tests(marked: &str) -> bool {
    is_module_of_tests(marked) && !marked.lines().take(4).any(|line| line.trim_end().ends_with("tests;"))
}

/// Every Rust file below `src/` by its path from there.
fn sources() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
