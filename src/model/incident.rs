//! An incident as a register that is merged by its source's own time, so that arrival order and repetition don't matter.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::group::GroupName;
use super::time::Timestamp;

/// How bad it is. The worse wins when two reports are of the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Tell people.
    Warning,
    /// Add nodes.
    Critical,
}

/// What the source says about it. In the order in which they win at an equal time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// It is going on.
    Open,
    /// It is going on, and somebody knows.
    Acknowledged,
    /// It is over. Kept as a tombstone, so that a late "open" does not wake it.
    Closed,
}

/// One report by a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// What the source calls the incident.
    pub key: String,
    /// The group it concerns.
    pub group: GroupName,
    /// How bad.
    pub severity: Severity,
    /// What is said.
    pub state: IncidentState,
    /// When the source said so, by the source's clock.
    pub seen_at: Timestamp,
    /// When the report arrived, by the store's clock.
    pub received_at: Timestamp,
}

/// What is known of an incident after all reports so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// What the source calls it.
    pub key: String,
    /// The group it concerns.
    pub group: GroupName,
    /// How bad.
    pub severity: Severity,
    /// Open, acknowledged or closed.
    pub state: IncidentState,
    /// The earliest report, by the source's clock.
    pub opened_at: Timestamp,
    /// The report that decides, by the source's clock.
    pub last_seen_at: Timestamp,
    /// When that report first arrived, by the store's clock. Life times are counted from here, not by a foreign clock.
    pub received_at: Timestamp,
}

impl From<Observation> for Incident {
    fn from(seen: Observation) -> Self {
        let Observation { key, group, severity, state, seen_at, received_at } = seen;
        Self { key, group, severity, state, opened_at: seen_at, last_seen_at: seen_at, received_at }
    }
}

/// Takes a report in. Any order and any repetition of the same reports end in the same incident.
#[must_use]
pub fn merge(old: Option<&Incident>, seen: Observation) -> Incident {
    let new = Incident::from(seen);
    match old {
        Some(old) => old.join(&new),
        None => new,
    }
}

impl Incident {
    /// What two registers of the same incident know together.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let order = self.rank().cmp(&other.rank());
        let winner = if order.is_ge() { self } else { other };
        let received_at = if order.is_eq() { self.received_at.min(other.received_at) } else { winner.received_at };
        Self { opened_at: self.opened_at.min(other.opened_at), received_at, ..winner.clone() }
    }

    fn rank(&self) -> (Timestamp, IncidentState, Severity, &GroupName) {
        (self.last_seen_at, self.state, self.severity, &self.group)
    }

    /// Still believed to go on: not closed, and heard of within `ttl`.
    pub fn is_open(&self, now: Timestamp, ttl: Duration) -> bool {
        self.state != IncidentState::Closed && now < self.received_at.plus(ttl)
    }

    /// From when on the group had quiet of this incident, as far as is known now.
    pub fn quiet_since(&self, ttl: Duration) -> Timestamp {
        match self.state {
            IncidentState::Closed => self.received_at,
            IncidentState::Open | IncidentState::Acknowledged => self.received_at.plus(ttl),
        }
    }

    /// Nothing depends on it any more; its row may go.
    pub fn is_forgotten(&self, now: Timestamp, ttl: Duration) -> bool {
        now >= self.quiet_since(ttl).plus(ttl)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_mins(1);

    fn observation() -> impl Strategy<Value = Observation> {
        let state =
            prop_oneof![Just(IncidentState::Open), Just(IncidentState::Acknowledged), Just(IncidentState::Closed)];
        let severity = prop_oneof![Just(Severity::Warning), Just(Severity::Critical)];
        (state, severity, 0..5_i64, 0..5_i64)
            .prop_map(|(state, severity, seen, received)| seen_at(state, severity, seen, received))
    }

    fn seen_at(state: IncidentState, severity: Severity, seen: i64, received: i64) -> Observation {
        let seen_at = Timestamp::from_micros(seen * 1_000_000);
        let received_at = Timestamp::from_micros(received * 1_000_000);
        Observation { key: "cpu".into(), group: "web".parse().unwrap(), severity, state, seen_at, received_at }
    }

    fn all(reports: &[Observation]) -> Option<Incident> {
        reports.iter().fold(None, |known, seen| Some(merge(known.as_ref(), seen.clone())))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn order_and_repetition_of_reports_do_not_matter(
            reports in prop::collection::vec(observation(), 1..8),
            order in any::<prop::sample::Index>(),
        ) {
            let expected = all(&reports);
            let mut shuffled = reports.clone();
            shuffled.rotate_left(order.index(reports.len()));
            shuffled.extend(reports.iter().rev().cloned());
            prop_assert_eq!(all(&shuffled), expected);
        }

        #[test]
        fn registers_join_in_any_grouping(a in observation(), b in observation(), c in observation()) {
            let [a, b, c] = [a, b, c].map(Incident::from);
            prop_assert_eq!(a.join(&b).join(&c), a.join(&b.join(&c)));
            prop_assert_eq!(a.join(&b), b.join(&a));
            prop_assert_eq!(a.join(&a), a);
        }
    }

    #[test]
    fn closed_wins_over_open_at_the_same_time() {
        let open = seen_at(IncidentState::Open, Severity::Critical, 3, 3);
        let closed = seen_at(IncidentState::Closed, Severity::Warning, 3, 3);
        assert_eq!(all(&[closed, open]).unwrap().state, IncidentState::Closed);
    }

    #[test]
    fn a_late_open_does_not_wake_a_closed_incident_but_a_new_one_does() {
        let closed = seen_at(IncidentState::Closed, Severity::Critical, 3, 3);
        let late = seen_at(IncidentState::Open, Severity::Critical, 2, 4);
        let again = seen_at(IncidentState::Open, Severity::Critical, 4, 5);
        assert_eq!(all(&[closed.clone(), late]).unwrap().state, IncidentState::Closed);
        assert_eq!(all(&[closed, again]).unwrap().state, IncidentState::Open);
    }

    #[test]
    fn an_incident_nobody_repeats_is_no_longer_believed_after_its_time_to_live() {
        let open = Incident::from(seen_at(IncidentState::Open, Severity::Critical, 0, 0));
        let at = |seconds: u64| Timestamp::from_micros(0).plus(Duration::from_secs(seconds));
        assert!(open.is_open(at(59), TTL));
        assert!(!open.is_open(at(60), TTL) && !open.is_forgotten(at(119), TTL));
        assert!(open.is_forgotten(at(120), TTL));
    }
}
