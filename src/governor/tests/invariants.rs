//! What holds after any history: random alerts, commands, faults, configuration changes, clock jumps and restarts.
//!
//! `PROPTEST_CASES` asks for more cases than the few that run by default; the seed is fixed.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::watched::{Event, Watched};
use super::world::{MINUTE, TICK, World, delete_node, minutes, nodes};
use crate::governor::decide::decide;
use crate::governor::ledger::{self, WorkflowEnd};
use crate::model::decision::{Delays, Request, Verdict};
use crate::model::group::Part;
use crate::model::group_config::{GroupConfig, Mode};
use crate::model::incident::{Incident, IncidentState, Observation, Severity};
use crate::model::node::NodePhase;
use crate::model::scaling::Origin;

fn config() -> impl Strategy<Value = GroupConfig> {
    (0..3_u32, 1..5_u32, 1..4_u32, 1..4_u32).prop_map(|(min, spread, expand_by, deflate_by)| GroupConfig {
        min_nodes: nodes(min),
        max_nodes: nodes(min + spread),
        expand_by: nodes(expand_by),
        deflate_by: nodes(deflate_by),
        expand_delay: minutes(2),
        deflate_delay: minutes(5),
        recovery_hold: minutes(1),
        activity_timeout: minutes(3),
        warmup: MINUTE / 2,
        flap_window: minutes(20),
        ..GroupConfig::default()
    })
}

fn request() -> impl Strategy<Value = Request> {
    let delays = prop_oneof![Just(Delays::Respect), Just(Delays::Skip)];
    let origin = prop_oneof![Just(Origin::Rule), Just(Origin::Human { user: "ann".into() })];
    (0..8_u8, delays, origin, prop::option::of(1..6_u32), 1..12_u32).prop_map(|(kind, delays, origin, by, number)| {
        let by = by.map(nodes);
        match kind {
            0 => Request::Create { origin },
            1 => Request::AddNode { delays, origin },
            7 => Request::Approve { origin },
            2 => delete_node(&format!("web-{number:03}"), delays),
            3 | 4 => Request::Expand { by, delays, origin },
            _ => Request::Deflate { by, delays, origin },
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    let severity = || prop_oneof![1 => Just(Severity::Warning), 3 => Just(Severity::Critical)];
    let state =
        || prop_oneof![Just(IncidentState::Open), Just(IncidentState::Acknowledged), Just(IncidentState::Closed)];
    let end = prop_oneof![Just(WorkflowEnd::Succeeded), Just(WorkflowEnd::Failed), Just(WorkflowEnd::Canceled)];
    let mode =
        prop_oneof![1 => Just(Mode::Off), 1 => Just(Mode::Observe), 1 => Just(Mode::Approve), 4 => Just(Mode::Auto)];
    let part = prop_oneof![Just(Part::Expand), Just(Part::Deflate), Just(Part::Replace), Just(Part::All)];
    let seconds = prop_oneof![Just(86_400_i64), Just(-86_400), Just(-1), Just(3_600), Just(-120)];
    prop_oneof![
        8 => (1..20_u32).prop_map(Event::Ticks),
        6 => (0..3_u8, severity(), state()).prop_map(|(key, severity, state)| Event::Incident { key, severity, state }),
        1 => (0..3_u8, state(), 0..30_u32).prop_map(|(key, state, minutes)| Event::Late { key, state, minutes }),
        4 => request().prop_map(Event::Ask),
        8 => Just(Event::Succeed),
        2 => (0..3_usize).prop_map(Event::FailAfter),
        1 => end.prop_map(Event::Abandon),
        1 => (0..3_u32, 1..5_u32).prop_map(|(min, spread)| Event::Limits { min, spread }),
        1 => seconds.prop_map(|seconds| Event::Jump { seconds }),
        1 => (0..6_usize).prop_map(Event::Protect),
        1 => mode.prop_map(Event::Mode),
        1 => part.prop_map(Event::Suspend),
        2 => Just(Event::Resume),
        1 => Just(Event::FreezeOrThaw),
        1 => Just(Event::Restart),
    ]
}

pub(super) fn few_cases() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 64 };
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(20_261_121), ..asked }
}

