//! A child daemon: the real binary over a site, driven by HTTP, killed without warning, and started again.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use petrel::clock::{Clock, SystemClock, sleep};
use petrel::config::Endpoints;
use petrel::store::Store;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::site::Site;
use super::{PATIENCE, eventually};

/// So much of the log is shown when a story fails.
const SHOWN_LOG_BYTES: usize = 8000;

/// A daemon that runs, or the place where one ran.
pub(crate) struct Daemon<'s> {
    site: &'s Site,
    child: Option<Child>,
    client: Client,
    url: String,
    listeners: Vec<String>,
    key: String,
}

impl<'s> Daemon<'s> {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(site: &'s Site) -> Self {
        let daemon = Self::start_unready(site).await;
        daemon.until_ready().await;
        daemon
    }

    /// Starts one that has reason not to be ready yet.
    pub(crate) async fn start_unready(site: &'s Site) -> Self {
        let client = Client::builder().no_proxy().build().unwrap();
        let mut daemon =
            Self { site, child: None, client, url: String::new(), listeners: Vec::new(), key: String::new() };
        daemon.begin(&[]).await;
        daemon
    }

    /// Starts it again after its end.
    pub(crate) async fn restart(&mut self) {
        self.restart_with(&[]).await;
    }

    /// Starts it again with keys of the configuration that differ this time.
    pub(crate) async fn restart_with(&mut self, settings: &[(&str, &str)]) {
        self.begin(settings).await;
        self.until_ready().await;
    }

    async fn begin(&mut self, settings: &[(&str, &str)]) {
        assert!(self.child.is_none(), "it runs already");
        let endpoints = self.data_dir().join("endpoints.json");
        if endpoints.exists() {
            fs::remove_file(&endpoints).unwrap();
        }
        self.child = Some(self.command(settings).spawn().unwrap());
        let found = eventually("the daemon says what it bound", async || {
            self.assert_alive();
            Endpoints::read(&self.data_dir()).ok()
        })
        .await;
        self.url = found.api;
        self.listeners = found.listeners.into_values().collect();
        fs::read_to_string(self.data_dir().join("admin.key")).unwrap().trim().clone_into(&mut self.key);
    }

    /// Starts it again with keys of the configuration that differ this time, and waits for it to give up; gives back why.
    pub(crate) async fn refusal(&mut self, settings: &[(&str, &str)]) -> String {
        assert!(self.child.is_none(), "it runs already");
        let before = self.log().len();
        let mut child = self.command(settings).spawn().unwrap();
        let clock = SystemClock::new();
        let ended = petrel::clock::timeout(&clock, PATIENCE, child.wait()).await.expect("it gives up").unwrap();
        assert!(!ended.success(), "{}", self.log());
        self.log().split_off(before)
    }

    /// Starts one that cannot get far, ends it after a while, and gives back what it logged.
    pub(crate) async fn log_of_waiting(site: &Site, lasting: Duration) -> String {
        let client = Client::new();
        let daemon =
            Daemon { site, child: None, client, url: String::new(), listeners: Vec::new(), key: String::new() };
        let mut child = daemon.command(&[]).spawn().unwrap();
        eventually("it says what it waits for", async || (!daemon.log().is_empty()).then_some(())).await;
        SystemClock::new().sleep_for(lasting).await;
        child.kill().await.unwrap();
        daemon.log()
    }

