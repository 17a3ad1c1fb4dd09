//! Workflows at work in this process and the mailboxes in which the ends of their steps arrive. A hot workflow takes an
//! end from memory and writes it together with its next request: one commit per step.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::refs::ExecutionId;
use crate::requests::Parents;
use crate::store::rows::Completion;

/// All mailboxes of this process.
#[derive(Debug, Default)]
pub struct Parked {
    state: Mutex<Boxes>,
    /// Steps whose ends were put into a mailbox and are not in the store yet.
    unwritten: Mutex<BTreeSet<ExecutionId>>,
    most_threads: usize,
}

#[derive(Debug, Default)]
struct Boxes {
    boxes: HashMap<ExecutionId, Arc<Mailbox>>,
    /// Those whose thread waits, longest first.
    waiting: Vec<ExecutionId>,
}

/// Where the ends of one workflow's steps arrive while it is at work here.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<Letters>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Letters {
    ends: Vec<Completion>,
    /// Its thread is to let go: it is steered, or others want to wait.
    let_go: bool,
    /// Nothing is taken any more: ends go to the store.
    closed: bool,
}

/// How waiting for a letter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// There is one.
    Arrived,
    /// The thread is to let go.
    LetGo,
}

impl Parked {
    /// At most `max_parked` workflows hold a thread while they wait; the one that has waited longest makes room.
    pub fn new(max_parked: usize) -> Self {
        Self { state: Mutex::default(), unwritten: Mutex::default(), most_threads: max_parked }
    }

    /// Opens the mailbox of a workflow that begins a turn here. To be done before its journal is read: what ends after
    /// that is a letter, or makes it look again.
    pub fn open(&self, workflow: ExecutionId) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        lock(&self.state).boxes.insert(workflow, Arc::clone(&mailbox));
        mailbox
    }

    /// Closes it and gives back what still arrived; from now on ends are written by those who bring them.
    pub fn close(&self, workflow: ExecutionId, mailbox: &Mailbox) -> Vec<Completion> {
        let mut state = lock(&self.state);
        let mut letters = lock(&mailbox.state);
        letters.closed = true;
        let ends = std::mem::take(&mut letters.ends);
        drop(letters);
        // A later turn may have opened another one meanwhile.
        if state.boxes.get(&workflow).is_some_and(|current| std::ptr::eq(&raw const **current, mailbox)) {
            state.boxes.remove(&workflow);
        }
        drop(state);
        ends
    }

    /// Holds the calling thread until a letter arrives, or for `grace`, or until it is told to let go.
    pub fn wait(&self, workflow: ExecutionId, mailbox: &Mailbox, grace: Duration) -> Waiting {
        self.enter(workflow);
        let letters = lock(&mailbox.state);
        let nothing = |letters: &mut Letters| letters.ends.is_empty() && !letters.let_go;
        let (letters, _) =
            mailbox.arrived.wait_timeout_while(letters, grace, nothing).unwrap_or_else(PoisonError::into_inner);
        let end = if letters.ends.is_empty() || letters.let_go { Waiting::LetGo } else { Waiting::Arrived };
        drop(letters);
        lock(&self.state).waiting.retain(|waiting| *waiting != workflow);
        end
    }

    /// These ends are in the store, or came too late to count.
    pub fn written(&self, ends: impl IntoIterator<Item = ExecutionId>) {
        let mut unwritten = lock(&self.unwritten);
        for end in ends {
            unwritten.remove(&end);
        }
    }

    fn enter(&self, workflow: ExecutionId) {
        let mut state = lock(&self.state);
        state.waiting.push(workflow);
        if state.waiting.len() <= self.most_threads {
            return;
        }
        let oldest = state.waiting.remove(0);
        let mailbox = state.boxes.get(&oldest).map(Arc::clone);
        drop(state);
        if let Some(mailbox) = mailbox {
            mailbox.let_go();
        }
    }
}

impl Mailbox {
    /// Takes what has arrived.
    pub fn take(&self) -> Vec<Completion> {
        std::mem::take(&mut lock(&self.state).ends)
    }

    /// Tells the thread that waits here to let go.
    pub fn let_go(&self) {
        lock(&self.state).let_go = true;
        self.arrived.notify_all();
    }

    /// Was it told to let go?
    pub fn is_let_go(&self) -> bool {
        lock(&self.state).let_go
    }

    fn put(&self, end: Completion) -> Result<(), Box<Completion>> {
        let mut letters = lock(&self.state);
        if letters.closed {
            return Err(Box::new(end));
        }
        letters.ends.push(end);
        drop(letters);
        self.arrived.notify_all();
        Ok(())
    }
}

impl Parents for Parked {
    fn deliver(&self, end: Completion) -> Result<(), Box<Completion>> {
        let Some(parent) = end.parent.as_ref().map(|parent| parent.execution) else { return Err(Box::new(end)) };
        let mailbox = lock(&self.state).boxes.get(&parent).map(Arc::clone);
        let Some(mailbox) = mailbox else { return Err(Box::new(end)) };
        // First: its workflow may have written it before this returns.
        let step = end.claim.execution;
        lock(&self.unwritten).insert(step);
        mailbox.put(end).inspect_err(|_| self.written([step]))
    }

    fn look_again(&self, workflow: ExecutionId) {
        let mailbox = lock(&self.state).boxes.get(&workflow).map(Arc::clone);
        if let Some(mailbox) = mailbox {
            mailbox.let_go();
        }
    }

    fn unwritten(&self) -> BTreeSet<ExecutionId> {
        lock(&self.unwritten).clone()
    }
}

/// A thread that panicked leaves these in order: every change is one statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by the demo: after a restart, workflow and step are taken up together; a step that ended between the
    /// reading of the journal and the opening of the mailbox was not heard of until the thread was let go.
    #[test]
    fn a_workflow_that_is_at_work_when_an_end_is_written_beside_it_looks_again() {
        let parked = Parked::new(1);
        let (workflow, other) = (ExecutionId::from_bytes([1; 12]), ExecutionId::from_bytes([2; 12]));
        let mailbox = parked.open(workflow);
        parked.look_again(other);
        assert!(!mailbox.is_let_go());
        parked.look_again(workflow);
        assert_eq!(parked.wait(workflow, &mailbox, Duration::from_hours(1)), Waiting::LetGo);
        assert!(parked.close(workflow, &mailbox).is_empty());
        parked.look_again(workflow);
    }
}
