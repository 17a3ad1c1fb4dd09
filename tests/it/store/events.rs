//! Trigger instances, enforcements, held instances, timers.

use std::time::Duration;

use petrel::model::refs::{InstanceId, RuleRef};
use petrel::model::time::Timestamp;
use petrel::model::trigger::InstanceStatus;
use petrel::store::events::{Accepted, Arrival, Delivery, HeldInstance, InstanceFilter, MatchRecord, TimerState};
use petrel::store::rows::{NewEnforcement, NewInstance};
use petrel::store::{Events, Store};

use super::{PAGE, accept, at, execution, id, instance};

super::promises![
    an_accepted_instance_is_pending_until_it_is_matched,
    a_repeated_key_is_answered_with_the_first_id_until_it_expires,
    the_same_key_of_another_trigger_type_is_another_event,
    a_match_is_recorded_once,
    a_throttle_lets_one_instance_pass_and_says_the_same_when_asked_again,
    a_held_instance_happens_at_its_time,
    a_held_instance_is_replaced_or_withdrawn_by_its_key,
    a_withdrawal_that_came_late_withdraws_nothing,
    what_is_held_and_withdrawn_counts_by_the_sources_time_in_whatever_order_it_arrives,
    what_a_source_says_at_once_is_written_at_once_without_what_it_said_before,
    what_lands_twice_is_there_once_and_is_told_as_itself,
    many_deliveries_land_in_one_commit_each_by_its_own_time,
    a_held_instance_that_lands_again_after_it_happened_holds_up_nobody,
    a_timer_fires_each_instant_once,
    instances_are_listed_newest_first_by_what_they_are,
];

fn keyed(number: u8, expires: i64) -> NewInstance {
    NewInstance { dedupe: Some(("delivery-1".to_owned(), at(expires))), ..instance(number) }
}

fn rule() -> RuleRef {
    "default.rule".parse().unwrap()
}

async fn pending(store: &Store) -> Vec<InstanceId> {
    store.events().instances_pending(None, 100).await.unwrap().into_iter().map(|seen| seen.id).collect()
}

async fn an_accepted_instance_is_pending_until_it_is_matched(store: Store) {
    let events = store.events();
    for number in [2, 1] {
        assert_eq!(accept(&events, &instance(number), at(1)).await.unwrap(), Accepted::New);
    }
    assert_eq!((pending(&store).await, events.instances_pending_count().await.unwrap()), (vec![id(1), id(2)], 2));
    let after = events.instances_pending(Some(id(1)), 100).await.unwrap();
    assert_eq!(after.len(), 1);
    assert_eq!((&after[0].payload, after[0].trace_tag.as_str()), (&instance(2).payload, "trace-2"));

    let record = MatchRecord {
        instance: id(1),
        catalogue_version: 7,
        status: InstanceStatus::Processed,
        enforcements: Vec::new(),
    };
    assert!(events.match_record(&record, at(2)).await.unwrap());
    assert_eq!(pending(&store).await, [id(2)]);
    assert_eq!(events.instance_get(id(1)).await.unwrap().status, InstanceStatus::Processed);
}

async fn a_repeated_key_is_answered_with_the_first_id_until_it_expires(store: Store) {
    let events = store.events();
    assert_eq!(accept(&events, &keyed(1, 100), at(1)).await.unwrap(), Accepted::New);
    assert_eq!(accept(&events, &keyed(2, 200), at(99)).await.unwrap(), Accepted::Duplicate(id(1)));
    assert_eq!(pending(&store).await, [id(1)], "nothing was written");
    assert_eq!(accept(&events, &keyed(3, 300), at(101)).await.unwrap(), Accepted::New);
    assert_eq!(accept(&events, &keyed(4, 400), at(102)).await.unwrap(), Accepted::Duplicate(id(3)));
}

async fn the_same_key_of_another_trigger_type_is_another_event(store: Store) {
    let other = NewInstance { trigger_type: "core.st2.sensor".parse().unwrap(), ..keyed(2, 100) };
    accept(&store.events(), &keyed(1, 100), at(1)).await.unwrap();
    assert_eq!(accept(&store.events(), &other, at(1)).await.unwrap(), Accepted::New);
}

