//! One file per execution on this host: the lock that its attempts take in turn, and what the last of them was.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::session::Session;

const LOCK: &str = "lock";
const SCRIPT: &str = "script";
const PRIVATE: &str = "private";

/// What a guard leaves behind about its attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Which attempt of the execution it is: a later one may end an earlier one, never the other way round.
    #[serde(default)]
    pub(super) attempt: u64,
    /// Where the attempt's processes live; written before the first of them exists.
    pub(super) session: Session,
    /// How it ended; absent while it runs, and for ever if the guard was killed.
    pub(super) report: Option<Report>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) end: ChildEnd,
    pub(super) cause: Cause,
    /// Processes that could not be ended.
    pub(super) survivors: usize,
}

/// How the child ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChildEnd {
    Exited(i32),
    Signaled(i32),
    /// It never ran, for this reason.
    NotStarted(String),
    /// It survived.
    Unknown,
}

/// Who ended the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cause {
    Itself,
    TimeUp,
    Stopped,
    DaemonGone,
}

/// An attempt file that nobody else holds.
#[derive(Debug)]
pub(super) struct AttemptFile {
    path: PathBuf,
    file: File,
}

impl AttemptFile {
    /// Takes the file, made if need be; `None` if an attempt holds it.
    pub(super) fn try_take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if is_still_at(&file, path)? {
                return Ok(Some(Self { path: path.to_owned(), file }));
            }
        }
    }

    /// Takes the file, made if need be; waits for the attempt that holds it.
    pub(super) fn take(path: &Path) -> io::Result<Self> {
        loop {
            let file = open(path)?;
            file.lock()?;
            if is_still_at(&file, path)? {
                return Ok(Self { path: path.to_owned(), file });
            }
        }
    }

    /// What the last attempt left. `None`: it had not come so far as to start anything.
    ///
    /// Empty also if a guard was killed between emptying the file and writing it; it does that only before it starts
    /// its child and after everything has ended, so then too nothing is alive.
    pub(super) fn read(&mut self) -> io::Result<Option<Record>> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        if text.is_empty() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&text)?))
    }

    /// What the attempt that holds the file is, as far as it has written it.
    pub(super) fn peek(path: &Path) -> io::Result<Option<Record>> {
        match fs::read(path) {
            // A guard empties the file before it writes: what cannot be read yet is read again by who waits.
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the content.
    pub(super) fn write(&mut self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec(record)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&text)
    }

    /// Ends what is left of the last attempt and forgets it. `Err` says how many processes survived.
    pub(super) fn settle(&mut self) -> io::Result<Result<(), usize>> {
        remove_private_files(&self.path)?;
        let survivors = match self.read()? {
            Some(record) => record.session.kill()?.len(),
            None => 0,
        };
        if survivors > 0 {
            return Ok(Err(survivors));
        }
        self.file.set_len(0)?;
        Ok(Ok(()))
    }

    /// Takes the file away; whoever waits for it will make a new one.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Removes the files in `dir` of attempts that ended longer than `kept` ago.
pub(super) fn forget_old(dir: &Path, kept: Duration) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            forget_old(&path, kept)?;
            // Only an empty one goes, and one in which somebody works is young or has a file.
            if is_older(&path, kept) {
                drop(fs::remove_dir(&path));
            }
            continue;
        }
        if !is_attempt_file(&path) || !is_older(&path, kept) {
            continue;
        }
        let Some(mut file) = AttemptFile::try_take(&path)? else { continue };
        let report = file.read()?.and_then(|record| record.report);
        if report.is_some_and(|report| report.survivors == 0) {
            file.remove()?;
        }
    }
    Ok(())
}

/// The attempt files in a folder that may not be there.
pub(super) fn attempt_files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| is_attempt_file(path)).collect())
}

/// Removes the private files below `dir` that belong to nobody who lives.
pub(super) fn clear_private_files(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension {
            None if path.is_dir() => clear_private_files(&path)?,
            Some(SCRIPT | PRIVATE) => {
                let Some(mut held) = AttemptFile::try_take(&path.with_extension(LOCK))? else { continue };
                remove_if_there(&path)?;
                if held.read()?.is_none() {
                    held.remove()?;
                }
            }
            None | Some(_) => {}
        }
    }
    Ok(())
}

/// Removes the scripts in a folder of their own whose attempts, with their files in `dir`, are over.
pub(super) fn clear_scripts(scripts: &Path, dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(scripts)? {
        let path = entry?.path();
        let Some(name) = path.file_stem() else { continue };
        let Some(mut held) = AttemptFile::try_take(&dir.join(name).with_extension(LOCK))? else { continue };
        remove_if_there(&path)?;
        if held.read()?.is_none() {
            held.remove()?;
        }
    }
    Ok(())
}

/// Removes what belongs to an attempt file and nobody else may read.
pub(super) fn remove_private_files(attempt_file: &Path) -> io::Result<()> {
    remove_if_there(&script_path(attempt_file))?;
    remove_if_there(&private_path(attempt_file))
}

/// The private script that belongs to an attempt file.
pub(super) fn script_path(attempt_file: &Path) -> PathBuf {
    attempt_file.with_extension(SCRIPT)
}

/// The private file that belongs to an attempt file and is no script.
pub(super) fn private_path(attempt_file: &Path) -> PathBuf {
    attempt_file.with_extension(PRIVATE)
}

fn is_attempt_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == LOCK)
}

fn is_older(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|since| since > age))
}

/// Removes a file that may be gone already.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a folder with all that is in it, if it is there.
pub(super) fn remove_folder_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Was the file that we have locked meanwhile removed, or replaced by another one's?
fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.ino() == file.metadata()?.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_by_one_attempt_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let held = AttemptFile::take(&path).unwrap();
        assert!(AttemptFile::try_take(&path).unwrap().is_none());
        drop(held);
        assert!(AttemptFile::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn an_attempt_that_started_nothing_is_settled_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = AttemptFile::take(&dir.path().join("x.lock")).unwrap();
        assert_eq!(file.read().unwrap(), None);
        assert_eq!(file.settle().unwrap(), Ok(()));
    }
}
