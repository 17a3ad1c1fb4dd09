//! Groups on AWS through the whole daemon, by the workflows as they are shipped.

use serde_json::{Value, json};

use super::{config_file, instances, living, vpc};
use crate::scaling::copy_shipped;
use crate::servers::aws::{ministack, moto};
use crate::servers::faulty_aws::{Fault, FaultyAws};
use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::site::Site;

/// The group once nothing is under way in it; `Null` if it is no more.
async fn at_rest(daemon: &Daemon<'_>, group: &str) -> Value {
    eventually("the group comes to rest", async || {
        let (status, group) = daemon.try_get(&format!("/v1/asg/{group}")).await;
        if status.as_u16() == 404 {
            return Some(Value::Null);
        }
        group["activity"].is_null().then_some(group)
    })
    .await
}

async fn ask(daemon: &Daemon<'_>, group: &str, verb: &str) -> Value {
    let body = json!({ "by": 1, "force": true });
    let (status, answer) = daemon.post(&format!("/v1/asg/{group}/{verb}"), &body).await;
    assert!(status.is_success(), "{verb}: {status} {answer}");
    at_rest(daemon, group).await
}

fn addresses(group: &Value) -> Vec<&str> {
    let nodes = group["nodes"].as_array().unwrap();
    assert!(nodes.iter().all(|node| node["phase"] == "in_service"), "{group}");
    nodes.iter().map(|node| node["address"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a30_the_same_group_moves_from_processes_to_instances_by_one_word() {
    let moto = moto().await;
    let file = "groups:\n- name: moved\n  provider: local\n  node_parameters: {size: t3.small}\n  \
                config: {min_nodes: 1, max_nodes: 3}\n";
    let site = Site::new().file("configs/aws.yaml", &config_file(moto.url(), ""));
    let site = site.file("local.yaml", file).file("aws.yaml", &file.replace("provider: local", "provider: aws"));
    copy_shipped(&site, "workflows");
    let daemon = Daemon::start(&site).await;
    for (file, on_aws) in [("local.yaml", false), ("aws.yaml", true)] {
        let said = daemon.cli(&["asg", "apply", file]).await;
        let made = at_rest(&daemon, "moved").await;
        assert_eq!(addresses(&made).len(), 1, "{said}");
        assert_eq!(addresses(&made)[0] != "127.0.0.1", on_aws, "{made}");
        for (verb, wanted) in [("expand", 2), ("deflate", 1)] {
            let group = ask(&daemon, "moved", verb).await;
            assert_eq!(addresses(&group).len(), wanted, "{file} {verb}");
            assert_eq!(living(moto, "moved").await.len(), if on_aws { wanted } else { 0 }, "{file} {verb}");
        }
        let said = daemon.cli(&["asg", "delete", "moved"]).await;
        assert_eq!(at_rest(&daemon, "moved").await, Value::Null, "{said}");
    }
    assert_eq!(living(moto, "moved").await, Vec::<String>::new());
    assert_eq!(instances(moto, "moved").await.len(), 2, "and no more were made on the way");
    assert!(!daemon.log().contains(super::SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a18_a_daemon_killed_before_it_hears_that_its_node_was_made_finds_it_when_it_comes_back() {
    let (moto, ministack) = (moto().await, ministack().await);
    let faulty = FaultyAws::before(moto).await;
    let more = format!("route53_endpoint: {}\nvpc_id: {}\nport: 8080\n", ministack.url(), vpc(moto).await);
    let site = Site::new().file("configs/aws.yaml", &config_file(&faulty.url(), &more));
    copy_shipped(&site, "workflows");
    let mut daemon = Daemon::start(&site).await;
    faulty.script("RunInstances", [Fault::Hold]);
    let new = json!({
        "name": "killed", "provider": "aws", "load_balancer": "aws", "dns": "aws", "domain": "killed.test",
        "dns_parameters": { "create_hosted_zone": true }, "config": { "min_nodes": 1, "max_nodes": 2 },
    });
    let (status, answer) = daemon.post("/v1/asg", &new).await;
    assert!(status.is_success(), "{status} {answer}");
    eventually("the instance is made", async || (faulty.heard("RunInstances") == 1).then_some(())).await;
    daemon.kill9().await;
    daemon.restart().await;

    let group = at_rest(&daemon, "killed").await;
    let living_now = living(moto, "killed").await;
    assert_eq!((addresses(&group).len(), living_now.len()), (1, 1), "{group}");
    assert_eq!((instances(moto, "killed").await.len(), faulty.heard("RunInstances")), (1, 1), "it was asked for once");
    let result = async |action: &str, parameters: Value| {
        let id = daemon.run(action, parameters).await;
        let ended = daemon.end_of(&id).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
        ended["result"].clone()
    };
    let backends = result("aws.list_backends", json!({ "group": "killed" })).await;
    let names = result("aws.list_records", json!({ "domain": "killed.killed.test" })).await;
    assert_eq!(backends["backends"].as_array().unwrap().len(), 1, "{backends}");
    assert_eq!(
        (&backends["backends"][0]["name"], &backends["backends"][0]["state"]),
        (&json!("killed-001"), &json!("ready"))
    );
    assert_eq!(names["names"], json!(["killed-001.killed.killed.test"]), "{names}");
    assert_eq!(names["records"][0]["data"], addresses(&group)[0]);

    let said = daemon.cli(&["asg", "delete", "killed"]).await;
    assert_eq!(at_rest(&daemon, "killed").await, Value::Null, "{said}");
    assert_eq!(living(moto, "killed").await, Vec::<String>::new());
    let pools = "Action=DescribeTargetGroups&Version=2015-12-01";
    assert!(!moto.ask("elasticloadbalancing", pools).await.contains("petrel-killed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_for_which_there_is_no_capacity_says_so_in_the_words_of_aws() {
    let moto = moto().await;
    let faulty = FaultyAws::before(moto).await;
    let site = Site::new().file("configs/aws.yaml", &config_file(&faulty.url(), ""));
    copy_shipped(&site, "workflows");
    let daemon = Daemon::start(&site).await;
    faulty.script("RunInstances", vec![Fault::Refuse(500, "InsufficientInstanceCapacity"); 100]);
    let new = json!({ "name": "full", "provider": "aws", "config": { "min_nodes": 1, "max_nodes": 2 } });
    let (status, answer) = daemon.post("/v1/asg", &new).await;
    assert!(status.is_success(), "{status} {answer}");
    let group = at_rest(&daemon, "full").await;
    assert_eq!(group["in_service"], 0, "{group}");
    let history = daemon.cli(&["asg", "history", "full"]).await;
    assert!(history.contains("failed"), "{history}");
    let added = daemon.get("/v1/executions?action=default.asg_add_node").await;
    let id = added[0]["id"].as_str().unwrap();
    let why = daemon.execution(id).await["result"].to_string();
    assert!(why.contains("EC2 refused RunInstances: InsufficientInstanceCapacity"), "{why}");
    assert_eq!((faulty.heard("RunInstances"), instances(moto, "full").await.len()), (0, 0));
}
