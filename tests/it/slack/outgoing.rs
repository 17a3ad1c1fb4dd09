//! What goes to Slack: in order, once, and whatever Slack says to it.

use std::time::Duration;

use super::*;
use crate::servers::slack::Fault;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_come_in_order_and_once_also_when_the_daemon_is_killed_with_one_on_its_way() {
    let workspace = Workspace::open().await;
    let site = workspace.site();
    let mut daemon = workspace.start(&site).await;
    announce(&daemon, "bot-testing", "one").await;
    workspace.until_said("one").await;
    workspace.slack.script([Fault::Hold]);
    announce(&daemon, "#bot-testing", "two").await;
    workspace.slack.until_held().await;
    announce(&daemon, "bot-testing", "three").await;
    daemon.kill9().await;
    assert_eq!(workspace.said().await, ["one", "two"], "two is there, and nobody has heard of it");
    daemon.restart().await;
    workspace.until_said("three").await;
    announce(&daemon, &workspace.channel, "not for a channel of the list").await;
    announce(&daemon, "bot-testing", "four").await;
    assert_eq!(workspace.until_said("four").await, ["one", "two", "three", "four"]);
    assert_eq!(workspace.slack.asked().len(), 4, "two was looked for and not said again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_kept_a_broken_answer_repeats_nothing_and_order_holds() {
    let workspace = Workspace::open().await;
    let site = workspace.site();
    let daemon = workspace.start(&site).await;
    workspace.slack.script([Fault::Limit(2), Fault::PostedAndBroken]);
    announce(&daemon, "bot-testing", "one").await;
    announce(&daemon, "bot-testing", "two").await;
    assert_eq!(workspace.until_said("two").await, ["one", "two"]);
    let asked = workspace.slack.asked();
    assert_eq!(asked.len(), 3, "limited, broken, two");
    assert!(asked[1].saturating_sub(asked[0]) >= Duration::from_secs(2), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_alerts_say_cannot_ring_for_a_channel_and_long_texts_come_in_parts() {
    let workspace = Workspace::open().await;
    let site = workspace.site();
    let daemon = workspace.start(&site).await;
    announce(&daemon, "bot-testing", "<!channel> disk <@U0ANN> 95% & more\u{7}").await;
    announce(&daemon, "bot-testing", &"a line of text\n".repeat(300)).await;
    announce(&daemon, "bot-testing", "the end").await;
    let said = workspace.until_said("the end").await;
    assert_eq!(said[0], "&lt;!channel&gt; disk &lt;@U0ANN&gt; 95% &amp; more");
    assert_eq!(said.len(), 4, "{said:?}");
    assert_eq!([&*said[1], &*said[2]].join("\n").lines().count(), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_is_told_once_with_the_way_out_and_holds_up_nothing_else() {
    let workspace = Workspace::open().await;
    let site = workspace.site();
    let daemon = workspace.start(&site).await;
    for number in 0..3 {
        announce(&daemon, "nowhere", &format!("into the void {number}")).await;
    }
    announce(&daemon, "bot-testing", "all the same").await;
    workspace.until_said("all the same").await;
    let count = |words: &str| daemon.log().matches(words).count();
    assert_eq!((count("channel_not_found"), count("/invite @")), (1, 1), "{}", daemon.log());

    site.write("configs/slack.yaml", &workspace.configuration_with("xoxb-mute"));
    eventually("the other token is used", async || (count("in Slack team=") == 2).then_some(())).await;
    announce(&daemon, "bot-testing", "with a mute token").await;
    eventually("the missing scope is told", async || (count("give the app the scope `chat:write`") == 1).then_some(()))
        .await;
    // Scaling and everything else goes on meanwhile.
    let id = daemon.run("core.noop", json!({})).await;
    assert_eq!(daemon.end_of(&id).await["status"], "succeeded");
    site.write("configs/slack.yaml", &workspace.configuration());
    assert_eq!(workspace.until_said("with a mute token").await, ["all the same", "with a mute token"]);
    assert_eq!(count("give the app the scope `chat:write`"), 1);

    site.write("configs/slack.yaml", &workspace.configuration_with("xoxb-blind"));
    eventually("the third token is used", async || (count("in Slack team=") == 4).then_some(())).await;
    announce(&daemon, "bot-testing", "blindly").await;
    workspace.until_said("blindly").await;
    assert_eq!((count("may be said twice"), count("give the app the scope `channels:history`")), (1, 1));
    assert!(!daemon.log().contains(BOT_TOKEN) && !daemon.log().contains("xoxb-mute"));
}
