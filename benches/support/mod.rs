//! What the benches share: a daemon of their own, a client that costs little, the disk's speed of this minute, medians.

#![allow(dead_code, unreachable_pub, reason = "every bench uses its own part")]

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A daemon that does not get ready in this time is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// `petrel serve` over a temporary site; ends with this value.
pub struct Daemon {
    pub site: TempDir,
    pub address: SocketAddr,
    pub key: String,
    /// From the start of the process to its first good answer at `/readyz`.
    pub ready_after: Duration,
    child: Child,
}

impl Daemon {
    /// Starts a daemon whose site has these files.
    pub async fn start(files: &[(String, String)]) -> Result<Self> {
        let site = TempDir::new()?;
        for (name, text) in files {
            let path = site.path().join(name);
            std::fs::create_dir_all(path.parent().context("a file stands in a folder")?)?;
            std::fs::write(path, text)?;
        }
        let started = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_petrel"))
            .args(["serve", "--data-dir", "data", "--listen", "127.0.0.1:0"])
            .current_dir(site.path())
            .env("PETREL__LOG__LEVEL", "error")
            .stdout(Stdio::null())
            .spawn()?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut daemon = Self { site, address, key: String::new(), ready_after: Duration::ZERO, child };
        daemon.until_ready(started).await?;
        Ok(daemon)
    }

    async fn until_ready(&mut self, started: Instant) -> Result<()> {
        let data = self.data();
        while started.elapsed() < PATIENCE {
            if let Some(address) = bound_address(&data) {
                self.address = address;
                let answer = Client::connect(address).await?.get("/readyz", "").await?;
                if answer.0 == 200 {
                    self.ready_after = started.elapsed();
                    std::fs::read_to_string(data.join("admin.key"))?.trim().clone_into(&mut self.key);
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        anyhow::bail!("the daemon was not ready after {PATIENCE:?}")
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.site.path().join("data")
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// What `/v1/status` says.
    pub async fn status(&self) -> Result<Value> {
        let (status, body) = Client::connect(self.address).await?.get("/v1/status", &self.key).await?;
        ensure!(status == 200, "/v1/status answered {status}");
        Ok(serde_json::from_slice(&body)?)
    }

    /// Bytes of a POST with the key of the first admin.
    pub fn post(&self, path: &str, body: &str) -> Vec<u8> {
        request_bytes("POST", path, &self.key, body)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(problem) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("a daemon could not be ended: {problem}");
        }
    }
}

pub fn bound_address(data: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(data.join("endpoints.json")).ok()?;
    let endpoints: Value = serde_json::from_str(&text).ok()?;
    endpoints["api"].as_str()?.strip_prefix("http://")?.parse().ok()
}

/// One connection that is kept, writing fixed bytes and reading no more of the answer than it must.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    pub async fn get(&mut self, path: &str, key: &str) -> Result<(u16, Vec<u8>)> {
        self.exchange(&request_bytes("GET", path, key, "")).await
    }

    /// Sends a request and gives back status and body of the answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>)> {
        let (status, start, end) = self.round_trip(request).await?;
        Ok((status, self.buffer.get(start..end).unwrap_or_default().to_vec()))
    }

    /// The same without a copy of the body: status, and where the body stands in the buffer.
    async fn round_trip(&mut self, request: &[u8]) -> Result<(u16, usize, usize)> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the connection was closed in the middle of an answer");
            if let Some(head) = find(&self.buffer, b"\r\n\r\n") {
                let start = head + 4;
                let end = start + content_length(&self.buffer)?;
                if self.buffer.len() >= end {
                    let status = self.buffer.get(9..12).context("a status")?;
                    return Ok((std::str::from_utf8(status)?.parse()?, start, end));
                }
            }
        }
    }
}

pub fn request_bytes(method: &str, path: &str, key: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nSt2-Api-Key: {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn content_length(head: &[u8]) -> Result<usize> {
    let name = b"content-length: ";
    let at = find(head, name).context("an answer without a length")? + name.len();
    let digits = head.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit());
    Ok(digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
}

/// What came of posting as fast as answers come.
#[derive(Debug)]
pub struct Load {
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// Posts the same request over so many kept connections for so long; every answer must be 202.
pub async fn load(address: SocketAddr, request: Vec<u8>, connections: usize, time: Duration) -> Result<Load> {
    let request: std::sync::Arc<[u8]> = request.into();
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(address).await?);
    }
    let started = Instant::now();
    let work = clients.into_iter().map(|client| post_until(client, std::sync::Arc::clone(&request), started + time));
    let work: Vec<_> = work.map(tokio::spawn).collect();
    let mut latencies = Vec::new();
    for each in work {
        latencies.extend(each.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let per_second = number(latencies.len()) / elapsed;
    Ok(Load { per_second, p50: percentile(&mut latencies, 50), p99: percentile(&mut latencies, 99) })
}

async fn post_until(mut client: Client, request: std::sync::Arc<[u8]>, end: Instant) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut sent = Instant::now();
    while sent < end {
        let (status, ..) = client.round_trip(&request).await?;
        ensure!(status == 202, "an event was answered with {status}");
        let answered = Instant::now();
        latencies.push(answered - sent);
        sent = answered;
    }
    Ok(latencies)
}

/// How long an append of 1 KB takes until it is on the disk, in the median of 200.
pub fn fdatasync_latency() -> Result<Duration> {
    Ok(percentile(&mut fdatasync_times()?, 50))
}

/// The same, 200 times.
pub fn fdatasync_times() -> Result<Vec<Duration>> {
    let folder = TempDir::new()?;
    let mut file = File::create(folder.path().join("appended"))?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        file.write_all(&[7; 1024])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// An event like the ones that monitoring sends: 1.1 KB of JSON.
pub fn event() -> String {
    let labels: serde_json::Map<String, Value> =
        (0..16).map(|n| (format!("label_{n:02}"), format!("value-{:032}", n * 7919).into())).collect();
    serde_json::json!({
        "host": "web-0042.example.org", "severity": "critical", "service": "shop", "value": 97.25, "open": true,
        "summary": "the response time has been above its threshold for five minutes", "labels": labels,
    })
    .to_string()
}

/// The `percent`th percentile; zero of nothing.
pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

/// The median of numbers.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

/// A count as a number to divide by.
pub fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// In milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
