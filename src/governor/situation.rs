//! A group's state at one moment, with what the table asks about it worked out once.

use std::time::Duration;

use crate::model::decision::Inputs;
use crate::model::group::{NodeCount, Part, Suspension};
use crate::model::group_config::GroupConfig;
use crate::model::group_state::GroupState;
use crate::model::incident::{Incident, Severity};
use crate::model::node::NodePhase;
use crate::model::time::Timestamp;

/// What the rows of the table look at.
pub(super) struct Situation<'a> {
    pub(super) state: &'a GroupState,
    pub(super) now: Timestamp,
    /// The minimum that holds now.
    pub(super) min: NodeCount,
    pub(super) live: NodeCount,
    pub(super) in_service: NodeCount,
    pub(super) failed: NodeCount,
    pub(super) critical: Vec<&'a Incident>,
    pub(super) warnings: Vec<&'a Incident>,
    pub(super) flips: u32,
}

impl<'a> Situation<'a> {
    pub(super) fn of(state: &'a GroupState, now: Timestamp) -> Self {
        let config = &state.group.config;
        let open = |severity: Severity| {
            let wanted = move |it: &&Incident| it.severity == severity && it.is_open(now, config.alert_ttl);
            state.incidents.iter().filter(wanted).collect::<Vec<_>>()
        };
        let recent = |at: &&Timestamp| now < at.plus(config.flap_window);
        Self {
            state,
            now,
            min: config.minimum(now),
            live: state.live(),
            in_service: state.in_service(),
            failed: state.in_phase(NodePhase::Failed),
            critical: open(Severity::Critical),
            warnings: open(Severity::Warning),
            flips: NodeCount::of(state.memory.flips.iter().filter(recent)).get(),
        }
    }

    pub(super) fn config(&self) -> &'a GroupConfig {
        &self.state.group.config
    }

    pub(super) fn suspended(&self, part: Part) -> Option<&'a Suspension> {
        self.state.group.suspended(part, self.now)
    }

    /// The time at which a rest of `delay` since `instant` is over, if that lies ahead.
    pub(super) fn rests_until(&self, instant: Option<Timestamp>, delay: Duration) -> Option<Timestamp> {
        instant.map(|instant| instant.plus(delay)).filter(|end| self.now < *end)
    }

    /// The time at which the rest after failures is over, if that lies ahead.
    pub(super) fn backs_off_until(&self) -> Option<Timestamp> {
        self.state.memory.backoff_until.filter(|until| self.now < *until)
    }

    /// Since when no incident is open. `None` if there is none to remember.
    pub(super) fn quiet_since(&self) -> Option<Timestamp> {
        self.state.incidents.iter().map(|incident| incident.quiet_since(self.config().alert_ttl)).max()
    }

    /// The worst open incident's key.
    pub(super) fn open_incident(&self) -> Option<&'a str> {
        self.critical.first().or_else(|| self.warnings.first()).map(|incident| incident.key.as_str())
    }

    pub(super) fn inputs(&self) -> Inputs {
        let keys = |incidents: &[&Incident]| incidents.iter().map(|it| it.key.clone()).collect();
        let config = self.config();
        Inputs {
            live: self.live,
            in_service: self.in_service,
            total: self.state.total(),
            failed: self.failed,
            min: self.min,
            max: config.max_nodes,
            critical: keys(&self.critical),
            warnings: keys(&self.warnings),
            activity: self.state.activity.as_ref().map(|activity| activity.id),
            flips: self.flips,
            failures_in_row: self.state.memory.failures_in_row,
            mode: config.mode,
        }
    }
}
