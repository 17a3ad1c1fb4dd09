//! Polling sensors end to end: a source that speaks HTTP, a script that remembers, rules that act.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use petrel::store::events::InstanceFilter;
use petrel::store::rows::Page;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::eventually;
use crate::support::site::{Running, Site};

/// A source that counts: its answer grows by one line whenever the test says so.
#[derive(Clone, Default)]
struct Source {
    lines: Arc<Mutex<Vec<&'static str>>>,
    asked: watch::Sender<u64>,
}

impl Source {
    /// Gives back the URL.
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let source = self.clone();
        let answer = move || {
            source.asked.send_modify(|times| *times += 1);
            let lines = source.lines.lock().expect("the lines").join("\n");
            async move { lines }
        };
        let router = Router::new().route("/", get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn say(&self, line: &'static str) {
        self.lines.lock().expect("the lines").push(line);
    }

    /// Until it has been asked so often again.
    async fn asked_again(&self, times: u64) {
        let mut asked = self.asked.subscribe();
        let until = *asked.borrow() + times;
        asked.wait_for(|now| *now >= until).await.expect("the source is there");
    }
}

const PACK: &str = "name: feed\nversion: 1.0.0\ndescription: d\nauthor: a\nemail: a@b.c\n";
const CONFIG_SCHEMA: &str = "url: {type: string, required: true}\nprefix: {type: string, default: line}\n";
const SCRIPT: &str = r#"
    fn poll(state, config) {
        let seen = if state == () { 0 } else { state.seen };
        let lines = http_get(config.url).split("\n");
        lines.retain(|line| line != "");
        for i in seen..lines.len() {
            emit("feed.line", #{ text: `${config.prefix} ${lines[i]}` });
        }
        #{ state: #{ seen: lines.len() } }
    }
"#;

fn sensor(name: &str, script: &str) -> String {
    format!(
        "name: {name}\ndescription: d\nenabled: true\npolling: {{every: 100ms, script: {script}}}\n\
         trigger_types:\n  - {{name: {name}_type, description: d}}\n"
    )
}

fn site(url: &str) -> Site {
    Site::new()
        .setting("packs", "")
        .file("packs/feed/pack.yaml", PACK)
        .file("packs/feed/config.schema.yaml", CONFIG_SCHEMA)
        .file("configs/feed.yaml", &format!("url: {url}\n"))
        .file("packs/feed/triggers/line.yaml", "name: line\ndescription: d\n")
        .file("packs/feed/sensors/lines.yaml", &sensor("lines", "lines.rhai"))
        .file("packs/feed/sensors/lines.rhai", SCRIPT)
}

fn with_packs(site: Site) -> Site {
    let packs = site.path().join("packs").display().to_string();
    site.setting("packs", &packs)
}

/// The texts of all lines that became events, once there are so many.
async fn lines(running: &Running, many: usize) -> Vec<String> {
    let events = running.engine.store.events();
    eventually("the lines become events", async || {
        let page = Page { limit: 100, offset: 0 };
        let (found, _) = events.instance_list(&InstanceFilter::default(), page).await.expect("the instances");
        let of_feed = found.iter().filter(|instance| instance.trigger_type.as_str() == "feed.line");
        let mut texts: Vec<String> =
            of_feed.map(|instance| instance.payload["text"].as_str().expect("a text").to_owned()).collect();
        texts.sort();
        (texts.len() >= many).then_some(texts)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_polled_source_becomes_events_and_what_was_read_is_not_read_again_after_a_restart() {
    let source = Source::default();
    let site = with_packs(site(&source.serve().await));
    source.say("a");
    let running = site.start().await;
    assert_eq!(lines(&running, 1).await, ["line a"]);
    // The state of one poll is written before the next begins.
    source.asked_again(2).await;
    running.stop().await;
    source.say("b");
    let running = site.start().await;
    assert_eq!(lines(&running, 2).await, ["line a", "line b"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sensor_that_fails_stops_nobody_and_works_once_it_is_mended() {
    let source = Source::default();
    let url = source.serve().await;
    let site = with_packs(site(&url))
        .file("packs/feed/sensors/bad.yaml", &sensor("bad", "bad.rhai"))
        .file("packs/feed/sensors/bad.rhai", "fn poll(state) { throw \"no\" }")
        .file("packs/feed/sensors/gone.yaml", &sensor("gone", "gone.rhai"))
        .file("packs/feed/sensors/gone.rhai", "fn poll(state) { http_get(\"http://127.0.0.1:1/\") }");
    let running = site.start().await;
    source.say("a");
    assert_eq!(lines(&running, 1).await, ["line a"]);
    let mended = SCRIPT.replace("state == ()", "state == () || !(\"seen\" in state)");
    site.write("packs/feed/sensors/bad.rhai", &mended.replace("config.prefix", "\"mended\""));
    assert_eq!(lines(&running, 2).await, ["line a", "mended a"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sensor_whose_file_is_removed_is_polled_no_more() {
    let (source, other) = (Source::default(), Source::default());
    let script = format!("fn poll(state) {{ http_get(\"{}\"); () }}", other.serve().await);
    let site = with_packs(site(&source.serve().await))
        .file("packs/feed/sensors/stays.yaml", &sensor("stays", "stays.rhai"))
        .file("packs/feed/sensors/stays.rhai", &script);
    let running = site.start().await;
    source.asked_again(1).await;
    std::fs::remove_file(site.path().join("packs/feed/sensors/lines.yaml")).expect("the file was there");
    let mut catalogue = running.engine.catalogue.clone();
    let gone = catalogue.wait_for(|now| now.sensors.keys().all(|sensor| sensor.as_str() != "feed.lines")).await;
    drop(gone.expect("the catalogue"));
    // A poll that was under way may still end.
    other.asked_again(2).await;
    let asked = *source.asked.borrow();
    other.asked_again(5).await;
    assert_eq!(*source.asked.borrow(), asked, "nobody asks any more");
    running.stop().await;
}
