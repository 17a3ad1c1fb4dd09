use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

fn request(body: Value) -> WebhookRequest {
    WebhookRequest {
        method: "POST".to_owned(),
        path: "hooks/ci".to_owned(),
        headers: BTreeMap::from([("x-event".to_owned(), "push".to_owned())]),
        query: BTreeMap::from([("team".to_owned(), "red".to_owned())]),
        body,
        content_type: Some("application/json".to_owned()),
    }
}

fn map(source: &str, body: Value) -> Result<Vec<Emit>, MapError> {
    Mapper::compile(source, "hook.rhai").unwrap().map(&request(body), &json!({"limit": 3}))
}

fn script_failure(source: &str) -> ScriptFailure {
    match map(source, json!({})) {
        Err(MapError::Script(failure)) => failure,
        other => panic!("{source} gave {other:?}"),
    }
}

#[test]
fn a_script_sees_the_whole_request_and_the_configuration() {
    let source = r#"
        fn map(request, config) {
            emit("ci.seen", #{
                all: `${request.method} ${request.path} ${request.content_type}`,
                event: request.headers["x-event"], team: request.query.team, n: request.body.n, missing: request.body.x,
                limit: config.limit,
            });
        }"#;
    let emits = map(source, json!({"n": [1, 2.5, null, "ü"]})).unwrap();
    let expected = json!({
        "all": "POST hooks/ci application/json", "event": "push", "team": "red", "n": [1, 2.5, null, "ü"],
        "missing": null, "limit": 3,
    });
    assert_eq!(emits.len(), 1);
    assert_eq!(emits[0].payload, expected);
    assert_eq!((emits[0].dedupe_key.as_ref(), emits[0].delay, emits[0].cancels.as_ref()), (None, None, None));
}

