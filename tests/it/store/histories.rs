//! The same random history told to both back ends: each answer is the same, and so is what is stored at its end.

use std::fmt::Debug;

use petrel::model::execution::ExecutionStatus;
use petrel::model::refs::ExecutionId;
use petrel::store::events::MatchRecord;
use petrel::store::journal::NewSignal;
use petrel::store::key_values::{Expected, KeyWrite};
use petrel::store::rows::{Claim, NewEnforcement, NewInstance, Share};
use petrel::store::{Store, StoreResult};
use serde_json::json;

use super::postgres::{database_of, open_at};
use super::{accept, at, end, execution, id, instance, lease};
use crate::servers::fresh_database;

/// Steps of one history; so many that each kind of step meets each other kind.
const STEPS: usize = 400;
/// Few names for many steps: they are meant to collide.
const NAMES: u64 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_history_leaves_the_same_contents_in_both_stores() {
    for seed in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let embedded = Store::open_sqlite(&folder.path().join("petrel.db"), None).unwrap();
        let (shared_url, moved_url) = (fresh_database().await, fresh_database().await);
        let shared = open_at(shared_url.clone()).await;
        let mut history = History { dice: seed, now: 1, claims: Vec::new() };
        for number in 0..STEPS {
            let step = history.next();
            let (one, other) = (step.tell(&embedded).await, step.tell(&shared).await);
            assert_eq!(one, other, "seed {seed}, step {number}: {step:?}");
            history.learn(&step, &one);
        }
        // What the embedded store holds is made comparable by moving it, which is a promise of its own.
        let moved = open_at(moved_url.clone()).await;
        let tables = embedded.transfer_to(&moved).await.unwrap();
        assert!(tables.iter().all(|table| table.rows == table.arrived), "{tables:?}");
        let names: Vec<&str> = tables.iter().map(|table| table.table.as_str()).collect();
        let (one, other) = (database_of(&shared_url, &names).await, database_of(&moved_url, &names).await);
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one, other, "seed {seed}");
        }
    }
}

/// What happens next, and when.
#[derive(Debug, Clone)]
struct Step {
    at: i64,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Accept { number: u8, key: Option<u64> },
    Match { number: u8 },
    Request { number: u8 },
    Claim { token: u64, limit: usize },
    Finish(Claim),
    Release(Claim),
    Slot(Claim),
    Cancel(u8),
    Key { name: u64, write: Option<u64>, expected: Expected },
    Signal { name: u64, sender: u64 },
    Fire { timer: u64 },
    Ring,
    Turn { name: u64, owner: u64 },
}

struct History {
    dice: u64,
    now: i64,
    claims: Vec<Claim>,
}

