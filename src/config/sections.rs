//! The sections of `petrel.toml` with their defaults: one type and one reading function each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::auth::WebhookAuth;
use crate::config::ConfigError;
use crate::config::bus::{self, Bus};
use crate::config::cluster::{self, LocalNodes, Role, Secrets, Store};
use crate::config::listening::{self, AllowedHosts, Networks};
use crate::config::reader::{Mistakes, Section, address, count, duration, duration_or_zero, flag, text, texts};
use crate::config::rights::{self, Auth, Runners};
use crate::config::source::Entry;

/// Everything that the operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where everything is kept. `./.petrel`
    pub data_dir: PathBuf,
    /// Where the API listens; port 0 takes a free one. `127.0.0.1:9101`
    pub listen: SocketAddr,
    /// Proxies whose `X-Forwarded-For` and `Forwarded` name the client. None
    pub trusted_proxies: Networks,
    /// Names under which the listeners may be called, beside the loopback names and the listen address. Without it names
    /// are checked where a listener listens on loopback only.
    pub allowed_hosts: Option<AllowedHosts>,
    /// Folders with packs.
    pub packs: Vec<PathBuf>,
    /// What this daemon does. Everything
    pub roles: BTreeSet<Role>,
    /// `[store]`
    pub store: Store,
    /// `[secrets]`
    pub secrets: Secrets,
    /// `[local]`
    pub local: LocalNodes,
    /// `[limits]`
    pub limits: Limits,
    /// `[workers]`
    pub workers: Workers,
    /// `[retention]`
    pub retention: Retention,
    /// `[server]`
    pub server: Server,
    /// `[listeners.NAME]`, by the name that a sensor gives its listener.
    pub listeners: BTreeMap<String, Listener>,
    /// `[webhooks]`
    pub webhooks: Webhooks,
    /// `[auth]`
    pub auth: Auth,
    /// `[runners]`
    pub runners: Runners,
    /// `[bus]`
    pub bus: Bus,
    /// `[timers]`
    pub timers: Timers,
    /// `[log]`
    pub log: Log,
}

/// How much of anything is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest body of a request; beyond it 413. 1 MiB
    pub body_bytes: usize,
    /// Deepest nesting of JSON. 64
    pub json_depth: usize,
    /// Requests per second at each door; beyond it 429. 50,000: a guard against floods, far above what a fleet sends.
    pub rate_per_second: u32,
    /// Events that wait to be made durable; beyond it 429. 4,096
    pub intake_queue: usize,
    /// Memory for bodies of senders that are not known yet, of all connections together; beyond it 429. 64 MiB
    pub unauthenticated_body_bytes: usize,
}

/// Who does the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// Executions at the same time; most of them wait for a network or a process. 60, as StackStorm's action runner
    pub slots: usize,
    /// Workflows that wait on a thread of their own; 0: none. 64
    pub max_parked: usize,
    /// How long a waiting workflow keeps its thread; zero: not at all. `5s`
    pub park: Duration,
    /// Where the guards of child processes note what they guard; the same for all daemons of a host. `<data_dir>/guards`,
    /// or a folder of the installation in `/var/tmp` where the store is shared
    pub guards_dir: Option<PathBuf>,
}

/// How long things are kept after their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Executions and their journals. `30d`
    pub executions: Duration,
    /// Trigger instances and enforcements. `7d`
    pub instances: Duration,
    /// Output of executions. `7d`
    pub output: Duration,
    /// Decisions of the governor. `30d`
    pub decisions: Duration,
    /// Who did what through the API. `365d`
    pub audit: Duration,
    /// Above this the oldest goes before its time. No bound
    pub max_database_bytes: Option<u64>,
}

/// How the daemon behaves as a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// How long running actions may go on after SIGTERM. `10s`
    pub shutdown_grace: Duration,
}

/// A listener of a sensor. What is not set here the sensor decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens; port 0 takes a free one.
    pub address: Option<SocketAddr>,
    /// How it knows its senders.
    pub auth: Option<WebhookAuth>,
    /// Is it opened at all? `true`
    pub enabled: bool,
}

