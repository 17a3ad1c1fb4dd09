//! Database and broker over TLS, with a password, and with an authority that only the configuration trusts.

use std::path::Path;
use std::sync::Arc;

use petrel::clock::SystemClock;
use petrel::store::{PostgresSettings, Store};
use reqwest::StatusCode;
use serde_json::json;

use crate::servers::postgres::{CAREFUL_USER, connect};
use crate::servers::{Postgres, RabbitMq};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

/// What must not be shown anywhere.
const PASSWORD: &str = "hunter2-of-the-database";
const RULE: &str = "name: f\nenabled: true\ntrigger: {type: core.st2.webhook, parameters: {url: f}}\n\
                    action: {ref: core.noop}\n";

/// A database that belongs to a user with a password.
async fn careful_database(postgres: &Postgres) -> String {
    let client = connect(&postgres.url("postgres")).await;
    let user = format!("CREATE ROLE {CAREFUL_USER} LOGIN PASSWORD '{PASSWORD}'");
    client.batch_execute(&user).await.unwrap();
    client.batch_execute(&format!("CREATE DATABASE safe OWNER {CAREFUL_USER}")).await.unwrap();
    "safe".to_owned()
}

/// What is said when the store cannot be opened.
async fn refusal(url: &str, ca_file: Option<&Path>) -> String {
    let settings = PostgresSettings { url: url.to_owned(), connections: 2, ca_file: ca_file.map(Path::to_owned) };
    let refused = Store::open_postgres(&settings, Arc::new(SystemClock::new())).await;
    refused.map(drop).unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn g09_database_and_broker_are_reached_over_tls_and_no_password_is_told() {
    let (postgres, rabbit) = tokio::join!(Postgres::start(), RabbitMq::start());
    let database = careful_database(&postgres).await;
    let site = Site::new()
        .file("rules/f.yaml", RULE)
        .setting("store.url", &postgres.careful_url("localhost", PASSWORD, &database))
        .setting("store.ca_file", &postgres.authority().display().to_string())
        .setting("bus.url", &rabbit.tls_url("localhost", "guest"))
        .setting("bus.ca_file", &rabbit.authority().display().to_string())
        .setting("bus.fresh_queue_grace", "0")
        .setting("log.level", "trace");
    let guards = site.path().join("guards").display().to_string();
    let site = site.setting("workers.guards_dir", &guards);
    let daemon = Daemon::start(&site).await;
    let delivered = daemon.deliver("f", Some("once"), &json!({})).await.unwrap();
    assert_eq!(delivered.status, StatusCode::ACCEPTED);
    eventually("it is processed", async || (daemon.count("/v1/executions?status=succeeded").await == 1).then_some(()))
        .await;
    let client = connect(&postgres.url("postgres")).await;
    let ours = format!(
        "SELECT count(*) FILTER (WHERE s.ssl), count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
         WHERE a.usename = '{CAREFUL_USER}'"
    );
    let row = client.query_one(&ours, &[]).await.unwrap();
    let (over_tls, all): (i64, i64) = (row.get(0), row.get(1));
    assert!(all > 0 && over_tls == all, "{over_tls} of {all} connections are encrypted");
    let log = daemon.log();
    assert!(!log.contains(PASSWORD) && !log.contains("guest:guest"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g09_a_server_that_cannot_be_trusted_is_named_with_the_reason_and_gets_no_password() {
    let (postgres, rabbit) = tokio::join!(Postgres::start(), RabbitMq::start());
    let database = careful_database(&postgres).await;
    let [by_name, by_address] = ["localhost", "127.0.0.1"].map(|host| postgres.careful_url(host, PASSWORD, &database));
    let ca_file = postgres.authority();
    let cases = [
        (by_name.clone(), None, "UnknownIssuer"),
        (by_address, Some(ca_file), "not valid for name"),
        (by_name.replace("require", "disable"), Some(ca_file), "no encryption"),
        (by_name.replace(PASSWORD, "hunter3"), Some(ca_file), "password authentication failed"),
        (by_name, Some(Path::new("/nowhere/ca.pem")), "store.ca_file /nowhere/ca.pem"),
    ];
    for (url, ca_file, reason) in cases {
        let said = refusal(&url, ca_file).await;
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(!said.contains("hunter"), "{said}");
    }
    for (ca_file, host, reason) in [("", "localhost", "UnknownIssuer"), ("ca", "127.0.0.1", "not valid for name")] {
        let site = Site::new().setting("bus.url", &rabbit.tls_url(host, "guest"));
        let authority = rabbit.authority().display().to_string();
        let site = if ca_file.is_empty() { site } else { site.setting("bus.ca_file", &authority) };
        let daemon = Daemon::start_unready(&site).await;
        eventually(reason, async || {
            let (_, body) = daemon.try_get("/readyz").await;
            body["reasons"].to_string().contains(reason).then_some(())
        })
        .await;
        assert!(!daemon.log().contains("guest:guest"));
    }
}
