//! Names in Route 53: taken, changed and given back; those of others stay as they are.

use petrel::runners::Stop;
use serde_json::{Value, json};

use super::Desk;
use crate::servers::aws::{Emulator, ministack};
use crate::servers::faulty_aws::{Fault, FaultyAws};

/// A zone that somebody has made.
async fn zone(ministack: &Emulator, name: &str) -> String {
    let document = format!(
        "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Name>{name}</Name>\
         <CallerReference>{name}</CallerReference></CreateHostedZoneRequest>"
    );
    let answer = ministack.send("/2013-04-01/hostedzone", document).await;
    let id = answer.split("/hostedzone/").nth(1).unwrap();
    id.split('<').next().unwrap().to_owned()
}

/// Writes a record as somebody else.
async fn write(ministack: &Emulator, zone: &str, name: &str, kind: &str, value: &str) {
    let document = format!(
        "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch><Changes>\
         <Change><Action>UPSERT</Action><ResourceRecordSet><Name>{name}</Name><Type>{kind}</Type><TTL>60</TTL>\
         <ResourceRecords><ResourceRecord><Value>{value}</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>\
         </Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
    );
    ministack.send(&format!("/2013-04-01/hostedzone/{zone}/rrset/"), document).await;
}

fn at(domain: &str, name: &str) -> Value {
    json!({ "domain": domain, "name": format!("{name}.{domain}") })
}

fn record(domain: &str, name: &str, data: &str) -> Value {
    let mut record = at(domain, name);
    record["data"] = json!(data);
    record
}

