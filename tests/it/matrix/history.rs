//! What an operation leaves on disk after each of its commits, and outside after each of its effects. A database in the mode of
//! write-ahead logging is its file and the frames that were appended to the log since, so the log cut behind the frames
//! of a commit is, byte for byte, what a `kill -9` after that commit leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use petrel::clock::Clock as _;
use petrel::model::node::NodeName;
use petrel::model::time::Timestamp;

use super::operations::{Operation, Story};
use super::outside::{Call, Entry, Outside};
use super::server::{Planned, Server, Trouble};
use super::stage::Stage;

/// Begin of the log, and begin of each frame in it.
const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// What is left behind at a moment: files and the world.
#[derive(Clone, Default)]
pub(super) struct Snapshot {
    /// Below the data folder.
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Under which name the world was known.
    cell: Option<String>,
    pub(super) outside: Outside,
    /// What was asked of the world since the operation began.
    pub(super) log: Vec<Entry>,
    pub(super) at: Timestamp,
}

impl Snapshot {
    /// Before anything was ever done.
    pub(super) fn of_nothing() -> Self {
        let at = "2026-06-01T12:00:00Z".parse().unwrap();
        Self { at, ..Self::default() }
    }

    /// The world is found under the name of the cell: what was asked for under another name is asked for under this one.
    pub(super) fn lay_out(&self, data_dir: &Path, cell: &str) {
        fs::create_dir_all(data_dir).unwrap();
        for (name, bytes) in &self.files {
            let file = data_dir.join(name);
            fs::write(&file, bytes).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        if let Some(former) = &self.cell {
            let database = rusqlite::Connection::open(data_dir.join("petrel.db")).unwrap();
            let (from, to) = (format!("/{former}/"), format!("/{cell}/"));
            database.execute("UPDATE executions SET parameters = replace(parameters, ?1, ?2)", (from, to)).unwrap();
        }
    }

    /// What an engine that was stopped in order leaves behind, with the whole of its log in the database's file.
    pub(super) async fn after(stage: Stage) -> Self {
        let (outside, at) = (stage.world.outside(), stage.clock.now());
        let site = stage.stop().await;
        let data_dir = site.path().join("data");
        let database = data_dir.join("petrel.db");
        let folded = rusqlite::Connection::open(&database).unwrap();
        let busy: i64 = folded.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
        assert_eq!(busy, 0, "the engine has let go of its store");
        let read = |name: &str| (PathBuf::from(name), fs::read(data_dir.join(name)).unwrap());
        Self { files: ["petrel.db", "datastore.key", "owner"].map(read).into(), outside, at, ..Self::default() }
    }
}

/// An operation from its beginning to its end, without trouble.
pub(super) struct History {
    /// Under which name its world was known.
    cell: String,
    before: Snapshot,
    log_file: Vec<u8>,
    /// Commits before the first of the operation, and after its last.
    from: usize,
    to: usize,
    pub(super) entries: Vec<Entry>,
    at: Timestamp,
    /// Who serves in the end.
    pub(super) serving: Vec<NodeName>,
}

/// A moment of a history: so many commits are on disk, so many calls had their effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) commits: usize,
    pub(super) calls: usize,
}

impl History {
    /// Lets it happen without trouble.
    pub(super) async fn of(operation: Operation, story: Story, server: &Server, before: &Snapshot) -> Self {
        Self::with(operation, story, server, before, None).await
    }

    /// Lets it happen until this call, the last of importance, hangs with its effect done; then it is canceled. Only what follows
    /// is of interest.
    pub(super) async fn undone(operation: Operation, server: &Server, before: &Snapshot, last: &Call) -> Self {
        Self::with(operation, Story::Undone, server, before, Some(last)).await
    }

