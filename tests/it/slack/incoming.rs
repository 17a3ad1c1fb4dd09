//! What comes from Slack: who is believed, what is a command, and that each is done once.

use serde_json::json;

use super::*;

const TAKEN: StatusCode = StatusCode::OK;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_done_once_however_often_slack_tells_of_it_and_its_end_is_told_in_the_channel() {
    let workspace = Workspace::open().await;
    let site = workspace.site();
    let mut daemon = workspace.start(&site).await;
    let text = "!asg create name=web domain=<http://example.org|example.org> provider=files channel=bot-testing";
    let message = workspace.slack.write(ANN, &workspace.channel, text).await;
    let body = event("Ev1", "message", &workspace.channel, &message);
    for number in 0..3 {
        let mut request = daemon.bare(Method::POST, EVENTS);
        if number > 0 {
            request = request.header("x-slack-retry-num", number.to_string());
            request = request.header("x-slack-retry-reason", "http_timeout");
        }
        let answer = send(signed(request, SIGNING_SECRET, 0, body.clone())).await;
        assert_eq!(answer, (TAKEN, String::new()));
    }
    let told = workspace.until_said("web-001 is in service").await;
    let of = |part: &str| told.iter().filter(|line| line.contains(part)).count();
    assert_eq!((of("on it"), of("create_group web-001"), of("ASG[web] is being set up")), (1, 1, 1), "{told:?}");
    assert!(told[0].starts_with(&format!("<@{}> on it ", workspace.ann)), "{told:?}");

    daemon.kill9().await;
    daemon.restart().await;
    assert_eq!(send(signed(daemon.bare(Method::POST, EVENTS), SIGNING_SECRET, 0, body)).await.0, TAKEN);
    workspace.write(&daemon, ANN, "!asg list", "Ev2").await;
    let after = workspace.until_said("web: 1/1 nodes").await;
    let of = |part: &str| after.iter().filter(|line| line.contains(part)).count();
    assert_eq!(of("web-001 is in service"), 1, "nothing is done or told again: {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_slack_has_signed_just_now_comes_in() {
    let workspace = Workspace::open().await;
    let site = workspace.site();
    let daemon = workspace.start(&site).await;
    let message = json!({ "user": workspace.ann, "text": "!asg list", "ts": "1.2" });
    let body = || event("Ev1", "message", &workspace.channel, &message);
    let door = |path: &str| daemon.bare(Method::POST, path);
    for path in [EVENTS, COMMANDS] {
        for (request, why) in [
            (signed(door(path), "another secret", 0, body()), "does not match"),
            (signed(door(path), SIGNING_SECRET, 301, body()), "signed 301 seconds away"),
            (signed(door(path), SIGNING_SECRET, -400, body()), "check both clocks"),
            (signed(door(path), SIGNING_SECRET, 0, body()).body("another body"), "does not match"),
            (door(path).body(body()), "`x-slack-request-timestamp` is missing"),
            (door(path).header("St2-Api-Key", daemon.key()).body(body()), "`x-slack-request-timestamp` is missing"),
        ] {
            let (status, said) = send(request).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{said}");
            assert!(said.contains(why) && !said.contains(SIGNING_SECRET), "{said}");
        }
    }
    let challenge = r#"{"type": "url_verification", "token": "x", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY"}"#;
    let refused = send(signed(door(EVENTS), "another secret", 0, challenge.to_owned())).await;
    assert_eq!(refused.0, StatusCode::UNAUTHORIZED, "{}", refused.1);
    let (status, said) = tell(&daemon, challenge.to_owned()).await;
    assert_eq!((status, said.as_str()), (TAKEN, r#"{"challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY"}"#));
    assert_eq!(daemon.count("/v1/executions").await, 0);
    assert!(!daemon.log().contains(SIGNING_SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_signing_secret_nobody_comes_in() {
    for configuration in ["", "users: {U0ANN: st2admin}\n", "signing_secret: ''\n"] {
        let site = Site::new().file("configs/slack.yaml", configuration);
        let daemon = Daemon::start(&site).await;
        for path in [EVENTS, COMMANDS] {
            let request = signed(daemon.bare(Method::POST, path), "", 0, "{}".to_owned());
            let (status, said) = send(request).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
            assert!(said.contains("put the app's signing secret into `signing_secret`"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slash_commands_and_mentions_are_the_same_commands_and_talk_is_none() {
    let workspace = Workspace::open().await;
    let site = workspace.site();
    let daemon = workspace.start(&site).await;
    let slash = |user: &str, text: &str, trigger: &str| {
        let channel = &workspace.channel;
        let form = [("command", "/asg"), ("text", text), ("user_id", user), ("channel_id", channel)];
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form).append_pair("trigger_id", trigger);
        body.append_pair("response_url", "https://hooks.slack.com/commands/T1/2/3");
        signed(daemon.bare(Method::POST, COMMANDS), SIGNING_SECRET, 0, body.finish())
    };
    assert_eq!(send(slash(&workspace.ann, "lits", "1.1")).await, (TAKEN, String::new()));
    let words = format!("<@{}> there is no such command; the nearest: `!asg list`", workspace.ann);
    let said = workspace.until_said("there is no such command").await;
    assert!(said.len() == 1 && said[0].starts_with(&words), "{said:?}");
    let (status, said) = send(slash("U0MALLORY", "list", "1.2")).await;
    assert!(status == TAKEN && said.contains("ephemeral") && said.contains("I do not know you"), "{said}");

    for (kind, text, id) in [
        ("message", "good morning", "Ev1"),
        ("message", "<@U0PETREL> hlep", "Ev2"),
        ("app_mention", "<@U0PETREL> hlep", "Ev3"),
    ] {
        let message = workspace.slack.write(ANN, &workspace.channel, text).await;
        assert_eq!(tell(&daemon, event(id, kind, &workspace.channel, &message)).await.0, TAKEN);
    }
    let own =
        workspace.slack.history(&workspace.channel).await.into_iter().find(|message| message["user"] == "U0PETREL");
    let mut own = own.unwrap();
    own["text"] = json!("!asg list");
    assert_eq!(tell(&daemon, event("Ev4", "message", &workspace.channel, &own)).await.0, TAKEN);
    assert_eq!(send(slash(&workspace.ann, "", "1.3")).await.0, TAKEN);
    let said = workspace.until_said("!asg list - ").await;
    assert_eq!(said.len(), 3, "the mention and help were answered: {said:?}");
    assert_eq!(daemon.count("/v1/executions?action=slack.command").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_told_so_once_and_do_nothing() {
    let workspace = Workspace::open().await;
    let site = workspace.site();
    let daemon = workspace.start(&site).await;
    let mallory = workspace.slack.member(MALLORY).await;
    for id in ["Ev1", "Ev2", "Ev3"] {
        assert_eq!(workspace.write(&daemon, MALLORY, "!asg delete name=web", id).await.0, TAKEN);
        daemon.until_idle().await;
    }
    workspace.write(&daemon, ANN, "!asg lits", "Ev4").await;
    let said = workspace.until_said("there is no such command").await;
    assert!(said[0].starts_with(&format!("<@{mallory}> I am sorry, I do not know you")), "{said:?}");
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(daemon.count("/v1/executions").await, 4, "nothing beside the four commands themselves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_done_and_answered_once_wherever_the_daemon_is_killed() {
    let workspace = Workspace::open().await;
    let site = workspace.site();
    let mut daemon = workspace.start(&site).await;
    for round in 1..=KILLS {
        let message = workspace.slack.write(ANN, &workspace.channel, "!asg list").await;
        let before = daemon.commits();
        let answer = tell(&daemon, event(&format!("Ev{round}"), "message", &workspace.channel, &message)).await;
        assert_eq!(answer.0, TAKEN);
        daemon.until_commits(before + round).await;
        daemon.kill9().await;
        daemon.restart().await;
        daemon.until_idle().await;
        eventually("every command is answered", async || (answers(&workspace).await >= round).then_some(())).await;
    }
    workspace.write(&daemon, ANN, "!asg lits", "Ev0").await;
    let said = workspace.until_said("there is no such command").await;
    assert_eq!(answers(&workspace).await, KILLS, "{said:?}");
    assert_eq!(daemon.count("/v1/executions?action=autoscale.list").await, KILLS);
    assert_eq!(said.len(), 2 * KILLS + 1, "each is acknowledged and answered: {said:?}");
}

/// So many commits lie between a command and its answer, or a few more.
const KILLS: usize = 7;

async fn answers(workspace: &Workspace) -> usize {
    workspace.said().await.iter().filter(|text| text.contains("no groups")).count()
}
