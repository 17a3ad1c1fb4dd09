//! Publishing a catalogue through the door.

use axum::http::StatusCode;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::support::House;
use crate::bus::Topic;

const RULE: &str =
    "name: ring\nenabled: true\ntrigger: {type: core.st2.webhook, parameters: {url: ring}}\naction: {ref: core.noop}\n";

fn catalogue(files: &[(&str, &str)]) -> Value {
    let files =
        files.iter().map(|(path, text)| json!({ "path": path, "content_base64": BASE64_STANDARD.encode(text) }));
    json!({ "files": files.collect::<Vec<_>>() })
}

/// Waits until the house has loaded from there.
async fn loaded_from(house: &House, source: &str) {
    let mut catalogue = house.doors.catalogue.clone();
    catalogue.wait_for(|catalogue| catalogue.source() == source).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_takes_the_place_of_the_files_until_it_is_unpublished() {
    let house = House::new().await;
    let switched = house.put("/v1/rules/default.ring", json!({})).await;
    assert_eq!(switched.status, StatusCode::NOT_FOUND);
    let published = house.post("/v1/catalogues", catalogue(&[("rules/ring.yaml", RULE)])).await;
    assert_eq!(published.status, StatusCode::CREATED, "{:?}", published.body);
    let answer = published.json();
    assert_eq!(
        (&answer["version"], &answer["changed"], &answer["counts"]["rules"]),
        (&json!(1), &json!(true), &json!(1))
    );
    loaded_from(&house, "v1").await;
    assert_eq!(house.get("/v1/rules/default.deploy").await.status, StatusCode::NOT_FOUND, "the files are out");
    assert_eq!(house.get("/v1/actions/core.noop").await.status, StatusCode::OK, "the shipped packs are in");
    let off = house.post("/v1/rules/default.ring/disable", Value::Null).await;
    assert_eq!(off.json()["enabled"], false, "the API's layer lies over it");
    assert_eq!(house.get("/v1/cluster").await.json()["daemons"][0]["catalogue_version"], "v1");

    let again = house.post("/v1/catalogues", catalogue(&[("rules/ring.yaml", RULE)])).await;
    assert_eq!((again.status, &again.json()["changed"]), (StatusCode::OK, &json!(false)));
    let other = house.post("/v1/catalogues", catalogue(&[("rules/ring.yaml", &RULE.replace("ring", "bell"))])).await;
    assert_eq!(other.json()["version"], 2);
    loaded_from(&house, "v2").await;
    assert_eq!(house.post("/v1/catalogues/1/publish", json!({})).await.json()["version"], 3);
    loaded_from(&house, "v3").await;
    assert_eq!(house.get("/v1/rules/default.ring").await.json()["enabled"], false, "also over the next");

    assert_eq!(house.post("/v1/catalogues/unpublish", json!({})).await.json()["digest"], Value::Null);
    loaded_from(&house, "files").await;
    assert_eq!(house.get("/v1/rules/default.deploy").await.status, StatusCode::OK);
    let kept = house.get("/v1/catalogues").await.json();
    let versions: Vec<_> = kept.as_array().unwrap().iter().map(|row| (&row["version"], &row["current"])).collect();
    assert_eq!(versions[0], (&json!(4), &json!(true)));
    assert_eq!(versions[3], (&json!(1), &json!(false)));
    assert_eq!(
        house.post("/v1/catalogues/4/publish", json!({})).await.status,
        StatusCode::NOT_FOUND,
        "it has no files"
    );
    assert_eq!(house.post("/v1/catalogues/9/publish", json!({})).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_with_errors_is_refused_with_their_places_and_changes_nothing() {
    let house = House::new().await;
    let broken = RULE.replace("core.noop", "core.nop");
    let refused = house.post("/v1/catalogues", catalogue(&[("rules/ring.yaml", &broken)])).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.fault().contains("--> rules/ring.yaml:4:15"), "{}", refused.fault());
    assert_eq!(refused.json()["findings"][0]["file"], "rules/ring.yaml");
    assert_eq!(house.get("/v1/catalogues").await.json(), json!([]));
    assert_eq!(house.get("/v1/cluster").await.json()["daemons"][0]["catalogue_version"], "files");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_bodies_that_are_no_catalogue_are_refused() {
    let house = House::new().await;
    for (body, word) in [
        (catalogue(&[("rules/../../evil.yaml", RULE)]), "`rules/../../evil.yaml` cannot be published"),
        (catalogue(&[("petrel.toml", "")]), "only what lies below rules/"),
        (catalogue(&[]), "nothing to publish"),
        (json!({ "files": [{ "path": "rules/a", "content_base64": "%" }] }), "no base64"),
        (json!({ "files": {} }), "the body is no publication"),
        (json!({ "files": [], "more": [[[[]]]] }), "unknown field `more`"),
    ] {
        let refused = house.post("/v1/catalogues", body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{word}");
        assert!(refused.fault().contains(word), "{}", refused.fault());
    }
    let half = "x".repeat(17 << 20);
    let large = catalogue(&[("rules/a", &half), ("rules/b", &half)]);
    let refused = house.post("/v1/catalogues", large).await;
    assert!(refused.fault().contains("more than 32 MiB"), "{}", refused.fault());
    assert_eq!(house.get("/v1/catalogues").await.json(), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_admin_publishes_and_everybody_sees_what_was_published() {
    let house = House::new().await;
    let mut news = house.doors.world.bus.listen(Topic::Content);
    let operator = house.key_of("operator").await;
    for uri in ["/v1/catalogues", "/v1/catalogues/1/publish", "/v1/catalogues/unpublish"] {
        let refused = house.call(&operator, "POST", uri, Some(catalogue(&[("rules/ring.yaml", RULE)]))).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{uri}");
    }
    assert_eq!(house.call(&operator, "GET", "/v1/catalogues", None).await.json(), json!([]));
    let published = house.post("/v1/catalogues", catalogue(&[("rules/ring.yaml", RULE)])).await;
    assert_eq!(published.status, StatusCode::CREATED, "{:?}", published.body);
    news.heard().await;
    assert_eq!(house.call(&operator, "GET", "/v1/catalogues", None).await.json()[0]["published_by"], "st2admin");
}
