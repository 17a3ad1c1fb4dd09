//! Nothing outlives its owner.

use std::process::Command;
use std::time::Duration;

use petrel::clock::{Clock, SystemClock};

use crate::servers::guarded::Guarded;
use crate::support::{eventually, is_dead};

/// Two processes in sessions of their own, and one that waits for them.
fn family() -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "setsid sleep 1000 & setsid sh -c 'sleep 1000; true' & wait"]);
    command
}

async fn family_of(guarded: &Guarded) -> Vec<i32> {
    eventually("all are born", async || Some(guarded.members()).filter(|members| members.len() == 4)).await
}

#[tokio::test]
async fn a_server_ends_with_its_owner_and_leaves_nothing() {
    // Whom a shell starts in the background does not hear QUIT: the guard loses its patience.
    for signal in ["KILL", "TERM", "QUIT"] {
        let mut guarded = Guarded::new("a family", signal);
        guarded.start(family());
        let (members, folder) = (family_of(&guarded).await, guarded.folder().to_owned());
        assert!(folder.join("log").exists());
        drop(guarded);
        assert!(members.iter().all(|pid| is_dead(*pid)), "after {signal}");
        assert!(!folder.exists(), "after {signal}");
    }
}

#[tokio::test]
async fn a_server_that_stands_still_ends_with_its_owner() {
    let mut guarded = Guarded::new("a family", "TERM");
    guarded.start(family());
    let members = family_of(&guarded).await;
    guarded.pause().await;
    let (clock, folder) = (SystemClock::new(), guarded.folder().to_owned());
    drop(guarded);
    assert!(members.iter().all(|pid| is_dead(*pid)));
    assert!(!folder.exists());
    assert!(clock.monotonic() < Duration::from_secs(2), "it listened to the signal when it could");
}

#[tokio::test]
async fn kill_9_leaves_no_process_and_all_files() {
    let mut guarded = Guarded::new("a family", "KILL");
    guarded.start(family());
    let members = family_of(&guarded).await;
    guarded.kill_9().await;
    assert!(members.iter().all(|pid| is_dead(*pid)));
    assert!(guarded.folder().join("log").exists());
    guarded.start(family());
    family_of(&guarded).await;
}
