//! Passwords cost a core for a while, so only a few are checked at once, in turns: each address has a line of its own, and
//! a free place goes to the address with the fewest checks under way. So a flood of logins from one address, or at one
//! user, makes its own line longer and nobody else's. What fails is counted, and written down at a bounded rate.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use crate::api::error::ApiError;
use crate::api::limits::Bucket;
use crate::api::listen::ClientShare;
use crate::clock::{self, Clock};
use crate::metrics::Metrics;
use crate::store::Identities;
use crate::store::identities::AuditRow;

/// So many passwords are checked at once.
const AT_ONCE: usize = 4;
/// So many of them for one address.
const AT_ONCE_OF_ADDRESS: usize = 2;
/// So many may wait from one address.
const LINE_OF_ADDRESS: usize = 32;
/// So many may wait or be checked for one user.
const MOST_OF_USER: usize = 64;
/// So many may wait altogether.
const MOST_WAITING: usize = 1024;
/// Who has waited for so long is told to come back.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Decides whose password is checked next.
#[derive(Clone)]
pub(super) struct PasswordChecks {
    lines: Arc<Mutex<Lines>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Lines {
    running: usize,
    waiting: usize,
    /// Those who were served longest ago come first.
    by_share: VecDeque<(ClientShare, Line)>,
    by_user: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct Line {
    running: usize,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// The right to check one password. The next one in line has it when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    share: ClientShare,
    lines: Arc<Mutex<Lines>>,
}

/// Somebody tries one user's password.
#[derive(Debug)]
pub(super) struct Attempt {
    user: String,
    lines: Arc<Mutex<Lines>>,
}

impl PasswordChecks {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { lines: Arc::default(), clock }
    }

    /// Waits until a password of `user` may be checked for an address of this share. Keep the turn during the check.
    pub(super) async fn take_turn(&self, share: ClientShare, user: &str) -> Result<(Turn, Attempt), ApiError> {
        let turned_away = || ApiError::too_many("too many logins at once", RETRY_AFTER);
        let attempt = self.attempt(user).ok_or_else(turned_away)?;
        let turn = self.stand_in_line(share).ok_or_else(turned_away)?;
        let turn = clock::timeout(&*self.clock, PATIENCE, turn).await;
        let turn = turn.map_err(|_| turned_away())?.map_err(|_| turned_away())?;
        Ok((turn, attempt))
    }

    fn attempt(&self, user: &str) -> Option<Attempt> {
        let mut lines = lock(&self.lines);
        let of_user = lines.by_user.entry(user.to_owned()).or_default();
        if *of_user >= MOST_OF_USER {
            return None;
        }
        *of_user += 1;
        Some(Attempt { user: user.to_owned(), lines: Arc::clone(&self.lines) })
    }

    fn stand_in_line(&self, share: ClientShare) -> Option<oneshot::Receiver<Turn>> {
        let mut lines = lock(&self.lines);
        lines.forget_who_left();
        if lines.line_of(share).waiting.len() >= LINE_OF_ADDRESS {
            return None;
        }
        if lines.waiting >= MOST_WAITING {
            lines.shorten_longest();
        }
        let (sender, turn) = oneshot::channel();
        lines.line_of(share).waiting.push_back(sender);
        lines.waiting += 1;
        let turns = lines.next_turns(&self.lines);
        drop(lines);
        give(turns);
        Some(turn)
    }
}

/// Outside of the lock: a turn that nobody takes any more comes back by its drop.
fn give(turns: Vec<(oneshot::Sender<Turn>, Turn)>) {
    for (sender, turn) in turns {
        drop(sender.send(turn));
    }
}

impl Lines {
    fn line_of(&mut self, share: ClientShare) -> &mut Line {
        let at = self.by_share.iter().position(|(known, _)| *known == share).unwrap_or_else(|| {
            self.by_share.push_back((share, Line::default()));
            self.by_share.len() - 1
        });
        &mut self.by_share[at].1
    }

    fn forget_who_left(&mut self) {
        for (_, line) in &mut self.by_share {
            line.waiting.retain(|sender| !sender.is_closed());
        }
        self.by_share.retain(|(_, line)| line.running > 0 || !line.waiting.is_empty());
        self.waiting = self.by_share.iter().map(|(_, line)| line.waiting.len()).sum();
    }