impl History {
    fn die(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    fn number(&mut self) -> u8 {
        u8::try_from(self.die(NAMES * 4)).unwrap()
    }

    fn claim(&mut self) -> Claim {
        let known = u64::try_from(self.claims.len()).unwrap();
        let old = usize::try_from(self.die(known.max(1))).unwrap();
        self.claims.get(old).copied().unwrap_or_else(|| Claim { execution: id(0), fence: 1 })
    }

    fn next(&mut self) -> Step {
        self.now += i64::try_from(self.die(2)).unwrap();
        let (name, other) = (self.die(NAMES), self.die(3));
        let what = match self.die(14) {
            0 => What::Accept { number: self.number(), key: (other > 0).then_some(name) },
            1 => What::Match { number: self.number() },
            2 | 3 => What::Request { number: self.number() },
            4 | 5 => What::Claim { token: self.die(u64::MAX), limit: usize::try_from(other + 1).unwrap() },
            6 => What::Finish(self.claim()),
            7 => What::Release(self.claim()),
            8 => What::Slot(self.claim()),
            9 => What::Cancel(self.number()),
            10 => What::Key { name, write: (other > 0).then_some(other), expected: self.expected() },
            11 => What::Signal { name, sender: other },
            12 => What::Fire { timer: other },
            _ if other > 0 => What::Ring,
            _ => What::Turn { name, owner: self.die(2) },
        };
        Step { at: self.now, what }
    }

    fn expected(&mut self) -> Expected {
        match self.die(3) {
            0 => Expected::Anything,
            1 => Expected::Absent,
            _ => Expected::Version(i64::try_from(self.die(3)).unwrap()),
        }
    }

    /// Later steps use the claims that were given.
    fn learn(&mut self, step: &Step, answer: &str) {
        if let What::Claim { .. } = step.what {
            let claims: Vec<(ExecutionId, i64)> = claims_of(answer);
            self.claims.extend(claims.into_iter().map(|(execution, fence)| Claim { execution, fence }));
        }
    }
}

fn claims_of(answer: &str) -> Vec<(ExecutionId, i64)> {
    let pairs = answer.split(' ').filter_map(|pair| pair.split_once('@'));
    pairs.map(|(id, fence)| (id.parse().unwrap(), fence.parse().unwrap())).collect()
}

fn said<T: Debug>(answer: StoreResult<T>) -> String {
    format!("{answer:?}")
}

impl Step {
    async fn tell(&self, store: &Store) -> String {
        let now = at(self.at);
        let executions = store.executions();
        match self.what.clone() {
            What::Accept { number, key } => {
                let dedupe = key.map(|key| (format!("key-{key}"), at(self.at + 20)));
                said(accept(&store.events(), &NewInstance { dedupe, ..instance(number) }, now).await)
            }
            What::Match { number } => said(store.events().match_record(&matched(number, self.at), now).await),
            What::Request { number } => said(executions.execution_request(&execution(number, now)).await),
            What::Claim { token, limit } => {
                let (lease, token) = (lease("w", at(self.at + 5)), format!("t{token}"));
                let rows = executions.execution_claim(&lease, &token, limit, Share::Everything, now).await.unwrap();
                let mut pairs: Vec<String> = rows.iter().map(|row| format!("{}@{}", row.id, row.fence)).collect();
                pairs.sort();
                pairs.join(" ")
            }
            What::Finish(claim) => said(executions.execution_finish(&end(claim, now)).await),
            What::Release(claim) => said(executions.execution_release(claim, now).await),
            What::Slot(claim) => said(executions.slot_take(claim, "policy", 2, now).await),
            What::Cancel(number) => {
                let from = [ExecutionStatus::Running, ExecutionStatus::Requested];
                said(executions.status_change(id(number), &from, ExecutionStatus::Canceling, now).await)
            }
            What::Key { name, write, expected } => {
                said(store.key_values().key_write(&key_write(name, write, expected, self.at), now).await)
            }
            What::Signal { name, sender } => {
                said(store.journals().signal_send(&signal(name, sender, self.at), now).await)
            }
            What::Fire { timer } => {
                let trigger = format!("timer-{timer}");
                let state = said(store.events().timer_state(&trigger, now).await);
                state + said(store.events().timer_fire(&trigger, now, &[], 0, now).await).as_str()
            }
            What::Ring => {
                let rung = said(store.obligations().timers_ring(now).await);
                rung + said(store.events().holds_release(now).await).as_str()
            }
            What::Turn { name, owner } => {
                let (name, owner) = (format!("turn-{name}"), format!("daemon-{owner}"));
                said(store.daemons().lease_take(&name, &owner, at(self.at + 3), now).await)
            }
        }
    }
}

fn matched(number: u8, second: i64) -> MatchRecord {
    let enforcement = NewEnforcement {
        id: id(number),
        rule: "default.rule".parse().unwrap(),
        execution: Some(execution(number.wrapping_add(100), at(second))),
        failure_reason: None,
    };
    MatchRecord {
        instance: id(number),
        catalogue_version: 1,
        status: petrel::model::trigger::InstanceStatus::Processed,
        enforcements: vec![enforcement],
    }
}

fn key_write(name: u64, write: Option<u64>, expected: Expected, second: i64) -> KeyWrite {
    KeyWrite {
        scope: "system".to_owned(),
        name: format!("key-{name}"),
        value: write.map(|value| format!("\"{value}\"")),
        secret: false,
        expires_at: write.filter(|value| *value == 2).map(|_| at(second + 2)),
        expected,
    }
}

fn signal(name: u64, sender: u64, second: i64) -> NewSignal {
    NewSignal {
        name: format!("signal-{name}"),
        correlation: String::new(),
        sender: format!("sender-{sender}"),
        payload: json!({ "second": second }),
        expires_at: at(second + 3),
    }
}
