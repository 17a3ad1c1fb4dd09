//! What this process evaluates just now, so that after its death the next start knows what may have killed it; and the trials of
//! what is suspect.
//!
//! ```text
//!  begin ─► marked in a file ─► evaluated ─► mark removed
//!                                  │ the process dies
//!                                  ▼
//!           suspect (a row) ─► tried alone ─┬─► survives: no suspect any more
//!                  ▲                        ├─► time is up: goes on beside others, the next trial takes longer
//!                  └── death counted ◄──────┴─► the process dies; the third time it is set aside
//! ```
//!
//! The file is written without a sync: it must survive the process and not the machine, so marks of another boot count for
//! nothing. What runs in a child process is never marked: it cannot kill the daemon.
//!
//! Of several daemons, others may take over and evaluate what killed one of them before it is back and has written its marks
//! down. Each of them dies of it once at most: from then on it is a row, which nobody claims or matches but in a trial, one daemon
//! at a time, and the deaths are counted in that row.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{self, Clock};
use crate::metrics::Metrics;
use crate::store::suspects::{Subject, SubjectKind, SuspectRow};
use crate::store::{StoreResult, Suspects};

/// So many deaths alone are no accident.
pub const MOST_DEATHS: u32 = 3;
/// What kills does so at once, mostly; the trial after one that decided nothing takes four times as long.
const FIRST_TRIAL: Duration = Duration::from_secs(1);
const LONGEST_TRIAL: Duration = Duration::from_secs(64);
/// A trial that cannot have the process to itself within this time is put off.
const QUIET_WITHIN: Duration = Duration::from_secs(1);
/// And this long, so that trials hold nobody up for more than a small part of the time.
const PUT_OFF_FOR: Duration = Duration::from_secs(30);
/// After a death, whoever wants to cancel what is tried next gets a moment.
const MOMENT: Duration = Duration::from_secs(1);
/// Nobody else tries what a daemon tries, longer than any trial lasts.
const TRIAL_LEASE: Duration = Duration::from_mins(5);

/// A line of the file; the first one names the boot.
const LINE_BYTES: usize = 64;

/// What is evaluated just now, and who must wait.
#[derive(Debug)]
pub struct Evaluations {
    file: OnceLock<File>,
    /// Which lines are taken.
    lines: Mutex<Vec<bool>>,
    gate: watch::Sender<Gate>,
    /// Until then, by the monotonic clock, no trial begins: something else went on for too long.
    put_off_until: Mutex<Duration>,
}

#[derive(Debug, Default)]
struct Gate {
    /// Whose first look at the suspects is still to come: until then nothing is evaluated.
    awaited: BTreeSet<&'static str>,
    /// Trials under way.
    alone: usize,
    /// What is evaluated beside each other.
    active: usize,
}

impl Gate {
    fn is_open(&self) -> bool {
        self.awaited.is_empty() && self.alone == 0
    }
}

impl Default for Evaluations {
    /// Without a file.
    fn default() -> Self {
        Self {
            file: OnceLock::new(),
            lines: Mutex::default(),
            gate: watch::Sender::default(),
            put_off_until: Mutex::default(),
        }
    }
}

