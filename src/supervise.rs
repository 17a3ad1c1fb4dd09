//! The only place that starts tasks and threads: each has a name, someone who notices its end, and one way to be stopped.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io, thread};

use futures_util::FutureExt;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};
use crate::model::time::Timestamp;

/// What to do when a task ends although nobody asked it to.
#[derive(Debug, Clone)]
pub enum OnEnd {
    /// Without it the daemon is no use: ask for the daemon's end.
    StopDaemon,
    /// Start it again after a while.
    Restart(Backoff),
    /// It was meant to end.
    Finish,
}

/// Delays that double from `first` up to `most`. Without jitter: one process restarts its own tasks, no herd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays from `first` up to `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The delay before the next attempt; the one after that is twice as long.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next.min(self.most);
        self.next = delay.saturating_mul(2);
        delay
    }

    /// Begins again with the first delay.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

impl Default for Backoff {
    /// From a quarter of a second to half a minute.
    fn default() -> Self {
        Self::new(Duration::from_millis(250), Duration::from_secs(30))
    }
}

/// One line of `/v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskStatus {
    /// The name it was started under.
    pub name: String,
    /// What it is doing.
    pub state: TaskState,
    /// When the current attempt, or the pause before it, began.
    pub since: Timestamp,
    /// How often it was started again.
    pub restarts: u64,
    /// How its last attempt ended, if that was a failure.
    pub last_error: Option<String>,
}

/// Whether a task works or waits to be started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// At work.
    Running,
    /// Waiting for its next attempt.
    BackingOff,
}

/// Starts tasks, watches them, ends them. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
    token: CancellationToken,
}

struct Shared {
    clock: Arc<dyn Clock>,
    stop_requested: CancellationToken,
    stop_cause: Mutex<Option<String>>,
    tasks: Mutex<BTreeMap<u64, Task>>,
    next_task: AtomicU64,
    task_ended: Notify,
}

struct Task {
    status: TaskStatus,
    token: CancellationToken,
    abort: Option<AbortHandle>,
}

impl Supervisor {
    /// A supervisor with no tasks.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let shared = Shared {
            clock,
            stop_requested: CancellationToken::new(),
            stop_cause: Mutex::new(None),
            tasks: Mutex::new(BTreeMap::new()),
            next_task: AtomicU64::new(0),
            task_ended: Notify::new(),
        };
        Self { shared: Arc::new(shared), token: CancellationToken::new() }
    }

    /// A part that can be shut down before the rest, and is shut down with it.
    #[must_use]
    pub fn branch(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), token: self.token.child_token() }
    }

    /// Cancelled when the tasks of this supervisor must end.
    pub const fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Asks the daemon to stop. Whoever waits in [`Supervisor::stop_requested`] then shuts down in order.
    pub fn request_stop(&self, cause: impl Into<String>) {
        self.shared.request_stop(cause.into());
    }

    /// Returns when somebody asks the daemon to stop, with the first reason given.
    pub async fn stop_requested(&self) -> String {
        self.shared.stop_requested.cancelled().await;
        lock(&self.shared.stop_cause).clone().unwrap_or_default()
    }

    /// Runs what `factory` makes until it ends, then does as `on_end` says. It must return soon after its token is
    /// cancelled. A panic counts as a failure.
    pub fn spawn<F, W>(&self, name: impl Into<String>, on_end: OnEnd, factory: F)
    where
        F: FnMut(CancellationToken) -> W + Send + 'static,
        W: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let attempts = Attempts { entry: self.enter(name.into()), factory, on_end };
        let (shared, id) = (Arc::clone(&self.shared), attempts.entry.id);
        start(&shared, id, attempts.run());
    }

    /// Runs one piece of work to its end. Its failure is logged and nothing else.
    pub fn spawn_once<W>(&self, name: impl Into<String>, work: W)
    where
        W: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let entry = self.enter(name.into());
        let (shared, id) = (Arc::clone(&self.shared), entry.id);
        let watched = async move {
            if let Err(failure) = flatten(AssertUnwindSafe(work).catch_unwind().await) {
                entry.note_failure(&failure);
            }
        };
        start(&shared, id, watched);
    }

    /// Runs `work` on a thread that may block, and waits for it. It cannot be stopped from outside.
    #[expect(clippy::disallowed_methods, reason = "tasks are started here and nowhere else")]
    pub async fn spawn_blocking<T, F>(&self, name: impl Into<String>, work: F) -> Result<T, Panicked>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let entry = self.enter(name.into());
        let name = entry.name();
        let joined = tokio::task::spawn_blocking(move || {
            let _entry = entry;
            work()
        });
        joined.await.map_err(|failure| Panicked { name, message: failure.to_string() })
    }

    /// What is running, in the order it was started.
    pub fn status(&self) -> Vec<TaskStatus> {
        lock(&self.shared.tasks).values().map(|task| task.status.clone()).collect()
    }

    /// Cancels every task of this supervisor and its branches and waits for their ends. Those that need longer than
    /// `grace` are aborted; their names come back, and are logged.
    pub async fn shutdown(&self, grace: Duration) -> Vec<String> {
        self.token.cancel();
        if clock::timeout(&*self.shared.clock, grace, self.shared.all_cancelled_ended()).await.is_ok() {
            return Vec::new();
        }
        let late = self.shared.abort_cancelled();
        tracing::warn!(tasks = late.join(", "), "ended tasks that did not stop within the grace time");
        late
    }

    fn enter(&self, name: String) -> Entry {
        let token = self.token.child_token();
        let since = self.shared.clock.now();
        let status = TaskStatus { name, state: TaskState::Running, since, restarts: 0, last_error: None };
        let id = self.shared.next_task.fetch_add(1, Ordering::Relaxed);
        lock(&self.shared.tasks).insert(id, Task { status, token: token.clone(), abort: None });
        Entry { shared: Arc::clone(&self.shared), id, token }
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.status().into_iter().map(|task| task.name)).finish()
    }
}