async fn a_match_is_recorded_once(store: Store) {
    let events = store.events();
    accept(&events, &instance(1), at(1)).await.unwrap();
    let record = |number: u8| MatchRecord {
        instance: id(1),
        catalogue_version: 1,
        status: InstanceStatus::Processed,
        enforcements: vec![NewEnforcement {
            id: id(number),
            rule: rule(),
            failure_reason: None,
            execution: Some(execution(number, at(2))),
        }],
    };
    assert!(events.match_record(&record(10), at(2)).await.unwrap());
    assert!(!events.match_record(&record(11), at(2)).await.unwrap());

    let enforcements = events.enforcement_list(Some(&rule()), Some(id(1)), PAGE).await.unwrap();
    let seen: Vec<_> = enforcements.iter().map(|row| (row.id, row.execution, row.status.as_str())).collect();
    assert_eq!(seen, [(id(10), Some(id(10)), "succeeded")]);
    assert_eq!(events.enforcement_count(None, None).await.unwrap(), 1);
    assert!(store.executions().execution_get(id(11)).await.is_err(), "the second one's execution was not written");
    assert_eq!(store.executions().execution_get(id(10)).await.unwrap().user(), "ann");
}

async fn a_throttle_lets_one_instance_pass_and_says_the_same_when_asked_again(store: Store) {
    let events = store.events();
    let pass = async |number: u8, key: &str, now: i64| {
        events.throttle_pass(&rule(), key, id(number), at(now), at(now + 60)).await.unwrap()
    };
    assert!(pass(1, "web", 1).await);
    assert!(!pass(2, "web", 2).await);
    assert!(pass(2, "db", 2).await, "another key");
    assert!(pass(1, "web", 1).await, "asked again after a crash");
    assert!(!pass(2, "web", 60).await);
    assert!(pass(2, "web", 61).await, "its time is over");
}

fn held(number: u8, due: i64) -> HeldInstance {
    HeldInstance { key: "web/1".to_owned(), instance: instance(number), due_at: at(due) }
}

async fn hold(events: &Events, held: HeldInstance) {
    let accepted = events.arrivals_accept(&[Arrival::Held(held)], at(1)).await.unwrap();
    assert_eq!(accepted, [Accepted::New]);
}

async fn withdraw(events: &Events, said_at: Option<Timestamp>) {
    let withdrawn = Arrival::Withdrawn { key: "web/1".to_owned(), said_at };
    assert_eq!(events.arrivals_accept(&[withdrawn], at(1)).await.unwrap(), []);
}

async fn a_withdrawal_that_came_late_withdraws_nothing(store: Store) {
    let events = store.events();
    hold(&events, held(1, 10)).await;
    let occurred_at = instance(1).occurred_at;
    withdraw(&events, Some(occurred_at.minus(Duration::from_secs(1)))).await;
    assert_eq!(events.holds_next().await.unwrap(), Some(at(10)), "what is held is from later");
    withdraw(&events, Some(occurred_at)).await;
    assert_eq!(events.holds_next().await.unwrap(), None);
}

fn delivery(accepted_at: i64, arrivals: &[Arrival]) -> Delivery {
    Delivery { arrivals: arrivals.to_vec(), accepted_at: at(accepted_at) }
}

async fn what_lands_twice_is_there_once_and_is_told_as_itself(store: Store) {
    let events = store.events();
    let said = [delivery(1, &[Arrival::Happened(instance(1)), Arrival::Happened(keyed(2, 100))])];
    assert_eq!(events.deliveries_accept(&said).await.unwrap(), [Accepted::New, Accepted::New]);
    let themselves = [Accepted::Duplicate(id(1)), Accepted::Duplicate(id(2))];
    assert_eq!(events.deliveries_accept(&said).await.unwrap(), themselves);
    let status = InstanceStatus::Processed;
    let record = MatchRecord { instance: id(1), catalogue_version: 1, status, enforcements: Vec::new() };
    assert!(events.match_record(&record, at(2)).await.unwrap());
    assert_eq!(events.deliveries_accept(&said).await.unwrap(), themselves);
    assert_eq!(pending(&store).await, [id(2)], "what was processed stays processed");
    let twice_at_once =
        [delivery(1, &[Arrival::Happened(instance(3))]), delivery(1, &[Arrival::Happened(instance(3))])];
    let accepted = events.deliveries_accept(&twice_at_once).await.unwrap();
    assert_eq!(accepted, [Accepted::New, Accepted::Duplicate(id(3))]);
}

