//! What a profile makes of a node, once and again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use petrel::model::execution::ExecutionStatus;
use petrel::runners::Outcome;
use serde_json::{Value, json};

use super::rig::{Desk, on, with};
use crate::servers::sshd::Sshd;

/// Name and status of each step.
fn steps(outcome: &Outcome) -> Vec<(&str, &str)> {
    let steps = outcome.result["steps"].as_array().unwrap_or_else(|| panic!("{outcome:?}"));
    steps.iter().map(|step| (step["name"].as_str().unwrap(), step["status"].as_str().unwrap())).collect()
}

fn at(sshd: &Sshd) -> Value {
    json!({ "port": sshd.port(), "private_key": sshd.file("id"), "profile": "web" })
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o7777
}

/// A profile that writes into this folder.
fn profile(node: &Path) -> String {
    format!(
        r#"
description: all kinds of steps
steps:
  - name: folder
    check: test -d '{node}'
    run: mkdir '{node}' && echo made
  - name: page
    file: {{path: "{node}/deep/page.html", template: page.j2, mode: "0640"}}
  - name: inline
    file: {{path: "{node}/it's here", content: "{{{{ not a template }}}}\n", owner: "{owner}"}}
  - name: bytes
    file: {{path: "{node}/bytes", source: files/bytes}}
  - name: words
    check: test "$(cat '{node}/words')" = "$PETREL_GROUP $PETREL_NODE $PETREL_ADDRESS $PETREL_PORT $PETREL_VAR_COLOUR"
    run: echo "$PETREL_GROUP $PETREL_NODE $PETREL_ADDRESS $PETREL_PORT $PETREL_VAR_COLOUR" > '{node}/words'
  - name: all is well
    check: test -s '{node}/words'
"#,
        node = node.display(),
        owner = whoami(),
    )
}

