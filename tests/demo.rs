//! The demo is the shortest proof that everything works together: it runs as a newcomer runs it, and by itself, since it
//! is a story in real time.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "stories: they start what they need, and nobody imports them"
)]

#[path = "it/servers/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the other stories, which use the rest")]
mod servers;
#[path = "it/support/mod.rs"]
#[expect(dead_code, reason = "shared with the other stories, which use the rest")]
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use servers::{Postgres, RabbitMq};
use support::processes::processes_with;

/// Stories in real time are told one at a time.
static STAGE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn demo(place: &Path, arguments: &[&str]) -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_petrel"));
    demo.arg("demo").args(arguments).env("TMPDIR", place);
    demo
}

#[test]
fn the_demo_tells_its_story_finds_no_difference_and_leaves_nothing_behind() {
    let _stage = STAGE.blocking_lock();
    let place = tempfile::tempdir().unwrap();
    let demo = demo(place.path(), &[]).output().unwrap();
    let said = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{said}\n{}", String::from_utf8_lossy(&demo.stderr));
    assert_no_difference(&said, place.path());
}

fn assert_no_difference(said: &str, place: &Path) {
    assert!(said.contains("No difference"), "{said}");
    assert_eq!(said.matches("kill -9").count(), 4, "{said}");
    assert_eq!(processes_with(place), [""; 0], "nothing runs on");
    assert_eq!(place.read_dir().unwrap().count(), 0, "nothing lies about");
}

/// The showcase with real servers around the daemon, from the command that makes the group to the one that deletes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_the_whole_showcase_loses_no_request_and_leaves_nothing_behind() {
    for need in servers::packages::DEMO {
        need.programs().await;
    }
    let _stage = STAGE.lock().await;
    let (place, pictures) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = demo(place.path(), &["--full", "--steady", "20s", "--pictures"]);
    command.arg(pictures.path());
    let demo = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{said}\n{}", String::from_utf8_lossy(&demo.stderr));
    assert!(said.contains("No difference"), "{said}");
    for kill in ["mid-expand", "mid-drain"] {
        assert!(said.lines().any(|line| line.contains("kill -9") && line.contains(kill)), "{said}");
    }
    assert_eq!(processes_with(place.path()), [""; 0], "nothing runs on");
    assert_eq!(place.path().read_dir().unwrap().count(), 0, "nothing lies about");
    let svg = std::fs::read_to_string(pictures.path().join("petrel-demo.svg")).unwrap();
    assert!(svg.contains("nodes for a load of"), "as many as the load needs at once: {said}");
    let png = std::fs::read(pictures.path().join("petrel-demo.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"), "a picture");
}

/// Three daemons, killed when it hurts most, the database killed in the middle of an expansion, the broker in that of a
/// rollback.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_of_three_daemons_ends_with_the_same_nodes_also_when_database_and_broker_are_killed() {
    let _stage = STAGE.lock().await;
    let place = tempfile::tempdir().unwrap();
    let (mut database, mut broker) = tokio::join!(Postgres::start(), RabbitMq::start());
    let (store, bus) = (database.fresh_database().await, broker.url());
    let arguments = ["--cluster", "--store", &store, "--bus", &bus];
    let mut child = demo(place.path(), &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (told, said) = channel();
    let reader = listen(&mut child, told);
    let said = until_told(said, "fault").await;
    database.kill_9().await;
    database.start_again().await;
    drop(until_told(said, "mid-rollback").await);
    broker.kill_9().await;
    broker.start_again().await;
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let said = reader.join().unwrap();
    assert!(ended.status.success(), "{said}\n{}", String::from_utf8_lossy(&ended.stderr));
    assert_no_difference(&said, place.path());
}

/// Collects what the demo says, and passes each line on.
fn listen(child: &mut Child, told: Sender<String>) -> std::thread::JoinHandle<String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    std::thread::spawn(move || {
        let mut said = String::new();
        for line in lines.map_while(Result::ok) {
            said.push_str(&line);
            said.push('\n');
            // Nobody listens any more once the moment has come.
            drop(told.send(line));
        }
        said
    })
}

/// Returns when the demo has come to this.
async fn until_told(said: Receiver<String>, what: &'static str) -> Receiver<String> {
    let listening = tokio::task::spawn_blocking(move || {
        let told = said.iter().any(|line| line.contains(what));
        assert!(told, "the demo ended before it came to `{what}`");
        said
    });
    listening.await.unwrap()
}
