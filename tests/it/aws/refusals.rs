//! Whoever reads an error knows which service refused what, and never learns the key.

use serde_json::json;

use super::{Desk, SECRET, node, wish};
use crate::servers::aws::moto;
use crate::servers::faulty_aws::{Fault, FaultyAws};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_names_service_action_code_and_status() {
    let moto = moto().await;
    let mut wanted = wish("refused", "refused-001");
    wanted["subnet_ids"] = json!(["subnet-99"]);
    let refusal = Desk::at(moto.url()).fail("create_node", wanted).await;
    let expected =
        "EC2 refused RunInstances: InvalidSubnetID.NotFound: The subnet ID 'subnet-99' does not exist (status 400)";
    assert_eq!(refusal, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_gets_better_ends_when_patience_does() {
    let faulty = FaultyAws::before(moto().await).await;
    let desk = Desk::with(&faulty.url(), json!({ "patience": "200ms" }));
    for (fault, says) in [
        (Fault::Refuse(503, "RequestLimitExceeded"), "EC2 refused DescribeInstances: RequestLimitExceeded"),
        (Fault::Html(500), "EC2 answered DescribeInstances with status 500 and no XML of AWS: <!doctype html> <h1>"),
        (Fault::Break, "EC2 gave no answer to DescribeInstances"),
    ] {
        faulty.script("DescribeInstances", vec![fault; 200]);
        let refusal = desk.fail("list_nodes", json!({})).await;
        assert!(refusal.contains(says), "{refusal}");
        faulty.clear();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_says_our_key_is_shown_without_it() {
    let faulty = FaultyAws::before(moto().await).await;
    let token = "FQoGZXIvYXdzEJrSESSION";
    let desk = Desk::with(&faulty.url(), json!({ "session_token": token }));
    let text = format!(
        "<Response><Errors><Error><Code>SignatureDoesNotMatch</Code><Message>The Canonical String should have been \
         x-amz-security-token:{token} for AKIDEXAMPLE with {SECRET}</Message></Error></Errors></Response>"
    );
    faulty.script("DescribeInstances", [Fault::Say(403, text)]);
    let refusal = desk.fail("delete_node", node("hidden", "hidden-001")).await;
    assert!(refusal.contains("SignatureDoesNotMatch: The Canonical String should have been"), "{refusal}");
    assert!(!refusal.contains(token) && !refusal.contains(SECRET) && !refusal.contains("AKIDEXAMPLE"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_listens_the_error_says_so() {
    let desk = Desk::with("http://127.0.0.1:1", json!({ "patience": "50ms" }));
    let refusal = desk.fail("list_nodes", json!({})).await;
    assert!(refusal.starts_with("EC2 gave no answer to DescribeInstances: error sending request"), "{refusal}");
}
