//! A journal in memory and a small world of actions, which can die after any journal write.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::super::*;

/// How an execution lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// The thread waits for every outcome.
    Hot,
    /// Suspends at every wait.
    Cold,
    /// Waits, and dies after every so many journal writes; what the script was about to do is lost.
    DiesAfter(u32),
}

#[derive(Default)]
struct State {
    journal: BTreeMap<Position, Entry>,
    written: Vec<Position>,
    effects: BTreeMap<Position, u32>,
    key_values: BTreeMap<String, Value>,
    writes_of_this_life: u32,
    interrupt: Option<Interrupt>,
    interrupt_after_entries: Option<(usize, Interrupt)>,
    warnings: Vec<String>,
    dead: bool,
    asks: u32,
}

pub(super) struct MemoryHost {
    life: Life,
    state: Mutex<State>,
}

impl MemoryHost {
    pub(super) fn new(life: Life) -> Arc<Self> {
        Arc::new(Self { life, state: Mutex::new(State::default()) })
    }

    /// A host with a journal that exists already.
    pub(super) fn with_journal(life: Life, journal: &[Entry]) -> Arc<Self> {
        let host = Self::new(life);
        for entry in journal {
            host.state().journal.insert(entry.position.clone(), entry.clone());
        }
        host
    }

    pub(super) fn interrupt(&self, interrupt: Option<Interrupt>) {
        self.state().interrupt = interrupt;
    }

    pub(super) fn interrupt_when_there_are(&self, entries: usize, interrupt: Interrupt) {
        self.state().interrupt_after_entries = Some((entries, interrupt));
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.state().warnings.clone()
    }

    /// The journal in the order in which it was written.
    pub(super) fn written(&self) -> Vec<Entry> {
        let state = self.state();
        state.written.iter().map(|at| state.journal[at].clone()).collect()
    }

    /// Number of requests that were asked, over all lives.
    pub(super) fn asks(&self) -> u32 {
        self.state().asks
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Does the effect of the first open step and writes its outcome. False if nothing is open.
    pub(super) fn deliver_one(&self) -> bool {
        self.deliver_where(|_| true)
    }

    /// Finishes what is left open when a script ended: spawned children it did not wait for.
    pub(super) fn deliver_where(&self, wanted: impl Fn(&Position) -> bool) -> bool {
        let mut state = self.state();
        let open = state.journal.values().find(|entry| entry.outcome.is_none() && wanted(&entry.position)).cloned();
        let Some(entry) = open else { return false };
        *state.effects.entry(entry.position.clone()).or_default() += 1;
        let outcome = world(&entry, &mut state.key_values);
        self.write(&mut state, Entry { outcome: Some(outcome.to_text().into()), ..entry });
        true
    }

    fn write(&self, state: &mut State, entry: Entry) {
        if !state.journal.contains_key(&entry.position) {
            state.written.push(entry.position.clone());
        }
        state.journal.insert(entry.position.clone(), entry);
        state.writes_of_this_life += 1;
        if let Life::DiesAfter(writes) = self.life {
            state.dead = state.writes_of_this_life >= writes;
        }
        if let Some((entries, interrupt)) = state.interrupt_after_entries
            && state.journal.len() >= entries
        {
            state.interrupt = Some(interrupt);
        }
    }

    fn add(&self, at: &Position, request: Request, outcome: Option<StepOutcome>) -> Answer {
        let mut state = self.state();
        assert!(!state.dead, "a dead process does nothing");
        assert!(!state.journal.contains_key(at), "{at} is asked once");
        state.asks += 1;
        let outcome = outcome.or_else(|| at_once(at, &request, &mut state));
        let outcome = outcome.map(|outcome| outcome.to_text().into());
        self.write(&mut state, Entry { position: at.clone(), request, outcome });
        if state.dead { Answer::Suspend } else { Answer::Recorded }
    }

    /// Evaluates until it ends, with a restart after every death and an outcome after every suspension.
    pub(super) fn drive(self: &Arc<Self>, bundle: &Bundle, params: &Value, limits: &Limits) -> TurnEnd {
        for _ in 0..100_000 {
            {
                let mut state = self.state();
                state.dead = false;
                state.writes_of_this_life = 0;
            }
            let host: Arc<dyn Host> = Arc::<Self>::clone(self);
            match evaluate(bundle, params, host, limits) {
                TurnEnd::Suspended if self.state().dead => {}
                TurnEnd::Suspended => assert!(self.deliver_one(), "suspended, and nothing is open"),
                end => return end,
            }
        }
        panic!("the workflow never ends");
    }
}

impl Host for MemoryHost {
    fn entry(&self, at: &Position) -> Option<Arc<Entry>> {
        self.state().journal.get(at).cloned().map(Arc::new)
    }

    fn ask(&self, at: &Position, request: Request) -> Answer {
        self.add(at, request, None)
    }

    fn record(&self, at: &Position, request: Request, outcome: StepOutcome) -> Answer {
        self.add(at, request, Some(outcome))
    }

