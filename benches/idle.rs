//! An idle daemon with the shipped packs and this repository's rules and workflows: how soon it is ready, how much
//! memory it holds, how much processor it takes to do nothing.
#![expect(clippy::disallowed_methods, reason = "a bench measures the wall clock and starts real processes")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its table")]

mod support;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use support::{Daemon, median, millis, number};

const STARTS: usize = 5;
const WATCHED: Duration = Duration::from_secs(10);
/// Linux counts a process's time in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let mut files = Vec::new();
    for folder in ["rules", "workflows"] {
        files.extend(content(folder)?);
    }
    let mut starts = Vec::new();
    for _ in 1..STARTS {
        starts.push(millis(Daemon::start(&files).await?.ready_after));
    }
    let daemon = Daemon::start(&files).await?;
    starts.push(millis(daemon.ready_after));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = processor_ticks(daemon.process())?;
    tokio::time::sleep(WATCHED).await;
    let ticks = processor_ticks(daemon.process())? - before;
    let share = number(ticks) / TICKS_PER_SECOND / WATCHED.as_secs_f64() * 100.0;
    println!("{:<36} {:>10} {:>8}", "", "measured", "goal");
    println!("{:<36} {:>7.0} ms {:>8}", format!("start to /readyz, median of {STARTS}"), median(starts), "< 500");
    println!("{:<36} {:>7.1} MB {:>8}", "resident memory", resident_megabytes(daemon.process())?, "< 60");
    println!("{:<36} {:>8.1} % {:>8}", format!("processor over {WATCHED:?}"), share, "< 1");
    Ok(())
}

fn content(folder: &str) -> Result<Vec<(String, String)>> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
        files.push((name, std::fs::read_to_string(entry.path())?));
    }
    Ok(files)
}

/// User and system time of all its threads.
fn processor_ticks(process: u32) -> Result<usize> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, after_name) = text.rsplit_once(')').context("a process line")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |at: usize| -> Result<usize> { Ok(fields.get(at).context("a field of the process line")?.parse()?) };
    Ok(field(11)? + field(12)?)
}

fn resident_megabytes(process: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the resident size")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1024.0)
}
