//! `petrel demo --full`: the showcase from alert to decommissioning with real servers: HAProxy, BIND, OpenSSH, ngircd,
//! Prometheus and Alertmanager, a load that waits for nobody, and a picture of all of it at the end.

mod audit;
mod chart;
mod programs;
mod rig;
mod room;
mod server;
mod site;
mod story;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use self::chart::Picture;
use self::programs::Programs;
use self::rig::{NODE_CAPACITY, Rig};
use self::room::Person;
use self::story::Cast;
use self::watch::Watch;
use super::child::Stage;
use super::interrupted;
use super::play::Play;
use super::timeline::Timeline;
use super::witness::Witness;
use crate::cli::args::FullOptions;
use crate::clock::Clock;
use crate::local::load::{Bounds, Load};
use crate::supervise::{Backoff, OnEnd, Supervisor};

/// People wait for a saturated site, but not for ever.
const BOUNDS: Bounds = Bounds { patience: Duration::from_secs(60), most_in_flight: 3500 };
const FAREWELL: Duration = Duration::from_secs(5);

/// Plays the whole story in `folder`. What is wrong is told, one sentence each.
pub(super) async fn play(folder: &Path, options: &FullOptions, clock: &Arc<dyn Clock>) -> anyhow::Result<Vec<String>> {
    let programs = Programs::find()?;
    std::fs::create_dir_all(&options.pictures)
        .with_context(|| format!("making the folder {} for the picture", options.pictures.display()))?;
    let timeline = Timeline::new(Arc::clone(clock));
    let rig = tokio::select! {
        started = Rig::start(folder, programs, clock) => started?,
        interrupted = interrupted() => return Err(interrupted),
    };
    timeline.tell("rig", "HAProxy, BIND, sshd, ngircd, Prometheus and Alertmanager run");
    let supervisor = Supervisor::new(Arc::clone(clock));
    let told = tokio::select! {
        told = tell(folder, options, &rig, &timeline, &supervisor, clock) => told,
        interrupted = interrupted() => Err(interrupted),
    };
    let late = supervisor.shutdown(FAREWELL).await;
    tracing::debug!(?late, "the demo's own tasks have ended");
    Witness::new(&Stage::below(folder).nodes, Arc::clone(clock))?.clear().await?;
    rig.end(clock).await?;
    told
}

async fn tell(
    folder: &Path,
    options: &FullOptions,
    rig: &Rig,
    timeline: &Timeline,
    supervisor: &Supervisor,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<String>> {
    let stage = Stage::below(folder).listening(rig.port("PETREL"), rig.port("NEWRELIC"));
    site::write(&stage.site, rig).with_context(|| format!("writing the site {}", stage.site.display()))?;
    let witness = Arc::new(Witness::new(&stage.nodes, Arc::clone(clock))?);
    let eyes = (Arc::clone(&witness), Arc::clone(clock));
    supervisor.spawn("witness", OnEnd::Restart(Backoff::default()), move |stop| {
        let (witness, clock) = eyes.clone();
        async move { witness.run(&*clock, stop).await }
    });
    let visitors = vec![rig.web()];
    let load = Load::within(BOUNDS, Arc::clone(clock), Arc::new(move || visitors.clone()), 0)?;
    let load = Arc::new(load);
    let (sender, stop) = (Arc::clone(&load), supervisor.token().clone());
    supervisor.spawn_once("load", async move {
        sender.run(stop).await;
        Ok(())
    });
    let watch = Watch::new(rig, timeline.clone(), Arc::clone(&witness), Arc::clone(&load), Arc::clone(clock))?;
    let watch = Arc::new(watch);
    let (eyes, stop) = (Arc::clone(&watch), supervisor.token().clone());
    supervisor.spawn_once("watch", async move { eyes.run(stop).await });
    let (person, listening) = Person::join(rig.port("IRC"), rig.irc_password(), Arc::clone(clock)).await?;
    supervisor.spawn_once("chat", listening);

    let play = Play::open(stage, timeline.clone(), Arc::clone(clock), witness).await?;
    let mut cast = Cast { play, rig, load, watch, person, steady: options.steady, acts: Vec::new() };
    let performed = story::perform(&mut cast).await;
    let drawn = draw(&cast, options).await;
    cast.play.differences.extend(cast.watch.troubles());
    performed?;
    drawn?;
    Ok(cast.play.differences)
}

/// The picture is drawn also of a story that broke off: then it is needed most.
async fn draw(cast: &Cast<'_>, options: &FullOptions) -> anyhow::Result<()> {
    // of a daemon that did not come back there is only what was seen from outside
    let decisions = cast.decisions().await.unwrap_or_else(|problem| {
        cast.play.tell("picture", &format!("it has no decisions: {problem:#}"));
        Vec::new()
    });
    let picture = Picture {
        samples: cast.watch.samples(),
        node_capacity: NODE_CAPACITY,
        acts: cast.acts.clone(),
        decisions,
        kills: cast.kills(),
    };
    let (svg, png) = (options.pictures.join("petrel-demo.svg"), options.pictures.join("petrel-demo.png"));
    std::fs::write(&svg, picture.svg()).with_context(|| format!("writing {}", svg.display()))?;
    cast.rig.rasterise(&svg, &png).await?;
    cast.play.tell("picture", &format!("{} and {}", svg.display(), png.display()));
    Ok(())
}
