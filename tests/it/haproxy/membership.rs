//! Servers come and go, in any order and more than once.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use petrel::local::nodes::Knobs;
use petrel::model::execution::ExecutionStatus;
use petrel::runners::Stop;
use serde_json::json;

use super::rig::{Desk, Gate, Nodes, Visitors, node, node_at, states};
use crate::servers::haproxy::Haproxy;
use crate::servers::{Proxy, free_port};
use crate::support::eventually;

/// Nobody listens there.
fn nowhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_check_fails_never_gets_a_request_and_the_error_says_why() {
    let haproxy = Haproxy::start(&[("web", "")]).await;
    let (desk, nodes) = (Desk::of(&haproxy), Nodes::new());
    desk.add("web-001", nodes.start("web-001").await).await;
    let visitors = Visitors::come(haproxy.url("web"), 4);
    let booting = nodes.start_with("web-003", Knobs { boot_delay_ms: u32::MAX, ..Knobs::default() }).await;
    for (name, place, why) in [
        ("web-002", nowhere(), "L4CON, Layer4 connection problem"),
        ("web-003", booting, "L7STS, 503, Layer7 wrong status"),
    ] {
        let mut parameters = node_at(name, place);
        parameters["within"] = json!("1s");
        let problem = desk.fail("add_backend", parameters).await;
        let expected =
            format!("`{name}` at {place} did not pass the health check of the backend `web` within 1s: {why}");
        assert!(problem.contains(&expected), "{problem}");
        assert_eq!(desk.list().await, states([("web-001", "ready")]), "it is taken away again");
    }
    visitors.until_served(20).await;
    let (_, met) = visitors.go().await;
    assert_eq!(met, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adding_draining_and_removing_may_be_repeated_in_any_order() {
    let haproxy = Haproxy::start(&[("web", "")]).await;
    let desk = Desk::at(haproxy.admin());
    let gate = Gate::start().await;
    let steps = ["add", "drain", "remove"];
    let orders = (0..81).map(|number: usize| [27, 9, 3, 1].map(|place| steps[number / place % 3]));
    let lives = orders.enumerate().map(async |(number, order)| {
        let name = format!("web-{number:03}");
        let mut expected = None;
        for step in order {
            match step {
                "add" => {
                    let added = desk.add(&name, gate.place).await;
                    assert_eq!((&added["state"], &added["check"]), (&json!("ready"), &json!("passed")));
                    expected = Some("ready");
                }
                "drain" => {
                    let drained = desk.succeed("drain_backend", node(&name)).await;
                    assert_eq!(drained["found"], expected.is_some(), "{order:?}");
                    assert_eq!((&drained["drained"], &drained["sessions"]), (&json!(true), &json!(0)));
                    expected = expected.map(|_| "drain");
                }
                _ => {
                    let removed = desk.succeed("remove_backend", node(&name)).await;
                    assert_eq!(removed["deleted"], expected.is_some(), "{order:?}");
                    expected = None;
                }
            }
        }
        expected.map(|state| (name, state.to_owned()))
    });
    let mut expected: Vec<_> = join_all(lives).await.into_iter().flatten().collect();
    let mut listed = desk.list().await;
    expected.sort();
    listed.sort();
    assert_eq!(listed, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_add_the_same_server_at_once_add_one() {
    let haproxy = Haproxy::start(&[("web", "")]).await;
    let (one, other, gate) = (Desk::of(&haproxy), Desk::at(haproxy.admin()), Gate::start().await);
    join_all((0..8).map(|n| if n % 2 == 0 { &one } else { &other }).map(|desk| desk.add("web-001", gate.place))).await;
    assert_eq!(one.list().await, states([("web-001", "ready")]));
    join_all([&one, &other].map(|desk| desk.succeed("remove_backend", node("web-001")))).await;
    assert_eq!(one.list().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_before_the_answer_was_lost_is_found_by_the_next_attempt() {
    let haproxy = Haproxy::start(&[("web", "")]).await;
    let (gate, mut network) = (Gate::start().await, Proxy::start(haproxy.admin()).await);
    let desk = Desk::at(network.address());
    // Operation and administration, as HAProxy shows them; without a row it is not there.
    let moments = [
        ("add_backend", Some(" 0 1 "), "added"),
        ("add_backend", Some(" 2 0 "), "let in"),
        ("drain_backend", Some(" 2 8 "), "drained"),
        ("remove_backend", Some(" 0 1 "), "put into maintenance"),
        ("remove_backend", None, "deleted"),
    ];
    for (action, wanted, moment) in moments {
        // So long that what was asked for is seen before its answer has come through.
        network.delay(Duration::from_millis(250)).await;
        let parameters = if action == "add_backend" { node_at("web-001", gate.place) } else { node("web-001") };
        let cut = async {
            let row = wanted.map(|numbers| format!(" web-001 127.0.0.1{numbers}"));
            eventually(moment, async || {
                let seen = haproxy.say("show servers state web").await;
                row.as_ref().map_or_else(|| !seen.contains("web-001"), |row| seen.contains(row)).then_some(())
            })
            .await;
            network.cut().await;
        };
        let (problem, ()) = tokio::join!(desk.fail(action, parameters.clone()), cut);
        assert!(problem.contains("hung up before it had answered"), "{moment}: {problem}");
        network.pass().await;
        if moment == "added" {
            assert_eq!(desk.list().await, states([("web-001", "maint")]));
            desk.succeed(action, parameters).await;
            desk.succeed("remove_backend", node("web-001")).await;
        } else if moment != "put into maintenance" {
            desk.succeed(action, parameters).await;
        }
    }
    assert_eq!(desk.list().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_another_address_makes_room() {
    let haproxy = Haproxy::start(&[("web", "")]).await;
    let (desk, old, new) = (Desk::of(&haproxy), Gate::start().await, Gate::start().await);
    desk.add("web-001", old.place).await;
    let added = desk.add("web-001", new.place).await;
    assert_eq!(added["port"], new.place.port());
    assert_eq!(desk.list().await, states([("web-001", "ready")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_in_maintenance_is_checked_anew_and_not_believed() {
    let haproxy = Haproxy::start(&[("web", "")]).await;
    let (desk, nodes) = (Desk::of(&haproxy), Nodes::new());
    let place = nodes.start("web-001").await;
    desk.add("web-001", place).await;
    haproxy.say("set server web/web-001 state maint").await;
    desk.add("web-001", place).await;
    assert_eq!(desk.list().await, states([("web-001", "ready")]), "it is still well");
    haproxy.say("set server web/web-001 state maint").await;
    nodes.end("web-001").await;
    let mut parameters = node_at("web-001", place);
    parameters["within"] = json!("1s");
    let problem = desk.fail("add_backend", parameters).await;
    assert!(problem.contains("L4CON"), "{problem}");
    assert_eq!(desk.list().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_check_gives_up_when_asked_to() {
    let haproxy = Haproxy::start(&[("web", "")]).await;
    let desk = Desk::of(&haproxy);
    let stop = Stop::default();
    let raise = async {
        let added = async || (desk.list().await == states([("web-001", "maint")])).then_some(());
        eventually("it is added", added).await;
        stop.raise();
    };
    let adding = desk.run("add_backend", node_at("web-001", nowhere()), stop.clone());
    let (stopped, ()) = tokio::join!(adding, raise);
    assert_eq!(stopped.status, ExecutionStatus::Canceled);
    desk.succeed("remove_backend", node("web-001")).await;
    assert_eq!(desk.list().await, [], "whoever undoes it finds it");
}
