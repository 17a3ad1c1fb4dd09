//! HAProxy under violence, and what the pack `haproxy` relies on.

use crate::servers::haproxy::Haproxy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_story_has_a_load_balancer_of_its_own_which_forgets_servers_when_it_is_killed() {
    let mut one = Haproxy::start(&[("web", "")]).await;
    let other = Haproxy::start(&[("web", "")]).await;
    let added = one.say("add server web/n1 127.0.0.1:1 check").await;
    assert_eq!(added.trim(), "New server registered.");
    assert!(!other.say("show servers state web").await.contains(" n1 "));
    assert!(one.say("show servers state web").await.contains(" n1 "));
    one.kill_9().await;
    one.start_again().await;
    assert!(!one.say("show servers state web").await.contains(" n1 "));
}