/// Our records below a domain, as `name data`.
async fn ours(desk: &Desk, domain: &str) -> Vec<String> {
    let listed = desk.succeed("list_records", json!({ "domain": domain })).await;
    let rows = listed["records"].as_array().unwrap().iter();
    rows.map(|row| format!("{} {}", row["name"].as_str().unwrap(), row["data"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_taken_moved_and_given_back_as_often_as_somebody_asks() {
    let ministack = ministack().await;
    zone(ministack, "names.test").await;
    let desk = Desk::at(ministack.url());
    for (data, created) in [("10.0.0.1", true), ("10.0.0.1", false), ("10.0.0.2", false)] {
        let written = desk.succeed("upsert_record", record("web.names.test", "web-001", data)).await;
        assert_eq!((&written["created"], &written["zone"]), (&json!(created), &json!("names.test")), "{written}");
        assert_eq!(ours(&desk, "web.names.test").await, [format!("web-001.web.names.test {data}")]);
    }
    for deleted in [true, false] {
        let gone = desk.succeed("delete_record", at("web.names.test", "web-001")).await;
        assert_eq!(gone["deleted"], deleted);
    }
    assert_eq!(ours(&desk, "names.test").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_somebody_else_is_neither_changed_nor_deleted() {
    let ministack = ministack().await;
    let id = zone(ministack, "theirs.test").await;
    write(ministack, &id, "www.theirs.test", "A", "10.9.9.9").await;
    let desk = Desk::at(ministack.url());
    let refusal = desk.fail("upsert_record", record("theirs.test", "www", "10.0.0.1")).await;
    assert!(refusal.contains("`www.theirs.test` belongs to somebody else and stays as it is: A 10.9.9.9"), "{refusal}");
    let said = desk.succeed("delete_record", at("theirs.test", "www")).await;
    assert_eq!(said["deleted"], false);
    assert!(said["why"].as_str().unwrap().contains("belongs to somebody else"), "{said}");
    let other = Desk::with(ministack.url(), json!({ "owner": "east" }));
    other.succeed("upsert_record", record("theirs.test", "shop", "10.0.0.1")).await;
    let refusal = desk.fail("upsert_record", record("theirs.test", "shop", "10.0.0.2")).await;
    assert!(refusal.contains("petrel-owner=east"), "{refusal}");
    let given = "&quot;petrel-owner=www.theirs.test&quot;";
    write(ministack, &id, "www.theirs.test", "TXT", given).await;
    desk.succeed("upsert_record", record("theirs.test", "www", "10.0.0.1")).await;
    assert_eq!(ours(&desk, "theirs.test").await, ["www.theirs.test 10.0.0.1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_whose_answer_was_lost_is_found_done() {
    let ministack = ministack().await;
    zone(ministack, "lost.test").await;
    let faulty = FaultyAws::before(ministack).await;
    let desk = Desk::at(&faulty.url());
    let faults = [
        Fault::Swallow,
        Fault::DoneAndHtml(500),
        Fault::Break,
        Fault::Html(500),
        Fault::Refuse(400, "Throttling"),
        Fault::Refuse(400, "PriorRequestNotComplete"),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let name = format!("n{number}");
        faulty.script("POST rrset", [fault.clone()]);
        desk.succeed("upsert_record", record("lost.test", &name, "10.0.0.1")).await;
        assert_eq!(ours(&desk, "lost.test").await, [format!("{name}.lost.test 10.0.0.1")], "{fault:?}");
        faulty.script("POST rrset", [fault.clone()]);
        desk.succeed("upsert_record", record("lost.test", &name, "10.0.0.2")).await;
        assert_eq!(ours(&desk, "lost.test").await, [format!("{name}.lost.test 10.0.0.2")], "{fault:?}");
        faulty.script("POST rrset", [fault.clone()]);
        desk.succeed("delete_record", at("lost.test", &name)).await;
        assert_eq!(ours(&desk, "lost.test").await, Vec::<String>::new(), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_want_a_name_at_once_one_gets_it() {
    let ministack = ministack().await;
    zone(ministack, "contested.test").await;
    let (east, west) = (
        Desk::with(ministack.url(), json!({ "owner": "east" })),
        Desk::with(ministack.url(), json!({ "owner": "west" })),
    );
    let wish = |data| record("contested.test", "web-001", data);
    let (first, second) = tokio::join!(
        east.run("upsert_record", wish("10.0.0.1"), Stop::default()),
        west.run("upsert_record", wish("10.0.0.2"), Stop::default()),
    );
    assert_ne!(first.status, second.status, "{:?} {:?}", first.result, second.result);
    let held = [ours(&east, "contested.test").await, ours(&west, "contested.test").await].concat();
    assert_eq!(held.len(), 1, "{held:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_waited_for_until_all_servers_know_it() {
    let ministack = ministack().await;
    zone(ministack, "slow.test").await;
    let faulty = FaultyAws::before(ministack).await;
    let pending =
        "<GetChangeResponse><ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status></ChangeInfo></GetChangeResponse>";
    faulty.script("GET change", vec![Fault::Say(200, pending.to_owned()); 3]);
    let desk = Desk::at(&faulty.url());
    desk.succeed("upsert_record", record("slow.test", "web-001", "10.0.0.1")).await;
    assert!(faulty.heard("GET change") >= 1);
    faulty.script("GET change", vec![Fault::Say(200, pending.to_owned()); 1000]);
    let mut late = record("slow.test", "web-001", "10.0.0.2");
    late["sync_timeout"] = json!("200ms");
    let refusal = desk.fail("upsert_record", late).await;
    assert!(refusal.contains("not all of its servers know it"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_is_made_only_if_it_is_wished_for_and_goes_when_it_is_empty() {
    let faulty = FaultyAws::before(ministack().await).await;
    let desk = Desk::at(&faulty.url());
    let refusal = desk.fail("create_zone", json!({ "domain": "web.made.test" })).await;
    assert!(refusal.contains("Route 53 has no zone with `web.made.test` in it"), "{refusal}");
    assert_eq!(desk.succeed("delete_record", at("web.made.test", "web-001")).await["deleted"], false);
    let wish = json!({ "domain": "web.made.test", "create_hosted_zone": true });
    faulty.script("POST hostedzone", [Fault::Swallow, Fault::Refuse(409, "HostedZoneAlreadyExists")]);
    for created in [true, false] {
        assert_eq!(desk.succeed("create_zone", wish.clone()).await["created"], created);
    }
    desk.succeed("upsert_record", record("web.made.test", "web-001", "10.0.0.1")).await;
    desk.succeed("upsert_record", record("web.made.test", "web-002", "2001:db8::1")).await;
    let gone = desk.succeed("delete_zone", json!({ "domain": "web.made.test" })).await;
    assert_eq!(gone["deleted"], json!(["web-001.web.made.test", "web-002.web.made.test"]), "{gone}");
    assert_eq!(gone["zone_deleted"], true);
    let again = desk.succeed("delete_zone", json!({ "domain": "web.made.test" })).await;
    assert_eq!(again["zone_deleted"], false);
}