#[test]
fn emits_keep_their_order_and_their_options() {
    let source = r#"
        fn map(request) {
            emit("ci.red", #{}, #{ dedupe_key: "k1", cancels: "build", at: 1600000000 });
            emit("ci.green", 7, #{ dedupe_key: "k2", delay: "5m", held_as: "build" });
            emit("ci.green", [], #{ dedupe_key: "k3", delay: 90 });
            emit("ci.now", "x", #{ delay: 0, held_as: "unused", cancels: () });
        }"#;
    let emits = map(source, json!({})).unwrap();
    let names: Vec<_> = emits.iter().map(|emit| emit.trigger.as_str()).collect();
    assert_eq!(names, ["ci.red", "ci.green", "ci.green", "ci.now"]);
    assert_eq!(emits[0].cancels.as_deref(), Some("build"));
    assert_eq!(emits[0].occurred_at, Some("2020-09-13T12:26:40Z".parse().unwrap()));
    assert_eq!((emits[1].delay, emits[1].held_as.as_deref()), (Some(Duration::from_mins(5)), Some("build")));
    assert_eq!((emits[2].delay, emits[2].held_as.as_deref()), (Some(Duration::from_secs(90)), Some("k3")));
    assert_eq!((emits[3].delay, emits[3].held_as.as_deref(), emits[3].cancels.as_deref()), (None, None, None));
}

#[test]
fn what_a_script_throws_is_told_to_the_sender_with_a_4xx() {
    let cases = [
        (r#"throw "missing alert field""#, 400, "missing alert field"),
        (r#"reject("no such branch")"#, 400, "no such branch"),
        (r#"throw #{status: 422, reason: "unprocessable"}"#, 422, "unprocessable"),
        (r#"throw #{status: 200, reason: "not an error status"}"#, 400, "not an error status"),
        (r#"parse_json("{\"a\":")"#, 400, "the text is not JSON: EOF while parsing a value at line 1 column 5"),
        (r#"to_time("soon")"#, 400, "`soon` is not a time"),
        (r#"[1].map(|x| reject("inside a closure"))"#, 400, "inside a closure"),
    ];
    for (statement, status, reason) in cases {
        let outcome = map(&format!("fn helper() {{ {statement} }} fn map(request) {{ helper(); }}"), json!({}));
        assert_eq!(outcome, Err(MapError::Rejected { status, reason: reason.to_owned() }), "{statement}");
    }
}

#[test]
fn a_rejected_request_emits_nothing_of_what_came_before() {
    let mapper =
        Mapper::compile(r#"fn map(r) { emit("a.b", 1); if r.body.bad == true { throw "no" } }"#, "h.rhai").unwrap();
    assert!(mapper.map(&request(json!({"bad": true})), &Value::Null).is_err());
    assert_eq!(mapper.map(&request(json!({})), &Value::Null).unwrap().len(), 1);
}

#[test]
fn a_mistake_in_a_script_is_the_packs_fault_and_has_a_place() {
    let cases = [
        ("\n  let x = request.body.n + nothing;", 2, 28, "Variable not found: nothing"),
        (r"frobnicate(1)", 1, 1, "Function not found: frobnicate"),
        (r#"emit("nodot", 1)"#, 1, 1, "emit: `nodot` is not a reference of the form `pack.name`"),
        (r#"emit("a.b", 1, #{dedupe: "k"})"#, 1, 1, "emit has no option `dedupe`; it has dedupe_key, at, delay"),
        (r#"emit("a.b", 1, #{dedupe_key: 5})"#, 1, 1, "option `dedupe_key` is a i64; write a text"),
        (r#"emit("a.b", 1, #{held_as: "k", delay: "soon"})"#, 1, 1, "option `delay` is `soon`; write as in \"300s\""),
        (r#"emit("a.b", 1, #{delay: "5s"})"#, 1, 1, "a delayed trigger needs a key"),
        (r#"emit("a.b", 1, #{at: "soon"})"#, 1, 1, "option `at` is `soon`, which is not a time"),
        (r#"emit("a.b", #{f: |x| x})"#, 1, 1, "the payload is not plain data"),
        ("timestamp()", 1, 1, "a sensor script has no clock"),
        ("sleep(1)", 1, 1, "a sensor script cannot wait"),
    ];
    for (statement, line, column, message) in cases {
        let failure = script_failure(&format!("fn map(request) {{{statement}}}"));
        let offset = if line == 1 { 17 } else { 0 };
        assert!(failure.message.contains(message), "{statement}: {}", failure.message);
        assert_eq!(
            (failure.file.as_str(), failure.line, failure.column),
            ("hook.rhai", line, column + offset),
            "{statement}"
        );
    }
}

#[test]
fn a_script_gone_wild_is_stopped_whatever_it_tries() {
    let cases = [
        ("loop {}", "Too many operations"),
        ("loop { try { loop {} } catch {} }", "Too many operations"),
        (r#"let s = "x"; loop { s += s; }"#, "Length of string too large"),
        ("let a = []; loop { a.push([1, 2, 3]); }", "Size of array/BLOB too large"),
        (r#"let s = "x"; s.pad(2000000000, "y")"#, "Length of string too large"),
        ("f(1) } fn f(x) { f(x)", "Stack overflow"),
        (r#"loop { emit("a.b", 1); }"#, "more than 1000 triggers"),
    ];
    for (statement, message) in cases {
        let failure = script_failure(&format!("fn map(request) {{ {statement} }}"));
        assert!(failure.message.contains(message), "{statement}: {}", failure.message);
    }
}

#[test]
fn a_script_that_cannot_work_is_refused_with_its_place() {
    let cases = [
        ("fn map(request) {\n  let = 5;\n}", 2, 7, "Expecting name of a variable"),
        ("fn mop(request) {}", 0, 0, "the script has no function `map`; write `fn map(request)`"),
        ("fn map() {}", 0, 0, "function `map` has 0 parameters; write `fn map(request)` or"),
        ("fn map(r) { eval(\"1\") }", 1, 13, "eval"),
        ("import \"other\" as o;\nfn map(r) {}", 1, 1, "import"),
    ];
    for (source, line, column, message) in cases {
        let error = Mapper::compile(source, "hook.rhai").unwrap_err();
        assert_eq!((error.line, error.column), (line, column), "{error}");
        assert!(error.message.contains(message), "{error}");
    }
}

#[test]
fn times_are_read_as_sources_write_them() {
    let cases = [
        (json!(1_479_114_723_260_i64), "2016-11-14T09:12:03.260000Z"),
        (json!("1479114723260"), "2016-11-14T09:12:03.260000Z"),
        (json!(1_479_114_723), "2016-11-14T09:12:03.000000Z"),
        (json!("2014-01-29T20:15:46-00:00"), "2014-01-29T20:15:46.000000Z"),
        (json!("2014-01-29T20:15:46+02:00"), "2014-01-29T18:15:46.000000Z"),
        (json!("2014-01-29 20:15:46"), "2014-01-29T20:15:46.000000Z"),
    ];
    for (time, expected) in cases {
        let emits = map(r#"fn map(request) { emit("a.b", to_time(request.body)) }"#, time.clone()).unwrap();
        assert_eq!(emits[0].payload, json!(expected), "{time}");
    }
    for time in [json!(null), json!(""), json!("soon"), json!(i64::MAX), json!(1.5), json!([])] {
        let outcome = map("fn map(request) { to_time(request.body) }", time.clone());
        assert!(matches!(outcome, Err(MapError::Rejected { .. })), "{time}: {outcome:?}");
    }
}

fn no_http() -> HttpGet {
    Arc::new(|_: &str| Err("not expected".to_owned()))
}

#[test]
fn a_poll_remembers_and_emits_what_is_new() {
    let source = r#"
        fn poll(state, config) {
            let seen = state?.seen ?? 0;
            let items = parse_json(http_get(config.url));
            let fresh = items.filter(|item| item.id > seen);
            #{
                state: #{ seen: items[items.len - 1].id },
                emit: fresh.map(|item| #{ trigger: "feed.item", payload: item, dedupe_key: `item/${item.id}` }),
            }
        }"#;
    let poller = Poller::compile(source, "feed.rhai").unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let http_get: HttpGet = Arc::new(move |url: &str| {
        log.lock().unwrap().push(url.to_owned());
        Ok(r#"[{"id": 1}, {"id": 2}]"#.to_owned())
    });
    let config = json!({"url": "http://feed"});
    let first = poller.poll(&Value::Null, &config, Arc::clone(&http_get)).unwrap();
    let keys: Vec<_> = first.emits.iter().filter_map(|emit| emit.dedupe_key.as_deref()).collect();
    assert_eq!((keys, &first.state), (vec!["item/1", "item/2"], &json!({"seen": 2})));
    let second = poller.poll(&first.state, &config, http_get).unwrap();
    assert_eq!(second, Polled { state: json!({"seen": 2}), emits: vec![] });
    assert_eq!(*asked.lock().unwrap(), ["http://feed", "http://feed"]);
}

#[test]
fn a_poll_that_returns_nothing_keeps_its_state_and_what_it_emitted() {
    let poller = Poller::compile(r#"fn poll(state) { emit("a.b", state); }"#, "p.rhai").unwrap();
    let polled = poller.poll(&json!({"n": 1}), &Value::Null, no_http()).unwrap();
    assert_eq!((polled.state, polled.emits.len()), (json!({"n": 1}), 1));
}

#[test]
fn a_poll_that_fails_says_whether_the_source_or_the_script_did() {
    let poll = |source: &str| Poller::compile(source, "p.rhai").unwrap().poll(&Value::Null, &Value::Null, no_http());
    let gave_up = poll(r#"fn poll(state) { http_get("http://x") }"#);
    assert_eq!(gave_up, Err(PollError::GaveUp { reason: "GET http://x: not expected".to_owned() }));
    let caught = poll(r#"fn poll(state) { try { http_get("http://x"); } catch { return #{ state: "down" }; } }"#);
    assert_eq!(caught.unwrap().state, json!("down"));
    for source in [
        "fn poll(s) { 5 }",
        "fn poll(s) { #{ stat: 1 } }",
        "fn poll(s) { #{ emit: 1 } }",
        "fn poll(s) { #{ emit: [1] } }",
    ] {
        assert!(matches!(poll(source), Err(PollError::Script(_))), "{source}");
    }
}