    fn shorten_longest(&mut self) {
        let longest = self.by_share.iter_mut().max_by_key(|(_, line)| line.waiting.len());
        if longest.and_then(|(_, line)| line.waiting.pop_back()).is_some() {
            self.waiting -= 1;
        }
    }

    /// Gives free places to the lines with the fewest checks under way, in turns.
    fn next_turns(&mut self, lines: &Arc<Mutex<Self>>) -> Vec<(oneshot::Sender<Turn>, Turn)> {
        let mut turns = Vec::new();
        while self.running < AT_ONCE {
            let waits =
                |(_, line): &&(ClientShare, Line)| !line.waiting.is_empty() && line.running < AT_ONCE_OF_ADDRESS;
            let next = self.by_share.iter().filter(waits).min_by_key(|(_, line)| line.running).map(|(share, _)| *share);
            let Some(share) = next else { break };
            let Some(at) = self.by_share.iter().position(|(known, _)| *known == share) else { break };
            let Some((_, mut line)) = self.by_share.remove(at) else { break };
            let Some(sender) = line.waiting.pop_front() else { break };
            self.waiting = self.waiting.saturating_sub(1);
            line.running += 1;
            self.running += 1;
            self.by_share.push_back((share, line));
            turns.push((sender, Turn { share, lines: Arc::clone(lines) }));
        }
        turns
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lines = lock(&self.lines);
        lines.running = lines.running.saturating_sub(1);
        let line = lines.line_of(self.share);
        line.running = line.running.saturating_sub(1);
        lines.forget_who_left();
        let turns = lines.next_turns(&self.lines);
        drop(lines);
        give(turns);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut lines = lock(&self.lines);
        if let Some(of_user) = lines.by_user.get_mut(&self.user) {
            *of_user -= 1;
            if *of_user == 0 {
                lines.by_user.remove(&self.user);
            }
        }
    }
}

fn lock(lines: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Failures of one address that are written down at once; then one in [`AGAIN_AFTER`].
const NOTED_AT_ONCE: u32 = 5;
const AGAIN_AFTER: Duration = Duration::from_secs(12);
/// Failures per second that are written down, of all addresses.
const NOTED_PER_SECOND: u32 = 10;
/// So many addresses are remembered; beyond it the memory starts anew.
const MOST_ADDRESSES: usize = 4096;
/// So much of a name that a stranger sent is written down.
const LONGEST_NAME_CHARS: usize = 64;

/// Writes failed authentications down: each in the metrics, as many as people read in the log, passwords in the audit log.
#[derive(Clone)]
pub(super) struct Failures {
    identities: Identities,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    everybody: Bucket,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Debug, Default)]
struct Noted {
    /// When each may next be noted, as the time at which all its notes are free again.
    by_share: HashMap<ClientShare, Duration>,
    /// Since the last note.
    left_out: u64,
}

impl Failures {
    pub(super) fn new(identities: Identities, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let everybody = Bucket::new(NOTED_PER_SECOND, Arc::clone(&clock));
        Self { identities, clock, metrics, everybody, noted: Arc::default() }
    }

    /// A password was wrong, or was not looked at.
    pub(super) async fn password_failed(&self, user: &str, address: IpAddr, why: &str) {
        self.metrics.authentication_failed("password");
        let Some(left_out) = self.may_note(address) else { return };
        let user: String = user.chars().take(LONGEST_NAME_CHARS).collect();
        tracing::warn!(user, %address, why, left_out, "a login failed");
        let line = AuditRow {
            at: self.clock.now(),
            user: String::new(),
            what: "login.failed".to_owned(),
            subject: user,
            detail: json!({ "address": address.to_string(), "why": why, "left_out": left_out }),
        };
        if let Err(problem) = self.identities.audit_write(&line).await {
            tracing::warn!(%problem, "a failed login could not be written to the audit log");
        }
    }

    /// A token or key was not accepted.
    pub(super) fn key_failed(&self, credential: &'static str, address: IpAddr) {
        self.metrics.authentication_failed(credential);
        if let Some(left_out) = self.may_note(address) {
            tracing::warn!(credential, %address, left_out, "a credential was not accepted");
        }
    }

