//! The five phases: set up by chat, saturation and its alert, steady load, recovery, decommissioning by chat; with a kill of
//! the daemon in the middle of the expansion and one in the middle of a drain.

use std::sync::Arc;
use std::time::Duration;

use super::audit;
use super::rig::{DOMAIN, NODE_CAPACITY, Rig};
use super::room::{Person, ROOM};
use super::watch::Watch;
use crate::clock;
use crate::demo::door::GROUP;
use crate::demo::play::Play;
use crate::demo::story::{at_rest_with, leaving};
use crate::local::load::Load;
use crate::local::nodes::NodeState;

/// Half of what one node serves.
const QUIET_LOAD: u32 = NODE_CAPACITY / 2;
/// Three quarters of what four nodes serve.
const HEAVY_LOAD: u32 = 3 * NODE_CAPACITY;
/// So long it takes from quiet to heavy.
const SURGE: Duration = Duration::from_secs(4);
/// So long a phase is watched before anything happens in it.
const A_WHILE: Duration = Duration::from_secs(8);
const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(200);

/// Whoever plays.
pub(super) struct Cast<'a> {
    pub(super) play: Play,
    pub(super) rig: &'a Rig,
    pub(super) load: Arc<Load>,
    pub(super) watch: Arc<Watch>,
    pub(super) person: Person,
    /// How long the load is held once all have recovered.
    pub(super) steady: Duration,
    /// When which part began.
    pub(super) acts: Vec<(Duration, String)>,
}

impl Cast<'_> {
    fn act(&mut self, name: &str, text: &str) {
        self.acts.push((self.play.timeline.elapsed(), name.to_owned()));
        self.play.tell(name, text);
    }

    /// Time goes by, and what the governor decides meanwhile is told.
    async fn pause(&mut self, duration: Duration) -> anyhow::Result<()> {
        let begun = self.play.clock.monotonic();
        while self.play.clock.monotonic().saturating_sub(begun) < duration {
            self.play.until("moment to pass", |_| Some(())).await?;
            clock::sleep(&*self.play.clock, duration.min(MOMENT)).await;
        }
        Ok(())
    }

    /// What the governor did, with the time since the beginning.
    pub(super) async fn decisions(&self) -> anyhow::Result<Vec<(Duration, String)>> {
        let mut explained = self.play.door.all_decisions().await?;
        explained.retain(|it| it.decision.verdict.acts());
        explained.reverse();
        let at = |it| self.play.since_beginning(it);
        Ok(explained.into_iter().map(|it| (at(it.first_at), it.sentence)).collect())
    }

    /// When the daemon was killed, and where in the story.
    pub(super) fn kills(&self) -> Vec<(Duration, String)> {
        let kills = self.play.kills.iter();
        kills.map(|kill| (self.play.since_beginning(kill.at), kill.point.to_owned())).collect()
    }
}

/// The whole story. What it finds wrong is in `play.differences`.
pub(super) async fn perform(cast: &mut Cast<'_>) -> anyhow::Result<()> {
    set_up(cast).await?;
    saturate(cast).await?;
    recover(cast).await?;
    hold(cast).await?;
    stand_down(cast).await?;
    decommission(cast).await?;
    audit::whole(cast).await
}

async fn set_up(cast: &mut Cast<'_>) -> anyhow::Result<()> {
    cast.person.meet("petrel").await?;
    let command = format!("!asg create name={GROUP} domain={DOMAIN}");
    cast.act("set up", &format!("ann in {ROOM}: {command}"));
    cast.person.say(&command).await?;
    cast.person.hear("web-001 is in service", 0).await?;
    at_rest_with(&mut cast.play, 1).await?;
    cast.load.set_rate(QUIET_LOAD);
    cast.play.tell("load", &format!("{QUIET_LOAD} requests a second for one node that can serve {NODE_CAPACITY}"));
    cast.pause(A_WHILE).await?;
    audit::at_rest(cast, "set up").await
}

/// The load grows to three times what one node can serve.
async fn saturate(cast: &mut Cast<'_>) -> anyhow::Result<()> {
    cast.act("failing", &format!("the load grows to {HEAVY_LOAD} requests a second"));
    let steps = 12;
    for step in 1..=steps {
        cast.load.set_rate(QUIET_LOAD + (HEAVY_LOAD - QUIET_LOAD) * step / steps);
        cast.pause(SURGE / steps).await?;
    }
    cast.play
        .until("word of Prometheus that the site is saturated", |group| (!group?.incidents.is_empty()).then_some(()))
        .await?;
    cast.play.tell("alert", "Prometheus: requests wait for a node; Alertmanager told Petrel");
    let node = cast
        .play
        .see("process of a second node", |witness| {
            let booting = |node: &crate::local::nodes::NodeStatus| node.state == NodeState::Booting;
            Ok(witness.registered()?.into_iter().find(booting).map(|node| node.name.to_string()))
        })
        .await?;
    cast.play.kill("mid-expand", "default.asg_add_node", Some(&node)).await
}

/// Until the alert is over and nothing is under way.
async fn recover(cast: &mut Cast<'_>) -> anyhow::Result<()> {
    cast.play
        .until("end of the incident", |group| {
            let group = group?;
            let over = group.incidents.is_empty() && group.activity.is_none() && group.in_service >= 4;
            over.then_some(())
        })
        .await?;
    cast.act("monitor", "Prometheus says that nothing waits any more");
    audit::at_rest(cast, "recovered").await
}

/// The load is held. A governor that looks at alerts alone would take nodes away now, and need them again.
async fn hold(cast: &mut Cast<'_>) -> anyhow::Result<()> {
    let (steady, seconds) = (cast.steady, cast.steady.as_secs());
    cast.play.tell("monitor", &format!("{HEAVY_LOAD} requests a second for {seconds} s more"));
    let begun = cast.play.clock.monotonic();
    cast.pause(steady).await?;
    let changes = audit::changes_since(cast, begun).await?;
    cast.play.tell("monitor", &format!("the size changed {changes} times"));
    if changes > 1 {
        cast.play.differences.push(format!("under steady load the size changed {changes} times in {seconds} s"));
    }
    Ok(())
}

async fn stand_down(cast: &mut Cast<'_>) -> anyhow::Result<()> {
    cast.act("stand down", &format!("the load falls to {QUIET_LOAD} requests a second"));
    cast.load.set_rate(QUIET_LOAD);
    let leaving = cast.play.catch("node that leaves", |group| leaving(group?)).await?;
    cast.play.kill("mid-drain", "default.asg_delete_node", Some(&leaving)).await?;
    at_rest_with(&mut cast.play, 1).await?;
    audit::at_rest(cast, "one node again").await
}

async fn decommission(cast: &mut Cast<'_>) -> anyhow::Result<()> {
    cast.load.set_rate(0);
    cast.pause(SECOND).await?;
    let command = format!("!asg delete name={GROUP}");
    cast.act("delete", &format!("ann in {ROOM}: {command}"));
    let before = cast.person.heard().len();
    cast.person.say(&command).await?;
    let asked = cast.person.hear("confirm=", before).await?;
    let code = asked.rsplit_once("confirm=").map(|(_, code)| code.trim().to_owned()).unwrap_or_default();
    cast.person.say(&format!("{command} confirm={code}")).await?;
    cast.play.tell("delete", "the bot asked whether that is meant, and it is");
    cast.play.until("end of the group", |group| group.is_none().then_some(())).await?;
    cast.play.tell("delete", "the group is gone");
    Ok(())
}
