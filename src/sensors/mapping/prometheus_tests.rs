//! The shipped Prometheus pack against what Alertmanager sends, and what it would never send.

use std::collections::BTreeMap;

use super::*;

fn prometheus() -> Mapper {
    Mapper::compile(include_str!("../../../packs/prometheus/sensors/alertmanager.rhai"), "alertmanager.rhai").unwrap()
}

fn request(body: Value) -> WebhookRequest {
    WebhookRequest {
        method: "POST".to_owned(),
        path: "prometheus/alertmanager".to_owned(),
        headers: BTreeMap::from([("user-agent".to_owned(), "Alertmanager/0.25.0".to_owned())]),
        query: BTreeMap::new(),
        body,
        content_type: Some("application/json".to_owned()),
    }
}

/// A group of which one alert fires and one has ended, as Alertmanager 0.25 sends it.
fn group() -> Value {
    json!({
        "receiver": "petrel", "status": "firing",
        "alerts": [
            {
                "status": "firing", "fingerprint": "1c93eec3511dc156",
                "labels": { "alertname": "BackendSlow", "asg": "web", "severity": "critical" },
                "annotations": { "summary": "web p-avg latency 0.31s" },
                "startsAt": "2026-11-20T21:14:05.123Z", "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus:9090/graph?g0.expr=x",
            },
            {
                "status": "resolved", "fingerprint": "a3b7b6d0f5a0c1de",
                "labels": { "alertname": "NodesSaturated", "asg": "web", "severity": "page" },
                "annotations": {},
                "startsAt": "2026-11-20T21:14:06Z", "endsAt": "2026-11-20T21:15:06Z", "generatorURL": "",
            },
        ],
        "groupLabels": { "asg": "web" }, "commonLabels": { "asg": "web", "severity": "critical" },
        "commonAnnotations": {}, "externalURL": "http://alertmanager:9093", "version": "4",
        "groupKey": "{}:{asg=\"web\"}", "truncatedAlerts": 0,
    })
}

fn map(body: Value) -> Result<Vec<Emit>, MapError> {
    prometheus().map(&request(body), &Value::Null)
}

/// The group with other labels on its first alert.
fn labelled(labels: Value, config: &Value) -> Emit {
    let mut body = group();
    body["alerts"][0]["labels"] = labels;
    prometheus().map(&request(body), config).unwrap().remove(0)
}

#[test]
fn each_alert_of_a_group_is_told_by_its_own_status() {
    let emits = map(group()).unwrap();
    let [firing, resolved] = &emits[..] else { panic!("{emits:?}") };
    assert_eq!(
        (firing.trigger.as_str(), resolved.trigger.as_str()),
        ("prometheus.AlertTrigger", "prometheus.ResolvedTrigger")
    );
    let key = "prometheus/1c93eec3511dc156/2026-11-20T21:14:05.123Z/firing";
    assert_eq!((firing.dedupe_key.as_deref(), json!(firing.occurred_at)), (Some(key), firing.payload["at"].clone()));
    let mut payload = firing.payload.clone();
    assert_eq!(payload.as_object_mut().unwrap().remove("alert"), Some(group()["alerts"][0].clone()));
    let expected = json!({
        "source": "prometheus", "incident_key": "prometheus/1c93eec3511dc156", "application": "web", "entities": ["web"],
        "severity": "critical", "state": "open", "at": "2026-11-20T21:14:05.123000Z",
        "message": "web p-avg latency 0.31s", "alert_url": "http://prometheus:9090/graph?g0.expr=x",
        "account": "http://alertmanager:9093", "policy": "petrel", "condition": "BackendSlow",
    });
    assert_eq!(payload, expected);
    let told = &resolved.payload;
    assert_eq!((&told["state"], &told["severity"]), (&json!("closed"), &json!("critical")));
    assert_eq!((&told["at"], &told["alert_url"]), (&json!("2026-11-20T21:15:06.000000Z"), &Value::Null));
    assert_eq!(told["message"], "NodesSaturated is resolved");
}

#[test]
fn what_is_repeated_has_the_same_key_and_what_fires_anew_another() {
    let key = |body: Value| map(body).unwrap().remove(0).dedupe_key;
    let first = key(group());
    let mut repeated = group();
    repeated["status"] = json!("resolved");
    repeated["alerts"][0]["annotations"]["summary"] = json!("web p-avg latency 0.44s");
    assert_eq!(key(repeated), first);
    for (field, value) in [("startsAt", "2026-11-20T22:00:00Z"), ("status", "resolved"), ("fingerprint", "ff")] {
        let mut other = group();
        other["alerts"][0][field] = json!(value);
        assert_ne!(key(other), first, "{field}");
    }
}

