//! Names come, change and go, and only those that are ours.

use futures_util::future::join_all;
use petrel::model::execution::ExecutionStatus;
use petrel::runners::Stop;
use serde_json::{Value, json};

use super::{Desk, at, ours, record, zone_with};

use crate::servers::bind::{Bind, ZONE};

#[tokio::test]
async fn a_name_is_written_changed_and_taken_away_and_each_may_be_repeated() {
    let bind = Bind::start().await;
    let desk = Desk::at(&bind);
    for (address, created) in [("127.0.0.11", true), ("127.0.0.11", false), ("127.0.0.12", false)] {
        let written = desk.upsert("web-001.web", address).await;
        assert_eq!((&written["created"], &written["zone"]), (&json!(created), &json!(ZONE)));
        assert_eq!(bind.resolve("web-001.web.petrel.test", "A").await, [address]);
        assert_eq!(bind.records().await, zone_with(ours("web-001.web", address)));
    }
    for deleted in [true, false] {
        assert_eq!(desk.delete("web-001.web").await["deleted"], deleted);
        assert_eq!(bind.records().await, zone_with([]));
    }
    desk.upsert("web-001.web", "127.0.0.13").await;
    assert_eq!(bind.resolve("web-001.web.petrel.test", "A").await, ["127.0.0.13"], "a name comes back");
}

#[tokio::test]
async fn an_ipv6_address_makes_an_aaaa_record_beside_the_other_and_both_go_with_the_mark() {
    let bind = Bind::start().await;
    let desk = Desk::with(&bind, json!({ "ttl": 7 }));
    desk.upsert("both", "127.0.0.11").await;
    let written = desk.upsert("both", "2001:db8::1").await;
    assert_eq!((&written["type"], &written["ttl"]), (&json!("AAAA"), &json!(7)));
    assert_eq!(bind.resolve("both.petrel.test", "A").await, ["127.0.0.11"]);
    assert_eq!(bind.resolve("both.petrel.test", "AAAA").await, ["2001:db8::1"]);
    desk.delete("both").await;
    assert_eq!(bind.records().await, zone_with([]));
}

#[tokio::test]
async fn a_foreign_record_stays_as_it_is_and_the_refusal_shows_it() {
    let bind = Bind::start().await;
    let desk = Desk::at(&bind);
    bind.change(
        "update add lb.petrel.test 30 A 127.0.0.9\nupdate add text.petrel.test 30 TXT \"hello\"\n\
         update add alias.petrel.test 30 CNAME lb.petrel.test.\nupdate add six.petrel.test 30 AAAA ::9\n\
         update add other.petrel.test 30 A 127.0.0.8\nupdate add other.petrel.test 30 TXT \"petrel-owner=us-east\"",
    )
    .await;
    let before = bind.records().await;
    for (name, stands) in [
        ("lb", "A 127.0.0.9"),
        ("text", "TXT hello"),
        ("alias", "CNAME lb.petrel.test."),
        ("six", "AAAA ::9"),
        ("other", "TXT petrel-owner=us-east"),
        ("ns", "A 127.0.0.1"),
    ] {
        let left = desk.delete(name).await;
        assert_eq!(left["deleted"], false);
        let refused = desk.fail("upsert_record", record(name, "127.0.0.11")).await;
        for refusal in [refused.as_str(), left["why"].as_str().unwrap()] {
            assert!(refusal.contains("belongs to somebody else") && refusal.contains(stands), "{refusal}");
            assert!(refusal.contains(&format!("petrel-owner={name}.petrel.test")), "the way out: {refusal}");
        }
    }
    assert_eq!(bind.records().await, before);
}

#[tokio::test]
async fn a_foreign_record_that_was_given_to_us_is_ours_and_texts_of_others_stay() {
    let bind = Bind::start().await;
    let desk = Desk::at(&bind);
    bind.change(
        "update add lb.petrel.test 30 A 127.0.0.9\nupdate add lb.petrel.test 30 TXT \"v=spf1 -all\"\n\
         update add lb.petrel.test 30 TXT \"petrel-owner=lb.petrel.test\"",
    )
    .await;
    let spf = "lb.petrel.test TXT \"v=spf1 -all\"".to_owned();
    desk.upsert("lb", "127.0.0.11").await;
    assert_eq!(bind.records().await, zone_with(ours("lb", "127.0.0.11").into_iter().chain([spf.clone()])));
    assert_eq!(desk.delete("lb").await["deleted"], true);
    assert_eq!(bind.records().await, zone_with([spf]));
}

