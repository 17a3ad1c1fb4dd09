//! Mode `approve`: what the governor wants waits for somebody's word, and what people ask for does not.

use super::world::{World, expand, minutes, nodes, would};
use crate::model::decision::{Delays, Notice, Request, Verdict};
use crate::model::group_config::{GroupConfig, Mode};
use crate::model::scaling::{ActivityKind, Origin};

fn cautious() -> GroupConfig {
    GroupConfig { mode: Mode::Approve, min_nodes: nodes(1), max_nodes: nodes(5), ..GroupConfig::default() }
}

fn approve() -> Request {
    Request::Approve { origin: Origin::Human { user: "ann".into() } }
}

#[test]
fn what_is_wanted_waits_and_people_are_asked_once() {
    let mut world = World::serving(2, cautious());
    world.open("cpu");
    let first = world.tick();
    assert!(matches!(would(&first), Some(Verdict::Expand { .. })), "{first}");
    assert_eq!(first.notices, [Notice::Approval { wish: ActivityKind::Expand }]);
    assert_eq!(
        first.to_string(),
        "only recording: 2 nodes in service of at most 5; somebody has to approve it; otherwise: 1 critical incident is \
         open (`cpu`); adding 1 node"
    );
    world.restart();
    assert!(world.tick().notices.is_empty());
    assert_eq!(world.state.total(), nodes(2));
}

#[test]
fn what_is_approved_happens_as_it_is_wanted_now() {
    let mut world = World::serving(2, cautious());
    world.open("cpu");
    world.tick();
    world.state.group.config.expand_by = nodes(2);
    let approved = world.ask(&approve());
    assert_eq!(approved.verdict.reserved().len(), 2, "{approved}");
    assert!(approved.reason.to_string().starts_with("ann approved it: 1 critical incident"), "{approved}");
    world.succeed();
    let again = world.ask(&approve());
    assert_eq!(again.verdict, Verdict::Refuse, "one word is for one change: {again}");
}

#[test]
fn an_approval_expires_with_its_incident() {
    let mut world = World::serving(2, cautious());
    world.open("cpu");
    world.tick();
    world.close("cpu");
    world.tick();
    let late = world.ask(&approve());
    assert_eq!((late.verdict, late.reason.to_string()), (Verdict::Refuse, "nothing waits for approval".to_owned()));
}

#[test]
fn another_wish_needs_another_word() {
    let mut world = World::serving(3, cautious());
    let deflates = world.tick();
    assert!(matches!(would(&deflates), Some(Verdict::Deflate { .. })), "{deflates}");
    world.open("cpu");
    assert_eq!(world.ask(&approve()).verdict, Verdict::Refuse, "approved was a deflation");
    assert_eq!(world.tick().notices, [Notice::Approval { wish: ActivityKind::Expand }]);
}

#[test]
fn what_was_denied_is_not_asked_again_while_it_is_wanted() {
    let mut world = World::serving(2, cautious());
    world.open("cpu");
    world.tick();
    world.state.memory.approval.as_mut().unwrap().denied_by = Some("ann".into());
    let denied = world.tick();
    assert!(denied.notices.is_empty() && denied.to_string().contains("ann has denied it"), "{denied}");
    world.close("cpu");
    world.tick();
    world.open("cpu");
    assert_eq!(world.tick().notices.len(), 1, "another trouble is another question");
}

#[test]
fn people_need_nobody_elses_word_and_rules_do() {
    let mut world = World::serving(2, cautious());
    let rule = Request::Expand { by: None, delays: Delays::Skip, origin: Origin::Rule };
    let refused = world.ask(&rule);
    assert_eq!(refused.verdict, Verdict::Refuse, "{refused}");
    assert!(world.ask(&expand(None, Delays::Skip)).verdict.acts());
}

#[test]
fn what_got_stuck_is_undone_without_another_word() {
    let mut world = World::serving(2, cautious());
    world.open("cpu");
    world.tick();
    world.ask(&approve());
    world.wait(minutes(20));
    assert!(matches!(world.tick().verdict, Verdict::FailActivity { .. }));
}
