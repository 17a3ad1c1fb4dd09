//! A random history, and a world in which every decision along it is checked against what must always hold.

use std::collections::BTreeSet;
use std::time::Duration;

use super::world::{TICK, World, minutes, nodes};
use crate::governor::decide::decide;
use crate::governor::ledger::{self, WorkflowEnd};
use crate::model::decision::{Decision, Delays, Request, Row};
use crate::model::group::{NodeCount, Part};
use crate::model::group_config::{GroupConfig, Mode};
use crate::model::group_state::GroupState;
use crate::model::incident::{IncidentState, Observation, Severity, merge};
use crate::model::node::{NodeName, NodePhase};
use crate::model::scaling::{ActivityKind, ActivityStatus, Origin};

/// Something that may happen to a group.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Ticks(u32),
    Incident {
        key: u8,
        severity: Severity,
        state: IncidentState,
    },
    /// A report that was under way for so long.
    Late {
        key: u8,
        state: IncidentState,
        minutes: u32,
    },
    Ask(Request),
    Succeed,
    FailAfter(usize),
    /// The workflow ends and leaves its nodes half done.
    Abandon(WorkflowEnd),
    Limits {
        min: u32,
        spread: u32,
    },
    Jump {
        seconds: i64,
    },
    Protect(usize),
    Mode(Mode),
    Suspend(Part),
    Resume,
    FreezeOrThaw,
    Restart,
}

/// A world watched by somebody whose clock never jumps and who forgets nothing.
pub(super) struct Watched {
    pub(super) world: World,
    steady: Duration,
    expanded: Option<Duration>,
    deflated: Option<Duration>,
    names: BTreeSet<NodeName>,
    pub(super) jumps: u32,
    pub(super) rebases: u32,
}

impl Watched {
    pub(super) fn new(config: GroupConfig) -> Self {
        let mut world = World::defined(config);
        world.ask(&Request::Create { origin: Origin::Api });
        world.succeed();
        let names = world.state.nodes.iter().map(|node| node.name.clone()).collect();
        Self { world, steady: Duration::ZERO, expanded: None, deflated: None, names, jumps: 0, rebases: 0 }
    }

    pub(super) fn happen(&mut self, event: &Event) {
        let busy = self.world.state.activity.is_some();
        match event {
            Event::Ticks(count) => (0..*count).for_each(|_| self.tick()),
            Event::Incident { key, severity, state } => self.world.incident(&key.to_string(), *severity, *state),
            Event::Late { key, state, minutes: late } => self.late_report(*key, *state, minutes(*late)),
            Event::Ask(request) => drop(self.ask(request)),
            Event::Succeed if busy => self.end(World::succeed),
            Event::FailAfter(done) if busy => self.end(|world| world.fail_after(*done)),
            Event::Abandon(end) if busy => self.end(|world| world.end(&[], *end)),
            Event::Succeed | Event::FailAfter(_) | Event::Abandon(_) => {}
            Event::Limits { min, spread } => self.limits(*min, *spread),
            Event::Jump { seconds } => self.jump(*seconds),
            Event::Protect(index) => self.protect(*index),
            Event::Mode(mode) => self.world.state.group.config.mode = *mode,
            Event::Suspend(part) => self.world.suspend(*part),
            Event::Resume => self.world.state.group.suspensions.clear(),
            Event::FreezeOrThaw if self.world.freeze.is_some() => self.world.freeze = None,
            Event::FreezeOrThaw => self.world.freeze(),
            Event::Restart => self.world.restart(),
        }
    }

    pub(super) fn tick(&mut self) {
        self.steady += TICK;
        self.world.now = self.world.now.plus(TICK);
        let decision = self.ask(&Request::Tick);
        self.rebases += u32::from(decision.row == Row::ClockJump);
    }

    fn late_report(&mut self, key: u8, state: IncidentState, late: Duration) {
        let (seen_at, received_at) = (self.world.source_now().minus(late), self.world.now);
        let (key, group, severity) = (key.to_string(), self.world.state.group.name.clone(), Severity::Critical);
        ledger::observe(&mut self.world.state, Observation { key, group, severity, state, seen_at, received_at });
    }

    fn limits(&mut self, min: u32, spread: u32) {
        let config = &mut self.world.state.group.config;
        config.min_nodes = nodes(min);
        config.max_nodes = nodes(min + spread);
    }

    fn jump(&mut self, seconds: i64) {
        self.world.jump(seconds);
        self.jumps += 1;
    }

    fn protect(&mut self, index: usize) {
        if let Some(node) = self.world.state.nodes.get_mut(index) {
            node.protected = !node.protected;
        }
    }

    fn end(&mut self, end: impl FnOnce(&mut World)) {
        end(&mut self.world);
        let activity = self.world.ended.last().unwrap();
        if activity.status == ActivityStatus::Failed {
            return;
        }
        match activity.kind {
            ActivityKind::Expand | ActivityKind::AddNode => self.expanded = Some(self.steady),
            ActivityKind::Deflate | ActivityKind::DeleteNode => self.deflated = Some(self.steady),
            ActivityKind::Create | ActivityKind::Delete | ActivityKind::Repair | ActivityKind::Reconcile => {}
        }
    }

