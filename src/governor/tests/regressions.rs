//! What the original pack got wrong, each fault by its number in the list of faults, and what happens here instead.

use super::world::{World, expand, minutes, names, nodes};
use crate::governor::ledger::{self, LedgerError, WorkflowEnd};
use crate::model::decision::{Delays, Request, Row, Verdict};
use crate::model::group_config::{GroupConfig, TerminationPolicy};
use crate::model::incident::{IncidentState, Severity};
use crate::model::node::NodePhase;
use crate::model::scaling::{ActivityStatus, Origin};

fn config(min: u32, max: u32, step: u32) -> GroupConfig {
    let (expand_by, deflate_by) = (nodes(step), nodes(step));
    GroupConfig { min_nodes: nodes(min), max_nodes: nodes(max), expand_by, deflate_by, ..GroupConfig::default() }
}

#[test]
fn fault_01_a_step_is_clipped_at_the_maximum_and_at_the_minimum() {
    let mut world = World::serving(19, config(3, 20, 5));
    world.open("cpu");
    let decision = world.tick();
    assert_eq!(decision.verdict.reserved().len(), 1);
    assert!(decision.to_string().ends_with("adding 1 node (expand_by is 5; the limits leave 1)"), "{decision}");

    let mut world = World::serving(4, config(3, 20, 2));
    assert_eq!(world.tick().verdict.removed().len(), 1);
}

#[test]
fn fault_02_the_number_of_nodes_is_counted_and_never_kept_beside_them() {
    let mut world = World::serving(2, config(1, 9, 3));
    world.ask(&expand(None, Delays::Respect));
    assert_eq!(world.state.total(), nodes(5));
    world.succeed();
    assert_eq!((world.state.total(), world.state.in_service()), (nodes(5), nodes(5)));
}

#[test]
fn fault_03_a_node_that_did_not_come_up_is_no_capacity() {
    let mut world = World::serving(1, config(1, 9, 2));
    world.ask(&expand(None, Delays::Respect));
    let kept = world.activity().nodes[0].clone();
    world.end(&[kept], WorkflowEnd::Succeeded);
    assert_eq!((world.state.live(), world.state.total()), (nodes(2), nodes(3)), "it counts only against the maximum");
    assert_eq!(world.tick().row, Row::FailedNodes, "and is cleared away");
}

#[test]
fn fault_04_success_claimed_by_a_workflow_makes_no_node_serve() {
    let mut world = World::serving(1, config(1, 9, 2));
    world.ask(&expand(None, Delays::Respect));
    world.end(&[], WorkflowEnd::Succeeded);
    assert_eq!(world.last_status(), ActivityStatus::Failed);
    assert_eq!(world.state.memory.last_expand_end, None, "a failure starts no cooldown but a rest");
    assert!(world.state.memory.backoff_until.is_some());
}

#[test]
fn fault_05_deflations_keep_deflate_delay_between_them() {
    let mut world = World::serving(4, config(1, 9, 1));
    for round in 0..3 {
        let (decision, waited) = world.tick_until_action(minutes(31));
        assert_eq!(decision.row, Row::Deflate);
        assert!(round == 0 || waited >= minutes(30), "round {round}: {waited:?}");
        world.succeed();
    }
}

#[test]
fn fault_06_a_refused_expansion_leaves_nothing_behind() {
    let mut world = World::serving(1, config(1, 9, 1));
    world.ask(&expand(None, Delays::Respect));
    world.succeed();
    world.wait(minutes(2));
    assert_eq!(world.ask(&expand(None, Delays::Respect)).row, Row::ExpandDelay);
    assert!(world.state.activity.is_none());
    assert!(world.ask(&expand(None, Delays::Skip)).verdict.acts(), "and the next one is not stuck");
}

#[test]
fn fault_07_a_long_build_gets_no_second_expansion_beside_it() {
    let mut world = World::serving(1, config(1, 9, 1));
    world.open("cpu");
    world.tick();
    let id = world.activity().id;
    for _ in 0..40 {
        let decision = world.tick();
        assert!(!matches!(decision.verdict, Verdict::Expand { .. }), "{decision}");
    }
    assert_eq!((world.activity().id, world.activity().status), (id, ActivityStatus::Compensating));
}

