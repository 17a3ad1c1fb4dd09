//! One story per row of the table, and the words people read.

use super::world::{MINUTE, World, deflate, delete_node, expand, minutes, names, nodes, would};
use crate::governor::ledger::WorkflowEnd;
use crate::model::decision::{Delays, Notice, Request, Row, Verdict};
use crate::model::group::Part;
use crate::model::group_config::{GroupConfig, Mode};
use crate::model::incident::{IncidentState, Severity};
use crate::model::node::NodePhase;
use crate::model::scaling::{ActivityKind, ActivityStatus, Origin};
use serde_json::json;

fn limits(min: u32, max: u32) -> GroupConfig {
    GroupConfig { min_nodes: nodes(min), max_nodes: nodes(max), ..GroupConfig::default() }
}

#[test]
fn a_group_is_set_up_with_its_minimum_under_names_reserved_at_admission() {
    let mut world = World::defined(limits(2, 5));
    let decision = world.ask(&Request::Create { origin: Origin::Api });
    assert_eq!(names(decision.verdict.reserved()), ["web-001", "web-002"]);
    assert_eq!(world.state.total(), nodes(2), "they count before any provider is called");
    assert_eq!(world.activity().kind, ActivityKind::Create);
    world.succeed();
    assert_eq!(world.state.in_service(), nodes(2));
    let again = world.ask(&Request::Create { origin: Origin::Api });
    assert_eq!(again.verdict, Verdict::Refuse, "{again}");
}

#[test]
fn a_creation_that_failed_is_tried_again_after_a_rest() {
    let mut world = World::defined(limits(1, 5));
    world.ask(&Request::Create { origin: Origin::Api });
    world.fail_after(0);
    assert_eq!(world.tick().row, Row::Backoff);
    let (decision, _) = world.tick_until_action(minutes(2));
    assert_eq!(names(decision.verdict.reserved()), ["web-002"], "names are never used again");
    assert!(matches!(decision.verdict, Verdict::CreateGroup { .. }));
}

#[test]
fn a25_a_critical_incident_expands_at_once_and_again_after_expand_delay() {
    let mut world = World::serving(2, limits(1, 5));
    world.open("cpu");
    let first = world.tick();
    assert_eq!((first.row, first.verdict.acts()), (Row::Expand, true), "{first}");
    world.wait(minutes(1));
    world.succeed();
    let held = world.tick();
    assert_eq!(held.row, Row::ExpandDelay);
    assert_eq!(held.next_at, Some(world.ended[1].ended_at.unwrap().plus(minutes(10))));
    let (_, waited) = world.tick_until_action(minutes(11));
    assert!(waited > minutes(9) && waited <= minutes(10), "{waited:?}");
}

#[test]
fn a_scheduled_minimum_is_filled_up_to_without_an_alert_and_not_gone_below_until_it_ends() {
    // the world begins at 08:30 on a Saturday
    let schedule = json!([{ "days": "sat", "from": "09:00", "until": "11:00", "min_nodes": 4 }]);
    let config = GroupConfig { schedule: serde_json::from_value(schedule).unwrap(), ..limits(1, 6) };
    let mut world = World::serving(1, config);
    let (decision, waited) = world.tick_until_action(minutes(40));
    assert_eq!((decision.row, decision.verdict.reserved().len()), (Row::BelowMin, 3), "{decision}");
    assert!(waited > minutes(25) && waited < minutes(30), "at nine, and not before: {waited:?}");
    world.succeed();
    let (decision, waited) = world.tick_until_action(minutes(150));
    assert_eq!(decision.row, Row::Deflate);
    assert!(waited > minutes(115), "not before eleven: {waited:?}");
}

#[test]
fn a26_after_recovery_nodes_go_one_step_at_a_time_far_apart_and_never_below_the_minimum() {
    let mut world = World::serving(5, limits(2, 5));
    world.open("cpu");
    world.wait(minutes(2));
    world.incident("cpu", Severity::Critical, IncidentState::Closed);
    for left in [4, 3, 2] {
        let (decision, waited) = world.tick_until_action(minutes(40));
        assert_eq!((decision.row, names(decision.verdict.reserved()).len()), (Row::Deflate, 0), "{decision}");
        assert!(left == 4 || waited >= minutes(30), "deflate_delay lies between them: {waited:?}");
        world.succeed();
        assert_eq!(world.state.in_service(), nodes(left), "deflate_by is 1");
    }
    for _ in 0..200 {
        let held = world.tick();
        assert!(!held.verdict.acts(), "{held}");
    }
}

