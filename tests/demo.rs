//! The demo is the shortest proof that everything works together: it runs as a newcomer runs it, and by itself, since it
//! is a story in real time.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a story: it starts what it needs")]

#[path = "it/support/processes.rs"]
mod processes;

use std::process::Command;

use processes::processes_with;

#[test]
fn the_demo_tells_its_story_finds_no_difference_and_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let demo = Command::new(env!("CARGO_BIN_EXE_petrel")).arg("demo").env("TMPDIR", place.path()).output().unwrap();
    let said = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{said}\n{}", String::from_utf8_lossy(&demo.stderr));
    assert!(said.contains("No difference"), "{said}");
    assert_eq!(said.matches("kill -9").count(), 4, "{said}");
    assert_eq!(processes_with(place.path()), [""; 0], "nothing runs on");
    assert_eq!(place.path().read_dir().unwrap().count(), 0, "nothing lies about");
}
