//! Several daemons over one PostgreSQL behind one RabbitMQ: events a second with one, two and three of them beside what
//! broker and database do by themselves, what an event and a step cost in transactions and statements, and how long a take-over takes.
//!
//! The servers are named by `PETREL_TEST_POSTGRES_URL` (a role that may create databases) and `PETREL_TEST_AMQP_URL`.
#![expect(clippy::disallowed_methods, reason = "a bench measures the wall clock and starts real processes")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its table")]

mod support;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::NoTls;

use support::{Client, event, fdatasync_latency, load, median, millis, number, percentile};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(60);
/// Steps of the workflow whose cost is counted.
const STEPS: u32 = 200;
/// Executions that lose their daemon at once, and how often.
const ORPHANS: usize = 20;
const KILLS: usize = 3;

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let servers = Servers::from_environment()?;
    let mut raw = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let (messages, rows) = (raw_messages(&servers.amqp).await?, raw_inserts(&servers).await?);
        println!(
            "round {round}: fdatasync p50 {:.3} ms; by themselves: {messages:.0} messages/s through the broker, {rows:.0} \
             inserts/s into the database",
            millis(fdatasync_latency()?)
        );
        raw.0.push(messages);
        raw.1.push(rows);
    }
    let (messages, rows) = (median(raw.0), median(raw.1));
    println!("{:<10} {:>12} {:>12} {:>12} {:>12}", "daemons", "accepted/s", "landed/s", "of broker", "of database");
    for daemons in 1..=3 {
        let (accepted, landed) = events_per_second(&servers, daemons).await?;
        let (of_broker, of_database) = (landed / messages, landed / rows);
        println!("{daemons:<10} {accepted:>12.0} {landed:>12.0} {of_broker:>12.3} {of_database:>12.3}");
    }
    costs(&servers).await?;
    take_over(&servers).await
}

/// What is measured against.
struct Servers {
    postgres: String,
    amqp: String,
}

impl Servers {
    fn from_environment() -> Result<Self> {
        let of = |name: &str| std::env::var(name).with_context(|| format!("set {name} to the URL of a running server"));
        Ok(Self { postgres: of("PETREL_TEST_POSTGRES_URL")?, amqp: of("PETREL_TEST_AMQP_URL")? })
    }

    async fn fresh_database(&self, name: &str) -> Result<String> {
        let client = connect(&self.postgres).await?;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await?;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let (server, _) = self.postgres.rsplit_once('/').context("a URL with a database")?;
        Ok(format!("{server}/{name}"))
    }
}

async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        if let Err(problem) = connection.await {
            eprintln!("a connection to PostgreSQL ended: {problem}");
        }
    });
    Ok(client)
}

