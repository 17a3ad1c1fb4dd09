//! HAProxy is away, comes back, or is told nonsense.

use serde_json::json;

use super::rig::{Desk, Gate, node, node_at, states};
use crate::servers::haproxy::Haproxy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_haproxy_has_forgotten_its_servers_says_so_and_takes_them_again() {
    let mut haproxy = Haproxy::start(&[("web", "")]).await;
    let (by_file, by_port, gate) = (Desk::of(&haproxy), Desk::at(haproxy.admin()), Gate::start().await);
    by_file.add("web-001", gate.place).await;
    haproxy.kill_9().await;
    for (desk, place) in [(&by_file, haproxy.socket().display().to_string()), (&by_port, haproxy.admin().to_string())] {
        for (action, parameters) in [
            ("add_backend", node_at("web-001", gate.place)),
            ("drain_backend", node("web-001")),
            ("remove_backend", node("web-001")),
            ("list_backends", json!({ "group": "web" })),
        ] {
            let problem = desk.fail(action, parameters).await;
            let expected = format!(
                "HAProxy does not answer at {place}: is it running, and does its configuration have `stats socket … \
                 level admin`?"
            );
            assert!(problem.contains(&expected), "{problem}");
        }
    }
    haproxy.start_again().await;
    assert_eq!(by_file.list().await, []);
    by_file.add("web-001", gate.place).await;
    assert_eq!(by_port.list().await, states([("web-001", "ready")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_names_nor_addresses_nor_the_template_can_say_a_command_of_their_own() {
    let haproxy = Haproxy::start(&[("web", "")]).await;
    let (desk, gate) = (Desk::of(&haproxy), Gate::start().await);
    desk.add("web-001", gate.place).await;
    let hostile = ["; disable frontend to_web", "\ndisable frontend to_web\n", " state maint", "/web-001 state maint"];
    for text in hostile {
        let template = format!("{{group}}{text}");
        let configured = Desk::configured(json!({ "socket": haproxy.socket(), "backend": template }));
        let problem = configured.fail("remove_backend", node("web-001")).await;
        assert!(problem.contains("does not say how the backend of a group is called"), "{problem}");
        for field in ["group", "name", "address"] {
            let mut parameters = node_at("web-002", gate.place);
            parameters[field] = json!(format!("{}{text}", parameters[field].as_str().unwrap()));
            desk.fail("add_backend", parameters).await;
        }
    }
    assert_eq!(desk.list().await, states([("web-001", "ready")]));
    gate.open();
    assert_eq!(super::rig::visit(&haproxy.url("web")).await, 200);
}
