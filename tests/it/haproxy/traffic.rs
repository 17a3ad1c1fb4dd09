//! What visitors meet while servers come and go: nothing.

use axum::http::StatusCode;
use serde_json::json;

use super::rig::{Desk, Gate, Nodes, Visitors, node, states, visit};
use crate::servers::Proxy;
use crate::servers::haproxy::Haproxy;
use crate::support::eventually;

/// The server has one session in hand.
async fn is_visited(desk: &Desk) {
    eventually("the request has come", async || {
        let listed = desk.succeed("list_backends", json!({ "group": "web" })).await;
        (listed["backends"][0]["sessions"] == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_waits_for_the_request_that_is_under_way_and_lets_no_new_one_in() {
    let haproxy = Haproxy::start(&[("web", "")]).await;
    let network = Proxy::start(haproxy.admin()).await;
    let (desk, gate, url) = (Desk::at(network.address()), Gate::start().await, haproxy.url("web"));
    desk.add("web-001", gate.place).await;
    let drained = async {
        is_visited(&desk).await;
        let mut short = node("web-001");
        short["within"] = json!("200ms");
        let late = desk.succeed("drain_backend", short).await;
        assert_eq!((&late["found"], &late["drained"], &late["sessions"]), (&json!(true), &json!(false), &json!(1)));
        assert_eq!(visit(&url).await, StatusCode::SERVICE_UNAVAILABLE, "nobody is left to serve");
        assert_eq!(desk.list().await, states([("web-001", "drain")]));
        let before = network.connections();
        let looks = async || (network.connections() >= before + 8).then_some(());
        let open = async {
            eventually("it has looked several times and still waits", looks).await;
            gate.open();
        };
        tokio::join!(desk.succeed("drain_backend", node("web-001")), open).0
    };
    let (status, drained) = tokio::join!(visit(&url), drained);
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&drained["drained"], &drained["sessions"]), (&json!(true), &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_never_ends_does_not_keep_a_server_for_ever() {
    let haproxy = Haproxy::start(&[("web", "")]).await;
    let (desk, gate, url) = (Desk::of(&haproxy), Gate::start().await, haproxy.url("web"));
    desk.add("web-001", gate.place).await;
    let removed = async {
        is_visited(&desk).await;
        desk.succeed("remove_backend", node("web-001")).await
    };
    let (status, removed) = tokio::join!(visit(&url), removed);
    assert_eq!((status, &removed["deleted"]), (StatusCode::BAD_GATEWAY, &json!(true)));
    assert_eq!(desk.list().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a27_no_request_is_lost_while_nodes_come_and_go_and_come_again() {
    let haproxy = Haproxy::start(&[("web", "")]).await;
    let (desk, nodes) = (Desk::of(&haproxy), Nodes::new());
    desk.add("web-001", nodes.start("web-001").await).await;
    let visitors = Visitors::come(haproxy.url("web"), 8);
    for round in 0..3 {
        let [old, first, second] = [1, 2, 3].map(|n| format!("web-{:03}", round * 2 + n));
        for name in [&first, &second] {
            desk.add(name, nodes.start(name).await).await;
            visitors.until_served(30).await;
        }
        for name in [&old, &first] {
            assert_eq!(desk.succeed("drain_backend", node(name)).await["drained"], true);
            desk.succeed("remove_backend", node(name)).await;
            nodes.end(name).await;
            visitors.until_served(30).await;
        }
        assert_eq!(desk.list().await, states([(&second, "ready")]));
    }
    let (served, met) = visitors.go().await;
    assert_eq!(met, Vec::<String>::new(), "of {served} requests");
}
