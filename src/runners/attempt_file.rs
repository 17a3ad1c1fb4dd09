//! One file per execution on this host: the lock that its attempts take in turn, and what the last of them was.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::session::Session;
use super::shortage::Shortage;

/// Nobody can come later than it with a lower number.
pub(super) const FIRST_ATTEMPT: u64 = 1;

const LOCK: &str = "lock";
const SCRIPT: &str = "script";
const PRIVATE: &str = "private";
/// A record fills a block from its first write on: overwriting needs no space that a full disk might lack, and a write of
/// one page is seen whole or not at all, whoever is killed meanwhile.
const BLOCK_BYTES: usize = 4096;

/// What a guard leaves behind about its attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Which attempt of the execution it is: a later one may end an earlier one, never the other way round.
    #[serde(default)]
    pub(super) attempt: u64,
    /// Where the attempt's processes live; written before the first of them exists.
    pub(super) session: Session,
    /// Whether the child may run: written immediately before it is let go, so `false` proves that it never was. A version of
    /// Petrel that did not know the difference wrote its records when the child might run.
    #[serde(default = "yes")]
    pub(super) started: bool,
    /// How it ended; absent while it runs, and for ever if the guard was killed.
    pub(super) report: Option<Report>,
}

fn yes() -> bool {
    true
}

impl Record {
    /// An attempt for which no guard has come yet: guards of earlier attempts see that they are too late.
    pub(super) fn announced(attempt: u64) -> Self {
        Self { attempt, session: Session::nobodys(), started: false, report: None }
    }

    /// Did its child never run?
    pub(super) fn proves_nothing_began(&self) -> bool {
        let not_started = |end: &ChildEnd| matches!(end, ChildEnd::NotStarted(_) | ChildEnd::Lacks { .. });
        !self.started || self.report.as_ref().is_some_and(|report| not_started(&report.end))
    }
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
    /// It never ran for want of a resource.
    Lacks {
        shortage: Shortage,
        reason: String,
    },
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
    pub(super) fn read(&mut self) -> io::Result<Option<Record>> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&text)?))
    }

    /// What the attempt that holds the file is, as far as it has written it.
    pub(super) fn peek(path: &Path) -> io::Result<Option<Record>> {
        match fs::read(path) {
            // What is just being written may not be readable yet: it is read again by who waits.
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the content, in one write.
    pub(super) fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut text = serde_json::to_vec(record)?;
        text.resize(text.len().next_multiple_of(BLOCK_BYTES), b' ');
        let before = self.file.metadata()?.len();
        self.file.write_all_at(&text, 0)?;
        let size_bytes = text.len() as u64;
        if before > size_bytes { self.file.set_len(size_bytes) } else { Ok(()) }
    }

    /// Ends what is left of the last attempt. `Err` says how many processes survived.
    pub(super) fn settle(&mut self) -> io::Result<Result<(), usize>> {
        remove_private_files(&self.path)?;
        let survivors = match self.read()? {
            Some(record) => record.session.kill()?.len(),
            None => 0,
        };
        Ok(if survivors > 0 { Err(survivors) } else { Ok(()) })
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
        let is_over = |record: Record| match record.report {
            Some(report) => report.survivors == 0,
            None => !record.started,
        };
        if file.read()?.is_none_or(is_over) {
            file.remove()?;
        }
    }
    Ok(())
}

/// Was nothing of this attempt started, here and in this boot? Then no guard that is still on its way will start anything
/// either: it finds the next attempt announced.
pub(super) fn seal_unstarted(path: &Path, attempt: u64) -> io::Result<bool> {
    let mut file = match AttemptFile::try_take(path)? {
        Some(file) => file,
        None => match AttemptFile::peek(path)? {
            Some(holder) if !holder.started && holder.attempt <= attempt => AttemptFile::take(path)?,
            // It runs, or is about to.
            Some(_) | None => return Ok(false),
        },
    };
    let never_began = file.read()?.is_none_or(|last| last.attempt <= attempt && last.proves_nothing_began());
    if never_began {
        file.write(&Record::announced(attempt + 1))?;
    }
    Ok(never_began)
}

/// Removes the file of an attempt whose end is written down, unless a process of it survived. The file of a retry stays for a
/// while: a daemon that was stopped before it started the first attempt is told there that it is too late.
pub(super) fn forget_ended(path: &Path) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let Some(mut file) = AttemptFile::try_take(path)? else { return Ok(()) };
    let Some(Record { attempt, session, report, .. }) = file.read()? else { return file.remove() };
    let is_dead = match report {
        Some(report) => report.survivors == 0,
        None => session.members()?.is_empty(),
    };
    if is_dead && attempt == FIRST_ATTEMPT { file.remove() } else { Ok(()) }
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

    fn record(attempt: u64, started: bool, end: Option<ChildEnd>) -> Record {
        let report = end.map(|end| Report { end, cause: Cause::Itself, survivors: 0 });
        Record { attempt, session: Session::nobodys(), started, report }
    }

    #[test]
    fn only_what_provably_never_started_is_sealed() {
        let not_started = ChildEnd::NotStarted("no".to_owned());
        let cases = [
            (None, true),
            (Some(record(2, false, None)), true),
            (Some(record(1, false, None)), true),
            (Some(record(2, true, Some(not_started))), true),
            (Some(record(2, true, None)), false),
            (Some(record(1, true, None)), false),
            (Some(record(2, true, Some(ChildEnd::Exited(0)))), false),
            (Some(record(2, true, Some(ChildEnd::Unknown))), false),
            (Some(record(3, false, None)), false),
        ];
        for (left, never_began) in cases {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.lock");
            if let Some(left) = &left {
                AttemptFile::take(&path).unwrap().write(left).unwrap();
            }
            assert_eq!(seal_unstarted(&path, 2).unwrap(), never_began, "{left:?}");
            let after = AttemptFile::take(&path).unwrap().read().unwrap();
            assert_eq!(after, if never_began { Some(Record::announced(3)) } else { left });
        }
    }

    #[test]
    fn an_attempt_at_work_is_not_sealed_and_a_preparing_one_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let mut held = AttemptFile::take(&path).unwrap();
        held.write(&record(1, true, None)).unwrap();
        assert!(!seal_unstarted(&path, 1).unwrap());
        held.write(&record(1, false, None)).unwrap();
        let sealing = std::thread::scope(|scope| {
            let sealing = scope.spawn(|| seal_unstarted(&path, 1).unwrap());
            held.write(&record(1, true, None)).unwrap();
            drop(held);
            sealing.join().unwrap()
        });
        assert!(!sealing, "what was started while it was waited for is not sealed");
    }

    #[test]
    fn a_record_of_an_older_version_counts_as_started() {
        let text = r#"{"attempt":1,"session":{"leader":7,"started_ticks":7,"boot":"b"},"report":null}"#;
        assert!(!serde_json::from_str::<Record>(text).unwrap().proves_nothing_began());
    }
}
