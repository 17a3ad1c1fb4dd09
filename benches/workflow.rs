//! A hot workflow in this process: steps a second over what the disk allows, flatness in the number of steps, and many
//! steps at once. Whole workflows and the disk take turns.
#![expect(clippy::disallowed_methods, reason = "a bench measures the wall clock")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its table")]

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use petrel::bus::Topic;
use petrel::config::Config;
use petrel::daemon::{Engine, Home, World};
use petrel::model::execution::ExecutionStatus;
use petrel::model::refs::ExecutionId;
use petrel::requests::{Requester, Requests, Wanted};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use support::{fdatasync_latency, median, millis, number};

const ROUNDS: usize = 5;
const SHORT: usize = 10;
const LONG: usize = 1_000;

const SEQUENTIAL: &str = r#"for n in 0..params.steps { run("core.noop"); }"#;
const SIDE_BY_SIDE: &str = r#"let items = []; for n in 0..params.steps { items.push(n); } map_items(items, |n| run("core.noop"), #{ concurrency: 50 });"#;

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let bench = Bench::start().await?;
    bench.run("sequential", SHORT).await?;
    println!(
        "{:<8} {:>12} {:>10} {:>7} {:>14} {:>14} {:>10} {:>14}",
        "", "fdatasync/s", "steps/s", "ratio", "ms/step, 10", "ms/step, 1000", "growth", "1000 by 50, s"
    );
    let mut lines = Vec::new();
    for round in 1..=ROUNDS {
        let line = bench.round().await?;
        print_line(&round.to_string(), line);
        lines.push(line);
    }
    let column = |of: fn(&Line) -> f64| median(lines.iter().map(of).collect());
    let line = Line {
        syncs: column(|line| line.syncs),
        short: column(|line| line.short),
        long: column(|line| line.long),
        side_by_side: column(|line| line.side_by_side),
    };
    print_line("median", line);
    println!("ratios' median: {:.3}; growth's median: {:.2}", column(Line::ratio), column(Line::growth));
    bench.stop().await
}

/// One round: syncs a second, milliseconds a step in short and long workflows, seconds for many steps at once.
#[derive(Debug, Clone, Copy)]
struct Line {
    syncs: f64,
    short: f64,
    long: f64,
    side_by_side: f64,
}

impl Line {
    fn ratio(&self) -> f64 {
        1000.0 / self.long / self.syncs
    }

    fn growth(&self) -> f64 {
        self.long / self.short
    }
}

fn print_line(name: &str, line: Line) {
    let Line { syncs, short, long, side_by_side } = line;
    println!(
        "{name:<8} {syncs:>12.0} {:>10.0} {:>7.3} {short:>14.3} {long:>14.3} {:>10.2} {side_by_side:>14.2}",
        1000.0 / long,
        line.ratio(),
        line.growth()
    );
}

struct Bench {
    engine: Engine,
    _site: TempDir,
}

impl Bench {
    async fn start() -> Result<Self> {
        let site = TempDir::new()?;
        let workflows = site.path().join("workflows");
        std::fs::create_dir_all(&workflows)?;
        for (name, script) in [("sequential", SEQUENTIAL), ("side_by_side", SIDE_BY_SIDE)] {
            let metadata = format!("name: {name}\nrunner_type: workflow\nparameters:\n  steps:\n    type: integer\n");
            std::fs::write(workflows.join(format!("{name}.yaml")), metadata)?;
            std::fs::write(workflows.join(format!("{name}.rhai")), script)?;
        }
        let data_dir = site.path().join("data");
        std::fs::create_dir_all(&data_dir)?;
        let settings = [("PETREL__DATA_DIR".to_owned(), data_dir.display().to_string())];
        let config = Config::load(None, &settings.into_iter().collect())?;
        let home = Home { site: site.path().to_owned(), program: PathBuf::from(env!("CARGO_BIN_EXE_petrel")) };
        let engine = Engine::open(&config, &home, World::real()).await?;
        engine.start(&config).await?;
        Ok(Self { engine, _site: site })
    }

    async fn round(&self) -> Result<Line> {
        let before = fdatasync_latency()?;
        let long = self.step_time("sequential", LONG).await?;
        let after = fdatasync_latency()?;
        let mut shorts = Vec::new();
        for _ in 0..20 {
            shorts.push(self.step_time("sequential", SHORT).await?);
        }
        let began = Instant::now();
        self.run("side_by_side", LONG).await?;
        let side_by_side = began.elapsed().as_secs_f64();
        let sync = (before + after) / 2;
        Ok(Line { syncs: 1.0 / sync.as_secs_f64(), short: median(shorts), long, side_by_side })
    }

    /// Milliseconds from one step's entry in the journal to the next one's, on average over all steps.
    async fn step_time(&self, workflow: &str, steps: usize) -> Result<f64> {
        let id = self.run(workflow, steps).await?;
        let journal = self.engine.store.journals().journal_read(id).await?;
        ensure!(journal.len() == steps, "{workflow} has {} entries", journal.len());
        let times: Vec<_> = journal.iter().map(|entry| entry.recorded_at).collect();
        let whole = match (times.first(), times.last()) {
            (Some(first), Some(last)) => last.since(*first),
            _ => Duration::ZERO,
        };
        Ok(millis(whole) / number(steps - 1))
    }

    async fn run(&self, workflow: &str, steps: usize) -> Result<ExecutionId> {
        let parameters: Map<String, Value> = json!({ "steps": steps }).as_object().cloned().unwrap_or_default();
        let plan = self.engine.dispatcher.plan(Wanted::new(
            format!("default.{workflow}").parse()?,
            parameters,
            Requester::Content,
        ))?;
        let id = plan.execution().id;
        let executions = self.engine.store.executions();
        executions.execution_request(plan.execution()).await?;
        plan.committed();
        let mut news = self.engine.world.bus.listen(Topic::Announcements);
        loop {
            let row = executions.execution_get(id).await?;
            if row.status.is_completed() {
                ensure!(row.status == ExecutionStatus::Succeeded, "{workflow} ended: {:?}", row.result);
                return Ok(id);
            }
            // Looking costs a read: not at every step.
            tokio::time::sleep(Duration::from_millis(10)).await;
            news.heard().await;
        }
    }

    async fn stop(self) -> Result<()> {
        self.engine.dispatcher.stop_all();
        let late = self.engine.world.supervisor.shutdown(Duration::from_secs(10)).await;
        ensure!(late.is_empty(), "late: {late:?}");
        Ok(())
    }
}
