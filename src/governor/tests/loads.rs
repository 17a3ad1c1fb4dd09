//! A group whose load is known: it grows as far as the load needs, and nothing goes that is still needed.

use std::time::Duration;

use proptest::prelude::*;

use super::invariants::few_cases;
use super::world::{MINUTE, TICK, World, deflate, minutes, nodes};
use crate::governor::ledger;
use crate::model::decision::{Delays, Notice, Row, Verdict};
use crate::model::group::NodeCount;
use crate::model::group_config::GroupConfig;
use crate::model::load::Load;
use crate::model::node::NodePhase;

fn load(number: f64) -> Load {
    Load::new(number).unwrap()
}

/// A node carries 80.
fn measured(min: u32, max: u32) -> GroupConfig {
    GroupConfig {
        min_nodes: nodes(min),
        max_nodes: nodes(max),
        node_capacity: Some(load(80.0)),
        ..GroupConfig::default()
    }
}

impl World {
    fn report(&mut self, number: f64) {
        ledger::observe_load(&mut self.state, load(number), self.now);
    }
}

#[test]
fn an_expansion_is_as_large_as_the_load_needs() {
    let mut world = World::serving(1, measured(1, 10));
    world.open("cpu");
    world.report(240.0);
    let decision = world.tick();
    assert_eq!(decision.verdict.reserved().len(), 4, "240 need 5 nodes at 65 %: {decision}");
    assert!(decision.to_string().contains("adding 4 nodes for a load of 240"), "{decision}");
}

#[test]
fn a_small_load_adds_the_usual_step_for_an_incident() {
    let mut world = World::serving(1, measured(1, 10));
    world.open("disk");
    world.report(10.0);
    assert_eq!(world.tick().verdict.reserved().len(), 1);
}

#[test]
fn nothing_goes_that_the_highest_load_of_late_needs() {
    let mut world = World::serving(5, measured(1, 10));
    world.wait(minutes(60));
    world.report(240.0);
    world.wait(minutes(5));
    world.report(20.0);
    let held = world.tick();
    assert_eq!(held.row, Row::WouldReopen, "{held}");
    assert_eq!(
        held.reason.to_string(),
        "the highest load of late was 240, which needs 5 nodes used to 65 %: fewer would bring the trouble back"
    );
    world.wait(minutes(6));
    world.report(20.0);
    assert_eq!(world.tick().row, Row::Deflate, "the peak is forgotten after load_window");
}

#[test]
fn as_many_go_as_the_load_allows_and_no_more() {
    let mut world = World::serving(6, GroupConfig { deflate_by: nodes(4), ..measured(1, 10) });
    world.wait(minutes(60));
    world.report(200.0);
    let decision = world.tick();
    assert_eq!(decision.verdict.removed().len(), 2, "200 need 4 nodes: {decision}");
}

#[test]
fn nothing_goes_while_the_load_is_not_known() {
    let mut world = World::serving(3, measured(1, 10));
    world.wait(minutes(60));
    let never = world.tick();
    assert_eq!(never.row, Row::StaleLoad, "{never}");
    world.report(1.0);
    assert_eq!(world.tick().row, Row::Deflate);
    world.succeed();
    world.wait(minutes(60));
    let old = world.tick();
    assert!(old.row == Row::StaleLoad && old.to_string().contains("was reported 1h1m ago"), "{old}");
    assert_eq!(world.ask(&deflate(None, Delays::Respect)).verdict, Verdict::Refuse);
    assert!(world.ask(&deflate(None, Delays::Skip)).verdict.acts(), "somebody who means it may");
}

#[test]
fn a_group_most_of_whose_nodes_fail_gets_no_more_of_them() {
    let mut world = World::serving(2, GroupConfig { expand_by: nodes(4), ..measured(1, 10) });
    world.open("cpu");
    world.tick();
    for node in world.state.nodes.iter_mut().skip(2) {
        node.phase = NodePhase::Failed;
        node.protected = true; // so that they are not cleared away
    }
    world.end(&[], ledger::WorkflowEnd::Failed);
    world.wait(minutes(40));
    let held = world.tick();
    assert_eq!((held.row, held.notices.as_slice()), (Row::CircuitOpen, [Notice::CircuitOpen].as_slice()), "{held}");
    assert!(world.tick().notices.is_empty(), "people are told once");
    world.state.nodes.iter_mut().for_each(|node| node.protected = false);
    assert_eq!(world.tick().row, Row::FailedNodes, "although the incident is open: it is the way out");
}

/// Monitoring that opens an incident when the nodes in service are used beyond 90 %, and closes it below 80 %.
fn monitor(world: &mut World, number: f64) {
    let used = number * 100.0 / (f64::from(world.state.in_service().get()) * 80.0);
    if used > 90.0 {
        world.open("saturation");
    } else if used < 80.0 {
        world.close("saturation");
    }
    world.report(number);
}

proptest! {
    #![proptest_config(few_cases())]

    #[test]
    fn under_a_steady_load_a_group_settles_and_stays(number in 1_u32..700, begun in 1_u32..10) {
        let quick = GroupConfig {
            expand_delay: MINUTE,
            deflate_delay: MINUTE * 2,
            recovery_hold: MINUTE,
            ..measured(1, 10)
        };
        let mut world = World::serving(begun, quick);
        let mut changes = 0;
        for tick in 0..240_u32 {
            monitor(&mut world, f64::from(number));
            if world.tick().verdict.acts() {
                world.wait(TICK);
                world.succeed();
                changes += u32::from(tick > 120);
            }
        }
        prop_assert!(changes <= 1, "{changes} changes in the second hour");
        let carried = load(80.0);
        let enough = load(f64::from(number)).nodes_needed(carried, 90).min(nodes(10)).max(NodeCount::new(1));
        prop_assert!(world.state.in_service() >= enough, "{} for {number}", world.state.in_service());
    }
}

#[test]
fn a_load_survives_a_clock_jump() {
    let mut world = World::serving(5, measured(1, 10));
    world.wait(minutes(60));
    world.report(240.0);
    world.jump(Duration::from_hours(24).as_secs().cast_signed());
    world.tick();
    assert_eq!(world.tick().row, Row::WouldReopen);
}
