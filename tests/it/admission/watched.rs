//! A random history over a real store, and somebody who checks every decision and every row along it. His clock never jumps.

use std::collections::BTreeSet;
use std::time::Duration;

use petrel::clock::Clock as _;
use petrel::governor::admission::Admission;
use petrel::governor::incidents::Report;
use petrel::governor::view::GroupView;
use petrel::model::decision::{Decision, Delays, Request, Row};
use petrel::model::execution::ExecutionStatus;
use petrel::model::group::{NodeCount, Part};
use petrel::model::incident::{IncidentState, Severity};
use petrel::model::node::{NodeName, NodePhase};
use petrel::model::scaling::{ActivityKind, Origin};
use petrel::model::time::Timestamp;
use petrel::store::Store;
use petrel::store::rows::Page;
use serde_json::{Value, json};

use super::desk::{Desk, web};

const TICK: Duration = Duration::from_secs(30);
const EXPAND_DELAY: Duration = Duration::from_mins(2);
const DEFLATE_DELAY: Duration = Duration::from_mins(5);
/// The longest rest after failures, and some ticks.
const SLACK: Duration = Duration::from_mins(35);
const ALL: Page = Page { limit: 100_000, offset: 0 };

/// What it gives depends on the seed only.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

pub(super) struct Watched {
    desk: Desk,
    dice: Dice,
    began: Timestamp,
    steady: Duration,
    expanded: Option<Duration>,
    deflated: Option<Duration>,
    names: BTreeSet<NodeName>,
    frozen: bool,
    jumps: u32,
    rebases: u32,
    /// What the governors have answered: one row each, at the least counted.
    answers: i64,
}

impl Watched {
    pub(super) async fn over(store: Store, mut dice: Dice) -> Self {
        let min = dice.below(3);
        let config = json!({
            "min_nodes": min, "max_nodes": min + 1 + dice.below(4), "expand_by": 1 + dice.below(3),
            "deflate_by": 1 + dice.below(3), "expand_delay": "2m", "deflate_delay": "5m", "recovery_hold": "1m",
            "activity_timeout": "3m", "warmup": "30s", "flap_window": "20m",
        });
        let desk = Desk::open(store, &config, dice.0).await;
        let began = desk.clock.now();
        let names = desk.group().await.nodes.into_iter().map(|node| node.name).collect();
        Self {
            desk,
            dice,
            began,
            steady: Duration::ZERO,
            expanded: None,
            deflated: None,
            names,
            frozen: false,
            jumps: 0,
            rebases: 0,
            answers: 1,
        }
    }

    pub(super) async fn happen(&mut self) {
        match self.dice.below(33) {
            0..8 => {
                for _ in 0..=self.dice.below(12) {
                    self.tick().await;
                }
            }
            8..14 => self.incident().await,
            14..18 => self.race().await,
            18..25 => self.end(usize::MAX, ExecutionStatus::Succeeded).await,
            25 => self.end(1, ExecutionStatus::Failed).await,
            26 => {
                let status = self.dice.one_of(&[ExecutionStatus::Failed, ExecutionStatus::Canceled]);
                self.end(0, status).await;
            }
            27 => {
                let (min, spread) = (self.dice.below(3), 1 + self.dice.below(4));
                self.configure(&json!({ "min_nodes": min, "max_nodes": min + spread })).await;
            }
            28 => self.jump(),
            29 => self.protect().await,
            30 => {
                let mode = self.dice.one_of(&["off", "observe", "approve", "auto", "auto", "auto", "auto"]);
                self.configure(&json!({ "mode": mode })).await;
            }
            31 => self.gate().await,
            _ => self.desk.restart(),
        }
        self.rows_agree().await;
    }

    async fn tick(&mut self) {
        self.steady += TICK;
        self.desk.clock.advance(TICK);
        self.ask_both(&Request::Tick, &Request::Tick).await;
    }

    /// Both daemons are asked at once: one of them is quicker.
    async fn ask_both(&mut self, one: &Request, other: &Request) {
        let before = self.desk.group().await;
        let [first, second] = &self.desk.governors;
        let name = web();
        let (one, other) = tokio::join!(Box::pin(first.admit(&name, one)), Box::pin(second.admit(&name, other)));
        let answers = [one.unwrap(), other.unwrap()];
        let opened = answers.iter().filter(|admission| admission.activity.is_some()).count();
        assert!(opened <= 1, "3: two activities at once: {answers:?}");
        for admission in &answers {
            self.judge(&before, admission);
        }
    }

    async fn race(&mut self) {
        let (one, other) = (self.request(), self.request());
        self.ask_both(&one, &other).await;
    }

