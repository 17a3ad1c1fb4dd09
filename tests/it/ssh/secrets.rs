//! What nobody may see, and what must not stay.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use petrel::model::execution::ExecutionStatus;
use petrel::runners::remote::RemoteCommand;
use petrel::runners::{Call, Runner, Stop};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::rig::{Desk, EXECUTION, Running, call, finished, on, with};
use crate::servers::sshd::{Sshd, waits_for};
use crate::support::{eventually, is_dead, stat};

/// Every command line of this machine, as everybody on it can read them.
fn command_lines() -> String {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path().join("cmdline")));
    let lines = processes.map(|file| fs::read(file).unwrap_or_default());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ") + "\n").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g09_no_command_line_here_or_there_shows_what_a_machine_was_told() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    sshd.make_key("locked", "word-of-the-key").await;
    let mut keys = fs::read_to_string(sshd.authorized_keys()).unwrap();
    keys.push_str(&fs::read_to_string(sshd.file("locked.pub")).unwrap());
    fs::write(sshd.authorized_keys(), keys).unwrap();
    let key = fs::read_to_string(sshd.file("locked")).unwrap();
    let go = desk.file("go");
    let cmd = format!("echo $TOKEN; : word-of-the-command; {}", waits_for(&go));
    let secrets = json!({
        "private_key": key, "passphrase": "word-of-the-key", "password": "word-of-the-user", "sudo_password": "word-of-sudo",
        "env": { "TOKEN": "word-of-the-environment" },
    });
    let running = desk.running(with(on(&sshd, &cmd), secrets), None, &Stop::default()).await;
    assert_eq!(running.first, "word-of-the-environment\n", "the passphrase opened the key");
    let lines = command_lines();
    assert!(lines.contains(&sshd.port().to_string()), "the client is seen at all");
    assert!(!lines.contains("word-of-"), "{lines}");
    let body = key.lines().nth(1).unwrap();
    assert!(!lines.contains(body));
    fs::write(go, "").unwrap();
    assert_eq!(running.task.await.unwrap().status, ExecutionStatus::Succeeded);
    let wrong = json!({ "private_key": key, "passphrase": "not it" });
    let refused = desk.fail(&sshd.host(), with(on(&sshd, "true"), wrong)).await;
    assert!(refused["error"].as_str().unwrap().contains("Permission denied"), "{refused}");
}

/// The one private file that is there while a command runs.
fn key_file(desk: &Desk) -> std::path::PathBuf {
    desk.file("guards").join(EXECUTION.to_string()).join("0.private")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_on_disk_only_while_it_is_needed_and_readable_only_for_us() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    let go = desk.file("go");
    let cmd = format!("echo started; {}", waits_for(&go));
    let running = desk.running(on(&sshd, &cmd), None, &Stop::default()).await;
    assert_eq!(fs::read_to_string(key_file(&desk)).unwrap(), sshd.private_key());
    assert_eq!(fs::metadata(key_file(&desk)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(key_file(&desk).parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    fs::write(go, "").unwrap();
    assert_eq!(running.task.await.unwrap().status, ExecutionStatus::Succeeded);
    assert_eq!(desk.left_files(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_whose_daemon_and_guard_were_killed_is_removed_by_the_next_start_and_the_client_by_the_next_attempt() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    let go = desk.file("go");
    let cmd = format!("echo started; {}", waits_for(&go));
    let Running { task, first, lines } = desk.running(on(&sshd, &cmd), None, &Stop::default()).await;
    assert_eq!(first, "started\n");
    desk.guards.clear_private_files().unwrap();
    assert!(key_file(&desk).exists(), "whoever is at work keeps it");
    let client: i32 = desk.clients().pop().unwrap().parse().unwrap();
    let guard: i32 = stat(client).unwrap()[1].parse().unwrap();
    // Both die together: nobody is left who could clear away.
    send(guard, Signal::STOP);
    task.abort();
    drop((task.await, lines));
    send(guard, Signal::KILL);
    eventually("the guard is gone", async || is_dead(guard).then_some(())).await;
    assert!(key_file(&desk).exists() && !is_dead(client));
    assert_eq!(desk.guards.left_behind().unwrap(), [EXECUTION]);
    // A process that another story starts has copies of this one's locks until it becomes its program.
    eventually("the key is removed", async || {
        desk.guards.clear_private_files().unwrap();
        (!key_file(&desk).exists()).then_some(())
    })
    .await;

    let again = Call { attempt: 2, ..call(&on(&sshd, "echo again")) };
    let outcome = finished(RemoteCommand::new(desk.remote.clone()).run(again, Stop::default()).await);
    assert_eq!(outcome.result[sshd.host()]["stdout"], "again", "{outcome:?}");
    assert!(is_dead(client));
    fs::write(go, "").unwrap();
}

fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}
