//! Rules, packs and the datastore through the door.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::support::House;
use crate::content::Compilers;
use crate::packs::check::{Checks, Runners};
use crate::packs::rule_layer::{read_definition, warnings_of};

fn rule(name: &str, action: &str) -> Value {
    json!({
        "name": name, "pack": "default", "enabled": true,
        "trigger": { "type": "core.st2.webhook", "parameters": { "url": name } },
        "criteria": { "trigger.body.n": { "type": "gt", "pattern": 3 } },
        "action": { "ref": action, "parameters": {} },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_made_read_changed_switched_and_deleted() {
    let house = House::new().await;
    let made = house.post("/v1/rules", rule("mine", "core.noop")).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:?}", made.body);
    assert_eq!(house.post("/v1/rules", rule("mine", "core.noop")).await.status, StatusCode::CONFLICT);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let mut shown = house.get("/v1/rules/default.mine").await.json();
    assert_eq!(shown["criteria"]["trigger.body.n"], json!({ "type": "gt", "pattern": 3 }));
    shown["enabled"] = json!(false);
    let off = house.put(&format!("/v1/rules/{id}"), shown.clone()).await;
    assert_eq!((off.status, &off.json()["enabled"]), (StatusCode::OK, &json!(false)));
    shown["description"] = json!("now with words");
    assert_eq!(house.put(&format!("/v1/rules/{id}"), shown).await.json()["description"], "now with words");
    assert_eq!(house.get("/v1/rules?enabled=False&pack=default").await.header("x-total-count"), "1");
    assert_eq!(house.delete(&format!("/v1/rules/{id}")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.get("/v1/rules/default.mine").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_from_a_file_is_switched_and_otherwise_left_to_its_file() {
    let house = House::new().await;
    let mut shown = house.get("/v1/rules/default.deploy").await.json();
    assert_eq!(shown["metadata_file"], "rules/deploy.yaml");
    shown["enabled"] = json!(false);
    assert_eq!(house.put("/v1/rules/default.deploy", shown.clone()).await.json()["enabled"], false);
    let on = house.post("/v1/rules/default.deploy/enable", Value::Null).await;
    assert_eq!(on.json()["enabled"], true);
    shown["action"]["ref"] = json!("lab.login");
    let refused = house.put("/v1/rules/default.deploy", shown).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.fault().contains("rules/deploy.yaml"), "{}", refused.fault());
    assert_eq!(house.delete("/v1/rules/default.deploy").await.status, StatusCode::CONFLICT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_rule_is_refused_with_all_that_is_wrong() {
    let house = House::new().await;
    let mut bad = rule("bad", "core.nop");
    bad["criteria"]["trigger.body.n"]["type"] = json!("greatest");
    let refused = house.post("/v1/rules", bad).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    for words in ["core.nop", "core.noop", "greatest"] {
        assert!(refused.fault().contains(words), "{words}: {}", refused.fault());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_tried_on_an_event_and_explains_itself() {
    let house = House::new().await;
    let tried = async |app: &str| {
        let body = json!({ "payload": { "body": { "app": app } } });
        house.post("/v1/rules/default.deploy/test", body).await.json()
    };
    let yes = tried("web").await;
    assert_eq!((&yes["matched"], &yes["parameters"]), (&json!(true), &json!({})));
    let no = tried("db").await;
    assert_eq!(no["matched"], false);
    assert_eq!(no["explanation"][0]["key"], "trigger.body.app");
    assert_eq!((&no["explanation"][0]["value"], &no["explanation"][0]["held"]), (&json!("db"), &json!(false)));
    assert_eq!(house.post("/v1/rules/default.deploy/test", json!({})).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_another_trigger_does_not_match_whatever_it_holds() {
    let house = House::new().await;
    let event = json!({ "trigger": "core.st2.webhook", "payload": { "body": { "app": "web" } } });
    let seen = house.post("/v1/webhooks/st2", event).await;
    let instance = seen.header("x-trigger-instance-id");
    let tried = house.post("/v1/rules/default.deploy/test", json!({ "trigger_instance": instance })).await.json();
    assert_eq!((&tried["matched"], &tried["first_unmet"]), (&json!(false), &json!("trigger")), "{tried}");
    let why = &tried["explanation"][0];
    assert_eq!((&why["key"], &why["value"]), (&json!("trigger"), &json!("core.st2.webhook")));
    assert!(why["pattern"].as_str().unwrap().contains("team/deploy"), "{why}");
    assert_eq!(tried["explanation"][1]["held"], true, "its criteria are explained all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_actions_and_runners_are_listed_as_stackstorm_does() {
    let house = House::new().await;
    let login = house.get("/v1/actions/lab.login").await.json();
    assert_eq!(login["runner_type"], "noop");
    assert_eq!(login["parameters"]["password"], json!({ "type": "string", "secret": true }));
    let by_id = house.get(&format!("/v1/actions/{}", login["id"].as_str().unwrap())).await.json();
    assert_eq!(by_id["ref"], "lab.login");
    assert_eq!(house.get("/v1/actions?pack=lab").await.header("x-total-count"), "1");
    assert_eq!(house.get("/v1/runnertypes/?name=noop").await.json()[0]["name"], "noop");
    assert_eq!(house.get("/v1/packs/lab").await.json()["version"], "1.0.0");
    let hooks = house.get("/v1/webhooks?include_attributes=url").await.json();
    assert_eq!(hooks[0]["parameters"]["url"], "team/deploy");
    let kind = house.get("/v1/triggertypes/core.st2.webhook").await.json();
    assert_eq!(kind["uid"], "trigger_type:core:st2.webhook");
    for list in ["policies", "sensortypes", "actionalias", "timers", "inquiries", "ruleenforcements"] {
        assert_eq!(house.get(&format!("/v1/{list}")).await.status, StatusCode::OK, "{list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_have_scopes_and_end_with_their_time() {
    let house = House::new().await;
    let set = house.put("/v1/keys/colour", json!({ "value": "blue", "scope": "system", "ttl": 60 })).await.json();
    assert_eq!((&set["value"], &set["scope"]), (&json!("blue"), &json!("st2kv.system")));
    assert_eq!(set["expire_timestamp"], "2026-11-21T08:31:00.000000Z");
    house.put("/v1/keys/colour", json!({ "value": "red", "scope": "st2kv.user" })).await;
    assert_eq!(house.get("/v1/keys/colour?scope=user").await.json()["value"], "red");
    assert_eq!(house.get("/v1/keys?scope=all").await.header("x-total-count"), "2");
    house.clock.advance(Duration::from_secs(61));
    assert_eq!(house.get("/v1/keys/colour").await.status, StatusCode::NOT_FOUND);
    assert_eq!(house.delete("/v1/keys/colour?scope=user").await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.delete("/v1/keys/colour?scope=user").await.status, StatusCode::NOT_FOUND);
    let number = house.put("/v1/keys/n", json!({ "value": 3 })).await;
    assert!(number.fault().contains("must be a text"), "{}", number.fault());
}

#[tokio::test(flavor = "multi_thread")]
async fn g09_a_secret_key_is_opened_for_admins_only() {
    let house = House::new().await;
    let operator = house.key_of("operator").await;
    let set = house.call(&operator, "PUT", "/v1/keys/pin", Some(json!({ "value": "s3cret", "secret": true }))).await;
    assert_eq!(set.json()["encrypted"], true);
    let sealed = set.json()["value"].as_str().unwrap().to_owned();
    assert!(!sealed.contains("s3cret"));
    assert_eq!(house.get("/v1/keys/pin?decrypt=true").await.json()["value"], "s3cret");
    let refused = house.call(&operator, "GET", "/v1/keys/pin?decrypt=true", None).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let copied = house.put("/v1/keys/copy", json!({ "value": sealed, "encrypted": true })).await;
    assert_eq!(copied.json()["secret"], true);
    let fake = house.put("/v1/keys/copy", json!({ "value": "abc", "encrypted": true })).await;
    assert_eq!(fake.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_with_event_data_in_its_command_is_taken_and_warned_of() {
    let house = House::new().await;
    let rule = json!({
        "name": "wash", "enabled": true, "trigger": { "type": "core.st2.webhook", "parameters": { "url": "wash" } },
        "action": { "ref": "core.local", "parameters": { "cmd": "wash {{ trigger.body.host }}" } },
    });
    let made = house.post("/v1/rules", rule.clone()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.fault());
    let (runners, catalogue) = (Runners::new(), house.doors.catalogue.borrow().clone());
    let checks = Checks { runners: &runners, compile: &Compilers };
    let warnings = warnings_of(&read_definition(&rule).unwrap(), &catalogue, &checks);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("action.parameters.cmd: ") && warnings[0].contains("| quote"), "{warnings:?}");
}
