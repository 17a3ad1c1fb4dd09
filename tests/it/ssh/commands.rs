//! What a command or a script on other machines gives back.

use std::fs;
use std::time::Duration;

use petrel::model::execution::ExecutionStatus;
use petrel::runners::Stop;
use petrel::runners::remote::{word, written};
use proptest::prelude::{any, prop, proptest};
use serde_json::{Value, json};

use super::rig::{Desk, Running, on, with};
use crate::servers::sshd::{Sshd, waits_for};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_on_all_hosts_at_once_and_each_answers_for_itself() {
    let (one, other, desk) = (Sshd::start().await, Sshd::start().await, Desk::new());
    fs::copy(one.authorized_keys(), other.authorized_keys()).unwrap();
    // Each waits for the other, and one of them fails.
    let met = desk.file("met");
    let cmd = format!(
        "set -- $SSH_CONNECTION; mkdir -p {met}; touch {met}/$4; {} {}\n\
         pwd; echo \"$WORD\" >&2; [ $4 = {} ] || exit 7",
        format_args!("{}; ", waits_for(&met.join(one.port().to_string()))),
        waits_for(&met.join(other.port().to_string())),
        one.port(),
        met = met.display(),
    );
    let hosts = format!("{}, {}", one.host(), other.host());
    let given = with(on(&one, &cmd), json!({ "hosts": hosts, "cwd": "/usr", "env": { "WORD": "it's \"$HOME\"" } }));
    let outcome = desk.command(given).await;
    assert_eq!(outcome.status, ExecutionStatus::Failed, "{outcome:?}");
    let result = |code: i32| {
        let good = code == 0;
        json!({ "stdout": "/usr", "stderr": "it's \"$HOME\"", "return_code": code, "succeeded": good, "failed": !good })
    };
    let mut wanted = serde_json::Map::new();
    wanted.insert(one.host(), result(0));
    wanted.insert(other.host(), result(7));
    assert_eq!(outcome.result, Value::Object(wanted));
    assert_eq!(desk.left_files(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_gives_its_output_and_its_return_code_also_that_of_a_failed_connection() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    let cases = [
        ("echo out; echo err >&2", json!("out"), "err", 0),
        ("exit 3", json!(""), "", 3),
        ("echo '{\"a\": [1]}'", json!({"a": [1]}), "", 0),
        ("echo own >&2; exit 255", json!(""), "own", 255),
        ("cat; echo read", json!("read"), "", 0),
        ("echo done # and a comment", json!("done"), "", 0),
        ("(exit 4) || { false; }", json!(""), "", 1),
    ];
    for (cmd, stdout, stderr, code) in cases {
        let outcome = desk.command(on(&sshd, cmd)).await;
        let result = &outcome.result[sshd.host()];
        assert_eq!((&result["stdout"], &result["stderr"]), (&stdout, &json!(stderr)), "{cmd}: {result}");
        assert_eq!((&result["return_code"], &result["error"]), (&json!(code), &Value::Null), "{cmd}: {result}");
    }
    let broken = desk.fail(&sshd.host(), on(&sshd, "if true; then")).await;
    assert!(broken["stderr"].as_str().unwrap().contains("syntax error"), "{broken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_is_seen_while_the_command_runs() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    let go = desk.file("go");
    let cmd = format!("echo first; {}; echo second", waits_for(&go));
    let Running { task, first, mut lines } = desk.running(on(&sshd, &cmd), None, &Stop::default()).await;
    assert_eq!(first, "first\n");
    fs::write(go, "").unwrap();
    assert_eq!(lines.recv().await.unwrap().text, "second\n");
    assert_eq!(task.await.unwrap().status, ExecutionStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_bounded() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    let outcome = desk.command(on(&sshd, "echo first; yes | head -c 5000000; echo last")).await;
    let stdout = outcome.result[sshd.host()]["stdout"].as_str().unwrap();
    assert!(stdout.starts_with("first\ny\n") && stdout.ends_with("y\nlast") && stdout.len() < 1_100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_and_a_cancel_end_the_client_and_say_what_is_not_known() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    let go = desk.file("go");
    let cmd = format!("echo started; {}", waits_for(&go));
    let stop = Stop::default();
    let Running { task, .. } = desk.running(on(&sshd, &cmd), None, &stop).await;
    assert!(!desk.clients().is_empty());
    stop.raise();
    let canceled = task.await.unwrap();
    assert_eq!(canceled.status, ExecutionStatus::Canceled, "{canceled:?}");

    let soon = Some(Duration::from_secs(2));
    let Running { task, .. } = desk.running(on(&sshd, &cmd), soon, &Stop::default()).await;
    let late = task.await.unwrap();
    assert_eq!(late.status, ExecutionStatus::Timeout, "{late:?}");
    for outcome in [canceled, late] {
        let error = outcome.result[sshd.host()]["error"].as_str().unwrap();
        assert!(error.contains("what was started on the host may still be at work"), "{error}");
    }
    eventually("no client is left", async || desk.clients().is_empty().then_some(())).await;
    assert_eq!(desk.left_files(), 0);
    fs::write(go, "").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_brought_with_its_library_and_taken_away_again() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    let put = |name: &str, content: &[u8]| {
        let file = desk.file("actions").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        file
    };
    put("lib/words/list", b"a \0 b");
    let library = "od -c \"$(dirname \"$0\")/lib/words/list\" | head -1";
    let shell = put("shell.sh", format!("#!/bin/sh -u\necho $# \"$1\" \"$2\"; {library}; dirname \"$0\"").as_bytes());
    let other = put("other.awk", b"#!/usr/bin/awk -f\nBEGIN { print ARGV[1], ENVIRON[\"PETREL_PARAM_TOKEN\"] }");
    let folder = desk.file("remote dir");
    fs::create_dir(&folder).unwrap();
    let declared = json!({ "word": { "position": 0 }, "token": { "secret": true, "position": 1 } });
    let given = json!({ "word": "it's", "token": "hunter2", "dir": folder });
    let given = with(on(&sshd, ""), given);

    let outcome = desk.script(shell, declared.clone(), given.clone()).await;
    assert_eq!(outcome.status, ExecutionStatus::Succeeded, "{outcome:?}");
    let stdout = outcome.result[sshd.host()]["stdout"].as_str().unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[..2], ["2 it's hunter2", "0000000   a      \\0       b"]);
    assert!(lines[2].starts_with(folder.to_str().unwrap()), "{stdout}");

    let outcome = desk.script(other, declared, given).await;
    assert_eq!(outcome.result[sshd.host()]["stdout"], "it's hunter2", "{outcome:?}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn whatever_is_quoted_is_one_word_for_a_shell_and_whatever_is_written_is_what_it_was() {
    let shell = |line: String| std::process::Command::new("/bin/sh").arg("-c").arg(line).output().unwrap().stdout;
    proptest!(|(text in "[^\0]{0,40}", bytes in prop::collection::vec(any::<u8>(), 0..60))| {
        assert_eq!(shell(format!("printf '%s|' {} x", word(&text))), format!("{text}|x|").into_bytes());
        assert_eq!(shell(written(&bytes)), bytes);
    });
}
