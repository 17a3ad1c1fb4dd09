//! The means of the story: a daemon that can be killed and started again, waiting for something to come true, and
//! telling the governor's decisions meanwhile.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;

use super::child::{Daemon, Stage};
use super::door::{Door, Explained, Group, Outage};
use super::timeline::Timeline;
use super::witness::Witness;
use crate::clock::{self, Clock};
use crate::model::decision::Row;
use crate::model::time::Timestamp;
use crate::secrets::SecretText;

/// Far beyond what anything takes on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often is looked at what people follow.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often is looked for a moment that must not be missed.
const LOOK_SHARPLY: Duration = Duration::from_millis(5);

/// A moment at which the daemon was killed, and the workflow that it interrupted.
#[derive(Debug, Clone)]
pub(super) struct Kill {
    /// Its name in the story.
    pub(super) point: &'static str,
    /// When.
    pub(super) at: Timestamp,
    /// The action of the workflow that must have been under way.
    pub(super) workflow: &'static str,
    /// The node that it is about, if it is about one.
    pub(super) node: Option<String>,
}

/// The play while it goes on.
#[derive(Debug)]
pub(super) struct Play {
    /// Says what happens.
    pub(super) timeline: Timeline,
    /// The time.
    pub(super) clock: Arc<dyn Clock>,
    /// Sees the processes.
    pub(super) witness: Arc<Witness>,
    /// Where it plays.
    pub(super) stage: Stage,
    /// The running daemon's door.
    pub(super) door: Door,
    /// Every kill so far.
    pub(super) kills: Vec<Kill>,
    /// Everything that was found to be wrong so far.
    pub(super) differences: Vec<String>,
    daemons: Vec<Daemon>,
    told: Told,
    /// What the clock said at the beginning of the timeline.
    begun_at: Timestamp,
}

/// What has been told of the governor's decisions.
#[derive(Debug, Default)]
struct Told {
    until: Option<Timestamp>,
    resting: Option<Row>,
}

impl Play {
    /// Starts the daemons.
    pub(super) async fn open(
        stage: Stage,
        timeline: Timeline,
        clock: Arc<dyn Clock>,
        witness: Arc<Witness>,
    ) -> anyhow::Result<Self> {
        let mut daemons = Vec::new();
        let mut doors = Vec::new();
        // One after the other: the first makes the first admin, whose key is good at all of them.
        for data in &stage.data {
            let mut daemon = Daemon::start(&stage, data)?;
            let key = doors.first().map(Door::key);
            doors.push(ready(&stage, &clock, &mut daemon, key).await?);
            daemons.push(daemon);
        }
        let door = doors.into_iter().next().context("a demo without a daemon")?;
        match daemons.len() {
            1 => timeline.tell("start", "petrel serve is ready"),
            count => timeline.tell("start", &format!("{count} daemons over one store are ready")),
        }
        let (kills, differences, told) = (Vec::new(), Vec::new(), Told::default());
        let begun_at = clock.now().minus(timeline.elapsed());
        Ok(Self { timeline, clock, witness, stage, door, kills, differences, daemons, told, begun_at })
    }

    /// How long after the beginning something happened.
    pub(super) fn since_beginning(&self, at: Timestamp) -> Duration {
        at.since(self.begun_at)
    }

    /// One line of the timeline.
    pub(super) fn tell(&self, what: &str, text: &str) {
        self.timeline.tell(what, text);
    }