/// How webhooks know their senders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Webhooks {
    /// Those that are not named. `default_auth`, an API key
    pub default_auth: WebhookAuth,
    /// By path without slashes at its ends: `[webhooks."github/push"] auth = …`
    pub paths: BTreeMap<String, WebhookAuth>,
}

impl Webhooks {
    /// How the webhook at `path` knows its senders.
    pub fn auth_of(&self, path: &str) -> &WebhookAuth {
        self.paths.get(path.trim_matches('/')).unwrap_or(&self.default_auth)
    }
}

/// Timers that do not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timers {
    /// What happens to instants that passed while the daemon was down. `once`
    pub misfire: MisfirePolicy,
    /// The time zone of those that name none. `UTC`
    pub timezone: String,
}

/// What happens to scheduled instants that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MisfirePolicy {
    /// The last one is made up for.
    #[default]
    Once,
    /// None is.
    Skip,
    /// All are, up to a hundred.
    All,
}

/// What the daemon says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `text` or `json`. `text`
    pub format: LogFormat,
    /// A level, or directives as `info,petrel::rules=debug`. `info`
    pub level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// What is allowed but should be known: one sentence each, for the log at start-up.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.listen.ip().is_loopback() {
            warnings.push(format!(
                "the api listens on {} without TLS: tokens and keys cross the network in clear unless a proxy stands \
                 in front",
                self.listen
            ));
        }
        if self.webhooks.default_auth.is_open() {
            warnings.push("every webhook is open: anyone who reaches the api can send events".to_owned());
        }
        let open_paths = self.webhooks.paths.iter().filter(|(_, auth)| auth.is_open());
        warnings.extend(
            open_paths
                .map(|(path, _)| format!("webhook `{path}` is open: anyone who reaches the api can send it events")),
        );
        let is_open =
            |listener: &Listener| listener.enabled && listener.auth.as_ref().is_some_and(WebhookAuth::is_open);
        let open_listeners = self.listeners.iter().filter(|(_, listener)| is_open(listener));
        warnings.extend(open_listeners.map(|(name, _)| {
            format!("listener `{name}` is open: anyone who reaches it can send events; set listeners.{name}.auth")
        }));
        warnings
    }
}

