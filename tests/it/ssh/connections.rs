//! Connections that do not come about, and what is said then.

use std::fs;

use petrel::model::execution::ExecutionStatus;
use serde_json::json;

use super::rig::{Desk, on, with};
use crate::servers::free_port;
use crate::servers::sshd::Sshd;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_the_wrong_key_and_who_is_not_there_are_told_apart_from_a_command_that_fails() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    sshd.make_key("other", "").await;
    let wrong = json!({ "private_key": sshd.file("other") });
    let refused = desk.fail(&sshd.host(), with(on(&sshd, "true"), wrong)).await;
    assert_eq!(refused["return_code"], 255, "{refused}");
    let error = refused["error"].as_str().unwrap();
    let host = sshd.host();
    assert!(error.starts_with(&format!("no connection to {host}: ")) && error.contains("Permission denied"), "{error}");
    assert!(error.contains("check `username` and `private_key`"), "{error}");

    let nobody = format!("127.0.0.1:{}", free_port());
    let both = json!({ "hosts": format!("{nobody},{host}") });
    let outcome = desk.command(with(on(&sshd, "echo hello"), both)).await;
    assert_eq!(outcome.status, ExecutionStatus::Failed);
    assert_eq!(outcome.result[&host]["stdout"], "hello", "the other host is not kept from it");
    let error = outcome.result[&nobody]["error"].as_str().unwrap();
    assert!(error.contains("Connection refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_is_no_end_of_the_command() {
    let (mut sshd, desk) = (Sshd::start().await, Desk::new());
    let running = desk.running(on(&sshd, "echo started; exec sleep 5"), None, &petrel::runners::Stop::default()).await;
    sshd.kill_9().await;
    let outcome = running.task.await.unwrap();
    assert_eq!(outcome.status, ExecutionStatus::Failed);
    let error = outcome.result[sshd.host()]["error"].as_str().unwrap();
    assert!(error.contains(&format!("connection to {}", sshd.host())), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_known_from_its_first_visit_and_another_key_there_is_refused_by_name() {
    let (mut sshd, desk) = (Sshd::start().await, Desk::new());
    for _ in 0..2 {
        let outcome = desk.command(on(&sshd, "true")).await;
        assert_eq!(outcome.status, ExecutionStatus::Succeeded, "{outcome:?}");
        assert_eq!(outcome.result[sshd.host()]["stderr"], "");
    }
    let known = desk.file("known_hosts");
    assert_eq!(fs::read_to_string(&known).unwrap().lines().count(), 1);
    sshd.replace().await;
    let ran = desk.file("ran");
    let refused = desk.fail(&sshd.host(), on(&sshd, &format!("touch '{}'", ran.display()))).await;
    let error = refused["error"].as_str().unwrap();
    assert!(
        error.starts_with(&format!("the host key of {} is not the one in {}", sshd.host(), known.display())),
        "{error}"
    );
    assert!(!ran.exists());
    let (_, way_out) = error.split_once('`').unwrap();
    let way_out = way_out.trim_end_matches('`');
    assert!(
        std::process::Command::new("/bin/sh").arg("-c").arg(way_out).output().unwrap().status.success(),
        "{way_out}"
    );
    assert_eq!(desk.command(on(&sshd, "true")).await.status, ExecutionStatus::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_names_are_refused_before_anything_is_started() {
    let (sshd, desk) = (Sshd::start().await, Desk::new());
    let marker = desk.file("marker");
    let touch = format!("touch {}", marker.display());
    let cases = [
        ("hosts", format!("-oProxyCommand={touch}"), "does not name a host"),
        ("hosts", format!("{},-oProxyCommand={touch}", sshd.host()), "does not name a host"),
        ("hosts", format!("$({touch})"), "does not name a host"),
        ("hosts", "root@web".to_owned(), "the user goes into `username`"),
        ("username", format!("-oProxyCommand={touch}"), "is not the name of a user"),
        ("bastion_host", format!("x;{touch}"), "does not name a host"),
        ("private_key", "id_rsa".to_owned(), "neither a key"),
    ];
    for (name, value, problem) in cases {
        let outcome = desk.command(with(on(&sshd, "true"), json!({ name: value }))).await;
        assert_eq!(outcome.status, ExecutionStatus::Failed);
        let error = outcome.result["error"].as_str().unwrap();
        assert!(error.contains(problem), "{name}: {error}");
    }
    let variable = desk.command(with(on(&sshd, "true"), json!({ "env": { format!("A;{touch};"): "x" } }))).await;
    assert!(variable.result["error"].as_str().unwrap().contains("is not the name of an environment variable"));
    assert_eq!((desk.left_files(), marker.exists()), (0, false));
    assert!(!desk.file("known_hosts").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_behind_another_is_reached_through_it_with_the_same_key() {
    let (door, inner, desk) = (Sshd::start().await, Sshd::start().await, Desk::new());
    fs::copy(door.authorized_keys(), inner.authorized_keys()).unwrap();
    let through = json!({ "hosts": inner.host(), "bastion_host": door.host() });
    let given = with(on(&door, "set -- $SSH_CONNECTION; echo $4"), through);
    let outcome = desk.command(given.clone()).await;
    assert_eq!(outcome.result[inner.host()]["stdout"], inner.port().to_string(), "{outcome:?}");
    assert_eq!(fs::read_to_string(desk.file("known_hosts")).unwrap().lines().count(), 2, "both are known");
    let wrong = json!({ "bastion_host": format!("127.0.0.1:{}", free_port()) });
    let refused = desk.fail(&inner.host(), with(given, wrong)).await;
    assert!(refused["error"].as_str().unwrap().contains("Connection refused"), "{refused}");
}
