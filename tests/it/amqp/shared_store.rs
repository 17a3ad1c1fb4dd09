//! A broker in front of a shared store: the store dies, daemons die, and nothing that was accepted is lost or doubled.

use std::collections::BTreeSet;
use std::fs;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::daemons::{assert_landed_once, deliver_all, site};
use super::letters::{message, publish};
use crate::servers::{self, Postgres};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn g01_deliveries_are_accepted_while_postgresql_is_dead_and_land_after_it_comes_back() {
    let mut store = Postgres::start().await;
    let site = site(&servers::fresh_vhost().await, "1s").setting("store.url", &store.fresh_database().await);
    let daemon = Daemon::start(&site).await;
    let mut accepted = deliver_all(&daemon, 0..5).await;
    assert_landed_once(&daemon, &accepted).await;
    store.kill_9().await;
    accepted.extend(deliver_all(&daemon, 5..200).await);
    let unknown = daemon.post("/v1/webhooks/nobody", &json!({})).await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND, "what the loaded catalogue does not have, it does not have");
    let stranger =
        daemon.bare(reqwest::Method::POST, "/v1/webhooks/e").header("St2-Api-Key", "guessed").json(&json!({}));
    assert_eq!(
        stranger.send().await.unwrap().status(),
        StatusCode::SERVICE_UNAVAILABLE,
        "nobody knows whose key it is"
    );
    store.start_again().await;
    assert_landed_once(&daemon, &accepted).await;
    assert_eq!(daemon.get("/v1/dead-letters").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_cannot_hold_is_set_aside_and_what_came_with_it_lands() {
    let url = servers::fresh_database().await;
    let broker = servers::fresh_vhost().await;
    let site = site(&broker, "1s").setting("store.url", &url).setting("bus.accept_unsigned", "true");
    let daemon = Daemon::start(&site).await;
    // A key that no door lets through: too long for an index, and it cannot be packed.
    let mixed = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29);
    let letter =
        |n: u64| b"abcdefghijklmnopqrstuvwxyz012345"[usize::try_from(mixed(n).wrapping_mul(n | 1) >> 59).unwrap()];
    let key: String = (0..40_000).map(letter).map(char::from).collect();
    let dedupe = format!("[\"{key}\", 1800000000000000]");
    let poison = message("6b01032a541002ef4f000001", "core.st2.webhook").replace("null", &dedupe);
    publish(&broker, &[poison.as_bytes()]).await;
    let accepted = deliver_all(&daemon, 0..20).await;
    let letters = eventually("it is set aside", async || {
        let letters = daemon.get("/v1/dead-letters").await;
        (letters != json!([])).then_some(letters)
    })
    .await;
    assert!(letters[0]["reason"].as_str().unwrap().contains("the store refuses"), "{letters}");
    assert_landed_once(&daemon, &accepted).await;
}

/// A second daemon of the same installation.
fn beside(first: &Daemon<'_>, site: Site) -> Site {
    let key = first.data_dir().join("datastore.key");
    let site = site.setting("secrets.key_file", key.to_str().unwrap());
    site.write("data/admin.key", first.key());
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn g02_two_daemons_over_one_store_and_one_broker_land_everything_once_though_one_is_killed() {
    let (url, broker) = (servers::fresh_database().await, servers::fresh_vhost().await);
    let member = || site(&broker, "1s").setting("store.url", &url);
    let first_site = member();
    let first = Daemon::start(&first_site).await;
    assert!(fs::exists(first.data_dir().join("datastore.key")).unwrap());
    let second_site = beside(&first, member());
    let mut second = Daemon::start(&second_site).await;
    let (here, there) = tokio::join!(deliver_all(&first, 0..200), deliver_all(&second, 200..400));
    second.kill9().await;
    let later = deliver_all(&first, 400..500).await;
    let accepted: BTreeSet<String> = [here, there, later].into_iter().flatten().collect();
    assert_eq!(accepted.len(), 500);
    assert_landed_once(&first, &accepted).await;
    let letters: Value = first.get("/v1/dead-letters").await;
    assert_eq!(letters, json!([]));
}