    fn ask(&mut self, request: &Request) -> Decision {
        let before = self.world.state.clone();
        let decision = self.world.ask(request);
        self.same_inputs_same_decision(&before, &decision);
        self.bounds_hold(&before, &decision);
        self.delays_hold(&before, &decision);
        self.more_trouble_never_shrinks(&before, &decision);
        self.names_are_new(&decision);
        decision
    }

    fn same_inputs_same_decision(&self, before: &GroupState, decision: &Decision) {
        let read: GroupState = serde_json::from_str(&serde_json::to_string(before).unwrap()).unwrap();
        let again = decide(&read, &decision.request, self.world.now, self.world.freeze.as_ref());
        assert_eq!(&again, decision);
        let written = serde_json::to_string(decision).unwrap();
        assert_eq!(&serde_json::from_str::<Decision>(&written).unwrap(), decision);
    }

    fn bounds_hold(&self, before: &GroupState, decision: &Decision) {
        let (config, verdict) = (&before.group.config, &decision.verdict);
        if !verdict.reserved().is_empty() {
            assert!(self.world.state.total() <= config.max_nodes, "above the maximum: {decision}");
        }
        if decision.opens().is_some() {
            assert!(before.activity.is_none(), "two at once: {decision}");
        }
        let leaving = before.nodes.iter().filter(|node| verdict.removed().contains(&node.name));
        let serving = NodeCount::of(leaving.clone().filter(|node| node.phase == NodePhase::InService));
        if serving > NodeCount::ZERO {
            let left = before.in_service().above(serving);
            assert!(left >= config.min_nodes, "below the minimum: {decision}");
        }
        assert!(leaving.clone().all(|node| !node.protected), "a protected node: {decision}");
    }

    fn delays_hold(&self, before: &GroupState, decision: &Decision) {
        let (config, now) = (&before.group.config, self.world.now);
        let forced = matches!(
            decision.request,
            Request::Expand { delays: Delays::Skip, .. } | Request::Deflate { delays: Delays::Skip, .. }
        );
        if forced || !decision.verdict.acts() {
            return;
        }
        let rested = |since: Option<Duration>, delay| since.is_none_or(|since| self.steady >= since + delay);
        if decision.row == Row::Expand {
            assert!(rested(self.expanded, config.expand_delay), "too soon: {decision}");
        }
        if decision.row == Row::Deflate {
            let open = self.world.state.incidents.iter().find(|it| it.is_open(now, config.alert_ttl));
            assert!(open.is_none(), "during {open:?}: {decision}");
            let since = self.expanded.max(self.deflated);
            assert!(rested(since, config.deflate_delay), "too soon: {decision}");
        }
    }

    fn more_trouble_never_shrinks(&self, before: &GroupState, decision: &Decision) {
        let (now, freeze) = (self.world.now, self.world.freeze.as_ref());
        let mut worse = before.clone();
        let (seen_at, group) = (now, worse.group.name.clone());
        let (severity, state) = (Severity::Critical, IncidentState::Open);
        let report = Observation { key: "more".into(), group, severity, state, seen_at, received_at: now };
        worse.incidents.push(merge(None, report));
        assert_ne!(decide(&worse, &Request::Tick, now, freeze).row, Row::Deflate);

        let mut wider = before.clone();
        wider.group.config.max_nodes = nodes(before.group.config.max_nodes.get() + 3);
        let reserved = decide(&wider, &decision.request, now, freeze).verdict.reserved().len();
        assert!(reserved >= decision.verdict.reserved().len(), "more room, fewer nodes: {decision}");

        let later = decide(before, &decision.request, now.plus(Duration::from_millis(1)), freeze);
        let waits = matches!(later.row, Row::ExpandDelay | Row::DeflateDelay | Row::Backoff | Row::Warmup);
        assert!(!(decision.verdict.acts() && waits), "{decision}; but a moment later {later}");
    }

    fn names_are_new(&mut self, decision: &Decision) {
        for name in decision.verdict.reserved() {
            assert!(self.names.insert(name.clone()), "{name} was used before");
        }
    }

    /// Everything that stood in the way is lifted, and from now on every workflow goes well.
    pub(super) fn calm_down(&mut self) {
        self.world.freeze = None;
        self.world.state.group.suspensions.clear();
        self.world.state.group.config.mode = Mode::Auto;
        self.world.state.nodes.iter_mut().for_each(|node| node.protected = false);
        self.finish_what_runs();
    }

    fn finish_what_runs(&mut self) {
        if self.world.state.activity.is_some() {
            self.end(World::succeed);
        }
    }

    /// Ticks, every activity succeeding at once, until `done`.
    pub(super) fn settle(&mut self, at_most: Duration, done: impl Fn(&GroupState) -> bool) {
        let begun = self.steady;
        while !done(&self.world.state) {
            let shown = decide(&self.world.state, &Request::Tick, self.world.now, None);
            assert!(self.steady <= begun + at_most, "not after {at_most:?}; last: {shown}");
            self.tick();
            self.finish_what_runs();
        }
    }
}
