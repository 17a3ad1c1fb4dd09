//! The commands that are a daemon, or stand in for one: `serve`, `validate`, `restore`.

use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::engine::{Engine, Home, World};
use super::{data_folder, doors, generation, lock, log};
use crate::api;
use crate::cli::args::{RestoreOptions, ServeOptions, ValidateOptions};
use crate::cli::output;
use crate::config::{Config, process_environment};
use crate::private;
use crate::runners::descriptors;
use crate::scripts;

/// What is ended at the end of the grace gets this long to be gone and written down.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// `petrel serve`.
pub fn serve_main(options: &ServeOptions) -> ExitCode {
    let config = match configuration(options) {
        Ok(config) => config,
        Err(problem) => return output::complain(&problem),
    };
    log::start(&config);
    descriptors::raise_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(scripts::STACK_BYTES)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(problem) => return output::complain(&anyhow::Error::new(problem).context("starting the run-time")),
    };
    match runtime.block_on(serve(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => output::complain(&problem),
    }
}

fn configuration(options: &ServeOptions) -> anyhow::Result<Config> {
    let default = Path::new("petrel.toml");
    let file = options.config.as_deref().or_else(|| default.is_file().then_some(default));
    let mut config = Config::load(file, &process_environment())?;
    if let Some(data_dir) = &options.data_dir {
        config.data_dir.clone_from(data_dir);
    }
    config.data_dir = std::path::absolute(&config.data_dir)?;
    config.listen = options.listen.unwrap_or(config.listen);
    config.packs.splice(0..0, options.packs.iter().cloned());
    if !options.roles.is_empty() {
        config.roles = options.roles.iter().copied().collect();
    }
    Ok(config)
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let folder = lock::take(&config.data_dir)?;
    for warning in &folder.warnings {
        tracing::warn!("{warning}");
    }
    let world = World::real();
    let home = Home { site: std::env::current_dir()?, program: std::env::current_exe()? };
    let engine = Engine::open(config, &home, world).await?;
    generation::count_start(&engine, &config.data_dir).await?;
    let first = {
        let World { clock, ids, .. } = &engine.world;
        api::first_start(&engine.store.identities(), &**ids, &**clock, &config.data_dir).await?
    };
    if let Some(key) = first {
        tracing::info!(key = %key.display(), "the first admin was made; its API key is in this file");
    }
    let bound = doors::bind(config, &engine)?;
    let endpoints = bound.endpoints.clone();
    let me = engine.myself(config, &endpoints.api);
    // Before anything is evaluated that may have killed the life before: it can be canceled.
    bound.open(config, &engine, &me);
    engine.start(config).await?;
    engine.join_others(&me);
    endpoints.write(&config.data_dir).context("writing endpoints.json")?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    tracing::info!(api = endpoints.api, listeners = ?endpoints.listeners, "petrel is ready");
    until_told_to_stop(&engine).await?;
    close(config, &engine).await
}

async fn until_told_to_stop(engine: &Engine) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        why = engine.world.supervisor.stop_requested() => anyhow::bail!("a part without which nothing works has ended: {why}"),
    }
    Ok(())
}

/// Intake ends with the doors; what runs gets the grace; what could not finish goes on at the next start (G11).
async fn close(config: &Config, engine: &Engine) -> anyhow::Result<()> {
    let grace = config.server.shutdown_grace;
    let mut stopping = pin!(engine.world.supervisor.shutdown(grace + LAST_MOMENT));
    let late = tokio::select! {
        late = &mut stopping => late,
        () = engine.world.clock.sleep_for(grace) => {
            engine.dispatcher.stop_all();
            stopping.await
        }
    };
    if late.is_empty() {
        tracing::info!("everything has stopped");
        // not beside a task that may still end an execution: it needs all its neighbours for that
        engine.dispatcher.take_leave();
    } else {
        tracing::warn!(late = late.join(", "), "stopped without waiting any longer");
    }
    match std::fs::remove_file(doors::endpoints_file(config)) {
        Err(problem) if problem.kind() != std::io::ErrorKind::NotFound => Err(problem.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// `petrel validate`.
pub fn validate_main(options: &ValidateOptions) -> ExitCode {
    crate::cli::validate::run(options, &super::runners::runner_parameters())
}

/// `petrel restore`: puts a backup in the place of the database of a daemon that does not run.
pub fn restore_main(options: &RestoreOptions) -> ExitCode {
    match restore(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => output::complain(&problem),
    }
}

fn restore(options: &RestoreOptions) -> anyhow::Result<()> {
    let folder = lock::take(&options.data_dir)?;
    folder.warnings.iter().for_each(|warning| output::say(warning));
    let database = options.data_dir.join("petrel.db");
    let draft = options.data_dir.join("petrel.db.restored");
    private::copy_file(&options.backup, &draft)
        .with_context(|| format!("copying {} to {}", options.backup.display(), draft.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = crate::store::Store::open_sqlite(&draft, None)
            .with_context(|| format!("{} is no backup of Petrel", options.backup.display()))?;
        store.contents().setting_put(generation::RESTORED, Some("yes")).await.context("marking the backup as restored")
    })?;
    for suffix in ["", "-wal", "-shm"] {
        let old = options.data_dir.join(format!("petrel.db{suffix}"));
        let kept = options.data_dir.join(format!("petrel.db.before-restore{suffix}"));
        if old.exists() {
            std::fs::rename(&old, &kept).with_context(|| format!("setting {} aside", old.display()))?;
        }
    }
    for suffix in ["", "-wal", "-shm"] {
        let new = options.data_dir.join(format!("petrel.db.restored{suffix}"));
        if new.exists() {
            std::fs::rename(&new, options.data_dir.join(format!("petrel.db{suffix}")))?;
        }
    }
    data_folder::forget_move(&options.data_dir)?;
    output::say(&format!(
        "restored {}; the old database is kept as petrel.db.before-restore. `petrel serve` starts frozen: look at \
         `petrel asg list`, then `petrel thaw`",
        database.display()
    ));
    Ok(())
}