#[test]
fn a_warning_tells_people_once_and_scales_nothing() {
    let mut world = World::serving(2, limits(1, 5));
    world.incident("disk", Severity::Warning, IncidentState::Open);
    let first = world.tick();
    assert_eq!(first.row, Row::Warned);
    assert_eq!(first.notices, [Notice::Warning { incident: "disk".into() }]);
    assert!(world.tick().notices.is_empty());
}

#[test]
fn at_the_maximum_people_are_told_once_per_incident() {
    let mut world = World::serving(3, limits(1, 3));
    world.open("cpu");
    let first = world.tick();
    assert_eq!((first.row, first.notices.len()), (Row::AtMax, 1));
    world.restart();
    assert!(world.tick().notices.is_empty());
    world.open("memory");
    assert_eq!(world.tick().notices, [Notice::Escalate { incident: "memory".into() }]);
    world.close("cpu");
    world.tick();
    world.open("cpu");
    assert_eq!(world.tick().notices, [Notice::Escalate { incident: "cpu".into() }]);
}

#[test]
fn new_nodes_get_their_warm_up_before_more_are_added() {
    let mut world = World::serving(1, GroupConfig { expand_delay: MINUTE / 60, warmup: minutes(3), ..limits(1, 5) });
    world.wait(minutes(3));
    world.open("cpu");
    world.tick();
    world.succeed();
    assert_eq!(world.tick().row, Row::Warmup);
}

#[test]
fn quiet_must_hold_before_anything_goes() {
    let mut world = World::serving(3, limits(1, 5));
    world.open("cpu");
    world.close("cpu");
    assert_eq!(world.tick().row, Row::RecoveryHold);
    let (decision, waited) = world.tick_until_action(minutes(6));
    assert_eq!(names(decision.verdict.removed()), ["web-001"], "the oldest");
    assert!(waited >= minutes(4), "{waited:?}");
}

#[test]
fn deflation_stops_at_the_minimum() {
    let mut world = World::serving(2, limits(2, 5));
    assert_eq!(world.tick().row, Row::AtMin);
}

#[test]
fn an_activity_blocks_everything_else_and_names_itself() {
    let mut world = World::serving(2, limits(1, 5));
    world.ask(&expand(None, Delays::Respect));
    let id = world.activity().id;
    assert_eq!(world.tick().row, Row::InFlight);
    for request in [expand(None, Delays::Skip), deflate(None, Delays::Skip), Request::Delete { origin: Origin::Chat }] {
        let decision = world.ask(&request);
        assert_eq!(decision.verdict, Verdict::Refuse);
        assert!(decision.to_string().contains(&id.to_string()), "{decision}");
    }
}

#[test]
fn a_stuck_activity_is_cancelled_undone_and_followed_by_a_rest() {
    let mut world = World::serving(2, limits(1, 5));
    world.ask(&expand(None, Delays::Respect));
    let id = world.activity().id;
    world.wait(minutes(15));
    assert_eq!(world.tick().verdict, Verdict::FailActivity { id });
    assert_eq!(world.tick().row, Row::InFlight, "being undone still blocks");
    world.end(&[], WorkflowEnd::Canceled);
    assert_eq!(world.last_status(), ActivityStatus::Failed);
    assert_eq!(world.state.memory.failures_in_row, 1);
    assert!(world.state.memory.backoff_until.is_some() && world.state.memory.last_expand_end.is_none());
}

#[test]
fn a_lowered_maximum_takes_nodes_away_even_during_an_incident() {
    let mut world = World::serving(5, limits(1, 5));
    world.open("cpu");
    world.state.group.config.max_nodes = nodes(3);
    let decision = world.tick();
    assert_eq!((decision.row, decision.verdict.removed().len()), (Row::AboveMax, 2));
}