    /// Waits until it takes events.
    pub(crate) async fn until_ready(&self) {
        eventually("the daemon is ready", async || {
            let answer = self.client.get(format!("{}/readyz", self.url)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    #[expect(clippy::disallowed_methods, reason = "the daemon is a process of its own")]
    fn command(&self, settings: &[(&str, &str)]) -> Command {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_petrel"));
        command.arg("serve").arg("--data-dir").arg(self.data_dir()).args(["--listen", "127.0.0.1:0"]);
        command.current_dir(self.site.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        for (key, value) in self.site.settings().chain(settings.iter().copied()) {
            command.env(format!("PETREL__{}", key.replace('.', "__").to_uppercase()), value);
        }
        command.kill_on_drop(true);
        command
    }

    /// Runs the command line of the same binary against it; gives back what it said, standard error included.
    #[expect(clippy::disallowed_methods, reason = "the client is a process of its own")]
    pub(crate) async fn cli(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_petrel"));
        command.arg("--data-dir").arg(self.data_dir()).args(arguments).current_dir(self.site.path());
        let output = command.output().await.unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    fn assert_alive(&self) {
        let pid = self.pid();
        assert!(!super::is_dead(pid.as_raw_nonzero().get()), "the daemon ended while it started");
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        let id = self.child.as_ref().and_then(Child::id).expect("it runs");
        Pid::from_raw(id.try_into().unwrap()).unwrap()
    }

    /// Ends it as a power cut would, and waits for its last trace.
    pub(crate) async fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().await.unwrap();
    }

    /// The same, and waits until the guards of its children have ended as well.
    pub(crate) async fn kill9_until_guards_end(&mut self) {
        let pid = self.pid();
        // It must not start another one while they are counted.
        kill_process(pid, Signal::STOP).unwrap();
        eventually("it stands still", async || (super::stat(pid.as_raw_nonzero().get())?[0] == "T").then_some(()))
            .await;
        let guards = super::processes::children_of(pid.as_raw_nonzero().get());
        self.kill9().await;
        eventually("its guards end", async || guards.iter().all(|guard| super::is_dead(*guard)).then_some(())).await;
    }

    /// Asks it to end, as a service manager does, and waits for its end.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let mut child = self.child.take().expect("it runs");
        child.wait().await.unwrap()
    }

    /// Where it keeps everything.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.site.path().join("data")
    }

    /// The truth, once the daemon is dead.
    pub(crate) fn store(&self) -> Store {
        assert!(self.child.is_none(), "its store is its own while it runs");
        Store::open_sqlite(&self.data_dir().join("petrel.db"), None).unwrap()
    }

    fn log_file(&self) -> PathBuf {
        self.site.path().join("daemon.log")
    }

    /// Everything it has said so far, over all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Its key of the first admin.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// A request without credentials to a path of the API.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// A request without credentials to each listener of a sensor.
    pub(crate) fn bare_to_listeners(&self, path: &str) -> Vec<RequestBuilder> {
        self.listeners.iter().map(|url| self.client.post(format!("{url}{path}"))).collect()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).header("St2-Api-Key", &self.key)
    }

    /// What a path shows.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.try_get(path).await;
        assert!(status.is_success(), "GET {path}: {status} {body}");
        body
    }

    /// What a path shows, or how it is refused.
    pub(crate) async fn try_get(&self, path: &str) -> (StatusCode, Value) {
        read(self.request(Method::GET, path)).await.unwrap()
    }

    /// How many a list has in all.
    pub(crate) async fn count(&self, path: &str) -> usize {
        let answer = self.request(Method::GET, path).send().await.unwrap();
        answer.headers()["x-total-count"].to_str().unwrap().parse().unwrap()
    }

    /// Sends a body and gives back status and answer.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        read(self.request(Method::POST, path).json(body)).await.unwrap()
    }