    fn request(&mut self) -> Request {
        let delays = self.dice.one_of(&[Delays::Respect, Delays::Skip]);
        let origin = if self.dice.below(2) == 0 { Origin::Rule } else { Origin::Human { user: "ann".to_owned() } };
        let by = Some(NodeCount::new(u32::try_from(1 + self.dice.below(5)).unwrap()));
        match self.dice.below(7) {
            0 => Request::AddNode { delays, origin },
            1 => Request::Approve { origin },
            2 => {
                let name = format!("web-{:03}", 1 + self.dice.below(12)).parse().unwrap();
                Request::DeleteNode { name, delays, origin }
            }
            3 | 4 => Request::Expand { by, delays, origin },
            _ => Request::Deflate { by, delays, origin },
        }
    }

    async fn incident(&mut self) {
        let state = self.dice.one_of(&[IncidentState::Open, IncidentState::Acknowledged, IncidentState::Closed]);
        let severity = self.dice.one_of(&[Severity::Critical, Severity::Critical, Severity::Warning]);
        let late = Duration::from_mins(self.dice.below(20)) * u32::try_from(self.dice.below(2)).unwrap();
        let key = self.dice.below(3).to_string();
        self.report(&key, severity, state, late).await;
    }

    /// The clock of those who report does not jump with ours. A report that comes twice changes nothing.
    async fn report(&mut self, key: &str, severity: Severity, state: IncidentState, late: Duration) {
        let at = Some(self.began.plus(self.steady).minus(late));
        let report = Report { entities: vec!["shop".to_owned()], key: key.to_owned(), severity, state, at };
        let mut register = Vec::new();
        for _ in 0..2 {
            let before = self.desk.group().await;
            for (_, admission) in self.desk.governor().observe(&report).await.unwrap() {
                self.judge_reported(&before, &admission);
            }
            let rows = self.desk.store.groups().group_get("web").await.unwrap().incidents;
            register.push(
                rows.iter()
                    .map(|row| [&row["key"], &row["state"], &row["severity"]].map(Value::clone))
                    .collect::<Vec<_>>(),
            );
        }
        assert_eq!(register[0], register[1], "15: a report that came twice");
    }

    async fn end(&mut self, done: usize, status: ExecutionStatus) {
        let Some(activity) = self.desk.group().await.activity else { return };
        self.desk.end(done, status).await;
        let rows = self.desk.store.groups().activity_list("web", ALL).await.unwrap();
        let ended = rows.iter().find(|row| row["id"] == json!(activity.id)).expect("it has a row");
        assert!(!ended["ended_at"].is_null(), "it ended with its workflow: {ended}");
        if ended["status"] == "failed" {
            return;
        }
        match activity.kind {
            ActivityKind::Expand | ActivityKind::AddNode => self.expanded = Some(self.steady),
            ActivityKind::Deflate | ActivityKind::DeleteNode => self.deflated = Some(self.steady),
            ActivityKind::Create | ActivityKind::Delete | ActivityKind::Repair | ActivityKind::Reconcile => {}
        }
    }

    async fn configure(&self, config: &Value) {
        self.desk.governor().configure(&web(), config.as_object().unwrap()).await.unwrap();
    }

    fn jump(&mut self) {
        let seconds = self.dice.one_of(&[86_400, -86_400, -1, 3_600, -120]);
        let now = self.desk.clock.now().as_micros();
        self.desk.clock.set(Timestamp::from_micros(now + seconds * 1_000_000));
        self.jumps += 1;
    }

    async fn protect(&mut self) {
        let nodes = self.desk.group().await.nodes;
        if nodes.is_empty() {
            return;
        }
        let node = &nodes[usize::try_from(self.dice.below(nodes.len() as u64)).unwrap()];
        self.desk.governor().protect(&web(), &node.name, !node.protected).await.unwrap();
    }

    async fn gate(&mut self) {
        let governor = &self.desk.governors[1];
        match self.dice.below(4) {
            0 => {
                let part = self.dice.one_of(&[Part::Expand, Part::Deflate, Part::Replace, Part::All]);
                governor.suspend(&web(), part, None, "ann", "a test").await.unwrap();
            }
            1 | 2 => governor.resume(&web(), Part::All).await.unwrap(),
            _ if self.frozen => drop(governor.thaw("ann").await.unwrap()),
            _ => drop(governor.freeze("ann", "a test", None).await.unwrap()),
        }
        self.frozen = governor.frozen().await.unwrap().is_some();
    }

    fn judge(&mut self, before: &GroupView, admission: &Admission) {
        let decision = &admission.decision;
        if decision.row == Row::Deflate && decision.verdict.acts() && !is_forced(&decision.request) {
            assert!(before.incidents.is_empty(), "5: during {:?}: {decision}", before.incidents);
        }
        self.judge_reported(before, admission);
    }