async fn many_deliveries_land_in_one_commit_each_by_its_own_time(store: Store) {
    let events = store.events();
    // However late they land: the second was accepted while the key of the first was remembered, the third was not.
    let said = [
        delivery(1, &[Arrival::Happened(keyed(1, 100))]),
        delivery(99, &[Arrival::Happened(keyed(2, 200))]),
        delivery(99, &[]),
        delivery(101, &[Arrival::Happened(keyed(3, 300)), Arrival::Happened(instance(4))]),
    ];
    let accepted = events.deliveries_accept(&said).await.unwrap();
    assert_eq!(accepted[0], Accepted::New);
    assert!(matches!(accepted[1], Accepted::Duplicate(_)), "{accepted:?}");
    assert_eq!(accepted[2..], [Accepted::New, Accepted::New]);
    assert_eq!(pending(&store).await, [id(1), id(3), id(4)]);
    assert_eq!(events.deliveries_accept(&[delivery(1, &[])]).await.unwrap(), []);
}

async fn a_held_instance_that_lands_again_after_it_happened_holds_up_nobody(store: Store) {
    let events = store.events();
    hold(&events, held(1, 10)).await;
    assert_eq!(events.holds_release(at(10)).await.unwrap(), 1);
    hold(&events, held(1, 10)).await;
    let other = HeldInstance { key: "web/2".to_owned(), ..held(2, 10) };
    hold(&events, other).await;
    events.holds_release(at(11)).await.unwrap();
    assert_eq!((pending(&store).await, events.holds_next().await.unwrap()), (vec![id(1), id(2)], None));
    assert_eq!(events.holds_release(at(12)).await.unwrap(), 0);
}

async fn what_is_held_and_withdrawn_counts_by_the_sources_time_in_whatever_order_it_arrives(store: Store) {
    let events = store.events();
    let from = |number: u8, occurred_at: i64| HeldInstance {
        instance: NewInstance { occurred_at: at(occurred_at), ..instance(number) },
        ..held(number, 100)
    };
    let held_now = async |expected: Option<InstanceId>| {
        events.holds_release(at(100)).await.unwrap();
        assert_eq!(pending(&store).await.last().copied(), expected);
    };
    withdraw(&events, Some(at(20))).await;
    let late = [Arrival::Held(from(1, 10))];
    events.arrivals_accept(&late, at(21)).await.unwrap();
    held_now(None).await;
    withdraw(&events, Some(at(15))).await;
    events.arrivals_accept(&late, at(22)).await.unwrap();
    held_now(None).await;
    hold(&events, from(2, 30)).await;
    events.arrivals_accept(&[Arrival::Held(from(3, 25))], at(31)).await.unwrap();
    held_now(Some(id(2))).await;
    let said_at = Some(at(40));
    let both = [Arrival::Withdrawn { key: "web/1".to_owned(), said_at }, Arrival::Held(from(4, 40))];
    events.arrivals_accept(&both, at(41)).await.unwrap();
    held_now(Some(id(4))).await;
}

async fn what_a_source_says_at_once_is_written_at_once_without_what_it_said_before(store: Store) {
    let events = store.events();
    accept(&events, &keyed(1, 100), at(1)).await.unwrap();
    let said = [
        Arrival::Happened(instance(5)),
        Arrival::Happened(keyed(2, 200)),
        Arrival::Held(held(3, 10)),
        Arrival::Withdrawn { key: "web/2".to_owned(), said_at: None },
        Arrival::Happened(instance(4)),
    ];
    let accepted = events.arrivals_accept(&said, at(2)).await.unwrap();
    assert_eq!(accepted, [Accepted::New, Accepted::Duplicate(id(1)), Accepted::New, Accepted::New]);
    assert_eq!(pending(&store).await, [id(1), id(4), id(5)]);
}