#[test]
fn a_node_that_fails_is_cleared_away_and_replaced() {
    let mut world = World::serving(2, limits(2, 5));
    world.state.nodes[0].phase = NodePhase::Failed;
    let repair = world.tick();
    assert_eq!((repair.row, repair.verdict.reserved().len()), (Row::BelowMin, 1));
    assert_eq!(world.activity().kind, ActivityKind::Repair);
    world.succeed();
    let clearing = world.tick();
    assert_eq!((clearing.row, names(clearing.verdict.removed())), (Row::FailedNodes, vec!["web-001"]));
    world.succeed();
    assert_eq!((world.state.in_service(), world.state.total()), (nodes(2), nodes(2)));
    assert!(world.state.memory.last_expand_end.is_none(), "repair starts no delay");
}

#[test]
fn failed_nodes_that_fill_the_maximum_give_way_to_repair() {
    let mut world = World::serving(2, limits(2, 2));
    world.state.nodes[0].phase = NodePhase::Failed;
    assert_eq!(world.tick().row, Row::FailedNodes);
    world.succeed();
    assert_eq!(world.tick().row, Row::BelowMin);
}

#[test]
fn repeated_failures_rest_longer_and_longer() {
    let mut world = World::serving(1, limits(1, 5));
    world.open("cpu");
    let mut last = MINUTE / 60;
    for _ in 0..4 {
        world.tick_until_action(minutes(20));
        world.fail_after(0);
        let rest = world.state.memory.backoff_until.unwrap().since(world.now);
        assert!(rest > last, "{rest:?} after {last:?}");
        last = rest;
    }
}

#[test]
fn mode_suspension_and_freeze_hold_back_every_effect() {
    let observe: fn(&mut World) = |world| world.state.group.config.mode = Mode::Observe;
    let off: fn(&mut World) = |world| world.state.group.config.mode = Mode::Off;
    let suspended: fn(&mut World) = |world| world.suspend(Part::All);
    let frozen: fn(&mut World) = World::freeze;
    for gate in [observe, off, suspended, frozen] {
        let mut world = World::serving(2, limits(1, 5));
        world.open("cpu");
        gate(&mut world);
        let before = (world.state.nodes.clone(), world.state.memory.next_node);
        let requests = [
            Request::Tick,
            expand(Some(1), Delays::Skip),
            deflate(Some(1), Delays::Skip),
            delete_node("web-001", Delays::Skip),
            Request::AddNode { delays: Delays::Skip, origin: Origin::Api },
            Request::Delete { origin: Origin::Api },
        ];
        for request in requests {
            let decision = world.ask(&request);
            assert!(!decision.verdict.acts(), "{decision}");
        }
        assert_eq!((world.state.nodes.clone(), world.state.memory.next_node), before);
        assert!(world.state.activity.is_none() && !world.state.group.deleting);
    }
}

#[test]
fn observe_says_what_would_have_been_done() {
    let mut world = World::serving(2, GroupConfig { mode: Mode::Auto, ..limits(1, 5) });
    world.state.group.config.mode = Mode::Observe;
    world.open("cpu");
    let decision = world.tick();
    assert!(matches!(would(&decision), Some(Verdict::Expand { nodes }) if nodes.len() == 1), "{decision}");
    assert_eq!(
        decision.to_string(),
        "only recording: 2 nodes in service of at most 5; the group's mode is observe; otherwise: \
         1 critical incident is open (`cpu`); adding 1 node"
    );
}

#[test]
fn parts_can_be_suspended_on_their_own() {
    for (part, row) in [(Part::Expand, Row::ExpandSuspended), (Part::Deflate, Row::Expand)] {
        let mut world = World::serving(2, limits(1, 5));
        world.suspend(part);
        world.open("cpu");
        assert_eq!(world.tick().row, row);
    }
    let mut world = World::serving(2, limits(1, 5));
    world.suspend(Part::Deflate);
    assert_eq!(world.tick().row, Row::DeflateSuspended);
    world.state.group.suspensions.clear();
    world.suspend(Part::Replace);
    world.state.nodes.iter_mut().for_each(|node| node.phase = NodePhase::Failed);
    assert_eq!(world.tick().row, Row::AtMin, "neither repaired nor cleared away");
}

