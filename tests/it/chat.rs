//! Commands in chat: the showcase's six as they are written there, who may, what is asked back, and what is answered.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::scaling;
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

/// Says a line in the terminal; gives back everything that was answered.
async fn say(daemon: &Daemon<'_>, line: &str) -> String {
    daemon.cli(&["chat", line]).await
}

async fn at_rest(daemon: &Daemon<'_>) -> u64 {
    eventually("nothing is under way in the group", async || {
        let (status, group) = daemon.try_get("/v1/asg/web").await;
        let rests = status == StatusCode::NOT_FOUND || group["activity"].is_null();
        rests.then(|| group["in_service"].as_u64().unwrap_or_default())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_18_the_six_commands_work_as_they_are_written_and_what_destroys_is_asked_back() {
    let site = scaling::site("none");
    let daemon = Daemon::start(&site).await;
    let empty = say(&daemon, "!asg list").await;
    assert!(empty.contains("no groups yet"), "{empty}");
    let created = say(&daemon, "!asg create name=web domain=example.org provider=files load_balancer=files").await;
    assert!(created.contains("on it (") && created.contains("create_group web-001"), "{created}");
    assert_eq!(at_rest(&daemon).await, 1);
    let added = say(&daemon, "!asg node add asg=web").await;
    assert!(added.contains("add_node web-002"), "{added}");
    assert_eq!(at_rest(&daemon).await, 2);
    let expanded = say(&daemon, "!asg expand asg=web by=2 force=true").await;
    assert!(expanded.contains("expand web-003, web-004"), "{expanded}");
    assert_eq!(at_rest(&daemon).await, 4);
    let listed = say(&daemon, "!asg list").await;
    assert!(listed.contains("web: 4/4 nodes of 1..20, auto"), "{listed}");
    let deflated = say(&daemon, "!asg deflate asg=web force=true").await;
    assert!(deflated.contains("deflate web-001"), "{deflated}");
    assert_eq!(at_rest(&daemon).await, 3);
    let explained = say(&daemon, "!asg explain web").await;
    assert!(explained.contains("deflating: 4 nodes in service"), "{explained}");
    let asked = say(&daemon, "!asg node delete name=web-002 asg=web").await;
    assert!(
        asked.contains("If it is meant, say within 120 s: !asg node delete name=web-002 asg=web confirm="),
        "{asked}"
    );
    assert_eq!(at_rest(&daemon).await, 3, "nothing happens before it is meant");
    say(&daemon, &confirmed(&asked)).await;
    assert_eq!(at_rest(&daemon).await, 2);
    let asked = say(&daemon, "!asg delete name=web").await;
    say(&daemon, &confirmed(&asked)).await;
    at_rest(&daemon).await;
    assert_eq!(daemon.try_get("/v1/asg/web").await.0, StatusCode::NOT_FOUND);
    let help = say(&daemon, "!help").await;
    assert!(help.contains("!asg create name= domain= - sets a group up"), "{help}");
}

/// The line that was offered, with its code.
fn confirmed(asked: &str) -> String {
    let (_, line) = asked.split_once("say within 120 s: ").expect("it asks back");
    line.trim().to_owned()
}

/// An alias that only ann may use, and one for everybody.
fn restricted() -> Site {
    let alias = |name: &str, rest: &str| {
        format!("name: {name}\naction_ref: core.local\nformats: ['{name} {{{{cmd}}}}']\n{rest}")
    };
    Site::new()
        .file("packs/t/pack.yaml", "name: t\nref: t\nversion: 1.0.0\n")
        .file("packs/t/aliases/anns.yaml", &alias("anns", "users: [ann]\n"))
        .file("packs/t/aliases/all.yaml", &alias("all", "result: {format: '{{ execution.result.stdout }} it is'}\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_speak_for_people_and_each_command_knows_whom_it_serves() {
    let site = restricted();
    let site = {
        let packs = site.path().join("packs").display().to_string();
        site.setting("packs", &packs)
    };
    let daemon = Daemon::start(&site).await;
    let speak = async |user: &str, command: &str| {
        let said = json!({ "command": command, "user": user, "source_channel": "ops", "notification_route": "hubot" });
        daemon.post("/v1/aliasexecution/match_and_execute", &said).await
    };
    let (status, refused) = speak("bob", "anns echo hi").await;
    assert_eq!((status, &refused["faultstring"]), (StatusCode::FORBIDDEN, &json!("only ann may do this")));
    let (status, begun) = speak("ann", "!anns echo hi").await;
    assert_eq!(status, StatusCode::CREATED, "{begun}");
    let execution = &begun["results"][0]["execution"];
    assert_eq!((&execution["context"]["api_user"], &execution["context"]["user"]), (&json!("ann"), &json!("ann")));
    let (status, lost) = speak("ann", "!anss echo").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(lost["faultstring"].as_str().unwrap().contains("the nearest: `!anns {{cmd}}`"), "{lost}");
    let understood = json!({ "name": "all", "format": "all {{cmd}}", "command": "all echo noon", "user": "ann",
        "source_channel": "ops", "notification_route": "hubot" });
    let (status, begun) = daemon.post("/v1/aliasexecution", &understood).await;
    assert_eq!(status, StatusCode::CREATED, "{begun}");
    let id = begun["execution"]["id"].as_str().unwrap();
    let stream =
        daemon.bare(Method::GET, "/v1/stream?events=st2.announcement__chatops").header("St2-Api-Key", daemon.key());
    let mut stream = stream.header("Last-Event-ID", "0").send().await.unwrap();
    let mut heard = String::new();
    while !heard.contains("noon it is") {
        heard.push_str(&String::from_utf8_lossy(&stream.chunk().await.unwrap().expect("the stream goes on")));
    }
    assert!(heard.contains(id) && heard.contains("\"channel\":\"ops\""), "{heard}");
    let (status, found) = daemon.post("/v1/actionalias/match", &json!({ "command": "all echo x" })).await;
    assert_eq!((status, &found["actionalias"]["ref"]), (StatusCode::OK, &json!("t.all")));
    assert_eq!(daemon.get("/v1/actionalias/help?pack=t").await["available"], 2);
}
