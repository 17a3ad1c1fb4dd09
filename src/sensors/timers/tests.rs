use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::time::Timestamp;
use crate::model::trigger::Trigger;

use super::*;

fn trigger(trigger_type: &str, parameters: Value) -> Trigger {
    let parameters: BTreeMap<String, Value> = serde_json::from_value(parameters).unwrap();
    Trigger { trigger_type: trigger_type.parse().unwrap(), parameters }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn timer(trigger_type: &str, parameters: Value, anchor: &str) -> Timer {
    Timer { schedule: Schedule::parse(&trigger(trigger_type, parameters)).unwrap(), anchor: time(anchor) }
}

/// The first `count` instants after the anchor, to the second.
fn instants(timer: &Timer, count: usize) -> Vec<String> {
    std::iter::successors(timer.next_after(timer.anchor), |instant| timer.next_after(*instant))
        .take(count)
        .map(|instant| instant.to_string().replace(".000000Z", "Z"))
        .collect()
}

/// Fields, time zone, start, and the first four instants.
type CronCase = (&'static [(&'static str, &'static str)], &'static str, &'static str, &'static [&'static str]);

/// Every row was computed by APScheduler 3.11.0.
#[rustfmt::skip]
const APSCHEDULER: &[CronCase] = &[
    (&[("hour", "5")], "UTC", "2026-03-01T00:00:01Z", &["2026-03-01T05:00:00Z", "2026-03-02T05:00:00Z", "2026-03-03T05:00:00Z", "2026-03-04T05:00:00Z"]),
    (&[("minute", "*/20")], "UTC", "2026-03-01T22:45:01Z", &["2026-03-01T23:00:00Z", "2026-03-01T23:20:00Z", "2026-03-01T23:40:00Z", "2026-03-02T00:00:00Z"]),
    (&[("second", "*/25")], "UTC", "2026-03-01T23:59:01Z", &["2026-03-01T23:59:25Z", "2026-03-01T23:59:50Z", "2026-03-02T00:00:00Z", "2026-03-02T00:00:25Z"]),
    (&[("day_of_week", "0")], "UTC", "2026-03-01T00:00:01Z", &["2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z", "2026-03-16T00:00:00Z", "2026-03-23T00:00:00Z"]),
    (&[("day_of_week", "mon-fri"), ("hour", "9"), ("minute", "30")], "Europe/Paris", "2026-03-06T00:00:01Z", &["2026-03-06T08:30:00Z", "2026-03-09T08:30:00Z", "2026-03-10T08:30:00Z", "2026-03-11T08:30:00Z"]),
    (&[("day", "13"), ("day_of_week", "fri")], "UTC", "2026-01-01T00:00:01Z", &["2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z", "2026-11-13T00:00:00Z", "2027-08-13T00:00:00Z"]),
    (&[("day", "last")], "UTC", "2026-01-05T00:00:01Z", &["2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z", "2026-04-30T00:00:00Z"]),
    (&[("day", "2nd fri"), ("hour", "18")], "America/New_York", "2026-01-05T00:00:01Z", &["2026-01-09T23:00:00Z", "2026-02-13T23:00:00Z", "2026-03-13T22:00:00Z", "2026-04-10T22:00:00Z"]),
    (&[("day", "last sun"), ("hour", "4")], "UTC", "2026-01-05T00:00:01Z", &["2026-01-25T04:00:00Z", "2026-02-22T04:00:00Z", "2026-03-29T04:00:00Z", "2026-04-26T04:00:00Z"]),
    (&[("day", "5th wed")], "UTC", "2026-01-01T00:00:01Z", &["2026-04-29T00:00:00Z", "2026-07-29T00:00:00Z", "2026-09-30T00:00:00Z", "2026-12-30T00:00:00Z"]),
    (&[("day", "1,15,last")], "UTC", "2026-02-02T00:00:01Z", &["2026-02-15T00:00:00Z", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z", "2026-03-15T00:00:00Z"]),
    (&[("week", "10")], "UTC", "2026-01-01T00:00:01Z", &["2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z", "2026-03-04T00:00:00Z", "2026-03-05T00:00:00Z"]),
    (&[("week", "53")], "UTC", "2026-01-01T00:00:01Z", &["2026-12-28T00:00:00Z", "2026-12-29T00:00:00Z", "2026-12-30T00:00:00Z", "2026-12-31T00:00:00Z"]),
    (&[("week", "1"), ("day_of_week", "sun"), ("hour", "12")], "UTC", "2026-06-01T00:00:01Z", &["2027-01-10T12:00:00Z", "2028-01-09T12:00:00Z", "2029-01-07T12:00:00Z", "2030-01-06T12:00:00Z"]),
    (&[("month", "feb"), ("day", "29")], "UTC", "2026-01-01T00:00:01Z", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z", "2036-02-29T00:00:00Z", "2040-02-29T00:00:00Z"]),
    (&[("month", "jun-aug"), ("day", "10-20/5")], "UTC", "2026-06-12T00:00:01Z", &["2026-06-15T00:00:00Z", "2026-06-20T00:00:00Z", "2026-07-10T00:00:00Z", "2026-07-15T00:00:00Z"]),
    (&[("month", "*/5")], "UTC", "2026-01-01T00:00:01Z", &["2026-06-01T00:00:00Z", "2026-11-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-06-01T00:00:00Z"]),
    (&[("year", "2030-2040/4")], "Asia/Tokyo", "2026-01-01T00:00:01Z", &["2029-12-31T15:00:00Z", "2033-12-31T15:00:00Z", "2037-12-31T15:00:00Z"]),
    (&[("year", "2024")], "UTC", "2026-01-01T00:00:01Z", &[]),
    (&[("hour", "8-18/4"), ("minute", "15,45")], "Asia/Kolkata", "2026-05-05T05:00:01Z", &["2026-05-05T06:45:00Z", "2026-05-05T07:15:00Z", "2026-05-05T10:45:00Z", "2026-05-05T11:15:00Z"]),
    (&[("minute", "5/20")], "UTC", "2026-05-05T05:30:01Z", &["2026-05-05T05:45:00Z", "2026-05-05T06:05:00Z", "2026-05-05T06:25:00Z", "2026-05-05T06:45:00Z"]),
    (&[("hour", "*")], "Australia/Lord_Howe", "2026-05-05T05:30:01Z", &["2026-05-05T06:30:00Z", "2026-05-05T07:30:00Z", "2026-05-05T08:30:00Z", "2026-05-05T09:30:00Z"]),
];

#[test]
fn cron_fields_mean_what_apscheduler_means() {
    for (fields, timezone, start, expected) in APSCHEDULER {
        let mut parameters: Value = fields.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
        parameters["timezone"] = json!(timezone);
        let timer = timer(CRON_TIMER, parameters, start);
        assert_eq!(instants(&timer, 4), *expected, "{fields:?} in {timezone}");
    }
}

#[test]
fn numbers_and_texts_are_the_same_fields() {
    let numbers = timer(CRON_TIMER, json!({"hour": 5, "minute": 30, "second": null}), "2026-03-01T00:00:00Z");
    let texts = timer(CRON_TIMER, json!({"hour": "5", "minute": " 30 "}), "2026-03-01T00:00:00Z");
    assert_eq!(instants(&numbers, 3), instants(&texts, 3));
}

#[test]
fn crontab_text_means_what_crontab_means() {
    // 2026-03-01 is a Sunday.
    let cases: [(&str, &[&str]); 11] = [
        ("*/5 * * * *", &["2026-03-01T00:05:00Z", "2026-03-01T00:10:00Z"]),
        ("0 12 * * 1", &["2026-03-02T12:00:00Z", "2026-03-09T12:00:00Z"]),
        ("0 12 * * 0", &["2026-03-01T12:00:00Z", "2026-03-08T12:00:00Z"]),
        ("0 12 * * 7", &["2026-03-01T12:00:00Z", "2026-03-08T12:00:00Z"]),
        ("0 12 * * fri-sun", &["2026-03-01T12:00:00Z", "2026-03-06T12:00:00Z", "2026-03-07T12:00:00Z"]),
        ("0 12 * * Mon-Fri", &["2026-03-02T12:00:00Z", "2026-03-03T12:00:00Z"]),
        ("0 0 13 * fri", &["2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z", "2026-03-20T00:00:00Z"]),
        ("0 0 14 * fri", &["2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z", "2026-03-14T00:00:00Z"]),
        ("0 0 29 feb *", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
        ("15,45 8-18/4 * * *", &["2026-03-01T08:15:00Z", "2026-03-01T08:45:00Z", "2026-03-01T12:15:00Z"]),
        ("@weekly", &["2026-03-08T00:00:00Z", "2026-03-15T00:00:00Z"]),
    ];
    for (text, expected) in cases {
        let timer = timer(CRON_TIMER, json!({"cron": text}), "2026-03-01T00:00:01Z");
        assert_eq!(instants(&timer, expected.len()), expected, "{text}");
    }
}

#[test]
fn a_time_that_the_clock_skips_or_repeats_fires_once_and_every_hour_means_every_hour() {
    // In Paris the clock skips 02:00 to 03:00 on 2026-03-29 (at 01:00Z) and repeats it on 2026-10-25.
    let spring = "2026-03-28T12:00:00Z";
    let autumn = "2026-10-24T12:00:00Z";
    let cases: [(Value, &str, &[&str]); 8] = [
        (json!({"hour": 2, "minute": 30}), spring, &["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]),
        (json!({"hour": 2, "minute": 30}), autumn, &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
        (json!({"cron": "30 2 * * *"}), spring, &["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]),
        (json!({"cron": "30 2 * * *"}), autumn, &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
        // 02:30 (skipped, at 01:30Z) comes after 03:00 (at 01:00Z), and 02:00 is the same instant as 03:00.
        (
            json!({"hour": "2-3", "minute": "*/30"}),
            spring,
            &["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"],
        ),
        (json!({"hour": "2,3"}), autumn, &["2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z", "2026-10-26T01:00:00Z"]),
        (
            json!({"minute": 0}),
            "2026-03-28T23:30:00Z",
            &["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"],
        ),
        (
            json!({"cron": "0 * * * *"}),
            "2026-10-24T23:30:00Z",
            &["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"],
        ),
    ];
    for (mut parameters, start, expected) in cases {
        parameters["timezone"] = json!("Europe/Paris");
        let timer = timer(CRON_TIMER, parameters.clone(), start);
        assert_eq!(instants(&timer, expected.len()), expected, "{parameters} from {start}");
    }
}

#[test]
fn a_day_that_a_whole_country_skipped_fires_at_the_instant_it_would_have_had() {
    let samoa = timer(CRON_TIMER, json!({"hour": 9, "timezone": "Pacific/Apia"}), "2011-12-29T00:00:00Z");
    assert_eq!(instants(&samoa, 3), ["2011-12-29T19:00:00Z", "2011-12-30T19:00:00Z", "2011-12-31T19:00:00Z"]);
}

#[test]
fn what_never_comes_is_none_and_soon_so() {
    let never = [
        json!({"month": 2, "day": 30}),
        json!({"cron": "0 0 31 4,6 *"}),
        json!({"month": 6, "week": 1}),
        json!({"year": 2025}),
    ];
    for parameters in never {
        let timer = timer(CRON_TIMER, parameters.clone(), "2026-01-01T00:00:00Z");
        assert_eq!(timer.next_after(timer.anchor), None, "{parameters}");
    }
    let far = timer(CRON_TIMER, json!({"year": 9000}), "2026-01-01T00:00:00Z");
    assert_eq!(instants(&far, 9), ["9000-01-01T00:00:00Z"]);
}

#[test]
fn intervals_are_counted_from_the_anchor_whoever_asks_when() {
    let timer = timer(INTERVAL_TIMER, json!({"unit": "minutes", "delta": 7}), "2026-11-21T08:00:03.5Z");
    assert_eq!(timer.next_after(time("2020-01-01T00:00:00Z")), Some(time("2026-11-21T08:07:03.5Z")));
    assert_eq!(timer.next_after(time("2026-11-21T08:07:03.499999Z")), Some(time("2026-11-21T08:07:03.5Z")));
    assert_eq!(timer.next_after(time("2026-11-21T08:07:03.5Z")), Some(time("2026-11-21T08:14:03.5Z")));
    assert_eq!(timer.next_after(time("2026-11-28T08:00:00Z")), Some(time("2026-11-28T08:00:03.5Z")));
}

#[test]
fn every_unit_has_its_length() {
    let lengths = [("seconds", 1), ("minutes", 60), ("hours", 3_600), ("days", 86_400), ("weeks", 604_800)];
    for (unit, seconds) in lengths {
        let timer = timer(INTERVAL_TIMER, json!({"unit": unit, "delta": 3}), "2026-01-01T00:00:00Z");
        assert_eq!(timer.next_after(timer.anchor).unwrap().since(timer.anchor), Duration::from_secs(3 * seconds));
    }
}

#[test]
fn a_date_fires_once_and_not_if_it_was_past_when_first_seen() {
    let dates = [
        (json!({"date": "2026-11-21T08:30:00Z"}), "2026-11-21T08:30:00Z"),
        (json!({"date": "2026-11-21T08:30:00+02:00", "timezone": "Asia/Tokyo"}), "2026-11-21T06:30:00Z"),
        (json!({"date": "2026-11-21 08:30:00", "timezone": "America/New_York"}), "2026-11-21T13:30:00Z"),
        (json!({"date": "2026-11-21"}), "2026-11-21T00:00:00Z"),
    ];
    for (parameters, instant) in dates {
        assert_eq!(instants(&timer(DATE_TIMER, parameters.clone(), "2026-11-20T00:00:00Z"), 5), [instant]);
        assert!(instants(&timer(DATE_TIMER, parameters, "2026-11-22T00:00:00Z"), 5).is_empty());
    }
}

#[test]
fn mistakes_name_the_field_and_what_to_write() {
    let cases = [
        (CRON_TIMER, json!({"minute": "61"}), "timer field `minute`: `61` is not a value of it; write *, */n, a, a-b"),
        (CRON_TIMER, json!({"minute": "*/0"}), "`minute`: the step in `*/0` is not a number from 1 on"),
        (CRON_TIMER, json!({"minute": "*/60"}), "`minute`: the step in `*/60` is larger than its range 0-59"),
        (CRON_TIMER, json!({"hour": "18-8"}), "`hour`: `18-8` begins after its end; swap the two"),
        (CRON_TIMER, json!({"hour": ""}), "`hour`: `` is not a value of it"),
        (CRON_TIMER, json!({"hour": [8]}), "`hour`: [8] is neither a number nor a text"),
        (CRON_TIMER, json!({"day_of_week": "7"}), "`day_of_week`: `7` is not a value of it"),
        (CRON_TIMER, json!({"day_of_week": "mon-friday"}), "`friday` in `mon-friday` is not a value of it"),
        (CRON_TIMER, json!({"day": "6th fri"}), "`day`: `6th` is not a position in the month; write 1st, 2nd"),
        (CRON_TIMER, json!({"day": "2nd friday"}), "`day`: `friday` is not a weekday; write mon, tue"),
        (CRON_TIMER, json!({"minutes": 5}), "`minutes`: this timer has no such field; it has year, month, day"),
        (CRON_TIMER, json!({}), "`cron`: no field is given; write for example"),
        (CRON_TIMER, json!({"cron": "* * * *"}), "`cron`: `* * * *` has 4 fields; write five fields"),
        (CRON_TIMER, json!({"cron": "@reboot"}), "`cron`: `@reboot` has 1 fields; write five fields"),
        (CRON_TIMER, json!({"cron": "* 24 * * *"}), "`cron hour`: `24` is not a value of it"),
        (CRON_TIMER, json!({"cron": "* * * * 8"}), "`cron day of week`: `8` is not a value of it"),
        (CRON_TIMER, json!({"cron": "@daily", "hour": 5}), "`hour`: this timer has no such field; it has cron"),
        (CRON_TIMER, json!({"hour": 5, "timezone": "Paris"}), "`timezone`: `Paris` is not known"),
        (
            CRON_TIMER,
            json!({"hour": 5, "misfire": "later"}),
            "`misfire`: `later` is not a policy; write once, skip or all",
        ),
        (INTERVAL_TIMER, json!({"unit": "minutes"}), "`delta`: it is missing; write a whole number"),
        (INTERVAL_TIMER, json!({"unit": "minutes", "delta": 0}), "`delta`: 0 is not a positive whole number"),
        (INTERVAL_TIMER, json!({"unit": "minutes", "delta": 1.5}), "`delta`: 1.5 is not a positive whole number"),
        (
            INTERVAL_TIMER,
            json!({"unit": "weeks", "delta": i64::MAX}),
            "`delta`: 9223372036854775807 of that unit is too long",
        ),
        (
            INTERVAL_TIMER,
            json!({"unit": "month", "delta": 1}),
            "`unit`: \"month\" is not a unit; write seconds, minutes",
        ),
        (DATE_TIMER, json!({"date": "tomorrow"}), "`date`: `tomorrow` is not a date"),
        (DATE_TIMER, json!({"date": 20_261_121}), "`date`: 20261121 is not a date in quotes"),
        ("core.st2.webhook", json!({}), "`type`: `core.st2.webhook` is not a timer; use core.st2.IntervalTimer"),
    ];
    for (trigger_type, parameters, expected) in cases {
        let message = Schedule::parse(&trigger(trigger_type, parameters)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}\nlacks {expected}");
    }
}

const GRACE: Duration = Duration::from_secs(2);

fn due_at(timer: &Timer, last_fired: Option<&str>, now: &str, policy: Misfire) -> (Vec<String>, u64, String) {
    let due = due(timer, last_fired.map(time), time(now), policy, GRACE);
    let short = |instant: &Timestamp| instant.to_string().replace(".000000Z", "Z");
    (
        due.instants.iter().map(short).collect(),
        due.missed_dropped,
        due.next.map_or_else(String::new, |next| short(&next)),
    )
}

#[test]
fn an_instant_on_time_is_fired_under_every_policy_and_only_once() {
    let minutely = timer(INTERVAL_TIMER, json!({"unit": "minutes", "delta": 1}), "2026-01-01T00:00:00Z");
    for policy in [Misfire::Once, Misfire::Skip, Misfire::All] {
        let first = due_at(&minutely, None, "2026-01-01T00:01:01.9Z", policy);
        assert_eq!(first, (vec!["2026-01-01T00:01:00Z".to_owned()], 0, "2026-01-01T00:02:00Z".to_owned()));
        let again = due_at(&minutely, Some("2026-01-01T00:01:00Z"), "2026-01-01T00:01:02Z", policy);
        assert_eq!(again, (vec![], 0, "2026-01-01T00:02:00Z".to_owned()));
    }
}

#[test]
fn after_downtime_the_policy_decides() {
    let daily = timer(CRON_TIMER, json!({"hour": 4}), "2026-01-01T00:00:00Z");
    let (last, now) = (Some("2026-01-02T04:00:00Z"), "2026-01-05T12:00:00Z");
    let next = "2026-01-06T04:00:00Z".to_owned();
    let day = |day: u8| format!("2026-01-0{day}T04:00:00Z");
    assert_eq!(due_at(&daily, last, now, Misfire::Once), (vec![day(5)], 2, next.clone()));
    assert_eq!(due_at(&daily, last, now, Misfire::Skip), (vec![], 3, next.clone()));
    assert_eq!(due_at(&daily, last, now, Misfire::All), (vec![day(3), day(4), day(5)], 0, next.clone()));
    let on_time = "2026-01-05T04:00:01Z";
    assert_eq!(due_at(&daily, last, on_time, Misfire::Once), (vec![day(5)], 2, next.clone()));
    assert_eq!(due_at(&daily, last, on_time, Misfire::Skip), (vec![day(5)], 2, next.clone()));
    assert_eq!(due_at(&daily, last, on_time, Misfire::All), (vec![day(3), day(4), day(5)], 0, next));
}

#[test]
fn catching_up_is_bounded_and_the_rest_is_counted() {
    let minutely = timer(INTERVAL_TIMER, json!({"unit": "minutes", "delta": 1}), "2026-01-01T00:00:00Z");
    let due = due(&minutely, None, time("2026-01-01T10:00:30Z"), Misfire::All, GRACE);
    assert_eq!((due.instants.len(), due.missed_dropped), (100, 500));
    assert_eq!(due.instants.last(), Some(&time("2026-01-01T10:00:00Z")));
    assert!(due.instants.is_sorted_by(|a, b| a < b));
}

#[test]
fn years_of_missed_seconds_are_passed_over_quickly() {
    let secondly = timer(CRON_TIMER, json!({"second": "*"}), "2020-01-01T00:00:00Z");
    let due = due(&secondly, None, time("2026-01-01T00:00:00Z"), Misfire::All, GRACE);
    assert_eq!(due.instants.len(), 103); // 100 late ones, and three within the grace time
    assert_eq!(due.instants.first(), Some(&time("2025-12-31T23:58:18Z")));
    assert!(due.missed_dropped >= 100_000, "{}", due.missed_dropped);
    assert_eq!(due.next, Some(time("2026-01-01T00:00:01Z")));
}

#[test]
fn a_clock_that_was_set_back_fires_nothing_twice() {
    let minutely = timer(INTERVAL_TIMER, json!({"unit": "minutes", "delta": 1}), "2026-01-01T00:00:00Z");
    let back = due_at(&minutely, Some("2026-01-01T05:00:00Z"), "2026-01-01T04:00:00Z", Misfire::All);
    assert_eq!(back, (vec![], 0, "2026-01-01T05:01:00Z".to_owned()));
}

#[test]
fn a_fired_timer_says_when_and_why_under_a_key_of_its_own() {
    let trigger = trigger(INTERVAL_TIMER, json!({"unit": "seconds", "delta": 30}));
    let payload = timer_payload(&trigger, time("2026-11-21T08:30:00Z"), time("2026-11-21T08:30:00.25Z"));
    let expected = json!({
        "executed_at": "2026-11-21T08:30:00.250000Z",
        "scheduled_at": "2026-11-21T08:30:00.000000Z",
        "schedule": {"unit": "seconds", "delta": 30},
    });
    assert_eq!(payload, expected);
    let key = timer_dedupe_key(&trigger, time("2026-11-21T08:30:00Z"));
    assert_eq!(key, r#"core.st2.IntervalTimer{delta=30,unit="seconds"}@2026-11-21T08:30:00.000000Z"#);
}