#[test]
fn reversals_lengthen_deflation_and_never_expansion() {
    let config = GroupConfig { deflate_delay: minutes(5), recovery_hold: MINUTE / 2, ..limits(1, 5) };
    let mut world = World::serving(2, GroupConfig { flap_window: minutes(120), ..config });
    for flips in 0..3_u32 {
        let (gone, _) = world.tick_until_action(minutes(60));
        assert_eq!(gone.row, Row::Deflate);
        world.succeed();
        world.open("cpu");
        let (more, waited) = world.tick_until_action(minutes(11));
        assert_eq!((more.row, world.state.memory.flips.len()), (Row::Expand, usize::try_from(flips).unwrap() + 1));
        assert!(waited <= minutes(10));
        world.succeed();
        world.tick();
        world.close("cpu");
    }
    world.wait(minutes(45));
    assert_eq!(world.tick().row, Row::Flapping);
}

#[test]
fn force_skips_delays_and_incidents_but_no_bound() {
    let mut world = World::serving(4, limits(3, 5));
    world.open("cpu");
    assert_eq!(world.ask(&deflate(None, Delays::Respect)).verdict, Verdict::Refuse);
    let forced = world.ask(&deflate(Some(9), Delays::Skip));
    assert_eq!(forced.verdict.removed().len(), 1, "clipped to the minimum");
    world.succeed();
    assert_eq!(world.ask(&deflate(None, Delays::Skip)).row, Row::AtMin);
    world.ask(&expand(Some(9), Delays::Skip));
    assert_eq!(world.activity().nodes.len(), 2, "clipped to the maximum");
    world.succeed();
    assert_eq!(world.ask(&expand(None, Delays::Skip)).row, Row::AtMax);
}

#[test]
fn one_node_can_be_added_and_a_named_one_taken_away() {
    let mut world = World::serving(2, limits(2, 5));
    let added = world.ask(&Request::AddNode { delays: Delays::Respect, origin: Origin::Chat });
    assert!(matches!(&added.verdict, Verdict::AddNode { node } if node.as_str() == "web-003"));
    world.succeed();
    assert_eq!(world.ask(&delete_node("web-009", Delays::Respect)).row, Row::Asked);
    world.state.nodes[0].protected = true;
    assert_eq!(world.ask(&delete_node("web-001", Delays::Skip)).verdict, Verdict::Refuse);
    world.ask(&delete_node("web-002", Delays::Respect));
    world.succeed();
    assert_eq!(world.ask(&delete_node("web-003", Delays::Skip)).row, Row::AtMin);
}

#[test]
fn a_deletion_that_failed_is_taken_up_again_and_nothing_else_happens_meanwhile() {
    let mut world = World::serving(2, limits(1, 5));
    world.ask(&Request::Delete { origin: Origin::Api });
    world.fail_after(1);
    world.open("cpu");
    assert_eq!(world.ask(&expand(None, Delays::Skip)).row, Row::Deleting);
    let (decision, _) = world.tick_until_action(minutes(2));
    assert!(matches!(&decision.verdict, Verdict::DeleteGroup { nodes } if nodes.len() == 1), "{decision}");
    world.succeed();
    assert_eq!(world.state.total(), nodes(0));
}

#[test]
fn the_explanation_reads_like_a_sentence() {
    let mut world = World::serving(1, GroupConfig { expand_delay: minutes(10), ..limits(1, 5) });
    world.ask(&expand(None, Delays::Respect));
    world.succeed();
    world.open("cpu");
    world.wait(minutes(2));
    world.tick();
    world.wait(MINUTE / 2);
    let decision = world.ask(&Request::Tick);
    assert_eq!(
        decision.to_string(),
        "holding: 2 nodes in service of at most 5; the last expansion ended 3m ago and expand_delay is 10m; \
         next at 08:42:00"
    );
}

#[test]
fn equal_decisions_are_recognised_and_written_down_whole() {
    let mut world = World::serving(2, limits(1, 5));
    world.incident("disk", Severity::Warning, IncidentState::Open);
    world.tick();
    let (second, third) = (world.tick(), world.tick());
    assert_eq!(second.fingerprint(), third.fingerprint());
    world.incident("swap", Severity::Warning, IncidentState::Open);
    let fourth = world.tick();
    assert_ne!(third.fingerprint(), fourth.fingerprint());
    let written = serde_json::to_string(&fourth).unwrap();
    assert_eq!(serde_json::from_str::<crate::model::decision::Decision>(&written).unwrap(), fourth);
}
