//! Nodes behind a target group: in service once healthy, drained before they go.

use serde_json::{Value, json};

use super::{Desk, node, vpc};
use crate::servers::aws::moto;
use crate::servers::faulty_aws::{Fault, FaultyAws};

/// What ELBv2 says while a target is not yet, or not any more, what it shall be.
fn health(id: &str, state: &str, reason: &str) -> Fault {
    let text = format!(
        "<DescribeTargetHealthResponse><DescribeTargetHealthResult><TargetHealthDescriptions><member><Target><Id>{id}</Id>\
         <Port>8080</Port></Target><TargetHealth><State>{state}</State><Reason>{reason}</Reason>\
         <Description>as scripted</Description></TargetHealth></member></TargetHealthDescriptions>\
         </DescribeTargetHealthResult></DescribeTargetHealthResponse>"
    );
    Fault::Say(200, text)
}

fn backend(group: &str, name: &str) -> Value {
    let mut backend = node(group, name);
    backend["port"] = json!(8080);
    backend
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_gets_into_service_is_drained_and_leaves() {
    let moto = moto().await;
    let desk = Desk::with(moto.url(), json!({ "vpc_id": vpc(moto).await }));
    let group = json!({ "group": "pool" });
    for created in [true, false] {
        let pool = desk.succeed("create_pool", group.clone()).await;
        assert_eq!((&pool["target_group"], &pool["created"]), (&json!("petrel-pool"), &json!(created)));
    }
    let made = desk.create("pool", "pool-001").await;
    for _ in 0..2 {
        let added = desk.succeed("add_backend", backend("pool", "pool-001")).await;
        assert_eq!((&added["state"], &added["instance_id"]), (&json!("ready"), &made["instance_id"]), "{added}");
    }
    let listed = desk.succeed("list_backends", group.clone()).await;
    let row = &listed["backends"][0];
    assert_eq!((&row["name"], &row["port"], &row["health"]), (&json!("pool-001"), &json!(8080), &json!("healthy")));
    assert_eq!(row["address"], made["address"]);

    for found in [true, false] {
        let drained = desk.succeed("drain_backend", node("pool", "pool-001")).await;
        assert_eq!((&drained["found"], &drained["drained"]), (&json!(found), &json!(true)));
    }
    let removed = desk.succeed("remove_backend", node("pool", "pool-001")).await;
    assert_eq!(removed["found"], false);
    assert_eq!(desk.succeed("list_backends", group.clone()).await["backends"], json!([]));
    for deleted in [true, false] {
        assert_eq!(desk.succeed("delete_pool", group.clone()).await["deleted"], deleted);
    }
    assert_eq!(desk.succeed("drain_backend", node("pool", "pool-001")).await["found"], false);
    let refusal = desk.fail("add_backend", backend("pool", "pool-001")).await;
    assert!(refusal.contains("there is no target group `petrel-pool`: run `aws.create_pool`"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_waited_for_until_it_is_healthy_and_until_it_is_drained() {
    let moto = moto().await;
    let faulty = FaultyAws::before(moto).await;
    let desk = Desk::with(&faulty.url(), json!({ "vpc_id": vpc(moto).await }));
    desk.succeed("create_pool", json!({ "group": "patient" })).await;
    let made = desk.create("patient", "patient-001").await;
    let id = made["instance_id"].as_str().unwrap();
    let initial = health(id, "initial", "Elb.RegistrationInProgress");
    faulty.script("DescribeTargetHealth", [Fault::None, initial.clone(), initial]);
    desk.succeed("add_backend", backend("patient", "patient-001")).await;
    assert_eq!(faulty.heard("DescribeTargetHealth"), 2, "one look before, one that found it healthy");

    let draining = health(id, "draining", "Target.DeregistrationInProgress");
    faulty.script("DescribeTargetHealth", [Fault::None, draining.clone(), draining.clone()]);
    let drained = desk.succeed("drain_backend", node("patient", "patient-001")).await;
    assert_eq!((&drained["found"], &drained["drained"]), (&json!(true), &json!(true)));

    faulty.script("DescribeTargetHealth", vec![draining; 1000]);
    let mut drain = node("patient", "patient-001");
    drain["within"] = json!("200ms");
    assert_eq!(desk.succeed("drain_backend", drain).await["drained"], false, "the time was over first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_get_healthy_is_taken_away_and_the_error_says_why() {
    let moto = moto().await;
    let faulty = FaultyAws::before(moto).await;
    let desk = Desk::with(&faulty.url(), json!({ "vpc_id": vpc(moto).await }));
    desk.succeed("create_pool", json!({ "group": "sick" })).await;
    let made = desk.create("sick", "sick-001").await;
    let id = made["instance_id"].as_str().unwrap();
    let mut add = backend("sick", "sick-001");
    add["within"] = json!("1500ms");
    faulty.script("DescribeTargetHealth", vec![health(id, "unhealthy", "Target.ResponseCodeMismatch"); 1000]);
    let refusal = desk.fail("add_backend", add.clone()).await;
    assert!(refusal.contains("taken away again: unhealthy, Target.ResponseCodeMismatch, as scripted"), "{refusal}");
    faulty.clear();
    assert_eq!(desk.succeed("list_backends", json!({ "group": "sick" })).await["backends"], json!([]));

    faulty.script("DescribeTargetHealth", [Fault::None, health(id, "unused", "Target.NotInUse")]);
    let refusal = desk.fail("add_backend", add).await;
    assert!(refusal.contains("no listener sends requests to the target group `petrel-sick`"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_group_that_was_there_before_is_used_and_stays() {
    let moto = moto().await;
    let form = format!(
        "Action=CreateTargetGroup&Version=2015-12-01&Name=theirs&Protocol=HTTP&Port=81&TargetType=instance&VpcId={}",
        vpc(moto).await
    );
    moto.ask("elasticloadbalancing", &form).await;
    let desk = Desk::with(moto.url(), json!({ "target_group": "theirs" }));
    let pool = desk.succeed("create_pool", json!({ "group": "guest" })).await;
    assert_eq!((&pool["target_group"], &pool["created"]), (&json!("theirs"), &json!(false)));
    desk.create("guest", "guest-001").await;
    let added = desk.succeed("add_backend", node("guest", "guest-001")).await;
    assert_eq!(added["port"], 81, "nobody said another one");
    let said = desk.succeed("delete_pool", json!({ "group": "guest" })).await;
    assert_eq!(said["deleted"], false);
    assert!(said["why"].as_str().unwrap().contains("it was not made by us"), "{said}");
    let refusal = Desk::at(moto.url()).fail("create_pool", json!({ "group": "other" })).await;
    assert!(refusal.contains("write `vpc_id: vpc-…` into configs/aws.yaml"), "{refusal}");
}