impl Shared {
    fn request_stop(&self, cause: String) {
        lock(&self.stop_cause).get_or_insert(cause);
        self.stop_requested.cancel();
    }

    async fn all_cancelled_ended(&self) {
        loop {
            let ended = self.task_ended.notified();
            let mut ended = std::pin::pin!(ended);
            ended.as_mut().enable();
            if !lock(&self.tasks).values().any(|task| task.token.is_cancelled()) {
                return;
            }
            ended.await;
        }
    }

    fn abort_cancelled(&self) -> Vec<String> {
        let tasks = lock(&self.tasks);
        let late = tasks.values().filter(|task| task.token.is_cancelled());
        late.map(|task| {
            task.abort.iter().for_each(AbortHandle::abort);
            task.status.name.clone()
        })
        .collect()
    }
}

/// A task's place in the list; gone from it when this is dropped, however the task ended.
struct Entry {
    shared: Arc<Shared>,
    id: u64,
    token: CancellationToken,
}

impl Entry {
    fn name(&self) -> String {
        self.update(|status| status.name.clone()).unwrap_or_default()
    }

    /// Logs a failure, unless the task's last one was the same, or another task waits for the same reason already: what all
    /// of them need is missed by all of them.
    fn note_failure(&self, failure: &anyhow::Error) {
        let error = format!("{failure:#}");
        let told = lock(&self.shared.tasks).iter().any(|(id, task)| {
            let waits = task.status.state == TaskState::BackingOff;
            *id != self.id && waits && task.status.last_error.as_ref() == Some(&error)
        });
        let news = self.update(|status| {
            let is_new = status.last_error.as_ref() != Some(&error);
            status.last_error = Some(error.clone());
            is_new.then(|| status.name.clone())
        });
        match news {
            Some(Some(task)) if told => tracing::debug!(task, error, "a task failed as others did"),
            Some(Some(task)) => tracing::error!(task, error, "a task failed"),
            Some(None) | None => {}
        }
    }

    fn enter_state(&self, state: TaskState) {
        let now = self.shared.clock.now();
        self.update(|status| {
            status.state = state;
            status.since = now;
            status.restarts += u64::from(state == TaskState::Running);
        });
    }

