//! Groups whose nodes are configured by SSH, through the whole daemon.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::scaling::copy_shipped;
use crate::servers::sshd::{Sshd, waits_for};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

/// A site whose nodes are configured at this server by this profile.
fn site(sshd: &Sshd, profile: &str) -> Site {
    let site = Site::new().file("configs/ssh.yaml", &format!("port: {}\nprofile: web\n", sshd.port()));
    let site = site.file("profiles/web.yaml", profile);
    copy_shipped(&site, "workflows");
    site
}

/// What everybody of the group needs to get in, sealed.
async fn keep_key(daemon: &Daemon<'_>, sshd: &Sshd) {
    let key = json!({ "name": "ssh_private_key", "value": sshd.private_key(), "secret": true });
    daemon.put("/v1/keys/ssh_private_key", &key).await;
}

async fn create(daemon: &Daemon<'_>) {
    let words =
        ["asg", "create", "web", "--provider", "local", "--configure", "ssh", "--min-nodes", "1", "--max-nodes", "3"];
    daemon.cli(&words).await;
}

/// Once nothing is under way in the group: its nodes.
async fn at_rest(daemon: &Daemon<'_>) -> Vec<Value> {
    let group = eventually("the group comes to rest", async || {
        let (status, group) = daemon.try_get("/v1/asg/web").await;
        (status.is_success() && group["activity"].is_null()).then_some(group)
    })
    .await;
    group["nodes"].as_array().unwrap().clone()
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a20_each_node_of_a_group_is_configured_once_before_it_serves() {
    let sshd = Sshd::start().await;
    let (log, nodes) = (sshd.file("log-of-steps"), sshd.file("nodes"));
    let profile = format!(
        "steps:\n\
         - {{name: folder, check: \"test -d '{nodes}'\", run: \"mkdir -p '{nodes}'\"}}\n\
         - name: mark\n  check: grep -qx \"$PETREL_NODE\" '{log}'\n  run: echo \"$PETREL_NODE\" >> '{log}'\n\
         - {{name: file, file: {{path: '{nodes}/page', content: hello}}}}\n",
        nodes = nodes.display(),
        log = log.display(),
    );
    let site = site(&sshd, &profile);
    let daemon = Daemon::start(&site).await;
    keep_key(&daemon, &sshd).await;
    create(&daemon).await;
    assert_eq!(at_rest(&daemon).await.len(), 1);
    let said = daemon.cli(&["asg", "expand", "web", "--by", "2", "--force"]).await;
    let ready = eventually("three nodes serve", async || {
        let nodes = at_rest(&daemon).await;
        (nodes.len() == 3 && nodes.iter().all(|node| node["phase"] == "in_service")).then_some(nodes)
    })
    .await;
    let mut names: Vec<String> = ready.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect();
    let mut marked = lines(&log);
    names.sort();
    marked.sort();
    assert_eq!(marked, names, "{said}");
    assert_eq!(fs::read_to_string(nodes.join("page")).unwrap(), "hello");
    // The key was sealed, and is shown nowhere.
    let shown = daemon.get("/v1/executions?action=ssh.configure_node").await.to_string();
    assert!(shown.contains("configure_node") && !shown.contains("PRIVATE KEY"), "{shown}");
    assert!(!daemon.log().contains("PRIVATE KEY"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_profile_fails_does_not_serve_until_it_is_mended() {
    let sshd = Sshd::start().await;
    let mended = sshd.file("mended");
    let site = site(&sshd, &format!("steps: [{{name: condition, check: \"test -e '{}'\"}}]", mended.display()));
    let daemon = Daemon::start(&site).await;
    keep_key(&daemon, &sshd).await;
    create(&daemon).await;
    eventually("the profile has failed once", async || {
        let found = daemon.get("/v1/executions?action=ssh.configure_node&status=failed").await;
        (!found.as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    let group = daemon.get("/v1/asg/web").await;
    assert_eq!(group["nodes"][0]["phase"], "configuring", "{group}");
    fs::write(mended, "").unwrap();
    let nodes = at_rest(&daemon).await;
    assert_eq!((nodes.len(), &nodes[0]["phase"]), (1, &json!("in_service")), "{nodes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_whose_daemon_is_killed_in_the_middle_is_gone_through_again_and_what_is_done_stays_done() {
    let sshd = Sshd::start().await;
    let (log, go) = (sshd.file("log-of-steps"), sshd.file("go"));
    let profile = format!(
        "steps:\n\
         - name: first\n  check: grep -qx first '{log}'\n  run: echo first >> '{log}'\n\
         - name: second\n  check: grep -qx second '{log}'\n  run: echo waiting; touch '{go}.seen'; {wait}; echo second >> '{log}'\n\
         - name: third\n  check: grep -qx third '{log}'\n  run: echo third >> '{log}'\n",
        log = log.display(),
        go = go.display(),
        wait = waits_for(&go),
    );
    let site = site(&sshd, &profile);
    let mut daemon = Daemon::start(&site).await;
    keep_key(&daemon, &sshd).await;
    let node = json!({ "group": "web", "name": "web-001", "address": "127.0.0.1" });
    let id = daemon.run("ssh.configure_node", node).await;
    let seen = sshd.file("go.seen");
    eventually("the second step waits", async || seen.exists().then_some(())).await;
    daemon.kill9().await;
    fs::write(&go, "").unwrap();
    eventually("what goes on there comes to its end", async || (lines(&log).len() == 2).then_some(())).await;
    daemon.restart().await;
    let ended = daemon.end_of(&id).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let statuses: Vec<&Value> =
        ended["result"]["steps"].as_array().unwrap().iter().map(|step| &step["status"]).collect();
    assert_eq!(statuses, ["ok", "ok", "changed"]);
    assert_eq!(lines(&log), ["first", "second", "third"]);
    let left = fs::read_dir(daemon.data_dir().join("guards")).unwrap();
    let names: Vec<_> = left.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    let keys = names.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let keys = keys.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|it| it == "private"));
    assert_eq!(keys.count(), 0);
}
