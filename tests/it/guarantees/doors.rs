//! G10: every door asks who is there, except those that are listed.

use reqwest::{Method, StatusCode};

use super::effects::{rule, site};
use crate::support::daemon::Daemon;

/// Open to everybody: whoever restarts daemons has no key.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Every path of the API with its methods.
const CLOSED: [(&str, &str); 55] = [
    ("GET POST", "/v1/executions"),
    ("GET PUT DELETE", "/v1/executions/6b01032a541002ef4f000001"),
    ("POST", "/v1/executions/6b01032a541002ef4f000001/re_run"),
    ("GET", "/v1/executions/6b01032a541002ef4f000001/children"),
    ("GET", "/v1/executions/6b01032a541002ef4f000001/output"),
    ("GET", "/v1/executions/6b01032a541002ef4f000001/attribute/result"),
    ("POST", "/v1/signals"),
    ("GET", "/v1/inquiries"),
    ("GET PUT", "/v1/inquiries/6b01032a541002ef4f000001"),
    ("GET POST", "/v1/asg"),
    ("GET PUT DELETE", "/v1/asg/web"),
    ("POST", "/v1/asg/web/expand"),
    ("POST", "/v1/asg/web/deflate"),
    ("POST", "/v1/asg/web/nodes"),
    ("DELETE", "/v1/asg/web/nodes/web-001"),
    ("GET", "/v1/asg/web/explain"),
    ("GET", "/v1/asg/web/activities"),
    ("POST", "/v1/asg/web/suspend"),
    ("POST", "/v1/asg/web/resume"),
    ("GET POST DELETE", "/v1/freeze"),
    ("GET", "/v1/actions"),
    ("GET", "/v1/actions/core.local"),
    ("GET", "/v1/runnertypes"),
    ("GET", "/v1/webhooks"),
    ("POST", "/v1/webhooks/st2"),
    ("POST", "/v1/webhooks/e"),
    ("POST", "/v1/webhooks/unknown"),
    ("GET", "/v1/keys"),
    ("GET PUT DELETE", "/v1/keys/token"),
    ("GET", "/v1/packs"),
    ("GET", "/v1/packs/core"),
    ("GET", "/v1/policies"),
    ("GET", "/v1/policies/t.one"),
    ("GET", "/v1/sensortypes"),
    ("GET", "/v1/sensortypes/newrelic.newrelic_hook"),
    ("GET", "/v1/actionalias"),
    ("GET", "/v1/actionalias/t.alias"),
    ("GET POST", "/v1/rules"),
    ("GET PUT DELETE", "/v1/rules/default.on_e"),
    ("POST", "/v1/rules/default.on_e/enable"),
    ("POST", "/v1/rules/default.on_e/disable"),
    ("POST", "/v1/rules/default.on_e/test"),
    ("GET", "/v1/ruleenforcements"),
    ("GET", "/v1/dead-letters"),
    ("GET DELETE", "/v1/dead-letters/6b01032a541002ef4f000001"),
    ("POST", "/v1/dead-letters/6b01032a541002ef4f000001/requeue"),
    ("POST", "/v1/workflows/check"),
    ("POST", "/v1/backup"),
    ("POST", "/v1/tokens"),
    ("GET", "/v1/user"),
    ("GET POST", "/v1/users"),
    ("GET POST", "/v1/apikeys"),
    ("GET", "/v1/stream"),
    ("GET", "/v1/triggerinstances"),
    ("GET", "/v1/metrics"),
];

/// The same paths stand under other prefixes, and some are reached without one.
const ELSEWHERE: [(&str, &str); 14] = [
    ("GET", "/executions"),
    ("GET", "/api/v1/executions"),
    ("POST", "/api/v1/webhooks/e"),
    ("POST", "/auth/v1/tokens"),
    ("GET", "/stream/v1/stream"),
    ("GET", "/metrics"),
    ("GET", "/v1/status"),
    ("GET", "/v1/audit"),
    ("GET", "/v1/timers"),
    ("GET", "/v1/triggertypes"),
    ("DELETE", "/v1/users/st2admin"),
    ("GET DELETE", "/v1/apikeys/some"),
    ("POST", "/v1/triggerinstances/6b01032a541002ef4f000001/re_emit"),
    ("GET", "/v1/ruleenforcements/6b01032a541002ef4f000001"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g10_every_door_asks_who_is_there_except_those_that_are_listed() {
    let site = site().file("rules/e.yaml", &rule("e", "core.noop", "{}"));
    let daemon = Daemon::start(&site).await;
    for path in OPEN {
        assert_eq!(daemon.bare(Method::GET, path).send().await.unwrap().status(), StatusCode::OK, "{path}");
    }
    for (methods, path) in CLOSED.into_iter().chain(ELSEWHERE) {
        for method in methods.split(' ') {
            let method: Method = method.parse().unwrap();
            let request = daemon.bare(method.clone(), path).header("Content-Type", "application/json").body("{}");
            let bare = request.try_clone().unwrap().send().await.unwrap();
            assert_eq!(bare.status(), StatusCode::UNAUTHORIZED, "{method} {path} without a key");
            let wrong = request.header("St2-Api-Key", "wrong").header("X-Auth-Token", "wrong").send().await.unwrap();
            assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED, "{method} {path} with a wrong key");
        }
    }
    let listeners = daemon.bare_to_listeners("/st2/nrhook");
    assert_eq!(listeners.len(), 1, "New Relic's");
    for listener in listeners {
        assert_eq!(listener.json(&serde_json::json!({})).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
}