    async fn with(
        operation: Operation,
        story: Story,
        server: &Server,
        before: &Snapshot,
        canceled_in: Option<&Call>,
    ) -> Self {
        let cell = cell_of(operation, story);
        let stage = Stage::open(server, &cell, before, Duration::from_secs(1)).await;
        stage.start().await;
        story.begin(&stage).await;
        stage.quiet().await;
        let file = stage.site.path().join("data/petrel.db-wal");
        let commits = {
            let file = file.clone();
            move || commit_ends(&fs::read(&file).unwrap()).len()
        };
        let first_salt = salt(&fs::read(&file).unwrap());
        let (count, clock) = (commits.clone(), Arc::clone(&stage.clock));
        stage.world.count_commits(move || (count(), clock.now()));
        let mut from = commits();
        match canceled_in {
            None => operation.perform(&stage, story).await,
            Some(call) => from = perform_and_cancel(operation, &stage, call, commits).await,
        }
        let (log_file, entries, at) = (fs::read(&file).unwrap(), stage.world.log(), stage.clock.now());
        assert_eq!(salt(&log_file), first_salt, "the log was not begun anew meanwhile");
        let to = commit_ends(&log_file).len();
        if story.is_gated() {
            stage.pass_time().await;
        } else {
            stage.rest(operation.looks()).await.unwrap();
        }
        let serving = serving(&stage).await;
        stage.stop().await;
        server.remove(&cell);
        Self { cell, before: before.clone(), log_file, from, to, entries, at, serving }
    }

    /// Every moment at which the power may go: after each commit, and after each effect between two commits.
    pub(super) fn moments(&self) -> Vec<Moment> {
        let mut moments = Vec::new();
        for commits in self.from + 1..=self.to {
            let known = self.entries.iter().filter(|entry| entry.commits < commits).count();
            moments.push(Moment { commits, calls: known });
            let during = self.entries.iter().enumerate().filter(|(_, entry)| entry.commits == commits && entry.changed);
            moments.extend(during.map(|(at, _)| Moment { commits, calls: at + 1 }));
        }
        moments
    }

    /// What a kill at this moment leaves.
    pub(super) fn left_at(&self, moment: Moment, operation: Operation) -> Snapshot {
        let ends = commit_ends(&self.log_file);
        let cut = ends[moment.commits - 1];
        let mut left = self.before.clone();
        left.files.push((PathBuf::from("petrel.db-wal"), self.log_file[..cut].to_vec()));
        operation.change_world(&mut left.outside);
        for entry in self.entries[..moment.calls].iter().filter(|entry| entry.done) {
            let (done, _) = left.outside.apply(&entry.call);
            done.expect("what could be done then can be done again");
        }
        left.log = self.entries[..moment.calls].to_vec();
        // No time leaps while anything is under way, so this is the moment's own time, or one at which nothing was.
        left.at = self.entries.get(moment.calls).map_or(self.at, |next| next.at);
        left.cell = Some(self.cell.clone());
        left
    }
}

/// Gives back how many commits there were before the cancel.
async fn perform_and_cancel(operation: Operation, stage: &Stage, call: &Call, commits: impl Fn() -> usize) -> usize {
    let Call { verb, about, .. } = call.clone();
    stage.world.plan(Planned { verb, about, trouble: Trouble::HangAfter, times: 1 });
    let mut before = 0;
    let somebody = async {
        stage.world.hung().await;
        before = commits();
        stage.cancel_all().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = operation.perform(stage, Story::Undone) => {}
        () = somebody => {}
    }
    before
}

fn cell_of(operation: Operation, story: Story) -> String {
    format!("history-{}-{}", operation.name(), story.name())
}

pub(super) async fn serving(stage: &Stage) -> Vec<NodeName> {
    let nodes = stage.group().await.map(|group| group.nodes).unwrap_or_default();
    nodes.into_iter().map(|node| node.name).collect()
}

fn salt(log: &[u8]) -> Vec<u8> {
    log.get(16..24).unwrap_or_default().to_vec()
}

/// Where each commit of a write-ahead log ends: its last frame says how large the database is.
fn commit_ends(log: &[u8]) -> Vec<usize> {
    let page_bytes = log.get(8..12).map_or(4096, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()) as usize);
    let frame = FRAME_HEADER_BYTES + page_bytes;
    let (salt, frames) = (salt(log), log.get(HEADER_BYTES..).unwrap_or_default().chunks_exact(frame));
    let written = frames.enumerate().take_while(|(_, bytes)| bytes[8..16] == salt[..]);
    written.filter(|(_, bytes)| bytes[4..8] != [0; 4]).map(|(at, _)| HEADER_BYTES + (at + 1) * frame).collect()
}