    /// Whether it is written down, and how many were not since the last one was.
    fn may_note(&self, address: IpAddr) -> Option<u64> {
        let now = self.clock.monotonic();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.by_share.len() >= MOST_ADDRESSES {
            noted.by_share.retain(|_, free_at| *free_at > now);
            if noted.by_share.len() >= MOST_ADDRESSES {
                noted.by_share.clear();
            }
        }
        let free_at = noted.by_share.entry(ClientShare::of(address)).or_default();
        let next = (*free_at).max(now) + AGAIN_AFTER;
        if next.saturating_sub(now) > AGAIN_AFTER * NOTED_AT_ONCE || self.everybody.take().is_err() {
            noted.left_out += 1;
            return None;
        }
        *free_at = next;
        Some(std::mem::take(&mut noted.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::FutureExt;

    use super::*;
    use crate::clock::SimClock;
    use crate::model::time::Timestamp;

    fn share(last: u8) -> ClientShare {
        ClientShare::of(Ipv4Addr::new(192, 0, 2, last).into())
    }

    fn checks() -> PasswordChecks {
        PasswordChecks::new(Arc::new(SimClock::new(Timestamp::default())))
    }

    #[test]
    fn a_flood_from_many_addresses_does_not_keep_another_one_waiting() {
        let checks = checks();
        let mut flood: Vec<_> = (0..40)
            .flat_map(|turn| [(1, turn), (2, turn), (3, turn)])
            .filter_map(|(last, _)| checks.stand_in_line(share(last)))
            .collect();
        let mut under_way: Vec<Turn> = flood.iter_mut().filter_map(|turn| turn.try_recv().ok()).collect();
        assert_eq!(under_way.len(), AT_ONCE);
        assert!(under_way.iter().filter(|turn| turn.share == share(1)).count() <= AT_ONCE_OF_ADDRESS);
        assert!(checks.stand_in_line(share(1)).is_none(), "its own line is full");
        let mut honest = checks.stand_in_line(share(9)).unwrap();
        drop(under_way.pop());
        assert!(honest.try_recv().is_ok(), "the next turn is theirs");
    }

    #[test]
    fn whoever_goes_away_gives_back_the_turn() {
        let checks = checks();
        let held: Vec<_> = (0..4).filter_map(|last| checks.stand_in_line(share(last))).collect();
        let left = checks.stand_in_line(share(5)).unwrap();
        let mut stays = checks.stand_in_line(share(6)).unwrap();
        drop(left);
        drop(held);
        assert!(stays.try_recv().is_ok());
        drop(stays);
        let mut lines = lock(&checks.lines);
        lines.forget_who_left();
        assert_eq!((lines.running, lines.waiting, lines.by_share.len()), (0, 0, 0));
    }

    #[test]
    fn one_user_has_a_bounded_number_of_attempts() {
        let checks = checks();
        let attempts: Vec<_> = (0..100).filter_map(|_| checks.attempt("ada")).collect();
        assert_eq!(attempts.len(), MOST_OF_USER);
        assert!(checks.attempt("bob").is_some());
        drop(attempts);
        assert!(lock(&checks.lines).by_user.is_empty());
    }

    #[test]
    fn a_check_that_is_waited_for_in_vain_is_turned_away() {
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        let checks = PasswordChecks::new(Arc::<SimClock>::clone(&clock));
        let _held: Vec<_> = (0..4).filter_map(|last| checks.stand_in_line(share(last))).collect();
        let mut waiting = Box::pin(checks.take_turn(share(9), "ada"));
        assert!(waiting.as_mut().now_or_never().is_none());
        clock.advance(PATIENCE);
        let refused = waiting.now_or_never().expect("it is over").unwrap_err();
        assert_eq!(refused.status().as_u16(), 429);
    }

    #[test]
    fn failures_are_noted_at_a_bounded_rate_and_what_is_left_out_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open_sqlite(&dir.path().join("petrel.db"), None).unwrap();
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        let failures = Failures::new(store.identities(), Arc::<SimClock>::clone(&clock), Metrics::default());
        let flood: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
        let noted = (0..1000).filter(|_| failures.may_note(flood).is_some()).count();
        assert_eq!(noted, 5);
        assert_eq!(failures.may_note(Ipv4Addr::new(192, 0, 2, 2).into()), Some(995), "others are noted meanwhile");
        clock.advance(AGAIN_AFTER);
        assert_eq!(failures.may_note(flood), Some(0));
        for last in 0..10_000_u32 {
            failures.may_note(Ipv4Addr::from_bits(last << 8).into());
        }
        assert!(failures.noted.lock().unwrap().by_share.len() <= MOST_ADDRESSES);
    }
}
