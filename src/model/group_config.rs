//! The knobs of a group, with the defaults of the pack that Petrel's autoscaling grew out of.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::group::NodeCount;
use super::load::Load;
use super::schedule::ScheduledMinimum;
use super::time::{Timestamp, format_duration};

/// Serializes a [`Duration`] as people write it (`30s`); exact to the millisecond.
pub mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::time::{format_duration, parse_duration};

    /// Writes the short form if it says everything, else milliseconds.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        let short = format_duration(*duration);
        let exact = parse_duration(&short).is_ok_and(|read| read.as_millis() == duration.as_millis());
        if exact {
            return serializer.serialize_str(&short);
        }
        serializer.collect_str(&format_args!("{}ms", duration.as_millis()))
    }

    /// Reads `30s`, `10m`, `1h30m`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

/// What the governor may do with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing, whoever asks.
    Off,
    /// Decide and record, but act on nothing.
    Observe,
    /// Decide, and act on what somebody has approved. What a person asks for needs nobody else's word.
    Approve,
    /// Decide and act.
    #[default]
    Auto,
}

/// Which of the nodes that serve go first. Those that do not serve yet go before all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TerminationPolicy {
    /// Whoever was made first: the group renews itself.
    #[default]
    Oldest,
    /// Whoever was made last: what has proven itself stays.
    Newest,
}

/// Limits, steps and delays of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupConfig {
    /// Never voluntarily fewer nodes in service.
    pub min_nodes: NodeCount,
    /// Never more nodes reserved.
    pub max_nodes: NodeCount,
    /// Nodes added at once.
    pub expand_by: NodeCount,
    /// Nodes taken away at once.
    pub deflate_by: NodeCount,
    /// Rest after an expansion ended before the next one.
    #[serde(with = "duration_text")]
    pub expand_delay: Duration,
    /// Rest after any scaling ended before a deflation.
    #[serde(with = "duration_text")]
    pub deflate_delay: Duration,
    /// An incident of which nothing is heard for so long is no longer believed; its tombstone lives as long.
    #[serde(with = "duration_text")]
    pub alert_ttl: Duration,
    /// Quiet needed after the last incident before nodes are taken away.
    #[serde(with = "duration_text")]
    pub recovery_hold: Duration,
    /// An activity that takes longer is cancelled and compensated.
    #[serde(with = "duration_text")]
    pub activity_timeout: Duration,
    /// A new node must answer within this time.
    #[serde(with = "duration_text")]
    pub node_boot_timeout: Duration,
    /// A leaving node gets so long to finish its requests.
    #[serde(with = "duration_text")]
    pub drain_timeout: Duration,
    /// A node just put into service is given so long to take effect before more are added.
    #[serde(with = "duration_text")]
    pub warmup: Duration,
    /// Reversals within this time make a group flap.
    #[serde(with = "duration_text")]
    pub flap_window: Duration,
    /// From so many reversals on, nothing is taken away for `flap_window`.
    pub flap_max: u32,
    /// How often the governor looks; a longer gap than two of these is a clock jump or a downtime.
    #[serde(with = "duration_text")]
    pub tick: Duration,
    /// With more than so many percent of its nodes failed, and more than three, a group gets no new ones: whatever is
    /// wrong is not cured by more of it.
    pub max_unready_pct: u32,
    /// The load that one node carries, in the unit in which `autoscale.load` reports. Without it loads are not looked at.
    pub node_capacity: Option<Load>,
    /// Nodes are to be used to so many percent of `node_capacity` at most, by the highest load within `load_window`.
    pub safe_util_pct: u32,
    /// For so long a peak of the load is remembered.
    #[serde(with = "duration_text")]
    pub load_window: Duration,
    /// A load that is older than so many ticks is stale: nothing is taken away blindly.
    pub stale_after: u32,
    /// Which nodes go first.
    pub termination_policy: TerminationPolicy,
    /// When the minimum is higher than `min_nodes`.
    pub schedule: Vec<ScheduledMinimum>,
    /// What the governor may do.
    pub mode: Mode,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_nodes: NodeCount::new(1),
            max_nodes: NodeCount::new(20),
            expand_by: NodeCount::new(1),
            deflate_by: NodeCount::new(1),
            expand_delay: Duration::from_mins(10),
            deflate_delay: Duration::from_mins(30),
            alert_ttl: Duration::from_hours(6),
            recovery_hold: Duration::from_mins(5),
            activity_timeout: Duration::from_mins(15),
            node_boot_timeout: Duration::from_mins(15),
            drain_timeout: Duration::from_mins(1),
            warmup: Duration::from_mins(1),
            flap_window: Duration::from_hours(1),
            flap_max: 3,
            tick: Duration::from_secs(30),
            max_unready_pct: 45,
            node_capacity: None,
            safe_util_pct: 65,
            load_window: Duration::from_mins(10),
            stale_after: 3,
            termination_policy: TerminationPolicy::Oldest,
            schedule: Vec::new(),
            mode: Mode::Auto,
        }
    }
}

