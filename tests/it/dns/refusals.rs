//! A server says no for many reasons; each has its own words and a way out, and the secret is in none.

use std::sync::Arc;

use petrel::clock::{Clock, SystemClock};
use petrel::model::time::Timestamp;
use serde_json::json;

use super::{Desk, at, record, zone_with};

use crate::servers::bind::{Bind, ZONE};

/// The same no for every action.
async fn refused(bind: &Bind, desk: &Desk, says: &[&str]) {
    for (action, parameters) in [
        ("upsert_record", record("n", "127.0.0.1")),
        ("delete_record", at("n")),
        ("list_records", json!({ "domain": ZONE })),
        ("create_zone", json!({ "domain": ZONE })),
        ("delete_zone", json!({ "domain": ZONE })),
    ] {
        let refusal = desk.fail(action, parameters).await;
        assert!(says.iter().all(|says| refusal.contains(says)), "{action}: {refusal}");
        for key in ["petrel", "strong", "guest"] {
            assert!(!refusal.contains(bind.secret(key)), "{action}: {refusal}");
        }
    }
    assert_eq!(bind.records().await, zone_with([]));
}

#[tokio::test]
async fn a_key_with_another_secret_is_told_so() {
    let bind = Bind::start().await;
    let desk = Desk::with(&bind, json!({ "key_secret": bind.secret("strong") }));
    refused(&bind, &desk, &["BADSIG", "correct `key_secret`", "`petrel`"]).await;
}

#[tokio::test]
async fn a_key_that_the_server_does_not_know_is_told_so_also_by_its_algorithm() {
    let bind = Bind::start().await;
    let stranger = Desk::with(&bind, json!({ "key_name": "stranger" }));
    refused(&bind, &stranger, &["BADKEY", "`stranger`", "tsig-keygen"]).await;
    let other = Desk::with(&bind, json!({ "key_algorithm": "hmac-sha384" }));
    refused(&bind, &other, &["BADKEY", "hmac-sha384", "`key_algorithm`"]).await;
}

#[tokio::test]
async fn clocks_that_differ_are_both_shown() {
    let bind = Bind::start().await;
    let clock = SystemClock::new();
    clock.follow(Timestamp::from_micros(1_893_456_000_000_000));
    let desk = Desk::by(&bind, json!({}), Arc::new(clock));
    let both = ["BADTIME", "Petrel's clock says 2030-01-01T00:", "the server's says 20", "300 seconds"];
    refused(&bind, &desk, &both).await;
}

#[tokio::test]
async fn a_key_without_rights_is_told_how_to_grant_them() {
    let bind = Bind::start().await;
    let desk = Desk::with(&bind, json!({ "key_name": "guest", "key_secret": bind.secret("guest") }));
    for (action, parameters, says) in [
        ("upsert_record", record("n", "127.0.0.1"), "grant guest zonesub ANY"),
        ("create_zone", json!({ "domain": ZONE }), "grant guest zonesub ANY"),
        ("list_records", json!({ "domain": ZONE }), "allow-transfer { key guest; };"),
    ] {
        let refusal = desk.fail(action, parameters).await;
        assert!(refusal.contains("REFUSED") && refusal.contains(says), "{action}: {refusal}");
        assert!(!refusal.contains(bind.secret("guest")), "{refusal}");
    }
    assert_eq!(bind.records().await, zone_with([]));
}

#[tokio::test]
async fn a_zone_that_is_not_the_servers_is_told_so() {
    let bind = Bind::start().await;
    let elsewhere = json!({ "domain": "elsewhere.test", "name": "n.elsewhere.test", "data": "127.0.0.1" });
    let refusal = Desk::at(&bind).fail("upsert_record", elsewhere.clone()).await;
    assert!(refusal.contains("refuses to say what `n.elsewhere.test` is: REFUSED"), "{refusal}");
    let named = Desk::with(&bind, json!({ "zone": "elsewhere.test" }));
    let refusal = named.fail("upsert_record", elsewhere).await;
    assert!(refusal.contains("NOTAUTH") && refusal.contains("zone `elsewhere.test`"), "{refusal}");
    let refusal = named.fail("list_records", json!({ "domain": "elsewhere.test" })).await;
    assert!(refusal.contains("NOTAUTH"), "{refusal}");
    let refusal = named.fail("upsert_record", record("n", "127.0.0.1")).await;
    assert!(refusal.contains("`n.petrel.test` is not in the zone `elsewhere.test`"), "{refusal}");
}

#[tokio::test]
async fn what_cannot_be_a_record_is_refused_before_anybody_is_asked() {
    let bind = Bind::start().await;
    let desk = Desk::with(&bind, json!({ "server": "127.0.0.1:1" }));
    let short = json!({ "domain": ZONE, "name": "n", "data": "127.0.0.1" });
    assert!(desk.fail("upsert_record", short).await.contains("give the full name, as `n.petrel.test`"));
    assert!(desk.fail("upsert_record", record("n", "127.0.0.1:80")).await.contains("without a port"));
    let nobody = desk.fail("upsert_record", record("n", "127.0.0.1")).await;
    assert!(nobody.contains("connecting to the DNS server 127.0.0.1:1 by TCP"), "{nobody}");
}
