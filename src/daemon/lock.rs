//! One daemon per data folder: a lock that the system lets go of when its holder dies, however it dies.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

/// A daemon that was killed a moment ago may have been about to start a child, which holds the lock until it is one.
const PREDECESSOR_GOES: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Held as long as the daemon lives.
#[derive(Debug)]
pub(super) struct DataDirLock {
    _file: File,
}

/// Makes the data folder if need be, readable by its owner only, and takes it.
pub(super) fn take(data_dir: &Path) -> anyhow::Result<DataDirLock> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.with_context(|| format!("making the data folder {}", data_dir.display()))?;
    let path = data_dir.join("daemon.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    match take_within(&file, PREDECESSOR_GOES) {
        Ok(()) => Ok(DataDirLock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => anyhow::bail!(
            "another daemon works on {}; stop it, or choose another folder with --data-dir",
            data_dir.display()
        ),
        Err(problem) => Err(problem).with_context(|| format!("locking {}", path.display())),
    }
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