async fn a_held_instance_happens_at_its_time(store: Store) {
    let events = store.events();
    hold(&events, held(1, 10)).await;
    assert_eq!((events.holds_next().await.unwrap(), pending(&store).await), (Some(at(10)), vec![]));
    assert_eq!(events.holds_release(at(9)).await.unwrap(), 0);
    assert_eq!(events.holds_release(at(10)).await.unwrap(), 1);
    assert_eq!(events.holds_release(at(11)).await.unwrap(), 0, "once");
    assert_eq!((events.holds_next().await.unwrap(), pending(&store).await), (None, vec![id(1)]));
    assert_eq!(events.instance_get(id(1)).await.unwrap().occurred_at, at(10));
    withdraw(&events, None).await;
    assert_eq!(pending(&store).await, [id(1)], "too late");
}

async fn a_held_instance_is_replaced_or_withdrawn_by_its_key(store: Store) {
    let events = store.events();
    hold(&events, held(1, 10)).await;
    hold(&events, held(2, 20)).await;
    assert_eq!(events.holds_next().await.unwrap(), Some(at(20)));
    assert_eq!(events.holds_release(at(10)).await.unwrap(), 0, "the first one was replaced");
    withdraw(&events, None).await;
    withdraw(&events, None).await;
    assert_eq!((events.holds_release(at(20)).await.unwrap(), pending(&store).await), (0, vec![]));
}

async fn a_timer_fires_each_instant_once(store: Store) {
    let events = store.events();
    let begun = events.timer_state("timer", at(5)).await.unwrap();
    assert_eq!(begun, TimerState { anchor: at(5), last: None });
    assert!(events.timer_fire("timer", at(10), &[instance(1)], 0, at(10)).await.unwrap());
    assert!(!events.timer_fire("timer", at(10), &[instance(2)], 0, at(10)).await.unwrap());
    assert!(!events.timer_fire("timer", at(9), &[instance(3)], 0, at(10)).await.unwrap(), "never backwards");
    assert!(events.timer_fire("timer", at(20), &[], 3, at(20)).await.unwrap(), "passed over");
    assert_eq!(pending(&store).await, [id(1)]);
    let later = events.timer_state("timer", at(99)).await.unwrap();
    assert_eq!(later, TimerState { anchor: at(5), last: Some(at(20)) }, "the anchor holds");
}

async fn instances_are_listed_newest_first_by_what_they_are(store: Store) {
    let events = store.events();
    let other = NewInstance { trigger_type: "core.st2.sensor".parse().unwrap(), occurred_at: at(9), ..instance(3) };
    for new in [instance(1), instance(2), other] {
        accept(&events, &new, at(1)).await.unwrap();
    }
    let list = async |filter: InstanceFilter| {
        let (rows, count) = events.instance_list(&filter, PAGE).await.unwrap();
        (rows.into_iter().map(|row| row.id).collect::<Vec<_>>(), count)
    };
    let of_type = Some("core.st2.webhook".parse().unwrap());
    assert_eq!(list(InstanceFilter::default()).await, (vec![id(3), id(2), id(1)], 3));
    assert_eq!(list(InstanceFilter { trigger_type: of_type, ..Default::default() }).await, (vec![id(2), id(1)], 2));
    assert_eq!(list(InstanceFilter { after: Some(at(1)), ..Default::default() }).await, (vec![id(3)], 1));
    assert_eq!(list(InstanceFilter { before: Some(at(9)), ..Default::default() }).await, (vec![id(2), id(1)], 2));
    let status = Some("processed".to_owned());
    assert_eq!(list(InstanceFilter { status, ..Default::default() }).await, (vec![], 0));
}
