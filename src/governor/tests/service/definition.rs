//! Defining, configuring and suspending groups.

use std::time::Duration;

use serde_json::json;

use super::desk::{Desk, expand, new_group, web};
use crate::governor::definition::NewGroup;
use crate::governor::error::GovernorError;
use crate::governor::redefinition::Redefinition;
use crate::model::decision::Delays;
use crate::model::group::Part;
use crate::model::scaling::Origin;

#[tokio::test]
async fn a_name_can_be_taken_once() {
    let desk = Desk::serving(&json!({})).await;
    let again = desk.governor.create(new_group(&json!({})), Origin::Api).await;
    assert_eq!(again, Err(GovernorError::Exists(web())));
    assert_eq!(desk.group().await.total.get(), 1);
}

#[tokio::test]
async fn a_bad_definition_is_refused_with_everything_that_is_wrong() {
    let desk = Desk::new();
    let bad = NewGroup {
        provider: "cloudy".to_owned(),
        dns: Some("cloud".to_owned()),
        domain: String::new(),
        ..new_group(&json!({ "min_nodes": 5, "max_nodes": 2 }))
    };
    let refused = desk.governor.create(bad, Origin::Api).await.unwrap_err().to_string();
    for part in [
        "min_nodes (5) is above max_nodes (2)",
        "`cloudy` cannot be its provider: there is no action `cloudy.create_node`, `cloudy.delete_node`",
        "`cloud` cannot be its dns: there is no action `cloud.upsert_record`, `cloud.delete_record`",
        "it names its nodes in DNS but has no `domain`",
    ] {
        assert!(refused.contains(part), "{part} is missing in: {refused}");
    }
    assert_eq!(desk.governor.names().await.unwrap(), []);
}

#[tokio::test]
async fn configuring_changes_what_is_named_and_nothing_else() {
    let desk = Desk::serving(&json!({ "max_nodes": 7, "warmup": "5s" })).await;
    desk.governor.configure(&web(), json!({ "expand_by": 3 }).as_object().unwrap()).await.unwrap();
    let config = desk.group().await.config;
    assert_eq!((config.expand_by.get(), config.max_nodes.get(), config.warmup.as_secs()), (3, 7, 5));
    for (bad, why) in
        [(json!({ "expand_dealy": "1m" }), "expand_dealy"), (json!({ "min_nodes": 8 }), "above max_nodes")]
    {
        let refused = desk.governor.configure(&web(), bad.as_object().unwrap()).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    assert_eq!(desk.group().await.config, config);
}

#[tokio::test]
async fn what_made_the_nodes_stays_while_there_are_nodes() {
    let desk = Desk::serving(&json!({ "min_nodes": 0 })).await;
    desk.ask(&expand(Delays::Skip)).await;
    desk.succeed().await;
    let elsewhere = Redefinition { domain: Some("example.net".to_owned()), ..Redefinition::default() };
    let refused = desk.governor.redefine(&web(), &elsewhere).await.unwrap_err().to_string();
    assert!(refused.contains("can only change while the group has no nodes: it has 1 node;"), "{refused}");
    let harmless = Redefinition {
        application: Some("store".to_owned()),
        channel: Some(String::new()),
        node_parameters: Some([("size".to_owned(), json!("m"))].into()),
        ..Redefinition::default()
    };
    desk.governor.redefine(&web(), &harmless).await.unwrap();
    let group = desk.group().await;
    assert_eq!(
        (group.application.as_str(), &group.channel, &group.node_parameters["size"]),
        ("store", &None, &json!("m"))
    );
    desk.ask(&crate::governor::tests::world::deflate(Some(1), Delays::Skip)).await;
    desk.succeed().await;
    desk.governor.redefine(&web(), &elsewhere).await.unwrap();
    assert_eq!(desk.group().await.domain, "example.net");
}

#[tokio::test]
async fn an_unknown_balancer_is_refused_also_later() {
    let desk = Desk::new();
    desk.governor.create(new_group(&json!({ "min_nodes": 0 })), Origin::Api).await.unwrap();
    let unknown = Redefinition { load_balancer: Some("f5".to_owned()), ..Redefinition::default() };
    let refused = desk.governor.redefine(&web(), &unknown).await.unwrap_err().to_string();
    assert!(refused.contains("`f5` cannot be its load_balancer"), "{refused}");
}

#[tokio::test]
async fn a_suspension_holds_back_its_part_until_it_is_lifted_or_runs_out() {
    let desk = Desk::serving(&json!({})).await;
    let lasting = Some(Duration::from_mins(1));
    desk.governor.suspend(&web(), Part::Expand, lasting, "ann", "tests").await.unwrap();
    let refused = desk.ask(&expand(Delays::Skip)).await;
    assert!(refused.reason().contains("expand is suspended by ann"), "{}", refused.reason());
    assert_eq!(desk.group().await.suspensions.len(), 1);
    desk.ticks_for(Duration::from_mins(1)).await;
    assert_eq!(desk.group().await.suspensions, []);
    assert!(desk.ask(&expand(Delays::Skip)).await.activity.is_some());

    desk.governor.suspend(&web(), Part::Deflate, None, "ann", "").await.unwrap();
    desk.governor.suspend(&web(), Part::Replace, None, "ann", "").await.unwrap();
    desk.governor.resume(&web(), Part::All).await.unwrap();
    assert_eq!(desk.group().await.suspensions, []);
}