    /// Sets what a path names.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = read(self.request(Method::PUT, path).json(body)).await.unwrap();
        assert!(status.is_success(), "PUT {path}: {status} {answer}");
        answer
    }

    /// A webhook's delivery; `None` if the daemon died before it answered.
    pub(crate) async fn deliver(&self, hook: &str, key: Option<&str>, body: &Value) -> Option<Delivered> {
        let mut request = self.request(Method::POST, &format!("/v1/webhooks/{hook}")).json(body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let answer = request.send().await.ok()?;
        let instance = answer.headers().get("x-trigger-instance-id");
        let instance = instance.map(|id| id.to_str().unwrap().to_owned()).unwrap_or_default();
        Some(Delivered { status: answer.status(), instance })
    }

    /// Asks for a run and gives back its id.
    pub(crate) async fn run(&self, action: &str, parameters: Value) -> String {
        self.run_later(action, parameters, 0).await
    }

    /// Asks for a run after a while.
    pub(crate) async fn run_later(&self, action: &str, parameters: Value, delay_millis: u64) -> String {
        let mut wanted = json!({ "action": action, "delay": delay_millis });
        wanted["parameters"] = parameters;
        let (status, answer) = self.post("/v1/executions", &wanted).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// The execution as it is shown.
    pub(crate) async fn execution(&self, id: &str) -> Value {
        self.get(&format!("/v1/executions/{id}")).await
    }

    /// The execution once it is as wanted.
    pub(crate) async fn until(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = eventually("an execution gets there", async || {
            last = self.execution(id).await;
            wanted(&last).then(|| last.clone())
        });
        found.await
    }

    /// The execution when it is over.
    pub(crate) async fn end_of(&self, id: &str) -> Value {
        self.until(id, |row| is_over(&row["status"])).await
    }

    /// Waits until no event and no execution is unfinished.
    pub(crate) async fn until_idle(&self) {
        let idle = async || {
            // What was an event in the first look may be an execution in the second.
            (self.is_idle().await && self.is_idle().await).then_some(())
        };
        eventually("everything is done", idle).await;
    }

    /// How often it has committed in this life, as its database's write-ahead log has it: a frame that ends a commit
    /// carries the size of the database.
    pub(crate) fn commits(&self) -> usize {
        const HEADER: usize = 32;
        const FRAME: usize = 24 + 4096;
        let log = fs::read(self.data_dir().join("petrel.db-wal")).unwrap();
        let salt = log.get(16..24);
        let frames = log.get(HEADER..).unwrap_or_default().chunks_exact(FRAME);
        let written = frames.take_while(|frame| frame.get(8..16) == salt);
        written.filter(|frame| frame.get(4..8) != Some(&[0; 4])).count()
    }

    /// Waits until it has committed so often, or has nothing left to do. `false`: it did not get there.
    pub(crate) async fn until_commits(&self, wanted: usize) -> bool {
        let clock = SystemClock::new();
        let mut looks = 0_u32;
        while clock.monotonic() < PATIENCE {
            if self.commits() >= wanted {
                return true;
            }
            looks += 1;
            if looks.is_multiple_of(200) && self.is_idle().await && self.is_idle().await {
                return self.commits() >= wanted;
            }
            // Commits follow each other within a millisecond or two: looking less often would miss some.
            sleep(&clock, Duration::from_millis(1)).await;
        }
        panic!("neither {wanted} commits nor at rest within {PATIENCE:?}");
    }

    async fn is_idle(&self) -> bool {
        let status = self.get("/v1/status").await;
        let by_status = status["executions_by_status"].as_object().unwrap();
        status["pending_instances"] == 0 && by_status.keys().all(|status| is_over(&json!(status)))
    }
}

/// How a webhook was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) status: StatusCode,
    pub(crate) instance: String,
}

/// Has an execution with this status ended?
pub(crate) fn is_over(status: &Value) -> bool {
    status
        .as_str()
        .is_some_and(|text| text.parse::<petrel::model::execution::ExecutionStatus>().unwrap().is_completed())
}

async fn read(request: RequestBuilder) -> reqwest::Result<(StatusCode, Value)> {
    let answer = request.send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

impl Drop for Daemon<'_> {
    #[expect(clippy::print_stderr, reason = "whoever reads of the failure wants to read this")]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let log = self.log();
        let from = log.floor_char_boundary(log.len().saturating_sub(SHOWN_LOG_BYTES));
        eprintln!("the daemon said:\n{}", log.get(from..).unwrap_or_default());
    }
}