#[test]
fn what_an_alert_is_about_stands_in_the_first_label_that_it_has() {
    let about = |labels: Value, config: &Value| {
        let payload = labelled(labels, config).payload;
        assert_eq!(payload["entities"], json!([payload.get("application").or_else(|| payload.get("server"))]));
        (payload.get("application").cloned(), payload.get("server").cloned())
    };
    let (none, name) = (Value::Null, |text: &str| Some(json!(text)));
    assert_eq!(about(json!({ "job": "j", "asg": "g", "application": "a" }), &none), (name("a"), None));
    assert_eq!(about(json!({ "job": "j", "instance": "n1:9100" }), &none), (name("j"), None));
    assert_eq!(about(json!({ "instance": "n1:9100" }), &none), (None, name("n1")));
    assert_eq!(about(json!({ "instance": "[2001:db8::1]:9100" }), &none), (None, name("2001:db8::1")));
    assert_eq!(about(json!({ "alertname": "Watchdog" }), &none), (name("Watchdog"), None));
    let config = json!({ "application_labels": ["team"] });
    assert_eq!(about(json!({ "job": "j", "team": "t" }), &config), (name("t"), None));
}

#[test]
fn only_what_is_known_to_be_critical_is() {
    let severity = |said: &str, config: &Value| {
        labelled(json!({ "job": "j", "severity": said }), config).payload["severity"].clone()
    };
    for (said, means) in [
        ("Critical", "critical"),
        ("page", "critical"),
        ("info", "info"),
        ("none", "info"),
        ("", "warning"),
        ("sev9", "warning"),
    ] {
        assert_eq!(severity(said, &Value::Null), means, "{said}");
    }
    let config = json!({ "critical_severities": ["sev1"] });
    assert_eq!((severity("sev1", &config), severity("page", &config)), (json!("critical"), json!("warning")));
}

#[test]
fn what_alertmanager_would_not_send_is_refused_whole_and_says_why() {
    let with = |change: fn(&mut Value)| {
        let mut body = group();
        change(&mut body);
        body
    };
    for (body, says) in [
        (Value::Null, "no list `alerts`"),
        (json!("alerts"), "no list `alerts`"),
        (json!({ "version": "4", "alerts": {} }), "no list `alerts`"),
        (with(|body| body["version"] = json!("3")), "`version` is 3"),
        (with(|body| body["version"] = json!({})), "`version` is missing"),
        (with(|body| body["alerts"][1] = json!(7)), "no JSON object with `labels`"),
        (with(|body| body["alerts"][1]["labels"] = json!([])), "no JSON object with `labels`"),
        (with(|body| body["alerts"][1]["labels"] = json!({})), "names nothing"),
        (with(|body| body["alerts"][1]["fingerprint"] = json!("")), "no `fingerprint`"),
        (with(|body| body["alerts"][1]["status"] = json!("pending")), "`status` of an alert is pending"),
    ] {
        match map(body) {
            Err(MapError::Rejected { status: 400, reason }) => assert!(reason.contains(says), "{reason}"),
            other => panic!("{says}: {other:?}"),
        }
    }
    assert_eq!(map(json!({ "version": "4", "alerts": [] })).unwrap(), []);
}

#[test]
fn a_group_of_hundreds_is_within_the_bounds_of_a_script() {
    let mut body = group();
    let one = body["alerts"][0].clone();
    let alerts = (0..500).map(|n| {
        let mut alert = one.clone();
        alert["fingerprint"] = json!(format!("{n:016x}"));
        alert
    });
    body["alerts"] = alerts.collect();
    assert_eq!(map(body).unwrap().len(), 500);
}

#[test]
fn a_field_that_is_missing_or_of_another_kind_never_breaks_the_script() {
    let odd = [Value::Null, json!(""), json!(7), json!(true), json!([]), json!([{}]), json!({ "a": 1 }), json!([[1]])];
    for value in &odd {
        for field in group().as_object().unwrap().keys() {
            let mut body = group();
            body[field] = value.clone();
            assert!(!matches!(map(body), Err(MapError::Script(_))), "{field}={value}");
        }
        for field in group()["alerts"][0].as_object().unwrap().keys() {
            let mut body = group();
            body["alerts"][0][field] = value.clone();
            assert!(!matches!(map(body), Err(MapError::Script(_))), "alert's {field}={value}");
        }
        for label in ["alertname", "asg", "severity"] {
            let mut body = group();
            body["alerts"][0]["labels"][label] = value.clone();
            assert!(!matches!(map(body), Err(MapError::Script(_))), "label {label}={value}");
        }
    }
}