fn whoami() -> String {
    let id = std::process::Command::new("id").arg("-un").output().unwrap().stdout;
    String::from_utf8(id).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_changes_what_is_not_so_and_a_second_time_nothing() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    let node = desk.file("node");
    desk.profile("web.yaml", &profile(&node));
    desk.profile("page.j2", "<p>{{ name }} of {{ group }} is {{ variables.colour }} at {{ port }}</p>\n");
    desk.profile("files/.keep", "");
    fs::write(desk.file("site/profiles/files/bytes"), [0, 1, 255, b'\n', 0]).unwrap();
    let pack = desk.pack(at(&sshd));
    let given = json!({ "variables": { "colour": "it's red" } });

    let first = pack.configure(given.clone()).await;
    assert_eq!(first.status, ExecutionStatus::Succeeded, "{}", first.result);
    let names = ["folder", "page", "inline", "bytes", "words"];
    let wanted = |status| {
        let mut steps: Vec<_> = names.map(|name| (name, status)).into();
        steps.push(("all is well", "ok"));
        steps
    };
    assert_eq!(steps(&first), wanted("changed"));
    assert_eq!(first.result["steps"][0]["stdout"], "made\n");
    let page = node.join("deep/page.html");
    assert_eq!(fs::read_to_string(&page).unwrap(), "<p>web-001 of web is it's red at 8080</p>\n");
    assert_eq!(fs::read_to_string(node.join("it's here")).unwrap(), "{{ not a template }}\n");
    assert_eq!(fs::read(node.join("bytes")).unwrap(), [0, 1, 255, b'\n', 0]);
    assert_eq!((mode(&page), mode(&node.join("bytes"))), (0o640, 0o644));
    assert_eq!(fs::read_to_string(node.join("words")).unwrap(), "web web-001 127.0.0.1 8080 it's red\n");

    let before = fs::metadata(&page).unwrap().modified().unwrap();
    let second = pack.configure(given.clone()).await;
    assert_eq!(steps(&second), wanted("ok"));
    assert_eq!(second.result["changed"], 0);
    assert_eq!(fs::metadata(&page).unwrap().modified().unwrap(), before, "nothing was written");

    fs::set_permissions(&page, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(node.join("bytes"), "spoilt").unwrap();
    let third = pack.configure(given).await;
    let changed: Vec<_> = steps(&third).into_iter().filter(|(_, status)| *status != "ok").collect();
    assert_eq!(changed, [("page", "changed"), ("bytes", "changed")]);
    assert_eq!(mode(&page), 0o640);
    let left = fs::read_dir(&node).unwrap().chain(fs::read_dir(node.join("deep")).unwrap());
    assert_eq!(left.count(), 5, "no half of a file is left over");
    assert_eq!(desk.left_files(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_step_that_fails_ends_a_profile_and_says_why() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    let marker = desk.file("marker");
    let pack = desk.pack(at(&sshd));
    let cases = [
        ("run: 'echo trying; echo no such thing >&2; exit 4'", "it ended with 4: no such thing"),
        ("check: 'false', run: 'true'", "it ended with 1: it was done, and the check still fails"),
        ("check: exit 9", "it ended with 9"),
        ("file: {path: /proc/nowhere/file, content: x}", "it ended with 1: "),
        ("file: {path: /tmp, content: x}", "it ended with 1: /tmp is a folder"),
    ];
    for (step, why) in cases {
        let text = format!(
            "steps:\n- {{name: good, check: 'true'}}\n- {{name: bad, {step}}}\n- {{name: after, run: \"touch '{}'\"}}\n",
            marker.display()
        );
        desk.profile("web.yaml", &text);
        let outcome = pack.configure(json!({})).await;
        assert_eq!(outcome.status, ExecutionStatus::Failed, "{text}");
        assert!(outcome.result["steps"].is_array(), "{text}: {}", outcome.result);
        assert_eq!(steps(&outcome), [("good", "ok"), ("bad", "failed")], "{text}");
        let error = outcome.result["error"].as_str().unwrap();
        assert!(error.starts_with("step `bad` of profile `web` failed: ") && error.contains(why), "{error}");
    }
    assert!(!marker.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_meant_is_refused_before_the_node_is_touched() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    let marker = desk.file("marker");
    let pack = desk.pack(at(&sshd));
    let cases = [
        (
            format!("steps: [{{name: a, run: \"touch '{}'\"}}, {{name: b, runn: x}}]", marker.display()),
            "unknown field `runn`",
        ),
        (
            format!(
                "steps: [{{name: a, run: \"touch '{}'\"}}, {{name: b, authorized_key: {{user: root, key: \"{{{{ public_key }}}}\"}}}}]",
                marker.display()
            ),
            "put the node's into the datastore as `ssh_pub_key`",
        ),
    ];
    for (text, problem) in cases {
        desk.profile("web.yaml", &text);
        let outcome = pack.configure(json!({})).await;
        let error = outcome.result["error"].as_str().unwrap();
        assert!(error.contains("profile `web`") && error.contains(problem), "{error}");
    }
    let missing = pack.configure(json!({ "profile": "nothing" })).await.result;
    assert!(missing["error"].as_str().unwrap().starts_with("there is no profile `nothing`: cannot read"), "{missing}");
    let unnamed = desk.pack(json!({})).configure(json!({})).await.result;
    assert!(unnamed["error"].as_str().unwrap().contains("write `profile: web` into configs/ssh.yaml"), "{unnamed}");
    assert!(!marker.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a02_whose_public_key_a_profile_put_on_a_node_logs_in_there() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    let public = sshd.make_key("people", "").await;
    let theirs = json!({ "private_key": sshd.file("people") });
    desk.fail(&sshd.host(), with(on(&sshd, "true"), theirs.clone())).await;
    let text = format!(
        "steps: [{{name: key, authorized_key: {{user: root, key: \"{{{{ public_key }}}}\", file: '{}'}}}}]",
        sshd.authorized_keys().display()
    );
    desk.profile("web.yaml", &text);
    // Somebody left the last line without an end.
    let before = fs::read_to_string(sshd.authorized_keys()).unwrap();
    fs::write(sshd.authorized_keys(), before.trim_end()).unwrap();
    let pack = desk.pack(at(&sshd));
    for status in ["changed", "ok"] {
        let outcome = pack.configure(json!({ "public_key": public })).await;
        assert_eq!(steps(&outcome), [("key", status)]);
    }
    assert_eq!(fs::read_to_string(sshd.authorized_keys()).unwrap(), before + public.as_str());
    let outcome = desk.command(with(on(&sshd, "echo in"), theirs)).await;
    assert_eq!(outcome.result[sshd.host()]["stdout"], "in", "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_at_the_same_address_is_no_changed_key_and_another_key_of_the_same_node_is() {
    let (mut sshd, desk) = (Sshd::start().await, Desk::new());
    desk.profile("web.yaml", "steps: [{name: a, check: 'true'}]");
    let pack = desk.pack(at(&sshd));
    assert_eq!(pack.configure(json!({})).await.status, ExecutionStatus::Succeeded);
    sshd.replace().await;
    let other = pack.configure(json!({ "name": "web-002" })).await;
    assert_eq!(other.status, ExecutionStatus::Succeeded, "{other:?}");
    let same = pack.configure(json!({})).await;
    let error = same.result["error"].as_str().unwrap();
    assert!(error.contains("the host key of 127.0.0.1 is not the one in"), "{error}");
    assert!(error.contains("-R 'web-001.web.127.0.0.1'"), "{error}");
}