proptest! {
    #![proptest_config(few_cases())]

    #[test]
    fn g05_any_history_keeps_bounds_delays_and_one_activity(
        config in config(),
        events in prop::collection::vec(event(), 1..80),
    ) {
        let mut watched = Watched::new(config);
        for event in &events {
            watched.happen(event);
        }
        assert!(watched.rebases <= watched.jumps, "one tick lost per clock jump at most");
    }

    #[test]
    fn after_any_history_a_critical_incident_fills_the_group_and_quiet_empties_it(
        config in config(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut watched = Watched::new(config);
        for event in &events {
            watched.happen(event);
        }
        watched.calm_down();
        let slack = minutes(35); // the longest rest after failures, and some ticks
        watched.world.open("last");
        watched.settle(minutes(2 + 1) * 8 + slack, |state| {
            state.in_service() == state.group.config.max_nodes && state.total() == state.in_service()
        });
        watched.tick();
        for key in ["0", "1", "2", "last"] {
            watched.world.close(key);
        }
        let step = minutes(20 + 1); // deflate_delay stretched up to the flap window
        watched.settle(step * 8 + slack, |state| state.total() == state.group.config.min_nodes);
    }

    #[test]
    fn reports_in_any_order_and_number_lead_to_the_same_decision(
        config in config(),
        reports in prop::collection::vec((0..2_u8, 0..20_u32, 0..3_u8), 1..12),
        turn in 0..12_usize,
    ) {
        let start = Watched::new(config).world;
        let group = start.state.group.name.clone();
        let observations: Vec<Observation> = reports.iter().map(|(key, minute, state)| Observation {
            key: key.to_string(),
            group: group.clone(),
            severity: Severity::Critical,
            state: [IncidentState::Open, IncidentState::Acknowledged, IncidentState::Closed][usize::from(*state)],
            seen_at: start.now.plus(minutes(*minute)),
            received_at: start.now,
        }).collect();
        let told = |order: &[Observation]| {
            let mut state = start.state.clone();
            for seen in order {
                ledger::observe(&mut state, seen.clone());
            }
            state.incidents.sort_by(|a, b| a.key.cmp(&b.key));
            state
        };
        let mut mixed = observations.clone();
        mixed.rotate_left(turn % observations.len());
        mixed.extend(observations.iter().rev().cloned());
        let (in_order, mixed) = (told(&observations), told(&mixed));
        prop_assert_eq!(&in_order, &mixed);
        let now = start.now.plus(TICK);
        prop_assert_eq!(decide(&in_order, &Request::Tick, now, None), decide(&mixed, &Request::Tick, now, None));
    }
}

#[test]
fn a_verdict_that_only_records_reserves_nothing() {
    let recorded = Verdict::Record { would: Box::new(Verdict::Expand { nodes: vec!["web-001".parse().unwrap()] }) };
    assert!(recorded.reserved().is_empty() && !recorded.acts());
}

#[test]
fn forgetting_leaves_what_still_matters() {
    let mut world = World::serving(2, GroupConfig::default());
    world.open("cpu");
    world.state.nodes[0].phase = NodePhase::Gone;
    ledger::forget(&mut world.state, world.now.plus(minutes(11 * 60)));
    let keys = |incidents: &[Incident]| incidents.iter().map(|it| it.key.clone()).collect::<Vec<_>>();
    assert_eq!((keys(&world.state.incidents), world.state.nodes.len()), (vec!["cpu".to_owned()], 1));
    ledger::forget(&mut world.state, world.now.plus(minutes(12 * 60)));
    assert!(world.state.incidents.is_empty());
}