impl Evaluations {
    /// What was being evaluated when the process that kept this file died, if that was in this boot.
    pub fn left_in(path: &Path) -> io::Result<Vec<Subject>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        let mut lines = text.lines().map(str::trim);
        if lines.next() != Some(boot_line()?.trim()) {
            return Ok(Vec::new());
        }
        Ok(lines.filter_map(|line| line.split_once(' ')).filter_map(|(kind, id)| Subject::parse(kind, id)).collect())
    }

    /// Begins to mark in this file, which is made anew.
    pub fn mark_in(&self, path: &Path) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all_at(padded(&boot_line()?).as_bytes(), 0)?;
        drop(self.file.set(file));
        Ok(())
    }

    /// Nothing is evaluated before this part has said [`Self::first_look_done`].
    pub fn hold_for(&self, part: &'static str) {
        self.gate.send_modify(|gate| gate.awaited.extend([part]));
    }

    /// Is something awaited still?
    fn is_held(&self) -> bool {
        !self.gate.borrow().awaited.is_empty()
    }

    /// This part has tried what was suspect at the start. Saying it again is harmless.
    pub fn first_look_done(&self, part: &'static str) {
        self.gate.send_if_modified(|gate| gate.awaited.remove(part));
    }

    /// Waits until something may be evaluated, and marks these for as long as the result lives.
    pub async fn begin(self: &Arc<Self>, subjects: &[Subject]) -> Evaluating {
        let mut gate = self.gate.subscribe();
        while !self.enter() {
            // The sender is ours: it does not go away.
            drop(gate.changed().await);
        }
        Evaluating { evaluations: Arc::clone(self), lines: self.mark(subjects), is_alone: false }
    }

    fn enter(&self) -> bool {
        let mut entered = false;
        self.gate.send_if_modified(|gate| {
            entered = gate.is_open();
            gate.active += usize::from(entered);
            false
        });
        entered
    }

    /// Has the process to itself; `None`: something else went on for too long.
    async fn alone(self: &Arc<Self>, subject: Subject, clock: &dyn Clock) -> Option<Evaluating> {
        if clock.monotonic() < *self.put_off_until() {
            return None;
        }
        self.gate.send_modify(|gate| gate.alone += 1);
        let mut alone = Evaluating { evaluations: Arc::clone(self), lines: Vec::new(), is_alone: true };
        let mut gate = self.gate.subscribe();
        let quiet = gate.wait_for(|gate| gate.active == 0);
        if clock::timeout(clock, QUIET_WITHIN, quiet).await.is_err() {
            *self.put_off_until() = clock.monotonic() + PUT_OFF_FOR;
            return None;
        }
        alone.lines = self.mark(&[subject]);
        Some(alone)
    }

    fn mark(&self, subjects: &[Subject]) -> Vec<usize> {
        let Some(file) = self.file.get() else { return Vec::new() };
        let taken = self.take_lines(subjects.len());
        let texts: Vec<String> =
            subjects.iter().map(|subject| padded(&format!("{} {}", subject.kind().as_str(), subject.id()))).collect();
        write_lines(file, &taken, &texts.concat());
        taken
    }

    /// Lines beside each other, so that one write marks all.
    fn take_lines(&self, count: usize) -> Vec<usize> {
        let mut lines = self.lines();
        let is_free = |lines: &[bool], at: usize| !lines.iter().skip(at).take(count).any(|taken| *taken);
        let first = (0..lines.len()).find(|at| is_free(&lines, *at)).unwrap_or(lines.len());
        if lines.len() < first + count {
            lines.resize(first + count, false);
        }
        lines.iter_mut().skip(first).take(count).for_each(|taken| *taken = true);
        (first..first + count).collect()
    }

    fn free_lines(&self, freed: &[usize]) {
        let mut lines = self.lines();
        freed.iter().for_each(|at| lines.iter_mut().skip(*at).take(1).for_each(|taken| *taken = false));
    }

    fn put_off_until(&self) -> MutexGuard<'_, Duration> {
        self.put_off_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> MutexGuard<'_, Vec<bool>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn boot_line() -> io::Result<String> {
    Ok(format!("boot {}", fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim()))
}

fn padded(text: &str) -> String {
    format!("{text:<width$}\n", width = LINE_BYTES - 1)
}

/// A mark that cannot be written, on a full disk, is no reason not to work: without it nobody becomes suspect.
fn write_lines(file: &File, lines: &[usize], text: &str) {
    let Some(first) = lines.first() else { return };
    let offset = (first + 1) * LINE_BYTES;
    if let Err(problem) = file.write_all_at(text.as_bytes(), offset as u64) {
        tracing::debug!(%problem, "what is evaluated could not be marked");
    }
}

/// Something is evaluated for as long as this lives.
#[derive(Debug)]
pub struct Evaluating {
    evaluations: Arc<Evaluations>,
    lines: Vec<usize>,
    is_alone: bool,
}

impl Evaluating {
    /// Others may go on beside it.
    fn beside_others(mut self) -> Self {
        self.evaluations.gate.send_modify(|gate| {
            gate.alone -= 1;
            gate.active += 1;
        });
        self.is_alone = false;
        self
    }
}

impl Drop for Evaluating {
    fn drop(&mut self) {
        if let Some(file) = self.evaluations.file.get() {
            write_lines(file, &self.lines, &padded("").repeat(self.lines.len()));
            self.evaluations.free_lines(&self.lines);
        }
        let is_alone = self.is_alone;
        self.evaluations.gate.send_if_modified(|gate| {
            if is_alone {
                gate.alone -= 1;
            } else {
                gate.active -= 1;
            }
            // Those who begin wait for the end of trials, trials for the end of everything else.
            is_alone || gate.alone > 0 && gate.active == 0
        });
    }
}

/// Tries suspects, one at a time. Clones share everything.
#[derive(Debug, Clone)]
pub struct Trials {
    /// Rows.
    pub suspects: Suspects,
    /// What goes on beside them.
    pub evaluations: Arc<Evaluations>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
    /// The daemon.
    pub owner: String,
}

/// What is to be done about a suspect.
#[derive(Debug)]
pub enum Verdict {
    /// It is evaluated now, and nothing beside it. Ends with [`Trials::survived`] or [`Trials::undecided`].
    Try(Trial),
    /// It has killed too often: it is set aside, for this reason.
    SetAside(String),
    /// Not now: something else goes on, or another daemon tries it.
    Later,
}

