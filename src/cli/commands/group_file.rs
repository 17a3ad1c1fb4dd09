//! Groups that are kept in files: what a file says, what differs from it, and making it so. What a file does not say has
//! its default; a group that no file names is left alone.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cli::commands::{Outcome, Session, text};
use crate::cli::failure::{Ending, Failure};
use crate::cli::output::plain;
use crate::model::group::GroupName;
use crate::model::group_config::GroupConfig;
use crate::packs::diagnostic::{Diagnostic, Report};
use crate::packs::yaml;

/// A group as a file says it, with its defaults, in the fields that the API takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGroup {
    name: GroupName,
    provider: String,
    #[serde(default)]
    application: String,
    #[serde(default)]
    domain: String,
    #[serde(default = "nobody")]
    dns: String,
    #[serde(default = "nobody")]
    load_balancer: String,
    #[serde(default = "nobody")]
    configure: String,
    #[serde(default = "nobody")]
    metrics: String,
    #[serde(default)]
    channel: String,
    #[serde(default)]
    config: GroupConfig,
    #[serde(default)]
    node_parameters: Map<String, Value>,
    #[serde(default)]
    dns_parameters: Map<String, Value>,
    #[serde(default)]
    load_balancer_parameters: Map<String, Value>,
    #[serde(default)]
    configure_parameters: Map<String, Value>,
    #[serde(default)]
    metrics_parameters: Map<String, Value>,
}

fn nobody() -> String {
    "none".to_owned()
}

/// What there is to do about one group.
enum Step {
    Create,
    Change(Vec<Difference>),
    Nothing,
}

/// One field that is not what the file says.
#[derive(Debug, PartialEq)]
struct Difference {
    field: String,
    is: Value,
    becomes: Value,
}

pub(super) async fn plan(session: &Session, file: &Path) -> Outcome {
    let steps = steps(session, file).await?;
    session.output.answer(&as_json(&steps), || in_words(&steps))?;
    Ok(Ending::Done)
}

pub(super) async fn apply(session: &Session, file: &Path) -> Outcome {
    let steps = steps(session, file).await?;
    session.output.remark(&in_words(&steps))?;
    let mut done = Vec::new();
    for (group, step) in &steps {
        let name = group.name.as_str();
        match step {
            Step::Create => {
                session.api.post(&["asg"], &json!(group)).await?;
                done.push(format!("{name}: created"));
            }
            Step::Change(_) => {
                let mut fields = json!(group);
                fields.as_object_mut().and_then(|fields| fields.remove("name"));
                session.api.put(&["asg", name], &fields).await?;
                done.push(format!("{name}: changed"));
            }
            Step::Nothing => {}
        }
    }
    session
        .output
        .answer(&as_json(&steps), || if done.is_empty() { "nothing to do".to_owned() } else { done.join("\n") })?;
    Ok(Ending::Done)
}

async fn steps(session: &Session, file: &Path) -> Result<Vec<(WrittenGroup, Step)>, Failure> {
    let source = std::fs::read_to_string(file)
        .map_err(|problem| Failure::Usage(format!("reading {}: {problem}", file.display())))?;
    let mut steps = Vec::new();
    for group in read(&file.display().to_string(), &source)? {
        let step = match session.api.get(&["asg", group.name.as_str()], &[]).await {
            Ok(present) => step(&present, &group),
            Err(Failure::Refused { status, .. }) if status == reqwest::StatusCode::NOT_FOUND => Step::Create,
            Err(problem) => return Err(problem),
        };
        steps.push((group, step));
    }
    Ok(steps)
}

/// The groups of a file; all that is wrong with it at once.
fn read(file: &str, source: &str) -> Result<Vec<WrittenGroup>, Failure> {
    let mut report = Report::new(file, Arc::from(source));
    let read = yaml::read(file, source, &mut report);
    if report.has_errors() {
        let problems: Vec<String> = report.into_diagnostics().iter().map(Diagnostic::render).collect();
        return Err(Failure::Usage(problems.join("\n")));
    }
    let content = read.map(|node| node.to_json()).unwrap_or_default();
    let written = match content.get("groups") {
        Some(Value::Array(groups)) => groups.clone(),
        Some(_) => return Err(Failure::Usage(format!("{file}: `groups` is no list"))),
        None => vec![content],
    };
    let mut problems = Vec::new();
    let mut groups: Vec<WrittenGroup> = Vec::new();
    for value in written {
        let name = plain(&value["name"]);
        match group(value) {
            Ok(group) if groups.iter().any(|other| other.name == group.name) => {
                problems.push(format!("{file}: group `{name}` is there twice"));
            }
            Ok(group) => groups.push(group),
            Err(problem) => problems.push(format!("{file}: group `{name}`: {problem}")),
        }
    }
    if problems.is_empty() { Ok(groups) } else { Err(Failure::Usage(problems.join("\n"))) }
}

fn group(value: Value) -> Result<WrittenGroup, String> {
    let mut group: WrittenGroup = serde_json::from_value(value).map_err(|problem| problem.to_string())?;
    group.config.validate().map_err(|problems| problems.join("; "))?;
    if group.application.is_empty() {
        group.application = group.name.to_string();
    }
    Ok(group)
}

fn step(present: &Value, group: &WrittenGroup) -> Step {
    let mut differences = Vec::new();
    let is = in_fields(present);
    compare("", &is, &json!(group), &mut differences);
    if differences.is_empty() { Step::Nothing } else { Step::Change(differences) }
}

