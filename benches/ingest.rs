//! Webhook to durable 202 at 64 connections, rules draining behind it, as a ratio to the same axum server parsing the
//! body and storing nothing. Floor and daemons take turns, so that a slow minute is slow for all of them.
#![expect(clippy::disallowed_methods, reason = "a bench measures the wall clock and starts real processes")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its table")]

mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::Value;

use support::{Daemon, Load, event, fdatasync_latency, load, median, millis};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);

fn main() -> Result<()> {
    if std::env::args().any(|argument| argument == "--floor") {
        return tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve_floor());
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure())
}

/// The floor: what any axum server pays that looks at the body at all.
async fn serve_floor() -> Result<()> {
    let look = |body: Bytes| async move {
        serde_json::from_slice::<Value>(&body).map_or(StatusCode::BAD_REQUEST, |_| StatusCode::ACCEPTED)
    };
    let router = Router::new().route("/v1/webhooks/{*url}", post(look));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}

struct Floor {
    address: SocketAddr,
    child: Child,
}

impl Floor {
    fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?).arg("--floor").stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the floor's output")?).read_line(&mut line)?;
        Ok(Self { address: line.trim().parse()?, child })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        if let Err(problem) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("the floor could not be ended: {problem}");
        }
    }
}

/// A daemon with some rules, and what was measured at it.
struct Contender {
    name: &'static str,
    daemon: Daemon,
    ratios: Vec<f64>,
    backlogs: Vec<f64>,
    rests: Vec<f64>,
}

async fn measure() -> Result<()> {
    let floor = Floor::start()?;
    let mut contenders = [
        Contender::start("no rule matches", 1, 0).await?,
        Contender::start("1 rule, it matches", 0, 1).await?,
        Contender::start("1,000 rules, 1 matches", 999, 1).await?,
    ];
    println!(
        "{:<24} {:>10} {:>7} {:>9} {:>9} {:>11} {:>11}",
        "", "events/s", "ratio", "p50 ms", "p99 ms", "backlog s", "all done s"
    );
    for round in 1..=ROUNDS {
        println!("round {round}: fdatasync p50 {:.3} ms", millis(fdatasync_latency()?));
        let request = contenders.first().map(Contender::request).unwrap_or_default();
        let base = load(floor.address, request, CONNECTIONS, ROUND).await?;
        print_line("floor", &base, 1.0, "");
        for contender in &mut contenders {
            contender.take_turn(&base).await?;
        }
    }
    println!("median of {ROUNDS} rounds");
    for Contender { name, ratios, backlogs, rests, .. } in contenders {
        let (ratio, backlog, rest) = (median(ratios), median(backlogs), median(rests));
        println!("{name:<24} {:>10} {ratio:>7.3} {:>9} {:>9} {backlog:>11.2} {rest:>11.2}", "", "", "");
    }
    Ok(())
}

fn print_line(name: &str, load: &Load, ratio: f64, more: &str) {
    let Load { per_second, p50, p99 } = load;
    println!("{name:<24} {per_second:>10.0} {ratio:>7.3} {:>9.2} {:>9.2} {more}", millis(*p50), millis(*p99));
}

impl Contender {
    async fn start(name: &'static str, strangers: usize, matching: usize) -> Result<Self> {
        let stranger = |n| (format!("rules/stranger_{n}.yaml"), rule(&format!("stranger_{n}"), &format!("host-{n}")));
        let mut files: Vec<_> = (0..strangers).map(stranger).collect();
        files.extend(
            (0..matching).map(|n| (format!("rules/hit_{n}.yaml"), rule(&format!("hit_{n}"), "web-0042.example.org"))),
        );
        let daemon = Daemon::start(&files).await?;
        Ok(Self { name, daemon, ratios: Vec::new(), backlogs: Vec::new(), rests: Vec::new() })
    }

    fn request(&self) -> Vec<u8> {
        self.daemon.post("/v1/webhooks/bench", &event())
    }

    async fn take_turn(&mut self, base: &Load) -> Result<()> {
        let result = load(self.daemon.address, self.request(), CONNECTIONS, ROUND).await?;
        let ended = Instant::now();
        let matched = self.until(ended, |status| status["pending_instances"] == 0).await?;
        let done = self.until(ended, nothing_runs).await?;
        let ratio = result.per_second / base.per_second;
        print_line(self.name, &result, ratio, &format!("{matched:>11.2} {done:>11.2}"));
        self.ratios.push(ratio);
        self.backlogs.push(matched);
        self.rests.push(done);
        Ok(())
    }

    /// Seconds since `began` until the daemon's status is like this.
    async fn until(&self, began: Instant, wanted: impl Fn(&Value) -> bool) -> Result<f64> {
        while !wanted(&self.daemon.status().await?) {
            // Looking costs what it looks for: not too often.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(began.elapsed().as_secs_f64())
    }
}

fn nothing_runs(status: &Value) -> bool {
    let unfinished =
        |name: &String| !matches!(name.as_str(), "succeeded" | "failed" | "timeout" | "canceled" | "abandoned");
    let counts = status["executions_by_status"].as_object();
    counts.is_some_and(|counts| !counts.iter().any(|(name, count)| unfinished(name) && *count != 0))
}

fn rule(name: &str, host: &str) -> String {
    format!(
        "name: {name}\nenabled: true\ntrigger:\n  type: core.st2.webhook\n  parameters:\n    url: bench\n\
         criteria:\n  trigger.body.host:\n    type: equals\n    pattern: {host}\naction:\n  ref: core.noop\n"
    )
}
