//! The showcase row by row: what somebody sees who uses Petrel in the place of the system it was modelled on. The rows and
//! all tests that prove them are listed in `docs/showcase.md`.

mod alerts;
mod commands;
mod nodes;

use serde_json::{Value, json};

use crate::scaling::copy_shipped;
use crate::servers::bind::{Bind, ZONE};
use crate::servers::free_port;
use crate::servers::haproxy::Haproxy;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

/// A site with the shipped rules and workflows and an open door for New Relic.
struct Place {
    site: Site,
    newrelic: String,
}

impl Place {
    fn new() -> Self {
        let port = free_port();
        let newrelic = format!("http://127.0.0.1:{port}/st2/nrhook");
        let configuration = format!("normal_report_delay: 0\nlistener_url: {newrelic}\n");
        let site = Site::new().file("configs/newrelic.yaml", &configuration);
        copy_shipped(&site, "rules");
        copy_shipped(&site, "workflows");
        let address = format!("127.0.0.1:{port}");
        let site = site.setting("listeners.newrelic.address", &address).setting("listeners.newrelic.auth", "open");
        Self { site, newrelic }
    }

    /// With a load balancer and a zone that groups have if they do not say otherwise.
    fn attached(haproxy: &Haproxy, bind: &Bind) -> Self {
        let place = Self::new();
        place.site.write(
            "configs/haproxy.yaml",
            &format!("socket: {}\nbackend: 'be_{{group}}'\ncheck_interval: 100ms\n", haproxy.socket().display()),
        );
        place.site.write(
            "configs/dns.yaml",
            &format!("server: '{}'\nkey_name: petrel\nkey_secret: '{}'\n", bind.address(), bind.secret("petrel")),
        );
        place.site.write(
            "configs/autoscale.yaml",
            "group_defaults:\n  dns: dns\n  load_balancer: haproxy\n  node_parameters: {service_time_ms: 5}\n  \
             config: {min_nodes: 1, max_nodes: 6, drain_timeout: 20s, warmup: 0s}\n",
        );
        place
    }

    /// What New Relic sends.
    async fn send(&self, content_type: &str, body: String) -> reqwest::Response {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.post(&self.newrelic).header("content-type", content_type).body(body).send().await.unwrap()
    }

    /// The pack's own dialect: a form with `alert=`.
    async fn alert(&self, application: &str, severity: &str, story: &str) -> reqwest::Response {
        let alert = json!({
            "application_name": application, "severity": severity, "long_description": story, "account_name": "Acme",
            "alert_policy_name": "Default application alert policy", "message": "Apdex score fell below critical level",
            "alert_url": format!("https://rpm.newrelic.com/accounts/1/incidents/{application}"),
        });
        self.form(&alert).await
    }

    /// A legacy alert of a server.
    async fn server_alert(&self, server: &str, story: &str) -> reqwest::Response {
        let alert = json!({
            "servers": [server], "severity": "critical", "long_description": story, "account_name": "Acme",
            "alert_policy_name": "Default server alert policy", "message": "CPU > 90 %",
            "alert_url": format!("https://rpm.newrelic.com/accounts/1/incidents/{server}"),
        });
        self.form(&alert).await
    }

    async fn form(&self, alert: &Value) -> reqwest::Response {
        let form: String =
            form_urlencoded::Serializer::new(String::new()).append_pair("alert", &alert.to_string()).finish();
        self.send("application/x-www-form-urlencoded", form).await
    }
}

/// A group of local nodes, made by the command line.
async fn create(daemon: &Daemon<'_>, name: &str, application: &str, more: &[&str]) {
    let words = ["asg", "create", name, "--provider", "local", "--application", application, "--min-nodes", "1"];
    // nodes that were just made would hold an expansion back until they are warm
    let words = [&words[..], &["--config", "warmup=0s"]].concat();
    daemon.cli(&[&words, more].concat()).await;
    at_rest(daemon, name).await;
}

/// The group once nothing is under way in it; null if it is no more.
async fn at_rest(daemon: &Daemon<'_>, name: &str) -> Value {
    eventually("the group comes to rest", async || {
        let (status, group) = daemon.try_get(&format!("/v1/asg/{name}")).await;
        match status.as_u16() {
            404 => Some(Value::Null),
            _ => group["activity"].is_null().then_some(group),
        }
    })
    .await
}

/// How many nodes serve once nothing is under way.
async fn serving(daemon: &Daemon<'_>, name: &str) -> u64 {
    at_rest(daemon, name).await["in_service"].as_u64().unwrap_or_default()
}

/// The nodes that the zone names.
async fn named(bind: &Bind) -> Vec<String> {
    let records = bind.records().await;
    let suffix = format!(".web.{ZONE} A 127.0.0.1");
    records.iter().filter_map(|record| record.strip_suffix(&suffix)).map(str::to_owned).collect()
}
