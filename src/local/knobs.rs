//! How a node behaves: what a real one would owe to its hardware, its software and its luck.

use std::num::NonZeroU16;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Parameters of `local.create_node`, kept in the registration so that a restarted node behaves as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Knobs {
    /// Requests worked on at the same time.
    pub concurrency: NonZeroU16,
    /// Requests that may wait for their turn; the next ones get a 503.
    pub queue: u16,
    /// How long one request takes.
    pub service_time_ms: u32,
    /// How long it is not ready after its start.
    pub boot_delay_ms: u32,
    /// It dies this long after its start, as if killed.
    pub crash_after_ms: Option<u32>,
    /// It accepts connections and never answers.
    pub hang: bool,
    /// What it says it runs.
    pub version: String,
}

impl Default for Knobs {
    /// Eighty requests per second with almost no use of a processor, so that twenty nodes fit on a laptop.
    fn default() -> Self {
        Self {
            concurrency: NonZeroU16::MIN.saturating_add(3),
            queue: 64,
            service_time_ms: 50,
            boot_delay_ms: 0,
            crash_after_ms: None,
            hang: false,
            version: "1".to_owned(),
        }
    }
}

impl Knobs {
    /// How long one request takes.
    pub fn service_time(&self) -> Duration {
        Duration::from_millis(self.service_time_ms.into())
    }

    /// How long it is not ready after its start.
    pub fn boot_delay(&self) -> Duration {
        Duration::from_millis(self.boot_delay_ms.into())
    }

    /// When it dies after its start, if it does.
    pub fn crash_after(&self) -> Option<Duration> {
        self.crash_after_ms.map(|after| Duration::from_millis(after.into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_said_has_a_default_and_a_node_without_concurrency_is_refused() {
        let knobs: Knobs = serde_json::from_value(json!({"service_time_ms": 5})).unwrap();
        assert_eq!(knobs, Knobs { service_time_ms: 5, ..Knobs::default() });
        assert_eq!(knobs.concurrency.get(), 4);
        assert!(serde_json::from_value::<Knobs>(json!({"concurrency": 0})).is_err());
    }
}
