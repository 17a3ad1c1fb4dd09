//! An action's metadata.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::access::PERMISSIONS;
use crate::model::action::{Action, OnLost, ParameterSpec};
use crate::packs::diagnostic::Report;
use crate::packs::fields::Fields;
use crate::packs::metadata::{BOOKKEEPING, Origin, check_positions, read_parameters, read_reference, read_word};
use crate::packs::yaml::Node;

/// Old and new names of StackStorm's runners.
const ALIASES: [(&str, &str); 7] = [
    ("run-local", "local-shell-cmd"),
    ("run-local-script", "local-shell-script"),
    ("run-remote", "remote-shell-cmd"),
    ("run-remote-script", "remote-shell-script"),
    ("run-python", "python-script"),
    ("http-runner", "http-request"),
    ("orchestra", "orquesta"),
];

/// An action; in a folder of workflows the runner is `workflow` unless said otherwise.
pub fn read_action(node: &Node, origin: &Origin, report: &mut Report) -> Option<Action> {
    let mut fields = Fields::open(node, "action", report)?;
    let name = fields.required_text("name", report);
    let reference = read_reference(name, &mut fields, origin, report);
    let runner = read_runner(&mut fields, origin, report);
    let parameters = read_action_parameters(&mut fields, report);
    let output_schema = read_output_schema(&mut fields, report);
    let on_lost = read_word("on_lost", &[("fail", OnLost::Fail), ("retry", OnLost::Retry)], &mut fields, report);
    let permission = read_word("permission", &PERMISSIONS, &mut fields, report);
    let entry_point = fields.text("entry_point", report).unwrap_or_default();
    let description = fields.text("description", report).unwrap_or_default();
    let enabled = fields.flag("enabled", report).unwrap_or(true);
    let tags = fields.tags(report);
    let notify = fields.json("notify");
    fields.bookkeeping(BOOKKEEPING);
    fields.not_acted_on(&["content_version"], report);
    fields.finish(report);

    let (reference, runner) = (reference?, runner?);
    let permission = permission.transpose().ok()?;
    let on_lost = on_lost.transpose().ok()?.unwrap_or_else(|| default_on_lost(&runner));
    Some(Action {
        entry_point: find_entry_point(&runner, &entry_point, reference.name(), origin),
        reference,
        description,
        enabled,
        runner,
        parameters,
        output_schema,
        tags,
        notify,
        on_lost,
        permission,
        metadata_file: origin.metadata_file.clone(),
    })
}

/// Does the runner of this name run a file?
pub fn needs_file(runner: &str) -> bool {
    const RUN_FILES: [&str; 8] = [
        "local-shell-script",
        "remote-shell-script",
        "python-script",
        "workflow",
        "rhai",
        "orquesta",
        "action-chain",
        "winrm-ps-script",
    ];
    RUN_FILES.contains(&runner)
}

/// Runners whose actions can be run a second time, because nothing they do happens outside of Petrel or twice.
fn default_on_lost(runner: &str) -> OnLost {
    match runner {
        "noop" | "rhai" | "native" | "workflow" | "inquirer" | "announcement" => OnLost::Retry,
        _ => OnLost::Fail,
    }
}

fn read_runner(fields: &mut Fields<'_>, origin: &Origin, report: &mut Report) -> Option<String> {
    let said = if origin.metadata_file.starts_with("workflows/") {
        fields.text("runner_type", report).unwrap_or_else(|| "workflow".to_owned())
    } else {
        fields.required_text("runner_type", report)?
    };
    let alias = ALIASES.iter().find(|(alias, _)| *alias == said);
    Some(alias.map_or(said, |(_, name)| (*name).to_owned()))
}

fn read_action_parameters(fields: &mut Fields<'_>, report: &mut Report) -> BTreeMap<String, ParameterSpec> {
    let entries = fields.map("parameters", report);
    let parameters = read_parameters(entries, report);
    check_positions(entries, &parameters, report);
    parameters
}

/// Property by property as in older packs, or one schema of an object as in newer ones.
fn read_output_schema(fields: &mut Fields<'_>, report: &mut Report) -> BTreeMap<String, ParameterSpec> {
    let entries = fields.map("output_schema", report);
    let find = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let is_one_schema = find("type").is_some_and(|node| node.text().is_some());
    if !is_one_schema {
        return read_parameters(entries, report);
    }
    find("properties").and_then(Node::entries).map_or_else(BTreeMap::new, |entries| read_parameters(entries, report))
}

/// An absolute path for runners that run files; for `native` the name of the function; else nothing.
fn find_entry_point(runner: &str, entry_point: &str, name: &str, origin: &Origin) -> PathBuf {
    let has_script = matches!(runner, "workflow" | "rhai");
    match (needs_file(runner), entry_point) {
        (true, "") if has_script => origin.folder.join(format!("{name}.rhai")),
        (true, "") => PathBuf::new(),
        (true, file) => origin.folder.join(file),
        (false, file) => PathBuf::from(file),
    }
}
