//! Where there is no capacity the next place and the next size are tried; where there is none at all, AWS's own words say so.

use serde_json::{Value, json};

use super::{Desk, living, wish};
use crate::servers::aws::moto;
use crate::servers::faulty_aws::{Fault, FaultyAws};

fn two_sizes_in_two_zones(group: &str) -> Value {
    let mut wish = wish(group, &format!("{group}-002"));
    wish["instance_type"] = json!(["t3.large", "t3a.large"]);
    wish["availability_zones"] = json!(["us-east-1a", "us-east-1b"]);
    wish
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_zone_comes_before_the_next_size() {
    let moto = moto().await;
    let none = Fault::Refuse(500, "InsufficientInstanceCapacity");
    let quota = Fault::Refuse(400, "VcpuLimitExceeded");
    for (group, faults, size, zone) in [
        ("fits", vec![], "t3.large", "us-east-1a"),
        ("full-a", vec![none.clone()], "t3.large", "us-east-1b"),
        ("full-both", vec![none.clone(), quota.clone()], "t3a.large", "us-east-1a"),
        ("full-three", vec![none.clone(), quota, none.clone()], "t3a.large", "us-east-1b"),
    ] {
        let faulty = FaultyAws::before(moto).await;
        faulty.script("RunInstances", faults);
        let made = Desk::at(&faulty.url()).succeed("create_node", two_sizes_in_two_zones(group)).await;
        assert_eq!((&made["size"], &made["zone"]), (&json!(size), &json!(zone)), "{group}: {made}");
        assert_eq!(living(moto, group).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_capacity_it_fails_with_the_code_of_aws_and_makes_nothing() {
    let moto = moto().await;
    let faulty = FaultyAws::before(moto).await;
    faulty.script("RunInstances", vec![Fault::Refuse(500, "InsufficientInstanceCapacity"); 4]);
    let desk = Desk::at(&faulty.url());
    let refusal = desk.fail("create_node", two_sizes_in_two_zones("nowhere")).await;
    assert!(refusal.contains("there is no capacity for nowhere-002"), "{refusal}");
    assert!(
        refusal.contains("t3a.large in us-east-1b: EC2 refused RunInstances: InsufficientInstanceCapacity"),
        "{refusal}"
    );
    assert_eq!((living(moto, "nowhere").await.len(), faulty.heard("RunInstances")), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_not_taken_for_a_lack_of_capacity() {
    let moto = moto().await;
    let faulty = FaultyAws::before(moto).await;
    faulty.script("RunInstances", [Fault::Refuse(500, "InsufficientInstanceCapacity"), Fault::Break, Fault::Swallow]);
    let made = Desk::at(&faulty.url()).succeed("create_node", two_sizes_in_two_zones("lost")).await;
    assert_eq!((&made["size"], &made["zone"]), (&json!("t3.large"), &json!("us-east-1b")), "{made}");
    assert_eq!((living(moto, "lost").await.len(), faulty.heard("RunInstances")), (1, 1));
}
