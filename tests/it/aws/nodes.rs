//! Nodes as instances: made, waited for, listed, deleted, each as often as somebody asks.

use serde_json::json;

use super::{Desk, IMAGE, instances, living, node, wish};
use crate::servers::aws::moto;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_one_instance_with_our_tags_until_it_is_deleted() {
    let moto = moto().await;
    let desk = Desk::at(moto.url());
    let made = desk.create("plain", "plain-001").await;
    let ready = desk.succeed("wait_ready", node("plain", "plain-001")).await;
    assert_eq!((&ready["instance_id"], &ready["state"]), (&made["instance_id"], &json!("running")), "{ready}");
    let address = ready["address"].as_str().unwrap();
    assert!(address.starts_with("10.") || address.starts_with("172."), "a private address: {address}");
    let listed = desk.succeed("list_nodes", json!({ "group": "plain" })).await;
    let row = &listed["nodes"][0];
    assert_eq!(
        (&row["name"], &row["tag"], &row["alive"], &row["size"], &row["address"]),
        (&json!("plain-001"), &json!("plain-001.tag"), &json!(true), &json!("t3.micro"), &ready["address"])
    );

    let again = desk.create("plain", "plain-001").await;
    assert_eq!(again["instance_id"], made["instance_id"], "the same wish is the same node");
    assert_eq!(living(moto, "plain").await, [made["instance_id"].as_str().unwrap()]);

    for deleted in [true, false, false] {
        let gone = desk.succeed("delete_node", node("plain", "plain-001")).await;
        assert_eq!(gone["deleted"], deleted);
    }
    assert_eq!(living(moto, "plain").await, Vec::<String>::new());
    let listed = desk.succeed("list_nodes", json!({ "group": "plain" })).await;
    assert_eq!(listed["nodes"][0]["alive"], false, "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nobody_knows_is_deleted_with_success_and_not_waited_for_forever() {
    let desk = Desk::at(moto().await.url());
    let gone = desk.succeed("delete_node", node("nobody", "nobody-001")).await;
    assert_eq!(gone["deleted"], false);
    let mut wait = node("nobody", "nobody-001");
    wait["within"] = json!("300ms");
    let refusal = desk.fail("wait_ready", wait).await;
    assert!(refusal.contains("EC2 knows no instance of nobody-001"), "{refusal}");
    desk.create("nobody", "nobody-002").await;
    desk.succeed("delete_node", node("nobody", "nobody-002")).await;
    let refusal = desk.fail("wait_ready", node("nobody", "nobody-002")).await;
    assert!(refusal.contains("waiting for nobody-002: it died") && refusal.contains("terminated"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_instance_died_gets_another_one_for_the_same_wish() {
    let moto = moto().await;
    let desk = Desk::at(moto.url());
    let first = desk.create("revived", "revived-001").await;
    let id = first["instance_id"].as_str().unwrap();
    moto.ask("ec2", &format!("Action=TerminateInstances&Version=2016-11-15&InstanceId.1={id}")).await;
    let second = desk.create("revived", "revived-001").await;
    assert_ne!(second["instance_id"], first["instance_id"]);
    assert_eq!(living(moto, "revived").await, [second["instance_id"].as_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_nodes_than_a_page_has_are_all_listed() {
    let moto = moto().await;
    let form = format!(
        "Action=RunInstances&Version=2016-11-15&ImageId={IMAGE}&MinCount=120&MaxCount=120&\
         TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=petrel:group&\
         TagSpecification.1.Tag.1.Value=many&TagSpecification.1.Tag.2.Key=petrel:node&TagSpecification.1.Tag.2.Value=many-1"
    );
    moto.ask("ec2", &form).await;
    let listed = Desk::at(moto.url()).succeed("list_nodes", json!({ "group": "many" })).await;
    assert_eq!(listed["nodes"].as_array().unwrap().len(), 120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_group_says_of_its_nodes_comes_before_the_configuration() {
    let moto = moto().await;
    let desk = Desk::at(moto.url());
    let mut wanted = wish("sized", "sized-001");
    wanted.as_object_mut().unwrap().extend(
        json!({
            "size": "t3.large", "availability_zones": ["us-east-1a", "us-east-1b"], "address_type": "public", "port": 8080,
            "tags": { "team": "shop" }, "user_data": "#!/bin/sh\necho hello\n",
        })
        .as_object()
        .unwrap()
        .clone(),
    );
    let made = desk.succeed("create_node", wanted).await;
    assert_eq!((&made["size"], &made["zone"]), (&json!("t3.large"), &json!("us-east-1b")), "{made}");
    let ready = desk.succeed("wait_ready", node("sized", "sized-001")).await;
    let address = ready["address"].as_str().unwrap();
    assert!(!address.starts_with("10.") && !address.starts_with("172."), "a public address: {address}");
    assert_eq!(ready["port"], 8080);
    let form = "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag:team&Filter.1.Value.1=shop";
    assert!(moto.ask("ec2", form).await.contains(made["instance_id"].as_str().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_installations_with_the_same_group_do_not_see_each_others_nodes() {
    let moto = moto().await;
    let (east, west) =
        (Desk::with(moto.url(), json!({ "owner": "east" })), Desk::with(moto.url(), json!({ "owner": "west" })));
    let made = [east.create("shared", "shared-001").await, west.create("shared", "shared-001").await];
    assert_ne!(made[0]["instance_id"], made[1]["instance_id"]);
    east.succeed("delete_node", node("shared", "shared-001")).await;
    assert_eq!(living(moto, "shared").await, [made[1]["instance_id"].as_str().unwrap()]);
    assert_eq!(instances(moto, "shared").await.len(), 2);
}