/// Reads the whole tree; mistakes are replaced by defaults and come back.
pub(super) fn read(tree: Entry) -> (Config, Vec<ConfigError>) {
    let mistakes = Mistakes::default();
    let mut top = Section::open(String::new(), Some(tree), &mistakes);
    let config = Config {
        data_dir: top.read("data_dir", "./.petrel".to_owned(), text).into(),
        listen: top.read("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 9101)), address),
        trusted_proxies: top.read("trusted_proxies", Networks::default(), listening::networks),
        allowed_hosts: top.read_optional("allowed_hosts", listening::allowed_hosts),
        packs: top.read("packs", Vec::new(), texts).into_iter().map(PathBuf::from).collect(),
        roles: top.read("roles", Role::ALL.into(), cluster::roles),
        store: cluster::read_store(top.section("store")),
        secrets: cluster::read_secrets(top.section("secrets")),
        local: cluster::read_local(top.section("local")),
        limits: read_limits(top.section("limits")),
        workers: read_workers(top.section("workers")),
        retention: read_retention(top.section("retention")),
        server: read_server(top.section("server")),
        listeners: top.section("listeners").into_named().into_iter().map(read_listener).collect(),
        webhooks: read_webhooks(top.section("webhooks")),
        auth: rights::read_auth(top.section("auth")),
        runners: rights::read_runners(top.section("runners")),
        bus: bus::read(top.section("bus")),
        timers: read_timers(top.section("timers")),
        log: read_log(top.section("log")),
    };
    top.close();
    (config, mistakes.into_inner())
}

fn read_limits(mut section: Section<'_>) -> Limits {
    let limits = Limits {
        body_bytes: section.read("body_bytes", 1 << 20, at_least_one),
        json_depth: section.read("json_depth", 64, at_least_one),
        rate_per_second: section.read("rate_per_second", 50_000, at_least_one),
        intake_queue: section.read("intake_queue", 4096, at_least_one),
        unauthenticated_body_bytes: section.read("unauthenticated_body_bytes", 64 << 20, at_least_one),
    };
    section.close();
    limits
}

fn read_workers(mut section: Section<'_>) -> Workers {
    let workers = Workers {
        slots: section.read("slots", 60, at_least_one),
        max_parked: section.read("max_parked", 64, count),
        park: section.read("park", Duration::from_secs(5), duration_or_zero),
        guards_dir: section.read_optional("guards_dir", text).map(PathBuf::from),
    };
    section.close();
    workers
}

fn read_retention(mut section: Section<'_>) -> Retention {
    let days = |days: u64| Duration::from_hours(24 * days);
    let retention = Retention {
        executions: section.read("executions", days(30), duration),
        instances: section.read("instances", days(7), duration),
        output: section.read("output", days(7), duration),
        decisions: section.read("decisions", days(30), duration),
        audit: section.read("audit", days(365), duration),
        max_database_bytes: section.read_optional("max_database_bytes", at_least_one),
    };
    section.close();
    retention
}

fn read_server(mut section: Section<'_>) -> Server {
    let server = Server { shutdown_grace: section.read("shutdown_grace", Duration::from_secs(10), duration_or_zero) };
    section.close();
    server
}

fn read_listener((name, mut section): (String, Section<'_>)) -> (String, Listener) {
    let listener = Listener {
        address: section.read_optional("address", address),
        auth: section.read_optional("auth", webhook_auth),
        enabled: section.read("enabled", true, flag),
    };
    section.close();
    (name, listener)
}

fn read_webhooks(mut section: Section<'_>) -> Webhooks {
    let default_auth = section.read("default_auth", WebhookAuth::default(), webhook_auth);
    let mut paths = BTreeMap::new();
    for (path, mut hook) in section.into_named() {
        match hook.read_optional("auth", webhook_auth) {
            Some(auth) => drop(paths.insert(path.trim_matches('/').to_owned(), auth)),
            None => note_missing_auth(&hook),
        }
        hook.close();
    }
    Webhooks { default_auth, paths }
}

fn note_missing_auth(hook: &Section<'_>) {
    if let Some(origin) = hook.origin() {
        hook.note(origin.clone(), "auth", "say how this webhook knows its senders, as auth = \"api_key\"".to_owned());
    }
}

fn read_timers(mut section: Section<'_>) -> Timers {
    let timers = Timers {
        misfire: section.read("misfire", MisfirePolicy::default(), misfire),
        timezone: section.read("timezone", "UTC".to_owned(), timezone),
    };
    section.close();
    timers
}

fn read_log(mut section: Section<'_>) -> Log {
    let log = Log {
        format: section.read("format", LogFormat::default(), log_format),
        level: section.read("level", "info".to_owned(), log_level),
    };
    section.close();
    log
}

pub(super) fn at_least_one<T: TryFrom<i64> + PartialOrd + Default>(entry: &Entry) -> Result<T, String> {
    let number: T = count(entry)?;
    if number > T::default() { Ok(number) } else { Err("write a number greater than 0".to_owned()) }
}

fn webhook_auth(entry: &Entry) -> Result<WebhookAuth, String> {
    serde_json::from_value(entry.to_value()).map_err(|error| error.to_string())
}

fn misfire(entry: &Entry) -> Result<MisfirePolicy, String> {
    match text(entry)?.as_str() {
        "once" => Ok(MisfirePolicy::Once),
        "skip" => Ok(MisfirePolicy::Skip),
        "all" => Ok(MisfirePolicy::All),
        other => Err(format!("`{other}` is not a misfire policy; write once, skip or all")),
    }
}

fn timezone(entry: &Entry) -> Result<String, String> {
    let name = text(entry)?;
    match jiff::tz::TimeZone::get(&name) {
        Ok(_) => Ok(name),
        Err(_) => Err(format!("`{name}` is not a time zone; write a name as \"UTC\" or \"Europe/Berlin\"")),
    }
}

fn log_format(entry: &Entry) -> Result<LogFormat, String> {
    match text(entry)?.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("`{other}` is not a log format; write text or json")),
    }
}

fn log_level(entry: &Entry) -> Result<String, String> {
    let level = text(entry)?;
    match EnvFilter::try_new(&level) {
        Ok(_) => Ok(level),
        Err(_) => Err(format!("`{level}` is not a log level; write error, warn, info, debug or trace")),
    }
}
