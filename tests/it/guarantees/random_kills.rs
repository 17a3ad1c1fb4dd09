//! Kills at random moments while events, rules, workflows and processes are at work; then everything is counted.
//!
//! `PETREL_CRASH_KILLS` says how many (a few by default), `PETREL_CRASH_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use petrel::clock::{SystemClock, sleep};
use petrel::model::action::OnLost;
use petrel::model::trigger::InstanceStatus;
use petrel::store::Store;
use petrel::store::events::InstanceFilter;
use petrel::store::executions::ExecutionFilter;
use petrel::store::rows::{ExecutionRow, Page};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::effects::{PARKING, ids_by_tag, rule, site, times_by_tag};
use crate::support::daemon::Daemon;
use crate::support::site::Site;

const KILLS: u64 = 8;
/// The longest life of a daemon: long enough for several steps, short enough to die in the middle of most.
const LONGEST_LIFE_MILLIS: u64 = 900;
/// Who commits at the same moment shares a commit, so a run may have fewer than the one before; not so many in a row.
const MISSES: u32 = 3;
/// The flow has some dozen steps, each with a write at least.
const FEWEST_COMMITS: usize = 15;
/// Everything is let to its end after so many kills.
const REST_EVERY: u64 = 20;
const ALL: Page = Page { limit: 100_000, offset: 0 };

