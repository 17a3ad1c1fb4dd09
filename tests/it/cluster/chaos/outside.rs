//! What the daemons of the chaos run serve: rules, workflows and timers, and the world that their actions change.

use reqwest::Method;
use serde_json::json;

use crate::cluster::door::Door;
use crate::cluster::ledger::Ledger;
use crate::support::site::Site;

pub(super) const TIMERS: usize = 15;

/// Ten steps of every kind. Each one leaves its mark under a name of its own: `n` says whose.
const FLOW: &str = r#"
    let n = params.n;
    run("c.keyed", #{ tag: `${n}-a` });
    run("core.noop");
    parallel([|| run("c.keyed", #{ tag: `${n}-p` }), || run("c.keyed", #{ tag: `${n}-q` })]);
    kv_incr(`count-${n}`, 1);
    try { run("c.once", #{ tag: `${n}-o` }) } catch (e) { log(e.message) }
    sleep("200ms");
    run("c.shell", #{ tag: `${n}-s` });
    let spawned = spawn("c.keyed", #{ tag: `${n}-w` });
    wait(spawned);
    run("c.keyed", #{ tag: `${n}-z` });
    kv_get(`count-${n}`)
"#;

/// The steps of [`FLOW`] that may be run again by another worker, under the same execution.
pub(super) const KEYED_STEPS: [&str; 5] = ["a", "p", "q", "w", "z"];

/// An attempt begins, takes its time, ends: `tag execution process nanoseconds word`.
const SHELL: &str = "say() { echo {{ tag }} $PETREL_EXECUTION_ID $$ $(date +%s%N) $1 >> FOLDER/shell; }; \
                     say begins; sleep 0.3; say ends";

/// A site over which the mix runs.
pub(super) fn site(ledger: &Ledger) -> Site {
    let site = Site::new();
    for name in ["asg_create", "asg_expand", "asg_deflate", "asg_add_node", "asg_delete_node", "asg_delete"] {
        copy_shipped(&site, &format!("workflows/{name}.yaml"));
        copy_shipped(&site, &format!("workflows/{name}.rhai"));
    }
    let folder = site.path().display().to_string();
    let shell = format!(
        "name: shell\nrunner_type: local-shell-cmd\non_lost: retry\nparameters:\n  tag: {{type: string}}\n  cmd:\n    \
         immutable: true\n    default: '{}'\n",
        SHELL.replace("FOLDER", &folder)
    );
    let site = site
        .file("packs/c/pack.yaml", "name: c\nref: c\nversion: 1.0.0\n")
        .file("packs/c/actions/keyed.yaml", &ledger.action("keyed", "keyed", "retry"))
        .file("packs/c/actions/once.yaml", &ledger.action("once", "once", "fail"))
        .file("packs/c/actions/shell.yaml", &shell)
        .workflow_with("flow", FLOW, "{n: {type: integer, required: true}}")
        .file("rules/flow.yaml", &hook("flow", "flow", "", "default.flow", r#"{n: "{{ trigger.body.n }}"}"#))
        .file("rules/direct.yaml", &hook("direct", "flow", LEVEL, "c.keyed", DIRECT))
        .file("rules/noop.yaml", &hook("noop", "noop", "", "core.noop", "{}"))
        .file("rules/never.yaml", &hook("never", "noise", NEVER, "core.noop", "{}"))
        .setting("packs", &format!("{folder}/packs"));
    let site = (0..TIMERS).fold(site, |site, number| site.file(&format!("rules/t{number}.yaml"), &timer(number)));
    provider(site, ledger).file("rules/tick.yaml", TICK)
}

/// Both read the datastore: what cannot be read for want of the store must not be taken for something else.
const LEVEL: &str = "criteria:\n  trigger.body.level: {type: equals, pattern: \"{{ st2kv.system.level }}\"}\n";
const DIRECT: &str = r#"{tag: "{{ trigger.body.n }}-{{ st2kv.system.suffix }}"}"#;

/// What [`LEVEL`] and [`DIRECT`] read.
pub(super) async fn fill_datastore(door: &Door) {
    for (name, value) in [("level", "info"), ("suffix", "d")] {
        let body = json!({ "name": name, "value": value });
        let answer = door.try_send(Method::PUT, &format!("/v1/keys/{name}"), &body).await;
        assert!(answer.is_some_and(|(status, _)| status.is_success()), "the key `{name}` is set");
    }
}

const NEVER: &str = "criteria:\n  trigger.body.level: {type: equals, pattern: critical}\n";

const TICK: &str = "name: tick\nenabled: true\ntrigger:\n  type: core.st2.IntervalTimer\n  parameters: {unit: seconds, \
                    delta: 5, misfire: once}\naction: {ref: autoscale.governor_tick}\n";

fn hook(name: &str, url: &str, criteria: &str, action: &str, parameters: &str) -> String {
    format!(
        "name: {name}\nenabled: true\ntrigger:\n  type: core.st2.webhook\n  parameters: {{url: {url}}}\n{criteria}\
         action:\n  ref: {action}\n  parameters: {parameters}\n"
    )
}

/// Each has a time zone of its own, which changes no instant and makes it another timer.
fn timer(number: usize) -> String {
    let timezone = if number < 13 { format!("Etc/GMT+{number}") } else { format!("Etc/GMT-{}", number - 12) };
    format!(
        "name: t{number}\nenabled: true\ntrigger:\n  type: core.st2.IntervalTimer\n  parameters: {{unit: seconds, \
         delta: 1, misfire: all, timezone: {timezone}}}\naction: {{ref: core.noop}}\n"
    )
}

/// A provider whose nodes are entries of the ledger.
fn provider(site: Site, ledger: &Ledger) -> Site {
    let ready = "name: wait_ready\nrunner_type: rhai\nparameters:\n  group: {type: string}\n  name: {type: string}\n  \
                 within: {type: string}\n";
    let verb = |name: &str| {
        let action = ledger.action(name, name, "retry").replace("{{ tag }}", "{{ name }}");
        action.replace("tag: {type: string}", "name: {type: string}\n  group: {type: string}\n  tag: {type: string}")
    };
    site.file("packs/c/actions/create_node.yaml", &verb("create_node"))
        .file("packs/c/actions/delete_node.yaml", &verb("delete_node"))
        .file("packs/c/actions/wait_ready.yaml", ready)
        .file("packs/c/actions/wait_ready.rhai", "#{ address: `${params.name}:80` }")
}

fn copy_shipped(site: &Site, name: &str) {
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    site.write(name, &std::fs::read_to_string(shipped).unwrap());
}