/// The group that the daemon shows, in the fields of a file.
fn in_fields(present: &Value) -> Value {
    let role = |name: &str| present.pointer(&format!("/roles/{name}")).cloned().unwrap_or_default();
    let told = |name: &str| present.pointer(&format!("/role_parameters/{name}")).cloned().unwrap_or_default();
    json!({
        "name": present["name"], "application": present["application"], "domain": present["domain"],
        "provider": role("provider"), "dns": role("dns"), "load_balancer": role("load_balancer"),
        "configure": role("configure"), "metrics": role("metrics"), "channel": text(present, "/channel"),
        "config": present["config"],
        "node_parameters": present["node_parameters"], "dns_parameters": told("dns"),
        "load_balancer_parameters": told("load_balancer"), "configure_parameters": told("configure"),
        "metrics_parameters": told("metrics"),
    })
}

fn compare(path: &str, is: &Value, becomes: &Value, differences: &mut Vec<Difference>) {
    let (Value::Object(old), Value::Object(new)) = (is, becomes) else {
        if is != becomes {
            differences.push(Difference { field: path.to_owned(), is: is.clone(), becomes: becomes.clone() });
        }
        return;
    };
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    for name in names {
        let field = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        compare(&field, &is[name], &becomes[name], differences);
    }
}

fn in_words(steps: &[(WrittenGroup, Step)]) -> String {
    let mut lines = Vec::new();
    for (WrittenGroup { name, provider, config, .. }, step) in steps {
        match step {
            Step::Create => lines.push(format!(
                "+ {name}: create, {} to {} of provider {provider}",
                config.min_nodes.get(),
                config.max_nodes
            )),
            Step::Change(differences) => {
                lines.push(format!("~ {name}: change"));
                lines.extend(differences.iter().map(in_one_line));
            }
            Step::Nothing => lines.push(format!("  {name}: as it should be")),
        }
    }
    lines.join("\n")
}

fn in_one_line(difference: &Difference) -> String {
    let Difference { field, is, becomes } = difference;
    let shown = |value: &Value| if value.is_null() { "-".to_owned() } else { plain(value) };
    let only_new = if field.starts_with("node_parameters") { " (new nodes only)" } else { "" };
    format!("    {field}: {} → {}{only_new}", shown(is), shown(becomes))
}

fn as_json(steps: &[(WrittenGroup, Step)]) -> Value {
    let rows = steps.iter().map(|(group, step)| match step {
        Step::Create => json!({ "group": group.name, "step": "create" }),
        Step::Change(differences) => {
            let rows = differences.iter().map(|it| json!({ "field": it.field, "is": it.is, "becomes": it.becomes }));
            json!({ "group": group.name, "step": "change", "differences": rows.collect::<Vec<_>>() })
        }
        Step::Nothing => json!({ "group": group.name, "step": "nothing" }),
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "groups:\n- name: web\n  provider: local\n  config: {max_nodes: 6}\n  node_parameters: {size: s}\n\
                        - name: api\n  provider: local\n  load_balancer: haproxy\n";

    fn present(max_nodes: u32) -> Value {
        let config =
            GroupConfig { max_nodes: crate::model::group::NodeCount::new(max_nodes), ..GroupConfig::default() };
        json!({
            "name": "web", "application": "web", "domain": "", "channel": null, "config": config,
            "roles": { "provider": "local", "dns": "none", "load_balancer": "none", "configure": "none", "metrics": "none" },
            "node_parameters": { "size": "s" },
            "role_parameters": { "dns": {}, "load_balancer": {}, "configure": {}, "metrics": {} },
        })
    }

    #[test]
    fn what_differs_is_told_field_by_field_and_what_is_right_is_left_alone() {
        let mut groups = read("asg.yaml", FILE).unwrap();
        let api = groups.pop().unwrap();
        let mut web = groups.pop().unwrap();
        assert!(matches!(step(&present(6), &web), Step::Nothing));
        web.node_parameters = Map::from_iter([("size".to_owned(), json!("m"))]);
        let change = step(&present(4), &web);
        insta::assert_snapshot!(in_words(&[(web, change), (api, Step::Create)]), @"
        ~ web: change
            config.max_nodes: 4 → 6
            node_parameters.size: s → m (new nodes only)
        + api: create, 1 to 20 nodes of provider local
        ");
    }

    #[test]
    fn a_file_with_one_group_is_that_group() {
        let groups = read("web.yaml", "name: web\nprovider: local\n").unwrap();
        assert_eq!((groups.len(), groups[0].application.as_str(), groups[0].dns.as_str()), (1, "web", "none"));
    }

    #[test]
    fn all_that_is_wrong_with_a_file_is_told_at_once() {
        let twice = "groups:\n- {name: a, provider: local}\n- {name: a, provider: local}\n- {name: b, povider: local}\n\
                     - {name: c, provider: local, config: {min_nodes: 9, max_nodes: 2}}\n";
        let said = read("asg.yaml", twice).unwrap_err().to_string();
        for part in ["group `a` is there twice", "unknown field `povider`", "min_nodes (9) is above max_nodes (2)"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let broken = read("asg.yaml", "groups: [").unwrap_err().to_string();
        assert!(broken.contains("asg.yaml"), "{broken}");
    }
}
