//! 10 rules against 10,000 rules, one of which matches: what one event costs in the matcher and in the whole daemon,
//! and how long the rules take to load. Both take turns.
#![expect(clippy::disallowed_methods, reason = "a bench measures the wall clock and starts real processes")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its table")]

mod support;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use petrel::model::refs::InstanceId;
use petrel::model::rule::{Condition, Criterion, Rule, RuleAction, RuleKind};
use petrel::model::time::Timestamp;
use petrel::model::trigger::{InstanceStatus, Trigger, TriggerInstance};
use petrel::rules::{CompiledRule, RuleIndex, match_instance};
use serde_json::{Value, json};

use support::{Daemon, event, load, median, millis, number};

const FEW: usize = 10;
const MANY: usize = 10_000;
const ROUNDS: usize = 5;
const EVENTS: usize = 20_000;
const CONNECTIONS: usize = 64;

fn main() -> Result<()> {
    matcher()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(daemon())
}

/// The matcher by itself.
fn matcher() -> Result<()> {
    let instance = instance()?;
    let (few, _) = compile(FEW)?;
    let (many, load_time) = compile(MANY)?;
    println!("compiling and indexing {MANY} rules: {:.0} ms", millis(load_time));
    let mut growths = Vec::new();
    for round in 1..=ROUNDS {
        let (with_few, with_many) = (match_time(&few, &instance)?, match_time(&many, &instance)?);
        growths.push(with_many / with_few);
        println!("round {round}: matching {with_few:.2} us with {FEW} rules, {with_many:.2} us with {MANY}");
    }
    println!("matching: growth {:.2} in the median (goal: at most 2)", median(growths));
    Ok(())
}

fn compile(rules: usize) -> Result<(RuleIndex, Duration)> {
    let rules: Vec<Rule> = (0..rules).map(rule).collect::<Result<_>>()?;
    let began = Instant::now();
    let mut compiled = Vec::new();
    for rule in &rules {
        let rule =
            CompiledRule::compile(rule).map_err(|problems| anyhow::anyhow!("a rule does not compile: {problems:?}"))?;
        compiled.push(Arc::new(rule));
    }
    Ok((RuleIndex::build(compiled.into_iter()), began.elapsed()))
}

/// Microseconds an event.
fn match_time(index: &RuleIndex, instance: &TriggerInstance) -> Result<f64> {
    let began = Instant::now();
    for _ in 0..EVENTS {
        let found = match_instance(index, black_box(instance), None, Timestamp::from_micros(0));
        ensure!(found.len() == 1, "{} rules match", found.len());
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / number(EVENTS))
}

/// The first rule matches the event.
fn rule(number: usize) -> Result<Rule> {
    Ok(Rule {
        reference: format!("bench.rule_{number}").parse()?,
        description: String::new(),
        enabled: true,
        trigger: Trigger { trigger_type: "core.st2.webhook".parse()?, parameters: BTreeMap::new() },
        criteria: vec![is("trigger.body.severity", "critical"), is("trigger.body.host", &host(number))],
        when: None,
        throttle: None,
        action: RuleAction { reference: "core.noop".parse()?, parameters: BTreeMap::new() },
        kind: RuleKind::Standard,
        tags: Vec::new(),
        context: Value::Null,
        metadata_file: String::new(),
    })
}

fn is(key: &str, value: &str) -> Condition {
    let (key, operator) = (key.to_owned(), "equals".to_owned());
    Condition::Test(Criterion { key, operator, pattern: Some(json!(value)), condition: None })
}

fn host(number: usize) -> String {
    if number == 0 { "web-0042.example.org".to_owned() } else { format!("host-{number}") }
}

fn instance() -> Result<TriggerInstance> {
    let body: Value = serde_json::from_str(&event())?;
    Ok(TriggerInstance {
        id: InstanceId::from_bytes([7; 12]),
        trigger: "core.st2.webhook".to_owned(),
        trigger_type: "core.st2.webhook".parse()?,
        payload: json!({ "headers": {}, "headers_lower": {}, "body": body }),
        occurred_at: Timestamp::from_micros(0),
        trace_tag: "bench".to_owned(),
        status: InstanceStatus::Pending,
    })
}

/// Events a second through the whole daemon, until all of them are matched.
async fn daemon() -> Result<()> {
    let few = Daemon::start(&files(FEW)).await?;
    let many = Daemon::start(&files(MANY)).await?;
    println!(
        "start to /readyz: {:.0} ms with {FEW} rule files, {:.0} ms with {MANY}",
        millis(few.ready_after),
        millis(many.ready_after)
    );
    let mut growths = Vec::new();
    for round in 1..=ROUNDS {
        let (with_few, with_many) = (event_time(&few).await?, event_time(&many).await?);
        growths.push(with_many / with_few);
        println!("round {round}: {with_few:.0} us an event with {FEW} rules, {with_many:.0} us with {MANY}");
    }
    println!("whole daemon: growth {:.2} in the median (goal: at most 2)", median(growths));
    Ok(())
}

/// Microseconds an event, accepted and matched.
async fn event_time(daemon: &Daemon) -> Result<f64> {
    let began = Instant::now();
    let posted =
        load(daemon.address, daemon.post("/v1/webhooks/bench", &event()), CONNECTIONS, Duration::from_secs(2)).await?;
    let posting = Duration::from_secs(2).as_secs_f64();
    loop {
        let waiting = daemon.status().await?["pending_instances"].as_u64().context("a number of instances")?;
        if waiting == 0 {
            return Ok(began.elapsed().as_secs_f64() * 1e6 / (posted.per_second * posting));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn files(rules: usize) -> Vec<(String, String)> {
    let file = |number| {
        let text = format!(
            "name: rule_{number}\nenabled: true\ntrigger:\n  type: core.st2.webhook\n  parameters:\n    url: bench\n\
             criteria:\n  trigger.body.severity:\n    type: equals\n    pattern: critical\n  trigger.body.host:\n    \
             type: equals\n    pattern: {}\naction:\n  ref: core.noop\n",
            host(number)
        );
        (format!("rules/rule_{number}.yaml"), text)
    };
    (0..rules).map(file).collect()
}
