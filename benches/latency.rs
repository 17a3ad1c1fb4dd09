//! One event at a time on an idle daemon: from the POST to the moment its action has started, beside one fdatasync of
//! the same minute; and how many commits stand on that path, counted in the store's write-ahead log.
#![expect(clippy::disallowed_methods, reason = "a bench measures the wall clock and starts real processes")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its table")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use support::{Client, Daemon, event, fdatasync_times, millis, percentile};

const EVENTS: usize = 300;
const WARM_UP: usize = 30;

/// What one event took.
struct Passage {
    accepted: Duration,
    started: Duration,
    /// `None`: the log began anew in between.
    commits: Option<usize>,
}

fn main() -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let sink = TcpListener::bind("127.0.0.1:0").await?;
    let daemon =
        Daemon::start(&[("rules/hit.yaml".to_owned(), rule(&format!("http://{}/", sink.local_addr()?)))]).await?;
    let log = daemon.data().join("petrel.db-wal");
    let mut client = Client::connect(daemon.address).await?;
    let request = daemon.post("/v1/webhooks/bench", &event());
    let mut passages = Vec::new();
    let mut syncs = fdatasync_times()?;
    for number in 0..WARM_UP + EVENTS {
        let passage = pass(&mut client, &request, &sink, &log).await?;
        if number >= WARM_UP {
            passages.push(passage);
        }
    }
    syncs.extend(fdatasync_times()?);
    print(&passages, &mut syncs);
    Ok(())
}

/// Sends one event and waits until its action's request arrives.
async fn pass(client: &mut Client, request: &[u8], sink: &TcpListener, log: &Path) -> Result<Passage> {
    let earlier = commits(log)?;
    let sent = Instant::now();
    let post = async {
        let (status, _) = client.exchange(request).await?;
        ensure!(status == 202, "an event was answered with {status}");
        Ok(sent.elapsed())
    };
    let action = async {
        let (mut stream, _) = sink.accept().await?;
        let mut head = [0; 1024];
        ensure!(stream.read(&mut head).await? > 0, "the action said nothing");
        let started = sent.elapsed();
        // The action waits for its answer, so nothing after its start is written yet.
        let later = commits(log)?;
        answer(stream).await?;
        Ok((started, later))
    };
    let (accepted, (started, later)) = tokio::try_join!(post, action)?;
    let commits = (later.0 == earlier.0).then(|| later.1.saturating_sub(earlier.1));
    settle(log).await?;
    Ok(Passage { accepted, started, commits })
}

async fn answer(mut stream: TcpStream) -> Result<()> {
    Ok(stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await?)
}

/// Until nothing was written for a while: the daemon is idle again.
async fn settle(log: &Path) -> Result<()> {
    loop {
        let seen = commits(log)?;
        tokio::time::sleep(Duration::from_millis(10)).await;
        if commits(log)? == seen {
            return Ok(());
        }
    }
}

/// The log's salt and how many commits it holds: frames of this salt that carry the size of the database.
fn commits(log: &Path) -> Result<(Vec<u8>, usize)> {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let bytes = std::fs::read(log)?;
    let salt = bytes.get(16..24).context("the log's header")?;
    let page = bytes.get(8..12).context("the log's page size")?;
    let page = page.iter().fold(0, |size, byte| (size << 8) + usize::from(*byte));
    let frames = bytes.get(HEADER..).unwrap_or_default().chunks_exact(FRAME_HEADER + page);
    let ours = frames.take_while(|frame| frame.get(8..16) == Some(salt));
    let count = ours.filter(|frame| frame.get(4..8) != Some(&[0; 4])).count();
    Ok((salt.to_vec(), count))
}

fn print(passages: &[Passage], syncs: &mut [Duration]) {
    let mut accepted: Vec<_> = passages.iter().map(|passage| passage.accepted).collect();
    let mut started: Vec<_> = passages.iter().map(|passage| passage.started).collect();
    let (sync, slow_sync) = (percentile(syncs, 50), percentile(syncs, 99));
    println!("{} events; fdatasync p50 {:.3} ms, p99 {:.3} ms", passages.len(), millis(sync), millis(slow_sync));
    println!("{:<28} {:>9} {:>9} {:>16}", "", "p50 ms", "p99 ms", "p50 / fdatasync");
    for (name, times) in [("POST to durable 202", &mut accepted), ("POST to first action started", &mut started)] {
        let (p50, p99) = (percentile(times, 50), percentile(times, 99));
        println!(
            "{name:<28} {:>9.2} {:>9.2} {:>16.1}",
            millis(p50),
            millis(p99),
            p50.as_secs_f64() / sync.as_secs_f64()
        );
    }
    let mut counts = BTreeMap::new();
    for count in passages.iter().filter_map(|passage| passage.commits) {
        *counts.entry(count).or_insert(0) += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(commits, events)| format!("{commits} commits: {events} events")).collect();
    println!("between POST and start: {}", counts.join(", "));
}

fn rule(url: &str) -> String {
    format!(
        "name: hit\nenabled: true\ntrigger:\n  type: core.st2.webhook\n  parameters:\n    url: bench\n\
         criteria:\n  trigger.body.severity:\n    type: equals\n    pattern: critical\n\
         action:\n  ref: core.http\n  parameters:\n    url: {url}\n"
    )
}