    /// One question to the API.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.door.ask(method, path, body).await
    }

    /// The daemon that has most under way dies without warning, and another one takes its place.
    pub(super) async fn kill(
        &mut self,
        point: &'static str,
        workflow: &'static str,
        node: Option<&str>,
    ) -> anyhow::Result<()> {
        let victim = self.busiest().await?;
        let at = self.clock.now();
        let daemon = self.daemons.get_mut(victim).context("a daemon to kill")?;
        let data = daemon.data.clone();
        daemon.kill().await?;
        self.kills.push(Kill { point, at, workflow, node: node.map(str::to_owned) });
        let subject = node.map(|node| format!(" ({node})")).unwrap_or_default();
        let which = if self.daemons.len() > 1 { format!("daemon {}, ", victim + 1) } else { String::new() };
        self.tell("kill -9", &format!("{which}{point}{subject}"));
        let begun = self.clock.monotonic();
        let mut daemon = Daemon::start(&self.stage, &data)?;
        let door = ready(&self.stage, &self.clock, &mut daemon, Some(self.door.key())).await?;
        if let Some(place) = self.daemons.get_mut(victim) {
            *place = daemon;
        }
        if victim == 0 {
            self.door = door;
        }
        let took = self.clock.monotonic().saturating_sub(begun).as_millis();
        self.tell("restart", &format!("ready after {}.{:02} s", took / 1000, took % 1000 / 10));
        Ok(())
    }

    /// The daemon with most executions under way: its end hurts most.
    async fn busiest(&self) -> anyhow::Result<usize> {
        if self.daemons.len() == 1 {
            return Ok(0);
        }
        let cluster = self.door.ask(Method::GET, "cluster", None).await?;
        let executions = |daemon: &Daemon| {
            let listed = cluster["daemons"].as_array().into_iter().flatten();
            let mut mine = listed.filter(|listed| listed["pid"].as_u64() == daemon.pid().map(u64::from));
            mine.next().and_then(|mine| mine["executions"].as_u64()).unwrap_or_default()
        };
        let busiest = self.daemons.iter().map(executions).enumerate().max_by_key(|(_, executions)| *executions);
        Ok(busiest.map_or(0, |(number, _)| number))
    }

    /// Waits until the group is as `wanted`, which gets `None` once there is no group any more.
    pub(super) async fn until<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(Option<&Group>) -> Option<T>,
    ) -> anyhow::Result<T> {
        self.look(what, LOOK_EVERY, wanted).await
    }

    /// As [`Play::until`], for moments that pass quickly.
    pub(super) async fn catch<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(Option<&Group>) -> Option<T>,
    ) -> anyhow::Result<T> {
        self.look(what, LOOK_SHARPLY, wanted).await
    }

    async fn look<T>(
        &mut self,
        what: &str,
        every: Duration,
        wanted: impl Fn(Option<&Group>) -> Option<T>,
    ) -> anyhow::Result<T> {
        let begun = self.clock.monotonic();
        loop {
            let group = self.door.group().await?;
            let found = wanted(group.as_ref());
            self.tell_decisions().await?;
            if let Some(found) = found {
                return Ok(found);
            }
            self.still_waiting(begun, what)?;
            clock::sleep(&*self.clock, every).await;
        }
    }

    /// Waits until the machine itself shows what is `wanted`; the daemon is not asked.
    pub(super) async fn see<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(&Witness) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let begun = self.clock.monotonic();
        loop {
            if let Some(found) = wanted(&self.witness)? {
                return Ok(found);
            }
            self.still_waiting(begun, what)?;
            clock::sleep(&*self.clock, LOOK_SHARPLY).await;
        }
    }

    fn still_waiting(&mut self, begun: Duration, what: &str) -> anyhow::Result<()> {
        for daemon in &mut self.daemons {
            if let Some(status) = daemon.ended()? {
                anyhow::bail!("the daemon ended by itself ({status}) while the demo waited for {what}");
            }
        }
        let waited = self.clock.monotonic().saturating_sub(begun);
        anyhow::ensure!(waited < PATIENCE, "in {} s there was no {what}", PATIENCE.as_secs());
        Ok(())
    }

    async fn tell_decisions(&mut self) -> anyhow::Result<()> {
        for explained in self.door.explain().await?.iter().rev() {
            if self.told.is_news(explained) {
                self.timeline.tell("governor", &explained.sentence);
            }
        }
        Ok(())
    }
}

impl Told {
    /// Everything that acts is worth a line; of what holds, only the ends of the road, once each time they are reached.
    fn is_news(&mut self, explained: &Explained) -> bool {
        if self.until.is_some_and(|until| explained.first_at <= until) {
            return false;
        }
        self.until = Some(explained.first_at);
        let row = explained.decision.row;
        if explained.decision.verdict.acts() {
            self.resting = None;
            return true;
        }
        let is_end = matches!(row, Row::AtMax | Row::RecoveryHold);
        is_end && self.resting.replace(row) != Some(row)
    }
}

/// Waits until the daemon has said where it listens, and answers there.
async fn ready(
    stage: &Stage,
    clock: &Arc<dyn Clock>,
    daemon: &mut Daemon,
    key: Option<SecretText>,
) -> anyhow::Result<Door> {
    let begun = clock.monotonic();
    loop {
        if daemon.data.join("endpoints.json").is_file() {
            let outage = if stage.data.len() > 1 { Outage::Possible(Arc::clone(clock)) } else { Outage::Impossible };
            let door = Door::find(&daemon.data, key.clone(), outage)?;
            if door.is_ready().await {
                return Ok(door);
            }
        }
        let log = stage.log.display();
        if let Some(status) = daemon.ended()? {
            anyhow::bail!("the daemon ended while it started ({status}); see {log}");
        }
        let waited = clock.monotonic().saturating_sub(begun);
        anyhow::ensure!(waited < PATIENCE, "the daemon was not ready after {} s; see {log}", PATIENCE.as_secs());
        clock::sleep(&**clock, LOOK_SHARPLY).await;
    }
}
