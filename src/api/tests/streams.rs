//! Listening to what happens.

use std::time::Duration;

use axum::body::BodyDataStream;
use axum::http::StatusCode;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::support::{House, request};
use crate::store::output::OutputRow;

/// One event as it came.
#[derive(Debug)]
struct Event {
    id: i64,
    name: String,
    data: Value,
}

/// A listener's end of the stream.
struct Ear(BodyDataStream);

impl Ear {
    async fn open(house: &House, query: &str, last: Option<i64>) -> Self {
        let mut request = request(&house.admin, "GET", &format!("/v1/stream?{query}"), None);
        if let Some(last) = last {
            request.headers_mut().insert("last-event-id", last.into());
        }
        let response = house.open(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=UTF-8");
        Self(response.into_body().into_data_stream())
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let text = String::from_utf8(self.0.next().await?.unwrap().to_vec()).unwrap();
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            if let (Some(id), Some(name), Some(data)) = (field("id:"), field("event:"), field("data:")) {
                let data = serde_json::from_str(data).unwrap();
                return Some(Event { id: id.parse().unwrap(), name: name.to_owned(), data });
            }
            assert_eq!(text, "\n", "only heartbeats are no events");
        }
    }

    async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

async fn run(house: &House) -> String {
    let asked = house.post("/v1/executions", json!({ "action": "core.noop" })).await.json();
    let id = asked["id"].as_str().unwrap().to_owned();
    house.ended(&id).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_hears_of_runs_as_they_happen() {
    let house = House::new().await;
    let mut ear = Ear::open(&house, "", None).await;
    let id = run(&house).await;
    let created = ear.next().await.unwrap();
    assert_eq!((created.name.as_str(), &created.data["id"]), ("st2.execution__create", &json!(id)));
    let updated = ear.next().await.unwrap();
    assert_eq!((updated.name.as_str(), &updated.data["status"]), ("st2.execution__update", &json!("succeeded")));
    assert!(updated.id > created.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_with_the_last_id_misses_nothing_and_hears_nothing_twice() {
    let house = House::new().await;
    let first = run(&house).await;
    let second = run(&house).await;
    let end = format!("end_execution_id={second}");
    let all = Ear::open(&house, &end, Some(0)).await.rest().await;
    let subjects: Vec<(&str, &Value)> = all.iter().map(|event| (event.name.as_str(), &event.data["id"])).collect();
    let (create, update) = ("st2.execution__create", "st2.execution__update");
    let (first, second) = (json!(first), json!(second));
    assert_eq!(subjects, [(create, &first), (update, &first), (create, &second), (update, &second)]);
    let after = Ear::open(&house, &end, Some(all[1].id)).await.rest().await;
    let ids = |events: &[Event]| events.iter().map(|event| event.id).collect::<Vec<_>>();
    assert_eq!(ids(&after), ids(&all[2..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_once_if_what_it_waits_for_is_over() {
    let house = House::new().await;
    let id = run(&house).await;
    let events = Ear::open(&house, &format!("end_execution_id={id}"), None).await.rest().await;
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0].data["id"], &events[0].data["status"]), (&json!(id), &json!("succeeded")));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_heard_by_whoever_asks_for_it_and_only_what_is_new() {
    let house = House::new().await;
    let asked = house.post("/v1/executions", json!({ "action": "core.noop", "delay": 60_000 })).await.json();
    let id = asked["id"].as_str().unwrap().parse().unwrap();
    let line = |sequence: i64, text: &str| OutputRow {
        sequence,
        stream: "stdout".to_owned(),
        text: text.to_owned(),
        written_at: crate::clock::Clock::now(&*house.clock),
    };
    let outputs = &house.doors.stores.outputs;
    outputs.output_append(id, &[line(1, "before\n")]).await.unwrap();
    house.clock.advance(Duration::from_millis(1));
    let query = format!("events=st2.execution.output__create&execution_ids={id}");
    let mut ear = Ear::open(&house, &query, None).await;
    house.clock.advance(Duration::from_millis(1));
    outputs.output_append(id, &[line(2, "one\n"), line(3, "two\n")]).await.unwrap();
    house.clock.advance(Duration::from_secs(2));
    for expected in ["one\n", "two\n"] {
        let event = ear.next().await.unwrap();
        assert_eq!((event.name.as_str(), &event.data["data"]), ("st2.execution.output__create", &json!(expected)));
        assert_eq!(event.data["output_type"], "stdout");
    }
    assert_eq!(house.get(&format!("/v1/executions/{id}/output")).await.body, "before\none\ntwo\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn g11_streams_end_when_the_daemon_stops() {
    let house = House::new().await;
    let ear = Ear::open(&house, "", None).await;
    house.doors.world.supervisor.token().cancel();
    assert!(ear.rest().await.is_empty());
    let ready = house.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready.json()["reasons"][0], "the daemon is stopping");
}
