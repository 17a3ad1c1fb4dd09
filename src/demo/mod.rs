//! `petrel demo`: the autoscaling story in about a minute, on real parts. A child daemon, real nodes, real HTTP, and
//! SIGKILL at the worst moments; at the end an audit that must find nothing.
//!
//! It is a client of the daemon and its supervisor, and knows nothing of its inside.

mod audit;
mod child;
mod door;
mod folder;
mod full;
mod play;
mod site;
mod story;
mod timeline;
mod witness;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use self::child::{Shared, Stage};
use self::folder::Folder;
use self::play::Play;
use self::timeline::Timeline;
use self::witness::Witness;
use crate::cli::args::{ClusterOptions, DemoOptions, Scene};
use crate::cli::output;
use crate::clock::{Clock, SystemClock};
use crate::config::process_environment;
use crate::supervise::{Backoff, OnEnd, Supervisor};

/// `petrel demo`. 0 only if the audit finds nothing.
pub fn demo_main(options: &DemoOptions) -> ExitCode {
    match run(options) {
        Ok(differences) if differences.is_empty() => {
            output::say("\nNo difference: everything happened exactly once, whoever was killed.");
            ExitCode::SUCCESS
        }
        Ok(differences) => {
            output::say(&format!("\n{} differences:\n  {}", differences.len(), differences.join("\n  ")));
            ExitCode::FAILURE
        }
        Err(problem) => output::complain(&problem),
    }
}

fn run(options: &DemoOptions) -> anyhow::Result<Vec<String>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let folder = Folder::make(options.data_dir.as_deref(), &clock)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = match &options.scene {
        Scene::Short => runtime.block_on(short(Stage::below(folder.path()), &clock)),
        Scene::Cluster(cluster) => runtime.block_on(short(Stage::of_cluster(folder.path(), &shared(cluster)?), &clock)),
        Scene::Full(full) => runtime.block_on(full::play(folder.path(), full, &clock)),
    };
    match &outcome {
        Ok(differences) if differences.is_empty() => folder.remove()?,
        Ok(_) | Err(_) => output::say(&format!("everything is kept in {}", folder.path().display())),
    }
    outcome
}

/// What several daemons share must be running already: the demo brings no servers.
fn shared(cluster: &ClusterOptions) -> anyhow::Result<Shared> {
    let environment = process_environment();
    let of = |given: &Option<String>, variable: &str| given.clone().or_else(|| environment.get(variable).cloned());
    let store_url = of(&cluster.store, "PETREL__STORE__URL").context(
        "several daemons need a PostgreSQL with an empty database: name it with --store postgres://user@host/database, or \
         with PETREL__STORE__URL",
    )?;
    Ok(Shared { store_url, bus_url: of(&cluster.bus, "PETREL__BUS__URL") })
}

async fn short(stage: Stage, clock: &Arc<dyn Clock>) -> anyhow::Result<Vec<String>> {
    site::write(&stage.site).with_context(|| format!("writing the site {}", stage.site.display()))?;
    let timeline = Timeline::new(Arc::clone(clock));
    let witness = Arc::new(Witness::new(&stage.nodes, Arc::clone(clock))?);
    let supervisor = Supervisor::new(Arc::clone(clock));
    let eyes = (Arc::clone(&witness), Arc::clone(clock));
    supervisor.spawn("witness", OnEnd::Restart(Backoff::default()), move |stop| {
        let (witness, clock) = eyes.clone();
        async move { witness.run(&*clock, stop).await }
    });
    let told = tokio::select! {
        told = tell(stage, timeline, clock, &witness, &supervisor) => told,
        interrupted = interrupted() => Err(interrupted),
    };
    let late = supervisor.shutdown(Duration::from_secs(5)).await;
    tracing::debug!(?late, "the demo's own tasks have ended");
    witness.clear().await?;
    told
}

async fn tell(
    stage: Stage,
    timeline: Timeline,
    clock: &Arc<dyn Clock>,
    witness: &Arc<Witness>,
    supervisor: &Supervisor,
) -> anyhow::Result<Vec<String>> {
    let mut play = Play::open(stage, timeline, Arc::clone(clock), Arc::clone(witness)).await?;
    let load = Arc::new(story::load(&play)?);
    let sender = Arc::clone(&load);
    let stop = supervisor.token().clone();
    supervisor.spawn_once("load", async move {
        sender.run(stop).await;
        Ok(())
    });
    story::perform(&mut play, &load).await?;
    Ok(play.differences)
}

/// Ctrl-C and the like: the error that the demo then ends with.
async fn interrupted() -> anyhow::Error {
    let signals = signal(SignalKind::interrupt()).and_then(|first| Ok((first, signal(SignalKind::terminate())?)));
    match signals {
        Ok((mut interrupt, mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            anyhow::anyhow!("interrupted: the daemon and its nodes were ended")
        }
        Err(problem) => anyhow::Error::new(problem).context("listening for signals"),
    }
}