#[test]
fn fault_08_force_works_and_a_command_respects_what_is_under_way() {
    let mut world = World::serving(1, config(1, 9, 1));
    world.ask(&expand(None, Delays::Skip));
    assert_eq!(world.ask(&expand(None, Delays::Skip)).row, Row::InFlight);
    world.succeed();
    assert!(world.ask(&expand(None, Delays::Skip)).verdict.acts());
}

#[test]
fn fault_09_one_recovery_of_two_is_not_the_end_and_a_lost_one_is_not_for_ever() {
    let mut world = World::serving(3, config(1, 3, 1));
    world.open("cpu");
    world.open("memory");
    world.wait(minutes(1));
    world.close("cpu");
    assert_eq!(world.tick().row, Row::AtMax);
    world.wait(minutes(6 * 60));
    assert_eq!(world.tick().row, Row::RecoveryHold, "the lost recovery ran out, and quiet begins to count");
}

#[test]
fn fault_10_the_alert_itself_expands() {
    let mut world = World::serving(1, config(1, 9, 1));
    world.open("cpu");
    let by_rule = Request::Expand { by: None, delays: Delays::Respect, origin: Origin::Rule };
    assert!(world.ask(&by_rule).verdict.acts());
    world.succeed();
    assert_eq!(world.ask(&by_rule).row, Row::ExpandDelay, "and a repeated one does not");
}

#[test]
fn fault_14_victims_are_the_unfit_then_the_oldest_and_never_the_protected() {
    let mut world = World::serving(4, config(1, 9, 2));
    world.state.nodes[0].protected = true;
    world.state.nodes[3].phase = NodePhase::Ready;
    let decision = world.tick();
    assert_eq!(names(decision.verdict.removed()), ["web-004", "web-002"]);
}

#[test]
fn what_was_made_last_goes_first_where_the_group_says_so() {
    let newest = GroupConfig { termination_policy: TerminationPolicy::Newest, ..config(1, 9, 2) };
    let mut world = World::serving(4, newest);
    world.state.nodes[3].protected = true;
    assert_eq!(names(world.tick().verdict.removed()), ["web-003", "web-002"]);
}

#[test]
fn fault_15_a_group_is_not_deleted_beside_a_running_expansion() {
    let mut world = World::serving(1, config(1, 9, 1));
    world.ask(&expand(None, Delays::Respect));
    assert_eq!(world.ask(&Request::Delete { origin: Origin::Chat }).row, Row::InFlight);
    world.succeed();
    let all = world.ask(&Request::Delete { origin: Origin::Chat });
    assert_eq!(names(all.verdict.removed()), ["web-001", "web-002"]);
}

#[test]
fn fault_16_a_clock_that_jumps_neither_stalls_nor_releases() {
    for jump in [-86_400, 86_400] {
        let mut world = World::serving(1, config(1, 9, 1));
        world.open("cpu");
        world.tick();
        world.succeed();
        world.jump(jump);
        let decision = world.ask(&Request::Tick);
        assert_eq!((decision.row, decision.verdict.clone()), (Row::ClockJump, Verdict::Rebase), "{decision}");
        let (_, waited) = world.tick_until_action(minutes(11));
        assert_eq!(waited, minutes(10), "jump {jump}");
    }
}

#[test]
fn fault_17_the_cooldown_counts_from_completion() {
    let mut world = World::serving(1, config(1, 9, 1));
    world.open("cpu");
    world.tick();
    world.wait(minutes(14));
    world.succeed();
    let (_, waited) = world.tick_until_action(minutes(11));
    assert_eq!(waited, minutes(10));
}

#[test]
fn fault_20_every_decision_explains_itself_and_the_maximum_escalates() {
    let mut world = World::serving(1, config(1, 1, 1));
    world.incident("cpu", Severity::Critical, IncidentState::Acknowledged);
    let decision = world.tick();
    assert_eq!(decision.notices.len(), 1);
    assert_eq!(
        decision.to_string(),
        "holding: 1 node in service of at most 1; max_nodes is 1, and 1 critical incident is open: \
         somebody must raise it or look"
    );
}

#[test]
fn an_activity_ends_once() {
    let mut world = World::serving(1, config(1, 9, 1));
    world.ask(&expand(None, Delays::Respect));
    let id = world.activity().id;
    world.succeed();
    let again = ledger::finish(&mut world.state, id, WorkflowEnd::Failed, world.now, 7);
    assert_eq!(again.unwrap_err(), LedgerError::NotUnderWay(id));
}