    fn update<T>(&self, change: impl FnOnce(&mut TaskStatus) -> T) -> Option<T> {
        lock(&self.shared.tasks).get_mut(&self.id).map(|task| change(&mut task.status))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.shared.tasks).remove(&self.id);
        self.shared.task_ended.notify_waiters();
    }
}

struct Attempts<F> {
    entry: Entry,
    factory: F,
    on_end: OnEnd,
}

impl<F, W> Attempts<F>
where
    F: FnMut(CancellationToken) -> W + Send,
    W: Future<Output = anyhow::Result<()>> + Send,
{
    async fn run(mut self) {
        loop {
            let began = self.entry.shared.clock.monotonic();
            let end = self.attempt().await;
            if let Err(failure) = &end {
                self.entry.note_failure(failure);
            }
            if self.entry.token.is_cancelled() {
                return;
            }
            match &mut self.on_end {
                OnEnd::Finish => return,
                OnEnd::StopDaemon => {
                    let how = end.map_or_else(|failure| format!("{failure:#}"), |()| "it ended by itself".to_owned());
                    self.entry.shared.request_stop(format!("task `{}` ended: {how}", self.entry.name()));
                    return;
                }
                OnEnd::Restart(backoff) => {
                    let lasted = self.entry.shared.clock.monotonic().saturating_sub(began);
                    if lasted >= backoff.most {
                        backoff.reset();
                    }
                    if pause(&self.entry, backoff.next_delay()).await.is_stopped() {
                        return;
                    }
                }
            }
        }
    }

    async fn attempt(&mut self) -> anyhow::Result<()> {
        let token = self.entry.token.clone();
        let factory = &mut self.factory;
        flatten(AssertUnwindSafe(async move { factory(token).await }).catch_unwind().await)
    }
}

enum Pause {
    Over,
    Stopped,
}