/// Every kind of step; every third one fails at its end and is rolled back.
const FLOW: &str = r#"
    let n = params.n;
    run("t.keyed", #{ tag: `${n}-a` }, #{ undo: ["t.keyed", #{ tag: `${n}-undo-a` }] });
    parallel([|| run("t.keyed", #{ tag: `${n}-p1` }), || run("t.keyed", #{ tag: `${n}-p2` })]);
    try { run("t.once", #{ tag: `${n}-o` }) } catch (e) { log(e.message) }
    retry(#{ attempts: 3, delay: "20ms" }, || run("t.fragile", #{ tag: `${n}-f` }));
    sleep("30ms");
    let s = spawn("t.keyed", #{ tag: `${n}-s` });
    kv_incr(`count-${n}`, 1);
    wait(s);
    run("t.keyed", #{ tag: `${n}-z` }, #{ undo: ["t.keyed", #{ tag: `${n}-undo-z` }] });
    if n % 3 == 0 { fail("on purpose") }
    kv_get(`count-${n}`)
"#;

/// A small generator: what it gives depends on the seed only.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[expect(clippy::disallowed_methods, reason = "how long to go on is said from outside")]
fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g01_to_g06_hold_over_random_kills() {
    let kills = from_environment("PETREL_CRASH_KILLS", KILLS);
    let seed = from_environment("PETREL_CRASH_SEED", 0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()));
    eprintln!("{kills} kills with PETREL_CRASH_SEED={seed}");
    let site = busy_site();
    let mut story = Story { dice: Dice(seed), unanswered: Vec::new(), acknowledged: BTreeSet::new(), next: 1 };
    let mut daemon = Daemon::start(&site).await;
    for kill in 1..=kills {
        story.live(&mut daemon).await;
        daemon.kill9().await;
        assert_eq!(daemon.store().obligations().orphans().await.unwrap(), [], "after kill {kill}, seed {seed}");
        let park = PARKING[usize::try_from(story.dice.below(2)).unwrap()];
        daemon.restart_with(&[("workers.park", park)]).await;
        if kill % REST_EVERY == 0 {
            daemon.until_idle().await;
        }
    }
    story.end(daemon, &site).await;
}

/// The daemon is killed after the first commit that follows a delivery, then after the second, and so on until the
/// workflow has none left: between accept, match, dispatch, every write of its journal and of its rollback.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g01_to_g06_hold_when_the_daemon_is_killed_after_each_of_its_commits() {
    let site = busy_site();
    let mut story = Story { dice: Dice(1), unanswered: Vec::new(), acknowledged: BTreeSet::new(), next: 3 };
    let mut daemon = Daemon::start(&site).await;
    let (mut kills, mut misses) = (0, 0);
    while misses < MISSES {
        daemon.until_idle().await;
        let before = daemon.commits();
        story.unanswered.push(story.next);
        story.next += 3; // each of them fails at its end and is rolled back
        story.deliver_all(&daemon).await;
        if !daemon.until_commits(before + kills + 1).await {
            misses += 1;
            continue;
        }
        daemon.kill9().await;
        (kills, misses) = (kills + 1, 0);
        assert_eq!(daemon.store().obligations().orphans().await.unwrap(), [], "killed after commit {kills}");
        let park = PARKING[kills % 2];
        daemon.restart_with(&[("workers.park", park)]).await;
    }
    assert!(kills > FEWEST_COMMITS, "a flow with so many steps has more commits than {kills}");
    story.end(daemon, &site).await;
}

/// A site where one body sent to two hooks sets off a process and a workflow.
fn busy_site() -> Site {
    site()
        .workflow_with("flow", FLOW, "{n: {type: integer, required: true}}")
        .file("rules/e.yaml", &rule("e", "t.keyed", r#"{tag: "e{{ trigger.body.n }}"}"#))
        .file("rules/f.yaml", &rule("f", "default.flow", r#"{n: "{{ trigger.body.n }}"}"#))
}

/// What the outside did and was told.
struct Story {
    dice: Dice,
    /// Sent, and no answer came: sent again with the same key, as sources do.
    unanswered: Vec<u64>,
    acknowledged: BTreeSet<u64>,
    next: u64,
}

impl Story {
    /// One life of the daemon: a few events come in, and some time passes.
    async fn live(&mut self, daemon: &mut Daemon<'_>) {
        let life = Duration::from_millis(self.dice.below(LONGEST_LIFE_MILLIS));
        self.unanswered.extend(self.next..self.next + 2);
        self.next += 2;
        let pid = daemon.pid();
        let end = async {
            sleep(&SystemClock::new(), life).await;
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        };
        tokio::join!(self.deliver_all(daemon), end);
    }

    /// Everything is sent, everything comes to its end, and the books are checked.
    async fn end(mut self, mut daemon: Daemon<'_>, site: &Site) {
        self.deliver_all(&daemon).await;
        daemon.until_idle().await;
        daemon.kill9().await;
        Books::read(&daemon.store(), site).await.check(&self.acknowledged);
    }

    async fn deliver_all(&mut self, daemon: &Daemon<'_>) {
        for n in std::mem::take(&mut self.unanswered) {
            let (body, key) = (json!({ "n": n }), format!("delivery-{n}"));
            for hook in ["e", "f"] {
                let answer = daemon.deliver(hook, Some(&key), &body).await;
                let Some(answer) = answer else {
                    self.unanswered.push(n);
                    break;
                };
                assert_eq!(answer.status, StatusCode::ACCEPTED);
            }
            if !self.unanswered.contains(&n) {
                self.acknowledged.insert(n);
            }
        }
    }
}

/// Everything that was written down, and every effect in the world.
struct Books {
    bodies: Vec<Value>,
    enforcements: usize,
    executions: Vec<ExecutionRow>,
    /// Steps by workflow: position, outcome, child.
    journals: BTreeMap<String, Vec<petrel::store::journal::EntryRow>>,
    keyed: BTreeMap<String, BTreeSet<String>>,
    fragile: BTreeMap<String, BTreeSet<String>>,
    once: BTreeMap<String, usize>,
    folder: std::path::PathBuf,
}

impl Books {
    async fn read(store: &Store, site: &Site) -> Self {
        assert_eq!(store.obligations().orphans().await.unwrap(), []);
        let (instances, _) = store.events().instance_list(&InstanceFilter::default(), ALL).await.unwrap();
        let set_aside = instances.iter().filter(|instance| instance.status == InstanceStatus::ProcessingFailed);
        assert_eq!(set_aside.count(), 0, "set aside though it harms nobody");
        let (executions, _) = store.executions().execution_list(&ExecutionFilter::default(), ALL).await.unwrap();
        let mut journals = BTreeMap::new();
        for row in executions.iter().filter(|row| row.runner == "workflow") {
            journals.insert(row.id.to_string(), store.journals().journal_read(row.id).await.unwrap());
        }
        Self {
            bodies: instances.into_iter().map(|instance| instance.payload["body"]["n"].clone()).collect(),
            enforcements: store.events().enforcement_list(None, None, ALL).await.unwrap().len(),
            executions,
            journals,
            keyed: ids_by_tag(site, "keyed"),
            fragile: ids_by_tag(site, "fragile"),
            once: times_by_tag(site, "once"),
            folder: site.path().to_owned(),
        }
    }

    #[expect(clippy::print_stderr, reason = "the figures of a run, for whoever asked for a long one")]
    fn check(&self, acknowledged: &BTreeSet<u64>) {
        self.check_events(acknowledged);
        self.executions.iter().for_each(|row| self.check_execution(row));
        acknowledged.iter().for_each(|n| self.check_flow(*n));
        assert!(self.once.values().all(|times| *times == 1), "run again though it must not be: {:?}", self.once);
        assert!(acknowledged.len() > 1, "too little was acknowledged to say anything");
        eprintln!("{}", self.figures(acknowledged.len()));
    }

    /// G1 and G2: what was acknowledged is there once per hook, and caused one enforcement and one execution.
    fn check_events(&self, acknowledged: &BTreeSet<u64>) {
        for n in acknowledged {
            let found = self.bodies.iter().filter(|body| **body == json!(n)).count();
            assert_eq!(found, 2, "event {n} came in by two hooks");
        }
        let top = self.executions.iter().filter(|row| row.parent.is_none()).count();
        assert_eq!((self.enforcements, top), (self.bodies.len(), self.bodies.len()));
    }

    /// Everything has ended; only what must not be run again may be lost; a workflow's journal is complete.
    fn check_execution(&self, row: &ExecutionRow) {
        assert!(row.status.is_completed(), "{row:?}");
        let lost = row.status == petrel::model::execution::ExecutionStatus::Abandoned;
        assert!(!lost || row.on_lost == OnLost::Fail, "abandoned though it may be run again: {row:?}");
        let reason = row.result.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(!reason.contains("evaluated this and nothing else"), "set aside though it harms nobody: {row:?}");
        for entry in self.journals.get(&row.id.to_string()).into_iter().flatten() {
            assert!(entry.outcome.is_some(), "a step without outcome in {row:?}: {entry:?}");
            let Some(child) = entry.child else { continue };
            let found = self.executions.iter().find(|row| row.id == child).expect("the step's execution");
            assert_eq!(found.parent.as_ref().map(|parent| &parent.1), Some(&entry.position));
        }
    }

    /// G3: each step under one execution id; undone exactly if it failed, once.
    fn check_flow(&self, n: u64) {
        let ran = |tag: &str| self.keyed.get(&format!("{n}-{tag}")).map_or(0, BTreeSet::len);
        for step in ["a", "p1", "p2", "s", "z"] {
            assert_eq!(ran(step), 1, "step {step} of flow {n}: {:?}", self.keyed.get(&format!("{n}-{step}")));
        }
        let attempts = self.fragile.get(&format!("{n}-f")).map_or(0, BTreeSet::len);
        assert!((1..=2).contains(&attempts), "attempts of flow {n}: {attempts}");
        let undone = usize::from(n % 3 == 0);
        assert_eq!((ran("undo-a"), ran("undo-z")), (undone, undone), "rollback of flow {n}");
        let row = self.executions.iter().find(|row| row.runner == "workflow" && row.parameters["n"] == json!(n));
        let row = row.expect("its workflow");
        let result = row.result.as_ref().expect("a result");
        if undone == 1 {
            assert_eq!((row.status.as_str(), &result["rollback"]), ("failed", &json!("complete")), "{row:?}");
        } else {
            assert_eq!((row.status.as_str(), &result["output"]), ("succeeded", &json!(1)), "{row:?}");
        }
    }

    fn figures(&self, acknowledged: usize) -> String {
        let attempts: i64 = self.executions.iter().map(|row| row.fence).sum();
        let lost = self.executions.iter().filter(|row| row.status.as_str() == "abandoned").count();
        let steps: usize = self.journals.values().map(Vec::len).sum();
        format!(
            "{acknowledged} events by two hooks, {} executions in {attempts} claims, {lost} abandoned, {steps} journal \
             entries, {} effects, database {} kB",
            self.executions.len(),
            self.keyed.len() + self.once.len(),
            size_kb(&self.folder.join("data/petrel.db")),
        )
    }
}

fn size_kb(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |file| file.len() / 1024)
}