impl GroupConfig {
    /// Everything that is wrong with it, each with the way out.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let faults: Vec<String> = self.bound_faults().into_iter().chain(self.duration_faults()).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The minimum that holds at this moment.
    pub fn minimum(&self, now: Timestamp) -> NodeCount {
        let scheduled = self.schedule.iter().filter(|part| part.is_active(now)).map(|part| part.min_nodes);
        scheduled.fold(self.min_nodes, NodeCount::max).min(self.max_nodes)
    }

    fn bound_faults(&self) -> Vec<String> {
        let (min, max) = (self.min_nodes.get(), self.max_nodes.get());
        let steps = [("max_nodes", max), ("expand_by", self.expand_by.get()), ("deflate_by", self.deflate_by.get())];
        let mut faults: Vec<String> = steps
            .into_iter()
            .filter(|(_, value)| *value == 0)
            .map(|(name, _)| format!("{name} is 0; write at least 1"))
            .collect();
        if min > max {
            faults.push(format!("min_nodes ({min}) is above max_nodes ({max}); lower one or raise the other"));
        }
        if self.flap_max == 0 {
            faults.push("flap_max is 0, which forbids every deflation; write at least 1".to_owned());
        }
        faults.extend(self.load_faults());
        faults.extend(self.schedule.iter().filter_map(|part| part.fault(self.max_nodes)));
        faults
    }

    fn load_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.node_capacity.is_some_and(Load::is_zero) {
            faults.push("node_capacity is 0; write what one node carries, or leave it out".to_owned());
        }
        for (name, percent) in [("safe_util_pct", self.safe_util_pct), ("max_unready_pct", self.max_unready_pct)] {
            if !(1..=100).contains(&percent) {
                faults.push(format!("{name} is {percent}; write 1 to 100"));
            }
        }
        if self.stale_after == 0 {
            faults.push("stale_after is 0, by which every load is stale; write at least 1".to_owned());
        }
        faults
    }

    fn duration_faults(&self) -> Vec<String> {
        let needed = [
            ("alert_ttl", self.alert_ttl),
            ("activity_timeout", self.activity_timeout),
            ("node_boot_timeout", self.node_boot_timeout),
            ("tick", self.tick),
            ("load_window", self.load_window),
        ];
        let zero = needed.into_iter().filter(|(_, value)| value.is_zero());
        let mut faults: Vec<String> = zero.map(|(name, _)| format!("{name} is 0; write a time such as 30s")).collect();
        if self.recovery_hold > self.alert_ttl {
            let (hold, ttl) = (format_duration(self.recovery_hold), format_duration(self.alert_ttl));
            faults.push(format!(
                "recovery_hold ({hold}) is longer than alert_ttl ({ttl}); an incident is forgotten before"
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_the_pack_s() {
        let config = GroupConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!((config.min_nodes.get(), config.max_nodes.get()), (1, 20));
        assert_eq!((config.expand_delay.as_secs(), config.deflate_delay.as_secs()), (600, 1800));
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let config = GroupConfig {
            min_nodes: NodeCount::new(3),
            max_nodes: NodeCount::ZERO,
            expand_by: NodeCount::ZERO,
            tick: Duration::ZERO,
            flap_max: 0,
            recovery_hold: Duration::from_hours(24),
            ..GroupConfig::default()
        };
        assert_eq!(config.validate().unwrap_err().len(), 6);
    }

    #[test]
    fn durations_are_stored_as_people_write_them_and_lose_nothing() {
        let odd = Duration::from_millis(86_400_000 + 3_600_000 + 60_000 + 1);
        let config = GroupConfig { warmup: odd, ..GroupConfig::default() };
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json["expand_delay"], "10m");
        assert_eq!(json["warmup"], "90060001ms");
        assert_eq!(serde_json::from_value::<GroupConfig>(json).unwrap(), config);
    }

    #[test]
    fn a_misspelt_knob_is_refused() {
        let read = serde_json::from_str::<GroupConfig>(r#"{"expand_dealy": "10m"}"#);
        assert!(read.unwrap_err().to_string().contains("expand_dealy"));
    }
}