impl Pause {
    const fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

async fn pause(entry: &Entry, delay: Duration) -> Pause {
    entry.enter_state(TaskState::BackingOff);
    tokio::select! {
        biased;
        () = entry.token.cancelled() => return Pause::Stopped,
        () = entry.shared.clock.sleep_for(delay) => {}
    }
    entry.enter_state(TaskState::Running);
    Pause::Over
}

#[expect(clippy::disallowed_methods, reason = "tasks are started here and nowhere else")]
fn start(shared: &Shared, id: u64, work: impl Future<Output = ()> + Send + 'static) {
    let handle = tokio::task::spawn(work);
    if let Some(task) = lock(&shared.tasks).get_mut(&id) {
        task.abort = Some(handle.abort_handle());
    }
}

/// Work on a blocking thread panicked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` panicked: {message}")]
pub struct Panicked {
    /// The name it was started under.
    pub name: String,
    /// What it said.
    pub message: String,
}

/// Starts a thread of its own, for work that blocks for the life of the daemon, as the store's writer. Whoever starts
/// it ends it, by closing what it reads from, and joins it.
pub fn spawn_thread<T, F>(name: &str, work: F) -> io::Result<thread::JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn flatten(caught: Result<anyhow::Result<()>, Box<dyn Any + Send>>) -> anyhow::Result<()> {
    caught.unwrap_or_else(|panic| Err(anyhow::anyhow!("panicked: {}", panic_message(&*panic))))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The maps are whole after every statement, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    use anyhow::{anyhow, bail};
    use tokio::sync::mpsc;

    use crate::clock::SimClock;

    fn supervisor() -> (Supervisor, Arc<SimClock>) {
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        (Supervisor::new(Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn delays_double_up_to_the_most_and_begin_again_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let seconds: Vec<u64> = (0..5).map(|_| backoff.next_delay().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_task_that_panics_is_started_again_after_its_delay() {
        let (supervisor, clock) = supervisor();
        let (started, mut starts) = mpsc::channel(8);
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
        supervisor.spawn("sensor", OnEnd::Restart(backoff), move |_| {
            let started = started.clone();
            async move {
                started.send(()).await?;
                panic!("boom")
            }
        });
        starts.recv().await.unwrap();
        settle().await;
        let status = supervisor.status().remove(0);
        assert_eq!((status.state, status.last_error.as_deref()), (TaskState::BackingOff, Some("panicked: boom")));
        assert!(starts.try_recv().is_err(), "not before its delay");
        clock.advance(Duration::from_secs(1));
        starts.recv().await.unwrap();
        assert_eq!(supervisor.status()[0].restarts, 1);
    }

    #[tokio::test]
    async fn the_end_of_an_indispensable_task_asks_for_the_end_of_the_daemon() {
        let (supervisor, _) = supervisor();
        supervisor.spawn("http", OnEnd::StopDaemon, |_| async { Err(anyhow!("socket gone").context("accepting")) });
        assert_eq!(supervisor.stop_requested().await, "task `http` ended: accepting: socket gone");
        assert!(!supervisor.token().is_cancelled(), "whoever was asked shuts down in order");
    }

    #[tokio::test]
    async fn a_task_that_may_end_leaves_the_list_and_nothing_else_happens() {
        let (supervisor, _) = supervisor();
        supervisor.spawn("once", OnEnd::Finish, |_| async { bail!("no") });
        supervisor.spawn_once("twice", async { Ok(()) });
        assert_eq!(supervisor.status().len(), 2);
        settle().await;
        assert_eq!(supervisor.status(), []);
        assert!(supervisor.stop_requested().now_or_never().is_none());
    }

    #[tokio::test]
    async fn shutdown_waits_for_those_who_stop_and_names_those_who_do_not() {
        let (supervisor, clock) = supervisor();
        supervisor.spawn("obedient", OnEnd::StopDaemon, |token| async move {
            token.cancelled().await;
            Ok(())
        });
        supervisor.spawn("deaf", OnEnd::StopDaemon, |_| std::future::pending());
        let mut shutdown = Box::pin(supervisor.shutdown(Duration::from_secs(10)));
        assert!((&mut shutdown).now_or_never().is_none());
        settle().await;
        assert_eq!(supervisor.status().len(), 1, "the obedient one is gone");
        clock.advance(Duration::from_secs(10));
        assert_eq!(shutdown.await, ["deaf"]);
        settle().await;
        assert_eq!(supervisor.status(), [], "and the deaf one was ended");
        assert!(supervisor.stop_requested().now_or_never().is_none(), "ending when told is no failure");
    }

    #[tokio::test]
    async fn a_branch_stops_alone_and_the_trunk_stops_everything() {
        let (trunk, _) = supervisor();
        let intake = trunk.branch();
        for (supervisor, name) in [(&trunk, "worker"), (&intake, "door")] {
            supervisor.spawn(name, OnEnd::StopDaemon, |token| async move {
                token.cancelled().await;
                Ok(())
            });
        }
        assert_eq!(intake.shutdown(Duration::from_secs(1)).await, Vec::<String>::new());
        assert_eq!(trunk.status().into_iter().map(|task| task.name).collect::<Vec<_>>(), ["worker"]);
        trunk.branch().spawn_once("late", std::future::pending());
        assert!(trunk.shutdown(Duration::ZERO).await.contains(&"late".to_owned()));
    }

    #[tokio::test]
    async fn a_task_waiting_for_its_restart_stops_at_once() {
        let (supervisor, _) = supervisor();
        supervisor.spawn("flaky", OnEnd::Restart(Backoff::default()), |_| async { bail!("no") });
        settle().await;
        assert_eq!(supervisor.shutdown(Duration::from_secs(1)).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn blocking_work_gives_its_value_or_its_panic() {
        let (supervisor, _) = supervisor();
        assert_eq!(supervisor.spawn_blocking("sum", || 40 + 2).await, Ok(42));
        let failure = supervisor.spawn_blocking::<(), _>("hash", || panic!("no memory")).await.unwrap_err();
        assert_eq!(failure.name, "hash");
        assert!(failure.to_string().contains("no memory"), "{failure}");
    }

    #[test]
    fn a_thread_has_the_name_it_was_given() {
        let thread = spawn_thread("writer", || thread::current().name().map(str::to_owned)).unwrap();
        assert_eq!(thread.join().unwrap().as_deref(), Some("writer"));
    }
}
