//! For each node that is wanted there is exactly one instance, whatever the network and AWS make of the calls. moto makes
//! two instances of one client token, which AWS does not: so what holds here holds without that help.

use petrel::model::execution::ExecutionStatus;
use petrel::runners::Stop;
use serde_json::json;

use super::{Desk, REQUEST_TIMEOUT, instances, living, node, wish};
use crate::servers::aws::{Emulator, moto};
use crate::servers::faulty_aws::{Fault, FaultyAws};
use crate::support::eventually;

/// A desk for which an answer can be too late.
fn hasty(faulty: &FaultyAws) -> Desk {
    Desk::by(&faulty.url(), json!({}), faulty.clock(REQUEST_TIMEOUT))
}

fn faults() -> Vec<(&'static str, Fault)> {
    vec![
        ("throttled", Fault::Refuse(503, "RequestLimitExceeded")),
        ("in trouble", Fault::Refuse(500, "InternalError")),
        ("html", Fault::Html(500)),
        ("a proxy in between", Fault::Html(502)),
        ("done and html", Fault::DoneAndHtml(500)),
        ("swallowed", Fault::Swallow),
        ("broken", Fault::Break),
        ("slow", Fault::Slow),
        ("nonsense", Fault::Say(200, "{}".to_owned())),
    ]
}

/// Creates until it is done, and deletes until it is done; in between there is exactly one.
async fn live_through(desk: &Desk, faulty: &FaultyAws, moto: &Emulator, group: &str, what: &str) {
    let name = format!("{group}-001");
    let mut made = false;
    for _ in 0..6 {
        let outcome = desk.run("create_node", wish(group, &name), Stop::default()).await;
        made |= outcome.status == ExecutionStatus::Succeeded;
        let living = living(moto, group).await;
        assert!(living.len() <= 1, "{what}: {living:?} after {:?}", outcome.result);
        if made {
            assert_eq!(living.len(), 1, "{what}: {:?}", outcome.result);
        }
    }
    assert!(made, "{what}: it never succeeded");
    desk.succeed("wait_ready", node(group, &name)).await;
    faulty.clear();
    assert_eq!(living(moto, group).await.len(), 1, "{what}");
}

async fn end(desk: &Desk, moto: &Emulator, group: &str, what: &str) {
    let name = format!("{group}-001");
    for _ in 0..2 {
        desk.succeed("delete_node", node(group, &name)).await;
        assert_eq!(living(moto, group).await, Vec::<String>::new(), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_alone_leaves_one_instance() {
    let moto = moto().await;
    for (number, (what, fault)) in faults().into_iter().enumerate() {
        for action in ["RunInstances", "DescribeInstances"] {
            let faulty = FaultyAws::before(moto).await;
            let desk = hasty(&faulty);
            let group = format!("f{number}-{}", action.to_ascii_lowercase());
            faulty.script(action, [fault.clone()]);
            live_through(&desk, &faulty, moto, &group, &format!("{action} {what}")).await;
            faulty.script("TerminateInstances", [fault.clone()]);
            faulty.script("DescribeInstances", [Fault::None, fault.clone()]);
            end(&desk, moto, &group, &format!("TerminateInstances {what}")).await;
            assert_eq!(faulty.heard("RunInstances"), 1, "{action} {what}: it was asked for once too often");
        }
    }
}

/// One of the numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    /// Every other question is answered.
    fn fault(&mut self, known: &[(&str, Fault)]) -> Fault {
        let side = self.throw(known.len() * 2);
        known.get(side).map_or(Fault::None, |(_, fault)| fault.clone())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixtures_of_faults_leave_one_instance() {
    let moto = moto().await;
    for seed in 1..=12 {
        let mut dice = Dice(seed);
        let faulty = FaultyAws::before(moto).await;
        let desk = hasty(&faulty);
        let known = faults();
        for action in ["RunInstances", "DescribeInstances", "TerminateInstances"] {
            faulty.script(action, (0..6).map(|_| dice.fault(&known)));
        }
        let group = format!("mixed-{seed}");
        live_through(&desk, &faulty, moto, &group, &format!("seed {seed}")).await;
        end(&desk, moto, &group, &format!("seed {seed}")).await;
        assert_eq!(faulty.heard("RunInstances"), 1, "seed {seed}: it was asked for once too often");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_ask_at_the_same_time_get_one_instance() {
    let moto = moto().await;
    let desk = Desk::at(moto.url());
    let asked = (0..3).map(|_| desk.run("create_node", wish("crowd", "crowd-001"), Stop::default()));
    let outcomes = futures_util::future::join_all(asked).await;
    assert!(outcomes.iter().all(|outcome| outcome.status == ExecutionStatus::Succeeded), "{outcomes:?}");
    let living = living(moto, "crowd").await;
    assert_eq!(living.len(), 1, "{living:?} of {:?}", instances(moto, "crowd").await);
    let ready = desk.succeed("wait_ready", node("crowd", "crowd-001")).await;
    assert_eq!(ready["instance_id"], living[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_is_heard_late_makes_a_second_instance_which_ends() {
    let moto = moto().await;
    let faulty = FaultyAws::before(moto).await;
    let desk = hasty(&faulty);
    faulty.script("RunInstances", [Fault::Late]);
    desk.create("late", "late-001").await;
    faulty.let_through();
    eventually("the late question is heard", async || (faulty.heard("RunInstances") == 2).then_some(())).await;
    assert_eq!(living(moto, "late").await.len(), 2);
    let ready = desk.succeed("wait_ready", node("late", "late-001")).await;
    assert_eq!(living(moto, "late").await, [ready["instance_id"].as_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_stopped_gives_up_soon_and_leaves_what_the_next_one_finds() {
    let moto = moto().await;
    let faulty = FaultyAws::before(moto).await;
    let desk = Desk::at(&faulty.url());
    faulty.script("RunInstances", [Fault::Hold]);
    let stop = Stop::default();
    let running = desk.run("create_node", wish("halted", "halted-001"), stop.clone());
    let raise = async {
        eventually("the question is heard", async || (faulty.heard("RunInstances") == 1).then_some(())).await;
        stop.raise();
    };
    let (outcome, ()) = tokio::join!(running, raise);
    assert_eq!(outcome.status, ExecutionStatus::Canceled, "{:?}", outcome.result);
    let made = desk.create("halted", "halted-001").await;
    assert_eq!(living(moto, "halted").await, [made["instance_id"].as_str().unwrap()]);
    assert_eq!(faulty.heard("RunInstances"), 1);
}