/// Publish, confirm, consume, acknowledge: one queue, 64 messages waiting for their confirmation at a time.
async fn raw_messages(url: &str) -> Result<f64> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let (publish, consume) = (connection.create_channel().await?, connection.create_channel().await?);
    publish.confirm_select(ConfirmSelectOptions::default()).await?;
    let name = format!("petrel-bench-raw-{}", std::process::id());
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    publish.queue_declare(name.as_str().into(), durable, quorum).await?;
    consume.basic_qos(256, BasicQosOptions::default()).await?;
    let nothing = FieldTable::default();
    let mut deliveries =
        consume.basic_consume(name.as_str().into(), "".into(), BasicConsumeOptions::default(), nothing).await?;
    let began = Instant::now();
    let consumer = tokio::spawn(async move {
        let mut seen = 0_usize;
        while let Some(Ok(delivery)) = deliveries.next().await {
            drop(delivery.ack(BasicAckOptions::default()).await);
            seen += 1;
            if delivery.data.is_empty() {
                break;
            }
        }
        // A consumer that is let go of says farewell to a queue that is about to be deleted.
        (seen, deliveries)
    });
    let body = event().into_bytes();
    let writers = (0..CONNECTIONS).map(|_| {
        let (channel, name, body) = (publish.clone(), name.clone(), body.clone());
        async move {
            while began.elapsed() < ROUND {
                confirm(&channel, &name, &body).await?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(writers).await?;
    confirm(&publish, &name, &[]).await?;
    let (seen, _deliveries) = consumer.await?;
    let rate = number(seen) / began.elapsed().as_secs_f64();
    connection.close(200, "done".into()).await?;
    let cleaner = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = cleaner.create_channel().await?;
    channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
    cleaner.close(200, "done".into()).await?;
    Ok(rate)
}

async fn confirm(channel: &lapin::Channel, queue: &str, body: &[u8]) -> Result<()> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let confirmed = channel.basic_publish("".into(), queue.into(), options, body, properties).await?.await?;
    ensure!(matches!(confirmed, lapin::Confirmation::Ack(_)), "a message was not confirmed");
    Ok(())
}

/// One row of an event's size in each transaction, by sixteen connections.
async fn raw_inserts(servers: &Servers) -> Result<f64> {
    let url = servers.fresh_database("petrel_bench_raw").await?;
    connect(&url).await?.batch_execute("CREATE TABLE raw (id BIGSERIAL PRIMARY KEY, body TEXT NOT NULL)").await?;
    let began = Instant::now();
    let writers = (0..16).map(|_| async {
        let client = connect(&url).await?;
        let insert = client.prepare("INSERT INTO raw (body) VALUES ($1)").await?;
        let (body, mut rows) = (event(), 0_usize);
        while began.elapsed() < ROUND {
            client.execute(&insert, &[&body]).await?;
            rows += 1;
        }
        anyhow::Ok(rows)
    });
    let rows: usize = try_join_all(writers).await?.into_iter().sum();
    Ok(number(rows) / began.elapsed().as_secs_f64())
}

/// Daemons over one store behind one broker; end with this value.
struct Cluster {
    site: TempDir,
    members: Vec<Member>,
    key: String,
    database: String,
}

struct Member {
    child: Child,
    address: SocketAddr,
}

impl Member {
    async fn is_ready(&self) -> Result<bool> {
        if self.address.port() == 0 {
            return Ok(false);
        }
        Ok(Client::connect(self.address).await?.get("/readyz", "").await?.0 == 200)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Err(problem) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("a daemon could not be ended: {problem}");
        }
    }
}

impl Cluster {
    async fn start(servers: &Servers, name: &str, daemons: usize, files: &[(&str, String)]) -> Result<Self> {
        let site = TempDir::new()?;
        std::fs::create_dir(site.path().join("packs"))?;
        for (file, text) in files {
            let path = site.path().join(file);
            std::fs::create_dir_all(path.parent().context("a file stands in a folder")?)?;
            std::fs::write(path, text)?;
        }
        let database = servers.fresh_database(&format!("petrel_bench_{name}")).await?;
        let queue = format!("petrel-bench-{}-{name}", std::process::id());
        let mut cluster = Self { site, members: Vec::new(), key: String::new(), database };
        for number in 1..=daemons {
            let member = cluster.start_member(servers, number, &queue).await?;
            cluster.members.push(member);
        }
        Ok(cluster)
    }

    async fn start_member(&mut self, servers: &Servers, number: usize, queue: &str) -> Result<Member> {
        let data = self.site.path().join(format!("data-{number}"));
        let child = Command::new(env!("CARGO_BIN_EXE_petrel"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data)
            .current_dir(self.site.path())
            .env("PETREL__LOG__LEVEL", "error")
            .env("PETREL__PACKS", "packs")
            .env("PETREL__STORE__URL", &self.database)
            .env("PETREL__SECRETS__KEY_FILE", self.site.path().join("datastore.key"))
            .env("PETREL__BUS__URL", &servers.amqp)
            .env("PETREL__BUS__QUEUE", queue)
            .env("PETREL__BUS__FRESH_QUEUE_GRACE", "1s")
            .stdout(Stdio::null())
            .spawn()?;
        let mut member = Member { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            member.address = support::bound_address(&data).unwrap_or(member.address);
            if member.is_ready().await? {
                if let Ok(key) = std::fs::read_to_string(data.join("admin.key")) {
                    key.trim().clone_into(&mut self.key);
                }
                return Ok(member);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("a daemon was not ready after {PATIENCE:?}")
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let member = self.members.last().context("a daemon")?;
        let request = support::request_bytes(method, path, &self.key, body);
        let (status, body) = Client::connect(member.address).await?.exchange(&request).await?;
        ensure!((200..300).contains(&status), "{path} answered {status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    /// Until everything that was accepted has landed, is matched and done.
    async fn until_drained(&self, expected: usize) -> Result<()> {
        let began = Instant::now();
        let client = connect(&self.database).await?;
        while began.elapsed() < PATIENCE {
            let sql = "SELECT count(*) FROM trigger_instances WHERE status <> 'pending'
                AND trigger_type = 'core.st2.webhook'";
            let landed: i64 = client.query_one(sql, &[]).await?.get(0);
            if usize::try_from(landed)? >= expected {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("what was accepted had not landed after {PATIENCE:?}")
    }

    /// What the database has done so far. Its server must have `shared_preload_libraries = pg_stat_statements`.
    async fn spent(&self) -> Result<Spent> {
        let sql =
            "SELECT (SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()),
            (SELECT COALESCE(sum(calls), 0)::BIGINT FROM pg_stat_statements
                WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()))";
        let client = connect(&self.database).await?;
        client.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await?;
        let row =
            client.query_one(sql, &[]).await.context("shared_preload_libraries = pg_stat_statements is needed")?;
        let number = |column: usize| Ok::<_, anyhow::Error>(f64::from(i32::try_from(row.get::<_, i64>(column))?));
        Ok(Spent { transactions: number(0)?, statements: number(1)? })
    }
}

/// Work of the database.
#[derive(Clone, Copy)]
struct Spent {
    transactions: f64,
    /// `BEGIN` and `COMMIT` among them.
    statements: f64,
}

impl Spent {
    /// What was spent since then on each of so many things, without what an idle daemon spends in that time.
    fn on_each(self, since: Self, idle: Self, seconds: f64, things: f64) -> Self {
        let each = |now: f64, then: f64, idle: f64| (now - then - idle * seconds) / things;
        Self {
            transactions: each(self.transactions, since.transactions, idle.transactions),
            statements: each(self.statements, since.statements, idle.statements),
        }
    }
}

fn rule() -> String {
    "name: hit\nenabled: true\ntrigger: {type: core.st2.webhook, parameters: {url: bench}}\n\
     criteria: {trigger.body.host: {type: eq, pattern: nobody}}\naction: {ref: core.noop}\n"
        .to_owned()
}

/// Events a second: accepted at the doors, and landed and matched in the store until all of them were.
async fn events_per_second(servers: &Servers, daemons: usize) -> Result<(f64, f64)> {
    let name = format!("events_{daemons}");
    let cluster = Cluster::start(servers, &name, daemons, &[("rules/hit.yaml", rule())]).await?;
    let request = support::request_bytes("POST", "/v1/webhooks/bench", &cluster.key, &event());
    let began = Instant::now();
    let loads =
        cluster.members.iter().map(|member| load(member.address, request.clone(), CONNECTIONS / daemons, ROUND));
    let accepted: f64 = try_join_all(loads).await?.iter().map(|load| load.per_second).sum();
    let total = accepted * ROUND.as_secs_f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of events")]
    cluster.until_drained((total * 0.999) as usize).await?;
    Ok((accepted, total / began.elapsed().as_secs_f64()))
}

/// What one event and one step cost the database, with everything that goes on beside them.
async fn costs(servers: &Servers) -> Result<()> {
    let script = format!("for n in 0..{STEPS} {{ run(\"core.noop\"); }}");
    let metadata = "name: steps\nrunner_type: workflow\n".to_owned();
    let files = [("workflows/steps.rhai", script), ("workflows/steps.yaml", metadata), ("rules/hit.yaml", rule())];
    let cluster = Cluster::start(servers, "costs", 1, &files).await?;
    let member = cluster.members.first().context("a daemon")?;
    let request = support::request_bytes("POST", "/v1/webhooks/bench", &cluster.key, &event());
    let idle = {
        let (before, began) = (settled(&cluster).await?, Instant::now());
        tokio::time::sleep(Duration::from_secs(4)).await;
        let nothing = Spent { transactions: 0.0, statements: 0.0 };
        settled(&cluster).await?.on_each(before, nothing, 0.0, began.elapsed().as_secs_f64())
    };
    let (before, began) = (settled(&cluster).await?, Instant::now());
    let mut client = Client::connect(member.address).await?;
    for _ in 0..500 {
        ensure!(client.exchange(&request).await?.0 == 202, "an event was not accepted");
    }
    cluster.until_drained(500).await?;
    let event = settled(&cluster).await?.on_each(before, idle, began.elapsed().as_secs_f64(), 500.0);
    let (before, began) = (settled(&cluster).await?, Instant::now());
    let started = cluster.ask("POST", "/v1/executions", &json!({ "action": "default.steps" }).to_string()).await?;
    let path = format!("/v1/executions/{}", started["id"].as_str().unwrap_or_default());
    while cluster.ask("GET", &path, "").await?["status"] != "succeeded" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let step = settled(&cluster).await?.on_each(before, idle, began.elapsed().as_secs_f64(), f64::from(STEPS));
    let costs = [("an event, one at a time, no rule matches", event), ("a step of a hot workflow", step)];
    for (what, Spent { transactions, statements }) in costs.into_iter().chain([("a second of one idle daemon", idle)]) {
        println!("{what}: {transactions:.2} transactions, {statements:.2} statements");
    }
    Ok(())
}

/// The statistics of PostgreSQL are up to date a second later.
async fn settled(cluster: &Cluster) -> Result<Spent> {
    tokio::time::sleep(Duration::from_millis(1500)).await;
    cluster.spent().await
}

/// Kills a daemon that runs shell actions; another one starts each of them again when the leases have run out.
async fn take_over(servers: &Servers) -> Result<()> {
    let mut times = Vec::new();
    for kill in 1..=KILLS {
        times.extend(orphaned(servers, kill).await?);
    }
    let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
    println!(
        "take-over after SIGKILL of one of three daemons, {} executions over {KILLS} kills: p50 {:.1} s, p99 {:.1} s",
        times.len(),
        p50.as_secs_f64(),
        p99.as_secs_f64()
    );
    Ok(())
}

async fn orphaned(servers: &Servers, kill: usize) -> Result<Vec<Duration>> {
    let action = "name: lasts\nrunner_type: local-shell-cmd\non_lost: retry\nparameters:\n  cmd:\n    type: string\n    \
                  default: 'date +%s%N >> begun-$PETREL_EXECUTION_ID; test $(wc -l < begun-$PETREL_EXECUTION_ID) -ge 2 || \
                  sleep 100'\n  cwd: {type: string}\n";
    let files = [
        ("packs/t/pack.yaml", "name: t\nversion: 1.0.0\n".to_owned()),
        ("packs/t/actions/lasts.yaml", action.to_owned()),
    ];
    let mut cluster = Cluster::start(servers, &format!("orphans_{kill}"), 3, &files).await?;
    let folder = cluster.site.path().join("work");
    std::fs::create_dir(&folder)?;
    let victim = cluster.members.remove(0);
    let body = json!({ "action": "t.lasts", "parameters": { "cwd": folder } }).to_string();
    let request = support::request_bytes("POST", "/v1/executions", &cluster.key, &body);
    for _ in 0..ORPHANS {
        let (status, body) = Client::connect(victim.address).await?.exchange(&request).await?;
        ensure!((200..300).contains(&status), "{}", String::from_utf8_lossy(&body));
    }
    until(|| Ok(attempts(&folder)?.len() == ORPHANS)).await?;
    let killed = SystemTime::now().duration_since(UNIX_EPOCH)?;
    drop(victim);
    until(|| Ok(attempts(&folder)?.iter().all(|begun| begun.len() >= 2))).await?;
    let second = attempts(&folder)?.into_iter().filter_map(|begun| begun.get(1).copied());
    Ok(second.map(|begun| begun.saturating_sub(killed)).collect())
}

async fn until(mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !holds()? {
        ensure!(began.elapsed() < PATIENCE, "executions were not taken over within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// When each attempt of each execution began.
fn attempts(folder: &std::path::Path) -> Result<Vec<Vec<Duration>>> {
    let files = std::fs::read_dir(folder)?.map(|entry| std::fs::read_to_string(entry?.path()));
    let begun = files.map(|text| {
        let lines = text?.lines().map(|line| Ok(Duration::from_nanos(line.parse()?))).collect::<Result<Vec<_>>>()?;
        Ok(lines)
    });
    begun.collect()
}
