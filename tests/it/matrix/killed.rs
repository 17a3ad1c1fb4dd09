//! One cell of each operation with a real daemon and a real `kill -9`: an effect is done outside, its answer is still on its way,
//! and the daemon dies.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::books;
use super::operations::{Grounds, OPERATIONS, Operation, Story, definition};
use super::outside::LOOKS;
use super::server::{Planned, Server, Trouble, World};
use super::stage::site;
use crate::support::daemon::Daemon;
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_killed_before_it_hears_of_an_effect_goes_on_to_the_same_end() {
    let server = Server::start().await;
    let grounds = Grounds::prepare(&server).await;
    let stories = OPERATIONS.map(|operation| killed_in(operation, &server, &grounds));
    let wrong: Vec<String> = join_all(stories).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The call in whose effect the daemon dies.
const fn fatal_call(operation: Operation) -> (&'static str, &'static str) {
    match operation {
        Operation::Create => ("create_node", "web-001"),
        Operation::Expand => ("create_node", "web-004"),
        Operation::AddNode => ("add_backend", "web-003"),
        Operation::Deflate => ("remove_backend", "web-001"),
        Operation::DeleteNode => ("delete_node", "web-002"),
        Operation::Delete => ("delete_pool", "web"),
        Operation::Reconcile => ("add_backend", "web-001"),
        Operation::Replace => ("create_node", "web-003"),
    }
}

/// Who serves in the end.
const fn serving_after(operation: Operation) -> u64 {
    match operation {
        Operation::Create | Operation::Deflate | Operation::Reconcile | Operation::Replace => 2,
        Operation::AddNode | Operation::DeleteNode => 3,
        Operation::Expand => 4,
        Operation::Delete => 0,
    }
}

async fn killed_in(operation: Operation, server: &Server, grounds: &Grounds) -> Vec<String> {
    let cell = format!("killed-{}", operation.name());
    let (site, ground) = (site(server, &cell), grounds.of(operation));
    ground.lay_out(&site.path().join("data"), &cell);
    server.lend_shipped_packs(&site.path().join("data"));
    let world = World::new(ground.outside.clone(), Vec::new());
    server.add(&cell, &world);
    world.change(|outside| operation.change_world(outside));
    let (verb, about) = fatal_call(operation);
    let (verb, about) = (verb.to_owned(), about.to_owned());
    world.plan(Planned { verb, about, trouble: Trouble::HangAfter, times: 1 });
    let mut daemon = Daemon::start(&site).await;
    tokio::select! {
        () = ask(operation, &daemon) => {}
        () = world.hung() => {}
    }
    daemon.kill9().await;
    daemon.restart().await;
    eventually("the group comes to rest", async || {
        tend(operation, &daemon).await;
        is_at_rest(operation, &daemon, &world).await.then_some(())
    })
    .await;
    daemon.until_idle().await;
    daemon.kill9().await;
    let wrong = books::audit(&daemon.store(), &world).await.into_iter().chain(books::repeated(&world));
    let again = world.log().iter().filter(|entry| !LOOKS.contains(&entry.call.verb.as_str())).count();
    assert!(again > 1, "the daemon died in the middle of something");
    wrong.map(|what| format!("{}: {what}", operation.name())).collect()
}

/// Asks for the operation, and goes on asking until it is under way: the call that hangs ends this from outside.
async fn ask(operation: Operation, daemon: &Daemon<'_>) {
    let run = async |action: &str, parameters: Value| {
        let id = daemon.run(action, parameters).await;
        daemon.end_of(&id).await;
    };
    let web = json!({ "asg": "web", "force": true });
    match operation {
        Operation::Create => {
            let (status, answer) = daemon.post("/v1/asg", &definition(Story::Plain)).await;
            assert!(status.is_success(), "{answer}");
        }
        Operation::Expand => run("autoscale.expand", json!({ "asg": "web", "by": 2, "force": true })).await,
        Operation::AddNode => run("autoscale.add_node", web).await,
        Operation::Deflate => run("autoscale.deflate", json!({ "asg": "web", "by": 2, "force": true })).await,
        Operation::DeleteNode => {
            run("autoscale.delete_node", json!({ "asg": "web", "name": "web-002", "force": true })).await;
        }
        Operation::Delete => run("autoscale.delete", json!({ "name": "web" })).await,
        Operation::Reconcile | Operation::Replace => loop {
            tend(operation, daemon).await;
        },
    }
    std::future::pending::<()>().await;
}

/// What the shipped rules do on their timers.
async fn tend(operation: Operation, daemon: &Daemon<'_>) {
    for action in ["default.asg_observe", "autoscale.governor_tick"] {
        if operation.looks() || action == "autoscale.governor_tick" {
            let id = daemon.run(action, json!({})).await;
            daemon.end_of(&id).await;
        }
    }
}

async fn is_at_rest(operation: Operation, daemon: &Daemon<'_>, world: &Arc<World>) -> bool {
    let (status, group) = daemon.try_get("/v1/asg/web").await;
    if operation == Operation::Delete {
        return status.as_u16() == 404;
    }
    let wanted = json!(serving_after(operation));
    let as_in_the_ledger = world.outside().backends.len() as u64 == serving_after(operation);
    group["activity"].is_null() && group["in_service"] == wanted && group["total"] == wanted && as_in_the_ledger
}
