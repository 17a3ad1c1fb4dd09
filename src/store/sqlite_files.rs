//! Whether the files of the embedded database are those that were opened, and sound.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rusqlite::{Connection, OpenFlags};

use super::error::{StoreError, StoreResult};
use super::sqlite::{explain, start_thread};

/// What an operator can do about damage.
pub(super) const REPAIR: &str = "stop Petrel and put a backup in its place with `petrel restore FILE`, or rescue what can be \
                                 read with `sqlite3 petrel.db .recover`";
/// A database up to this size is looked through before it is used, which takes a moment; a larger one beside the work.
const QUICKLY_CHECKED_BYTES: u64 = 32 << 20;
/// A database beyond this size is not looked through: its pages would push everything else out of the machine's memory.
const MOST_CHECKED_BYTES: u64 = 2 << 30;

/// The database and its log as they were opened. A file that was moved, deleted or replaced is still open, and takes
/// everything; after a restart nothing of that would be there.
#[derive(Debug)]
pub(super) struct Files {
    database: PathBuf,
    log: PathBuf,
    opened: FileId,
    /// The log is made by the first transaction, and stays until the last connection is closed.
    opened_log: OnceLock<FileId>,
    damage: Mutex<Option<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> std::io::Result<Self> {
        let found = std::fs::metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }
}

impl Files {
    pub(super) fn opened(path: &Path) -> StoreResult<Self> {
        let unseen = |e| StoreError::Unavailable(format!("looking at {}: {e}", path.display()));
        let opened = FileId::of(path).map_err(unseen)?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        Ok(Self {
            database: path.to_owned(),
            log: log.into(),
            opened,
            opened_log: OnceLock::new(),
            damage: Mutex::default(),
        })
    }

    /// Whether what is written now is found again.
    pub(super) fn check(&self) -> StoreResult<()> {
        self.check_damage()?;
        check_file(&self.database, self.opened)?;
        if let Some(opened) = self.opened_log.get() {
            return check_file(&self.log, *opened);
        }
        if let Ok(found) = FileId::of(&self.log) {
            self.opened_log.get_or_init(|| found);
        }
        Ok(())
    }

    /// To a database that is known to be damaged nothing is written any more: that could make it worse.
    pub(super) fn check_damage(&self) -> StoreResult<()> {
        let damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        damage.as_ref().map_or(Ok(()), |text| Err(StoreError::Unavailable(format!("the database is damaged: {text}"))))
    }

    /// Remembers damage; the first that is met says what to do.
    pub(super) fn note<T>(&self, result: &StoreResult<T>) {
        if let Err(StoreError::Corrupt(text)) = result {
            let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
            if damage.is_none() {
                tracing::error!(database = %self.database.display(), text, "the database is damaged");
                *damage = Some(text.clone());
            }
        }
    }
}

fn check_file(path: &Path, opened: FileId) -> StoreResult<()> {
    let why = match FileId::of(path) {
        Ok(found) if found == opened => return Ok(()),
        Ok(_) => "was replaced".to_owned(),
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => "was moved or deleted".to_owned(),
        Err(problem) => return Err(StoreError::Unavailable(format!("looking at {}: {problem}", path.display()))),
    };
    Err(StoreError::Unavailable(format!(
        "{} {why} while Petrel runs, and what is written now would be lost: put the same file back; or save what is known with \
         `petrel backup FILE`, stop Petrel, and `petrel restore FILE`",
        path.display()
    )))
}

/// Damage is better met at a start than in the middle of the night.
pub(super) fn look_for_damage(connection: &Connection, path: &Path, files: &Arc<Files>) -> StoreResult<()> {
    let bytes = std::fs::metadata(path).map_or(0, |found| found.len());
    if bytes <= QUICKLY_CHECKED_BYTES {
        return quick_check(connection);
    }
    if bytes > MOST_CHECKED_BYTES {
        return Ok(());
    }
    let (path, files) = (path.to_owned(), Arc::clone(files));
    start_thread("store-check", move || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&path, flags).map_err(|e| explain(&e));
        files.note(&opened.and_then(|connection| quick_check(&connection)));
    })
}

fn quick_check(connection: &Connection) -> StoreResult<()> {
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match found.map_err(|e| explain(&e))?.as_str() {
        "ok" => Ok(()),
        damage => Err(StoreError::Corrupt(format!("{damage}; {REPAIR}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_that_is_met_once_is_remembered_and_told_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("petrel.db");
        std::fs::write(&path, "").unwrap();
        let files = Files::opened(&path).unwrap();
        files.note(&Ok(()));
        files.note::<()>(&Err(StoreError::Unavailable("locked".to_owned())));
        assert_eq!(files.check(), Ok(()));
        files.note::<()>(&Err(explain(&rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(11), None))));
        let told = files.check().unwrap_err().to_string();
        assert!(told.contains("is damaged") && told.contains("petrel restore"), "{told}");
    }
}
