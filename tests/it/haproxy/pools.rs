//! What stands in haproxy.cfg and what does not.

use serde_json::json;

use super::rig::{Desk, Gate, node, node_at, states};
use crate::servers::haproxy::Haproxy;

/// A server that a line of the file points to: HAProxy does not delete it.
const PINNED: &str = "    use-server fixed if { path /fixed }\n    server fixed 127.0.0.1:1 check inter 50ms";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_needs_a_backend_that_takes_servers_and_the_error_says_which_lines() {
    let haproxy = Haproxy::start(&[("web", ""), ("old", "    balance source")]).await;
    let (desk, gate) = (Desk::of(&haproxy), Gate::start().await);
    desk.succeed("create_pool", json!({ "group": "web" })).await;
    assert_eq!(desk.list().await, [], "asking adds nothing");
    for (group, expected) in [
        ("new", "HAProxy has no backend `new`: write `backend new` into haproxy.cfg, with `balance leastconn`"),
        ("old", "servers cannot be added to the backend `old` while HAProxy runs: write `balance leastconn`"),
    ] {
        let mut parameters = node_at("n-001", gate.place);
        parameters["group"] = json!(group);
        for (action, parameters) in [("create_pool", json!({ "group": group })), ("add_backend", parameters)] {
            let problem = desk.fail(action, parameters).await;
            assert!(problem.contains(expected), "{action}: {problem}");
        }
    }
    let removed = desk.succeed("remove_backend", json!({ "group": "new", "name": "n-001" })).await;
    assert_eq!(removed["found"], false, "what was never there does not keep a group from going: {removed}");
    assert_eq!(desk.succeed("delete_pool", json!({ "group": "new" })).await["backends"], json!([]));
    let serving = desk.fail("drain_backend", json!({ "group": "new", "name": "n-001" })).await;
    assert!(serving.contains("no backend `new`"), "who serves somewhere is not believed to be drained: {serving}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pool_has_no_server_that_gets_requests() {
    let haproxy = Haproxy::start(&[("be_web", PINNED)]).await;
    let gate = Gate::start().await;
    let config = json!({
        "socket": haproxy.admin().to_string(), "backend": "be_{group}", "check_interval": "50ms",
        "port": gate.place.port(), "maxconn": 5,
    });
    let desk = Desk::configured(config);
    for name in ["web-001", "web-002"] {
        let added = desk.succeed("add_backend", json!({ "group": "web", "name": name, "address": "127.0.0.1" })).await;
        assert_eq!((&added["backend"], &added["port"]), (&json!("be_web"), &json!(gate.place.port())));
    }
    haproxy.say("add server be_web/stranger 127.0.0.1:1").await;
    let deleted = desk.succeed("delete_pool", json!({ "group": "web" })).await;
    let mut gone: Vec<_> = deleted["backends"].as_array().unwrap().iter().collect();
    gone.retain(|row| row["deleted"] == true);
    assert_eq!(gone.len(), 3, "{deleted}");
    assert_eq!(desk.list().await, states([("fixed", "maint")]));
    let again = desk.succeed("remove_backend", node("fixed")).await;
    assert_eq!((&again["found"], &again["deleted"]), (&json!(true), &json!(false)));
    assert!(again["why"].as_str().unwrap().contains("haproxy.cfg refers to it by name"), "{again}");
    let mut fixed = node("fixed");
    fixed["address"] = json!("127.0.0.1:1");
    let problem = desk.fail("add_backend", fixed).await;
    assert!(problem.contains("take it out of that file"), "{problem}");
}
