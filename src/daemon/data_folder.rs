//! Whether a data folder and the store that is opened with it belong together. A store that is new beside a folder that is
//! not means that the old one was lost, moved, or is not the one that the configuration names: to begin a new installation
//! there would bury what is missing.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

use super::generation;
use crate::config::Config;
use crate::store::Store;

/// Says that the embedded store was moved to PostgreSQL, and where.
const MOVED: &str = "store-moved";
/// The embedded store as it was before it was moved.
const MOVED_DATABASE: &str = "petrel.db.migrated";
/// What only a daemon that was at work leaves behind.
const SIGNS_OF_USE: [&str; 3] = ["admin.key", "generation", "owner"];
/// May be put there before the first start, so it is a sign only beside a database.
const DATASTORE_KEY: &str = "datastore.key";

/// Before the embedded store is opened, which makes a new one if there is none.
pub(super) fn check_before_opening(config: &Config, database: &Path) -> anyhow::Result<()> {
    let folder = &config.data_dir;
    let found = fs::metadata(database).ok().filter(fs::Metadata::is_file);
    let moved = folder.join(MOVED);
    if moved.exists() || found.is_none() && folder.join(MOVED_DATABASE).exists() {
        let to = fs::read_to_string(&moved).unwrap_or_default();
        let to = to.lines().next().map_or_else(String::new, |to| format!(" ({to})"));
        anyhow::bail!(
            "the store of {} was moved to PostgreSQL{to}: set store.url (PETREL__STORE__URL). To go back to what was there \
             before it was moved, rename {MOVED_DATABASE} to petrel.db and delete {MOVED}",
            folder.display()
        );
    }
    let (state, signs) = match &found {
        Some(file) if file.len() > 0 => return Ok(()),
        Some(_) => ("is empty", [&SIGNS_OF_USE[..], &[DATASTORE_KEY]].concat()),
        None => ("is missing", SIGNS_OF_USE.to_vec()),
    };
    let signs = present(folder, &signs);
    anyhow::ensure!(
        signs.is_empty(),
        "the database {} {state}, but {} in its folder say that Petrel was at work here: put the database back, or a backup \
         with `petrel restore FILE`. To begin a new installation, move {} somewhere else and delete an empty petrel.db",
        database.display(),
        signs.join(", "),
        signs.join(", ")
    );
    Ok(())
}

/// Before anything is written to it: a store in which nobody was ever at work, beside a folder in which somebody was, is not
/// the store of this folder.
pub(super) async fn check_opened(store: &Store, folder: &Path) -> anyhow::Result<()> {
    let signs = present(folder, &["admin.key", "generation"]);
    if signs.is_empty() || generation::is_known(&store.contents()).await? || store.identities().user_count().await? > 0
    {
        return Ok(());
    }
    anyhow::bail!(
        "the store is empty, but {} in {} belong to an installation: look at store.url, or put the database back, or a backup \
         with `petrel restore FILE`; an embedded store is moved to PostgreSQL by `petrel migrate-store`. To begin a new \
         installation, move {} somewhere else",
        signs.join(", "),
        folder.display(),
        signs.join(", ")
    )
}

fn present<'a>(folder: &Path, names: &[&'a str]) -> Vec<&'a str> {
    names.iter().copied().filter(|name| folder.join(name).exists()).collect()
}

/// Leaves word that the embedded store is at `url` now.
pub(super) fn mark_as_moved(folder: &Path, url: &str) -> anyhow::Result<()> {
    let path = folder.join(MOVED);
    let mut file = fs::File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    let written = writeln!(file, "{}", without_credentials(url)).and_then(|()| file.sync_all());
    written.with_context(|| format!("writing {}", path.display()))
}

/// A database that is put back counts again.
pub(super) fn forget_move(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_file(folder.join(MOVED)) {
        Err(problem) if problem.kind() != std::io::ErrorKind::NotFound => {
            Err(problem).context("deleting the mark of the move")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Host and database; a URL in another form may hold a password anywhere.
fn without_credentials(url: &str) -> String {
    let place = url.split_once("://").map(|(_, rest)| rest.rsplit_once('@').map_or(rest, |(_, place)| place));
    let place = place.map(|place| place.split('?').next().unwrap_or_default());
    place.map_or_else(|| "PostgreSQL".to_owned(), |place| format!("PostgreSQL at {place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_store_is_shows_without_credentials() {
        let shown = |url| without_credentials(url);
        assert_eq!(
            shown("postgres://u:p%40ss@db.example:5432/petrel?x=secret"),
            "PostgreSQL at db.example:5432/petrel"
        );
        assert_eq!(shown("postgres://db/petrel"), "PostgreSQL at db/petrel");
        assert_eq!(shown("host=db password=secret"), "PostgreSQL");
    }
}