    fn wait(&self, open: &[Position]) -> Waited {
        if self.life == Life::Cold || self.state().dead {
            return Waited::Suspend;
        }
        assert!(self.deliver_where(|at| open.contains(at)), "waits for {open:?}, which is not open");
        if self.state().dead { Waited::Suspend } else { Waited::Progress }
    }

    fn interrupted(&self) -> Option<Interrupt> {
        self.state().interrupt
    }

    fn fingerprint(&self, params: &Value) -> String {
        keyed_digest(b"a key", params)
    }

    fn journal_size(&self) -> JournalSize {
        let state = self.state();
        let bytes = state.journal.values().map(|entry| entry.outcome.as_deref().map_or(0, str::len)).sum::<usize>();
        JournalSize { entries: state.journal.len() as u64, bytes: bytes as u64 }
    }

    fn warn(&self, message: &str) {
        self.state().warnings.push(message.to_owned());
    }
}

/// Steps that have their outcome when they are asked.
fn at_once(at: &Position, request: &Request, state: &mut State) -> Option<StepOutcome> {
    let key = request.params["key"].as_str().unwrap_or_default().to_owned();
    let values = &mut state.key_values;
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other kinds take time")]
    let value = match request.kind {
        StepKind::Now => json!("2026-11-21T08:30:00.000000Z"),
        StepKind::Uuid => json!(format!("uuid-{at}")),
        StepKind::RandomName => json!(format!("{}{at}", request.params["prefix"].as_str().unwrap_or_default())),
        StepKind::KvGet => values.get(&key).cloned().unwrap_or_default(),
        StepKind::KvSet => values.insert(key, request.params["value"].clone()).map_or(Value::Null, |_| Value::Null),
        StepKind::KvIncr => {
            let sum = values.get(&key).and_then(Value::as_i64).unwrap_or(0) + request.params["by"].as_i64().unwrap();
            values.insert(key, json!(sum));
            json!(sum)
        }
        StepKind::KvCas => {
            let same = values.get(&key).cloned().unwrap_or_default() == request.params["expected"];
            if same {
                values.insert(key, request.params["value"].clone());
            }
            json!(same)
        }
        StepKind::KvDelete => json!(values.remove(&key).is_some()),
        StepKind::Emit | StepKind::Notify | StepKind::Log | StepKind::Publish | StepKind::OnRollback => Value::Null,
        _ => return None,
    };
    *state.effects.entry(at.clone()).or_default() += 1;
    Some(StepOutcome::Ok(value))
}

/// What actions do: `t.echo` gives back its parameters, `t.fail` fails, `t.third` fails at two positions of three.
fn world(entry: &Entry, _: &mut BTreeMap<String, Value>) -> StepOutcome {
    let action = entry.request.target.as_ref().map_or("", |action| action.as_str());
    let last: u32 = entry.position.to_string().bytes().map(u32::from).sum();
    let fail = |status: &str| {
        StepOutcome::Error(StepError {
            status: status.to_owned(),
            details: json!({ "exit_code": 2 }),
            ..StepError::new(format!("{action} went wrong"))
        })
    };
    match (entry.request.kind, action) {
        (_, "t.fail") => fail("failed"),
        (_, "t.slow") => fail("timeout"),
        (_, "t.third") if last % 3 != 0 => fail("failed"),
        (StepKind::WaitSignal, _) => StepOutcome::Ok(json!({ "signal": entry.request.params["name"] })),
        (StepKind::Ask, _) => StepOutcome::Ok(json!({ "answer": "yes" })),
        (StepKind::Run | StepKind::Spawn, _) => StepOutcome::Ok(entry.request.params.clone()),
        _ => StepOutcome::Ok(Value::Null),
    }
}

/// An execution that ended.
pub(super) struct Run {
    pub(super) end: TurnEnd,
    pub(super) host: Arc<MemoryHost>,
}

impl Run {
    /// The journal by position.
    pub(super) fn journal(&self) -> Vec<Entry> {
        self.host.state().journal.values().cloned().collect()
    }

    /// One line per entry: `position kind action`.
    pub(super) fn steps(&self) -> Vec<String> {
        let line = |entry: &Entry| {
            let target = entry.request.target.as_ref().map(|target| format!(" {target}")).unwrap_or_default();
            format!("{} {}{target}", entry.position, entry.request.kind)
        };
        self.journal().iter().map(line).collect()
    }

    pub(super) fn assert_every_effect_happened_once(&self) {
        for (position, count) in &self.host.state().effects {
            assert_eq!(*count, 1, "effects at {position}");
        }
    }
}

pub(super) fn bundle(script: &str) -> Bundle {
    Bundle::load("main", &|name| (name == "main").then(|| script.to_owned())).unwrap()
}

pub(super) fn run_script(script: &str, params: &Value, life: Life) -> Run {
    let host = MemoryHost::new(life);
    let end = host.drive(&bundle(script), params, &Limits::default());
    while host.deliver_one() {}
    Run { end, host }
}
