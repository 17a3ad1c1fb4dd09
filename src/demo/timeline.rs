//! What the demo says: one line per event, with the time since the curtain rose.

use std::sync::Arc;
use std::time::Duration;

use crate::cli::output;
use crate::clock::Clock;

/// Tells what happens, when it happens.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    clock: Arc<dyn Clock>,
    begun: Duration,
}

impl Timeline {
    /// Begins now.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let begun = clock.monotonic();
        Self { clock, begun }
    }

    /// One line: who or what, and what about it.
    pub(super) fn tell(&self, what: &str, text: &str) {
        output::say(&line(self.elapsed(), what, text));
    }

    /// Time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.begun)
    }
}

fn line(at: Duration, what: &str, text: &str) -> String {
    let tenths = at.as_millis() / 100;
    format!("{:02}:{:02}.{}  {what:<10} {text}", tenths / 600, tenths / 10 % 60, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time_in_minutes_and_tenths_of_seconds() {
        assert_eq!(line(Duration::from_millis(7_349), "alert", "it burns"), "00:07.3  alert      it burns");
        assert_eq!(line(Duration::from_millis(61_000), "kill -9", "now"), "01:01.0  kill -9    now");
    }
}