    fn judge_reported(&mut self, before: &GroupView, Admission { decision, activity, .. }: &Admission) {
        self.answers += 1;
        self.rebases += u32::from(decision.row == Row::ClockJump);
        assert!(!decision.reason.to_string().is_empty(), "14: {decision:?}");
        let Some(_) = activity else { return };
        assert!(before.activity.is_none(), "3: beside {:?}: {decision}", before.activity);
        let (reserved, removed) = (decision.verdict.reserved(), decision.verdict.removed());
        let total = before.total.as_usize() + reserved.len();
        assert!(reserved.is_empty() || total <= before.max_nodes.as_usize(), "1: {total} nodes: {decision}");
        let leaving = before.nodes.iter().filter(|node| removed.contains(&node.name));
        let serving = leaving.clone().filter(|node| node.phase == NodePhase::InService).count();
        let left = before.in_service.as_usize() - serving;
        assert!(serving == 0 || left >= before.min_nodes.as_usize(), "2: {left} are left: {decision}");
        assert!(leaving.clone().all(|node| !node.protected), "16: {decision}");
        for name in reserved {
            assert!(self.names.insert(name.clone()), "6: {name} was given before: {decision}");
        }
        self.delays_hold(decision);
    }

    fn delays_hold(&self, decision: &Decision) {
        if is_forced(&decision.request) {
            return;
        }
        let rested = |since: Option<Duration>, delay| since.is_none_or(|since| self.steady >= since + delay);
        if decision.row == Row::Expand {
            assert!(rested(self.expanded, EXPAND_DELAY), "4: too soon: {decision}");
        }
        if decision.row == Row::Deflate {
            assert!(rested(self.expanded.max(self.deflated), DEFLATE_DELAY), "4: too soon: {decision}");
        }
    }

    /// What is written says the same wherever it is read.
    async fn rows_agree(&self) {
        let (groups, group) = (self.desk.store.groups(), self.desk.group().await);
        let open = groups.activity_list("web", ALL).await.unwrap();
        let open: Vec<_> = open.iter().filter(|row| row["ended_at"].is_null()).map(|row| row["id"].clone()).collect();
        assert_eq!(
            open,
            Vec::from_iter(group.activity.as_ref().map(|it| json!(it.id))),
            "3: one activity, and it is shown"
        );
        let there = groups.group_get("web").await.unwrap();
        assert_eq!(there.nodes.len(), group.total.as_usize(), "what counts has a row, and what is gone has none");
        let other = self.desk.governors[1].get(&web()).await.unwrap();
        assert_eq!(json!(other), json!(group), "7: both daemons read the same");
    }

    /// Everything that stood in the way is lifted, and from now on every workflow goes well: what the group owes it does in time.
    pub(super) async fn owe(&mut self) {
        let governor = &self.desk.governors[0];
        governor.thaw("ann").await.unwrap();
        governor.resume(&web(), Part::All).await.unwrap();
        for node in self.desk.group().await.nodes {
            governor.protect(&web(), &node.name, false).await.unwrap();
        }
        self.configure(&json!({ "mode": "auto" })).await;
        self.end(usize::MAX, ExecutionStatus::Succeeded).await;
        self.report("last", Severity::Critical, IncidentState::Open, Duration::ZERO).await;
        let full = |group: &GroupView| group.in_service == group.max_nodes && group.total == group.in_service;
        self.settle("9", (EXPAND_DELAY + 2 * TICK) * 8 + SLACK, full).await;
        for key in ["0", "1", "2", "last"] {
            self.report(key, Severity::Critical, IncidentState::Closed, Duration::ZERO).await;
        }
        let stretched = Duration::from_mins(20) + 2 * TICK;
        self.settle("10", stretched * 8 + SLACK, |group| group.total == group.min_nodes).await;
    }

    async fn settle(&mut self, invariant: &str, at_most: Duration, done: impl Fn(&GroupView) -> bool) {
        let begun = self.steady;
        loop {
            let group = self.desk.group().await;
            if done(&group) {
                return;
            }
            let last = group.last_decision.map(|last| last.sentence);
            assert!(self.steady <= begun + at_most, "{invariant}: not after {at_most:?}; last: {last:?}");
            self.tick().await;
            self.end(usize::MAX, ExecutionStatus::Succeeded).await;
        }
    }

    /// What the books say about the whole history.
    pub(super) async fn close(&self) {
        assert!(self.rebases <= 2 * self.jumps + 2, "12: {} looks lost to {} jumps", self.rebases, self.jumps);
        let groups = self.desk.store.groups();
        let decisions = groups.decision_list("web", ALL).await.unwrap();
        let counted: i64 = decisions.iter().map(|row| row.times).sum();
        assert_eq!(counted, self.answers, "14: every answer has its record");
        for row in &decisions {
            let read: Decision = serde_json::from_value(row.decision.clone()).unwrap();
            assert_eq!(json!(read), row.decision, "7: what is recorded can be read");
        }
        let opened = groups.activity_list("web", ALL).await.unwrap();
        let automatic =
            opened.iter().filter(|row| row["origin"]["origin"] == "tick" || row["origin"] == "tick").count();
        let hours = self.steady.as_secs().div_ceil(3600);
        assert!(automatic as u64 <= 60 * hours, "13: {automatic} by itself within {hours} hours");
    }
}

const fn is_forced(request: &Request) -> bool {
    matches!(request, Request::Expand { delays: Delays::Skip, .. } | Request::Deflate { delays: Delays::Skip, .. })
}