/// A suspect that is evaluated alone.
#[derive(Debug)]
pub struct Trial {
    /// Who.
    pub subject: Subject,
    /// How long it has the process to itself.
    pub limit: Duration,
    alone: Evaluating,
}

impl Trials {
    /// Those that are to be tried.
    pub async fn open(&self, kind: SubjectKind) -> StoreResult<Vec<SuspectRow>> {
        self.suspects.suspects_open(kind, self.clock.now()).await
    }

    /// Whether and how this suspect is tried now.
    pub async fn judge(&self, suspect: &SuspectRow) -> StoreResult<Verdict> {
        let SuspectRow { subject, deaths, rounds } = *suspect;
        if deaths >= MOST_DEATHS {
            let reason = format!(
                "the daemon died {deaths} times while it evaluated this and nothing else; look for what in it takes too much \
                 memory or stack"
            );
            tracing::error!(%subject, reason, "it is set aside");
            self.metrics.suspect_set_aside(subject.kind().as_str());
            return Ok(Verdict::SetAside(reason));
        }
        if deaths > 0 && self.evaluations.is_held() {
            clock::sleep(&*self.clock, MOMENT).await;
        }
        let Some(alone) = self.evaluations.alone(subject, &*self.clock).await else { return Ok(Verdict::Later) };
        let now = self.clock.now();
        if !self.suspects.trial_begin(subject, &self.owner, now, now.plus(TRIAL_LEASE)).await? {
            return Ok(Verdict::Later);
        }
        tracing::info!(%subject, deaths, "the daemon died while this was evaluated: it is tried alone");
        let limit = FIRST_TRIAL.saturating_mul(4_u32.saturating_pow(rounds)).min(LONGEST_TRIAL);
        Ok(Verdict::Try(Trial { subject, limit, alone }))
    }

    /// It did no harm.
    pub async fn survived(&self, trial: Trial) -> StoreResult<()> {
        self.suspects.suspect_clear(trial.subject).await
    }

    /// It was not there to be evaluated.
    pub async fn withdraw(&self, trial: Trial) -> StoreResult<()> {
        self.suspects.trial_withdraw(trial.subject).await
    }

    /// Its time is up, and it goes on beside others for as long as the result lives.
    pub async fn undecided(&self, trial: Trial) -> StoreResult<Evaluating> {
        self.suspects.trial_undecided(trial.subject).await?;
        Ok(trial.alone.beside_others())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::model::refs::{ExecutionId, InstanceId};

    const ONE: Subject = Subject::Instance(InstanceId::from_bytes([1; 12]));
    const TWO: Subject = Subject::Execution(ExecutionId::from_bytes([2; 12]));

    #[tokio::test]
    async fn what_is_evaluated_stands_in_the_file_and_what_has_ended_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evaluating");
        assert_eq!(Evaluations::left_in(&path).unwrap(), []);
        let evaluations = Arc::new(Evaluations::default());
        evaluations.mark_in(&path).unwrap();
        let both = evaluations.begin(&[ONE, TWO]).await;
        let again = evaluations.begin(&[TWO]).await;
        assert_eq!(Evaluations::left_in(&path).unwrap(), [ONE, TWO, TWO]);
        drop(both);
        assert_eq!(Evaluations::left_in(&path).unwrap(), [TWO]);
        let one = evaluations.begin(&[ONE]).await;
        assert_eq!(Evaluations::left_in(&path).unwrap(), [ONE, TWO], "free lines are used again");
        drop((one, again));
        assert_eq!(Evaluations::left_in(&path).unwrap(), []);
        let text = fs::read_to_string(&path).unwrap().replacen("boot ", "boot of yesterday ", 1);
        fs::write(&path, format!("{text}{}", padded(&format!("{TWO}")))).unwrap();
        assert_eq!(Evaluations::left_in(&path).unwrap(), [], "of another boot");
    }

    #[tokio::test]
    async fn a_trial_waits_for_all_others_and_all_others_wait_for_it() {
        let (evaluations, clock) = (Arc::new(Evaluations::default()), SystemClock::new());
        evaluations.hold_for("rules");
        let mut early = std::pin::pin!(evaluations.begin(&[ONE]));
        assert!(futures_util::poll!(early.as_mut()).is_pending(), "before the first look");
        evaluations.first_look_done("rules");
        let early = early.await;
        let mut alone = std::pin::pin!(evaluations.alone(TWO, &clock));
        assert!(futures_util::poll!(alone.as_mut()).is_pending(), "something else goes on");
        let mut late = std::pin::pin!(evaluations.begin(&[ONE]));
        assert!(futures_util::poll!(late.as_mut()).is_pending(), "nothing new begins");
        drop(early);
        let alone = alone.await.expect("it has the process to itself");
        assert!(futures_util::poll!(late.as_mut()).is_pending());
        let beside = alone.beside_others();
        drop(late.await);
        drop(beside);
    }
}
