//! `petrel migrate-store`: moves the embedded store of a stopped daemon to PostgreSQL.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use super::{data_folder, lock};
use crate::cli::args::MigrateStoreOptions;
use crate::cli::output;
use crate::clock::SystemClock;
use crate::config::{Config, process_environment};
use crate::store::transfer::Moved;
use crate::store::{PostgresSettings, Store};

/// Moves, and says what was moved.
pub fn migrate_store_main(options: &MigrateStoreOptions) -> ExitCode {
    match migrate(options) {
        Ok(report) => {
            output::say(&report);
            ExitCode::SUCCESS
        }
        Err(problem) => output::complain(&problem),
    }
}

fn migrate(options: &MigrateStoreOptions) -> anyhow::Result<String> {
    let folder = lock::take(&options.data_dir)?;
    folder.warnings.iter().for_each(|warning| output::say(warning));
    let database = options.data_dir.join("petrel.db");
    anyhow::ensure!(database.is_file(), "there is no embedded store at {}", database.display());
    let settings = settings(options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let moved = runtime.block_on(async {
        let from = Store::open_sqlite(&database, None).with_context(|| format!("opening {}", database.display()))?;
        let to = Store::open_postgres(&settings, Arc::new(SystemClock::new())).await.context("opening the target")?;
        from.transfer_to(&to).await.context("moving the store")
    })?;
    let missing: Vec<String> = moved.iter().filter(|table| table.rows != table.arrived).map(line).collect();
    anyhow::ensure!(missing.is_empty(), "rows are missing at the target:\n{}", missing.join("\n"));
    data_folder::mark_as_moved(&options.data_dir, &settings.url)?;
    set_aside(&options.data_dir)?;
    let lines: Vec<String> = moved.iter().filter(|table| table.rows > 0).map(line).collect();
    Ok(format!(
        "{}\nthe old store is kept as {}.migrated. From now on start with store.url set to the new one, and with the same \
         datastore.key (secrets.key_file) at every daemon",
        lines.join("\n"),
        database.display()
    ))
}

fn line(table: &Moved) -> String {
    format!("{:<24} {:>9} rows, {:>9} arrived", table.table, table.rows, table.arrived)
}

fn settings(options: &MigrateStoreOptions) -> anyhow::Result<PostgresSettings> {
    let config = Config::load(options.config.as_deref(), &process_environment())?;
    let configured = config.store.url.map(|url| url.expose().to_owned());
    let url = options.to.clone().or(configured).context(
        "name the target with --to postgres://user:password@host/database, or with store.url (PETREL__STORE__URL)",
    )?;
    Ok(PostgresSettings { url, connections: 2, ca_file: config.store.ca_file })
}

/// A daemon that is started without the new URL must not go on with the old store.
fn set_aside(data_dir: &Path) -> anyhow::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let old = data_dir.join(format!("petrel.db{suffix}"));
        if old.exists() {
            let kept = data_dir.join(format!("petrel.db.migrated{suffix}"));
            std::fs::rename(&old, &kept).with_context(|| format!("setting {} aside", old.display()))?;
        }
    }
    Ok(())
}
