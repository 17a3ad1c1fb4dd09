//! Messages of which nothing could be made, at the door.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::support::House;
use crate::model::refs::DeadLetterId;
use crate::store::dead_letters::NewDeadLetter;

async fn house_with(bodies: &[&[u8]]) -> House {
    let house = House::new().await;
    let letters = bodies.iter().zip(1..).map(|(body, number)| NewDeadLetter {
        id: DeadLetterId::from_bytes([number; 12]),
        source: "petrel.arrivals".to_owned(),
        reason: "it is no delivery".to_owned(),
        body: body.to_vec(),
        received_at: super::support::START.parse().unwrap(),
    });
    house.doors.stores.dead_letters.dead_letters_put(&letters.collect::<Vec<_>>()).await.unwrap();
    house
}

const FIRST: &str = "/v1/dead-letters/010101010101010101010101";
const SECOND: &str = "/v1/dead-letters/020202020202020202020202";

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_shown_as_text_or_as_the_bytes_it_is() {
    let house = house_with(&[b"hello", &[0xff, 0]]).await;
    let listed = house.get("/v1/dead-letters?limit=1").await;
    assert_eq!((listed.header("x-total-count"), listed.json().as_array().unwrap().len()), ("2", 1));
    assert!(listed.json()[0].get("body").is_none(), "bodies may be long");
    let (text, bytes) = (house.get(FIRST).await.json(), house.get(SECOND).await.json());
    assert_eq!((&text["encoding"], &text["body"]), (&json!("utf-8"), &json!("hello")));
    assert_eq!((&bytes["encoding"], &bytes["body"]), (&json!("base64"), &json!("/wA=")));
    assert_eq!((&bytes["size_bytes"], &bytes["reason"]), (&json!(2), &json!("it is no delivery")));
    let unknown = house.get("/v1/dead-letters/030303030303030303030303").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_emit_may_put_back_and_who_manages_may_give_up() {
    let house = house_with(&[b"sound", b"poison"]).await;
    let (operator, observer) = (house.key_of("operator").await, house.key_of("observer").await);
    let requeue = |key: String, letter: &'static str| {
        let house = &house;
        async move { house.call(&key, "POST", &format!("{letter}/requeue"), Some(Value::Null)).await }
    };
    assert_eq!(requeue(observer, FIRST).await.status, StatusCode::FORBIDDEN);
    let put_back = requeue(operator.clone(), FIRST).await;
    assert_eq!((put_back.status, &put_back.json()["requeued"]), (StatusCode::OK, &json!("landed")));
    let still_poison = requeue(operator.clone(), SECOND).await;
    assert_eq!(still_poison.status, StatusCode::CONFLICT);
    assert_eq!(still_poison.fault(), "the message stays a dead letter: it is no delivery");
    assert_eq!(house.call(&operator, "DELETE", SECOND, None).await.status, StatusCode::FORBIDDEN);
    assert_eq!(house.delete(SECOND).await.status, StatusCode::OK);
    assert_eq!(house.delete(SECOND).await.status, StatusCode::NOT_FOUND);
    let audit = house.get("/v1/audit").await.json().to_string();
    assert!(audit.contains("dead_letter.requeue") && audit.contains("dead_letter.delete"), "{audit}");
}
