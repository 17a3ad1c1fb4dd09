//! Chat over a real IRC server: commands in a room, answers and notices in order, and who is not known.

use serde_json::json;

use crate::scaling;
use crate::servers::ngircd::{Ngircd, PASSWORD, Person};
use crate::support::daemon::Daemon;
use crate::support::site::Site;

const ROOM: &str = "#bot-testing";

fn site(server: &Ngircd) -> Site {
    let configuration = format!(
        "server: {}\npassword: {PASSWORD}\nnick: petrel\nchannels: ['{ROOM}']\nusers: {{ann: st2admin}}\n",
        server.address()
    );
    scaling::site("none").file("configs/irc.yaml", &configuration)
}

/// The bot is in the room when it is seen to come, or is there already.
pub(crate) async fn until_there(person: &mut Person) {
    person.send(&format!("NAMES {ROOM}")).await;
    let names = person.hear(" 353 ").await;
    let (_, names) = names.rsplit_once(':').expect("a list");
    person.hear(" 366 ").await;
    if !names.split(' ').any(|name| name.trim_start_matches('@') == "petrel") {
        person.hear(" JOIN :").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a14_each_step_is_told_in_the_room_once_and_in_order_also_across_kill_9() {
    let server = Ngircd::start().await;
    let site = site(&server);
    let mut daemon = Daemon::start(&site).await;
    let mut ann = Person::join(&server, "ann", ROOM).await;
    until_there(&mut ann).await;
    ann.say(ROOM, "!asg create name=web domain=example.org provider=files channel=bot-testing").await;
    assert!(ann.hear("PRIVMSG").await.contains("ann: on it ("));
    let mut told = Vec::new();
    while !told.iter().any(|line: &String| line.contains("web-001 is in service")) {
        told.push(ann.hear("PRIVMSG").await);
    }
    let place = |step: &str| told.iter().position(|line| line.contains(step)).unwrap();
    assert!(place("ASG[web] is being set up") < place("web-001 is in service"), "{told:?}");
    let of = |part: &str| told.iter().filter(|line| line.contains(part)).count();
    assert_eq!((of("ann: create_group web-001"), of("ASG[web] is being set up")), (1, 1), "{told:?}");

    daemon.kill9().await;
    daemon.restart().await;
    until_there(&mut ann).await;
    ann.say(ROOM, "!asg list").await;
    let mut after = Vec::new();
    while !after.iter().any(|line: &String| line.contains("web: 1/1 nodes")) {
        after.push(ann.hear("PRIVMSG").await);
    }
    assert!(after.iter().all(|line| !line.contains("is in service")), "nothing is told again: {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_mistakes_are_answered_and_the_bot_comes_back_to_a_server_that_was_killed() {
    let mut server = Ngircd::start().await;
    let site = site(&server);
    let daemon = Daemon::start(&site).await;
    let mut mallory = Person::join(&server, "mallory", ROOM).await;
    until_there(&mut mallory).await;
    mallory.say(ROOM, "!asg delete name=web").await;
    assert!(mallory.hear("PRIVMSG").await.contains("mallory: I do not know you"));
    assert_eq!(daemon.count("/v1/executions").await, 0);
    mallory.say("petrel", "!help").await;
    assert!(mallory.hear("PRIVMSG mallory").await.contains("!asg"));
    drop(mallory);
    server.kill_9().await;
    server.start_again().await;
    let mut ann = Person::join(&server, "ann", ROOM).await;
    until_there(&mut ann).await;
    ann.say(ROOM, "!asg lits").await;
    let lost = ann.hear("PRIVMSG").await;
    assert!(lost.contains("ann: there is no such command; the nearest: `!asg list`"), "{lost}");
    daemon.run("chatops.post_message", json!({ "channel": "bot-testing", "message": "two\nlines" })).await;
    assert!(ann.hear("PRIVMSG").await.ends_with(":two"));
    assert!(ann.hear("PRIVMSG").await.ends_with(":lines"));
    assert!(!daemon.log().contains(PASSWORD));
}
