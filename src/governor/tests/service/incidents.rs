//! Alerts: whom they concern, and what follows at once.

use std::time::Duration;

use serde_json::json;

use super::desk::{Desk, new_group};
use crate::governor::incidents::Report;
use crate::model::decision::Row;
use crate::model::incident::{IncidentState, Severity};
use crate::model::scaling::Origin;

pub(super) fn report(entity: &str, state: IncidentState) -> Report {
    Report { entities: vec![entity.to_owned()], key: "cpu".to_owned(), severity: Severity::Critical, state, at: None }
}

#[tokio::test]
async fn a_report_concerns_the_groups_whose_application_or_node_it_names() {
    let desk = Desk::serving(&json!({})).await;
    for (entity, groups) in [
        ("shop", 1),
        ("web-001", 1),
        ("web-001.web.example.org", 1),
        ("web", 0),
        ("shop2", 0),
        ("web-002.web.example.org", 0),
    ] {
        let warning = report(entity, IncidentState::Open);
        let report = Report { key: entity.to_owned(), severity: Severity::Warning, ..warning };
        assert_eq!(desk.governor.observe(&report).await.unwrap().len(), groups, "{entity}");
    }
}

#[tokio::test]
async fn a_recovery_finds_the_incident_of_a_node_that_has_gone_meanwhile() {
    let desk = Desk::serving(&json!({})).await;
    desk.governor.observe(&report("web-001", IncidentState::Open)).await.unwrap();
    desk.succeed().await;
    let elsewhere = report("web-077", IncidentState::Closed);
    assert_eq!(desk.governor.observe(&elsewhere).await.unwrap().len(), 1, "the key is known");
    assert_eq!(desk.group().await.incidents, []);
}

#[tokio::test]
async fn a_late_opening_does_not_wake_what_is_closed() {
    let desk = Desk::serving(&json!({ "max_nodes": 1 })).await;
    let at = |seconds: u64| {
        Some("2026-11-21T08:00:00Z".parse::<crate::model::time::Timestamp>().unwrap())
            .map(|start| start.plus(Duration::from_secs(seconds)))
    };
    let closed = Report { at: at(2), ..report("shop", IncidentState::Closed) };
    let opened = Report { at: at(1), ..report("shop", IncidentState::Open) };
    for seen in [&closed, &opened, &closed, &opened] {
        desk.governor.observe(seen).await.unwrap();
    }
    assert_eq!(desk.group().await.incidents, []);
    let again = Report { at: at(3), ..report("shop", IncidentState::Open) };
    desk.governor.observe(&again).await.unwrap();
    assert_eq!(desk.group().await.incidents.len(), 1);
}

#[tokio::test]
async fn a_warning_tells_people_once_and_expands_nothing() {
    let desk = Desk::serving(&json!({})).await;
    let warning = Report { severity: Severity::Warning, ..report("shop", IncidentState::Open) };
    for _ in 0..2 {
        let seen = desk.governor.observe(&warning).await.unwrap();
        assert_eq!(seen[0].1.decision.row, Row::Warned);
    }
    let told = desk.told().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("ASG[web] warning: cpu: holding"), "{told:?}");
}

#[tokio::test]
async fn a16_at_the_maximum_somebody_is_called_once() {
    let desk = Desk::serving(&json!({ "max_nodes": 1 })).await;
    desk.governor.observe(&report("shop", IncidentState::Open)).await.unwrap();
    desk.ticks_for(Duration::from_mins(3)).await;
    let told = desk.told().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("ASG[web] needs somebody: cpu"), "{told:?}");
}

#[tokio::test]
async fn in_a_group_that_only_observes_an_alert_is_recorded() {
    let desk = Desk::new();
    desk.governor.create(new_group(&json!({ "mode": "observe" })), Origin::Api).await.unwrap();
    let seen = desk.governor.observe(&report("shop", IncidentState::Open)).await.unwrap();
    assert_eq!(seen[0].1.view().verdict, "record");
    assert_eq!(desk.group().await.total.get(), 0);
}