#[tokio::test]
async fn a_wildcard_is_no_record_of_a_name_below_it() {
    let bind = Bind::start().await;
    let desk = Desk::at(&bind);
    bind.change(
        "update add *.petrel.test 30 A 127.0.0.9\nupdate add *.petrel.test 30 TXT \"petrel-owner=n.petrel.test\"",
    )
    .await;
    assert_eq!(desk.delete("n").await["deleted"], false, "it is there for those who ask only");
    desk.upsert("n", "127.0.0.11").await;
    assert_eq!(bind.resolve("n.petrel.test", "A").await, ["127.0.0.11"]);
    assert_eq!(desk.delete("n").await["deleted"], true);
    assert_eq!(bind.resolve("n.petrel.test", "A").await, ["127.0.0.9"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_a_name_at_once_one_gets_it_with_its_own_mark() {
    let bind = Bind::start().await;
    for round in 0..5 {
        let name = format!("n{round}");
        let desks: Vec<(usize, Desk)> =
            (0..6).map(|n| (n, Desk::with(&bind, json!({ "owner": format!("site-{n}") })))).collect();
        let outcomes = join_all(
            desks
                .iter()
                .map(|(n, desk)| desk.run("upsert_record", record(&name, &format!("127.0.1.{n}")), Stop::default())),
        );
        let outcomes = outcomes.await;
        let winners: Vec<usize> = (0..6).filter(|n| outcomes[*n].status == ExecutionStatus::Succeeded).collect();
        let [winner] = winners[..] else { panic!("{outcomes:?}") };
        let full = format!("{name}.petrel.test");
        assert_eq!(bind.resolve(&full, "A").await, [format!("127.0.1.{winner}")]);
        assert_eq!(bind.resolve(&full, "TXT").await, [format!("\"petrel-owner=site-{winner}\"")]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_owner_may_write_and_delete_at_once_and_what_is_left_is_whole() {
    let bind = Bind::start().await;
    let desk = Desk::at(&bind);
    for _ in 0..10 {
        let writes =
            join_all((1..4).map(|n| desk.run("upsert_record", record("n", &format!("127.0.0.{n}")), Stop::default())));
        let deletes = join_all((0..2).map(|_| desk.run("delete_record", at("n"), Stop::default())));
        let (writes, deletes) = tokio::join!(writes, deletes);
        for outcome in writes.iter().chain(&deletes) {
            assert_eq!(outcome.status, ExecutionStatus::Succeeded, "{outcome:?}");
        }
        let address = bind.resolve("n.petrel.test", "A").await;
        let expected: Vec<String> = address.first().map(|address| ours("n", address).to_vec()).unwrap_or_default();
        assert_eq!(bind.records().await, zone_with(expected), "one address with its mark, or neither");
    }
}

#[tokio::test]
async fn what_is_ours_below_a_domain_is_listed_and_taken_away_and_nothing_else() {
    let bind = Bind::start().await;
    let desk = Desk::at(&bind);
    bind.change("update add lb.web.petrel.test 30 A 127.0.0.9").await;
    for (name, address) in [("web-002.web", "127.0.0.12"), ("web-001.web", "127.0.0.11"), ("db-001.db", "127.0.0.21")] {
        desk.upsert(name, address).await;
    }
    desk.succeed("upsert_record", json!({ "domain": ZONE, "name": "x.web.petrel.test", "data": "::1", "owner": "eu" }))
        .await;
    let web = json!({ "domain": "web.petrel.test" });
    let listed = desk.succeed("list_records", web.clone()).await;
    assert_eq!(listed["names"], json!(["web-001.web.petrel.test", "web-002.web.petrel.test"]));
    let owner = "web-001.web.petrel.test";
    let first = json!({ "name": owner, "type": "A", "data": "127.0.0.11", "ttl": 30, "owner": owner });
    assert_eq!((&listed["records"][0], &listed["zone"]), (&first, &json!(ZONE)));
    let all = desk.succeed("list_records", json!({ "domain": ZONE })).await;
    assert_eq!(all["records"].as_array().map(Vec::len), Some(3));
    let eu = desk.succeed("list_records", json!({ "domain": ZONE, "owner": "eu" })).await;
    assert_eq!(eu["names"], json!(["x.web.petrel.test"]));

    let deleted = desk.succeed("delete_zone", web.clone()).await;
    assert_eq!(deleted["deleted"], listed["names"]);
    assert_eq!(desk.succeed("delete_zone", web).await["deleted"], json!([]));
    let left =
        ["lb.web.petrel.test A 127.0.0.9", "x.web.petrel.test AAAA ::1", "x.web.petrel.test TXT \"petrel-owner=eu\""];
    let left = left.map(str::to_owned).into_iter().chain(ours("db-001.db", "127.0.0.21"));
    assert_eq!(bind.records().await, zone_with(left));
}

#[tokio::test]
async fn a_zone_of_many_messages_is_listed_whole() {
    let bind = Bind::start().await;
    let desk = Desk::with(
        &bind,
        json!({ "key_name": "strong", "key_algorithm": "hmac-sha512", "key_secret": bind.secret("strong") }),
    );
    for from in (0..3000).step_by(500) {
        let lines = (from..from + 500).map(|n| format!("update add f{n}.petrel.test 30 TXT \"{}\"", "x".repeat(50)));
        bind.change(&lines.collect::<Vec<_>>().join("\n")).await;
    }
    desk.upsert("a", "127.0.0.11").await;
    desk.upsert("z", "127.0.0.12").await;
    let listed = desk.succeed("list_records", json!({ "domain": ZONE })).await;
    assert_eq!(listed["names"], json!(["a.petrel.test", "z.petrel.test"]));
}

#[tokio::test]
async fn a_server_that_takes_our_updates_is_told_by_a_check_that_leaves_nothing() {
    let bind = Bind::start().await;
    let desk = Desk::at(&bind);
    let serial = bind.resolve(ZONE, "SOA").await;
    let checked = desk.succeed("create_zone", json!({ "domain": "web.petrel.test" })).await;
    let expected = json!({ "domain": "web.petrel.test", "zone": ZONE, "server": bind.address() });
    assert_eq!(checked, expected);
    assert_eq!(bind.records().await, zone_with([]));
    assert_eq!(bind.resolve(ZONE, "SOA").await, serial, "secondaries hear nothing");
    let found: Value = Desk::with(&bind, json!({ "zone": ZONE })).upsert("n", "127.0.0.1").await;
    assert_eq!(found["zone"], ZONE, "a zone that is named is not looked for");
}
