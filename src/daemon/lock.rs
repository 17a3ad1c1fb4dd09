//! One daemon per data folder: a lock that the system lets go of when its holder dies, however it dies.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

use crate::private;

/// A daemon that was killed a moment ago may have been about to start a child, which holds the lock until it is one.
const PREDECESSOR_GOES: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Held as long as the daemon lives.
#[derive(Debug)]
pub(super) struct DataDirLock {
    _file: File,
    /// What should be known about the folder: what was open to others, and what still is.
    pub(super) warnings: Vec<String>,
}

/// Makes the data folder if need be, sees to it that it and what lies in it are for their owner only, and takes it.
pub(super) fn take(data_dir: &Path) -> anyhow::Result<DataDirLock> {
    let folder = private::ensure_folder(data_dir).context("opening the data folder")?;
    let path = data_dir.join("daemon.lock");
    let file = private::options().create(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    match take_within(&file, PREDECESSOR_GOES) {
        Ok(()) => {
            let entries = private::repair_entries(data_dir).context("opening the data folder")?;
            let mut warnings: Vec<String> = folder.iter().chain(&entries).map(ToString::to_string).collect();
            warnings.extend(replaceable(data_dir)?);
            Ok(DataDirLock { _file: file, warnings })
        }
        Err(rustix::io::Errno::WOULDBLOCK) => anyhow::bail!(
            "another daemon works on {}; stop it, or choose another folder with --data-dir",
            data_dir.display()
        ),
        Err(problem) => Err(problem).with_context(|| format!("locking {}", path.display())),
    }
}

fn replaceable(data_dir: &Path) -> anyhow::Result<Option<String>> {
    let above = private::replaceable_by_others(data_dir).context("looking above the data folder")?;
    Ok(above.map(|above| {
        format!(
            "other users may write to {}, above the data folder, and so put another folder in its place: `chmod go-w {}`",
            above.display(),
            above.display()
        )
    }))
}

fn take_within(file: &File, limit: Duration) -> rustix::io::Result<()> {
    let looks = limit.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            // Nothing else runs yet; waking early only means to look early.
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::park_timeout(LOOK_EVERY),
            taken => return taken,
        }
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}
