//! Several processes of one call at the same time, each under a guard of its own, as one for each host.
//!
//! They have a folder, so that whoever comes next finds them all: before a second attempt starts, every one of the first
//! is proven dead.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use super::process::{GuardDir, ProcessEnd, ProcessError, ProcessSpec, Proof, not_begun_if_lacking};
use super::shortage::NotBegun;
use super::{Call, Stop, attempt_file};

/// The folder of a call's processes.
#[derive(Debug)]
pub(super) struct Parts<'g> {
    guards: &'g GuardDir,
    folder: PathBuf,
    proof: Proof,
}

impl<'g> Parts<'g> {
    /// Ends what earlier attempts left, and makes room.
    pub(super) async fn begin(guards: &'g GuardDir, call: &Call) -> Result<Self, ProcessError> {
        let proof = guards.prove_dead(call.execution, call.attempt).await.map_err(not_begun_if_lacking)?;
        let folder = guards.folder_of_parts(call.execution);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| {
            NotBegun::for_want("cannot make a folder for connections", &error)
                .map_or_else(|| ProcessError::Io(error), ProcessError::NotBegun)
        })?;
        Ok(Self { guards, folder, proof })
    }

    /// A file of the part that is there until [`Self::end`].
    pub(super) fn file(&self, part: usize, extension: &str) -> PathBuf {
        self.folder.join(format!("{part}.{extension}"))
    }

    /// Where [`ProcessSpec::private_file`] of the part will be.
    pub(super) fn private_file(&self, part: usize) -> PathBuf {
        attempt_file::private_path(&self.attempt_file(part))
    }

    /// Runs the part, as [`GuardDir::run`] runs a call's only process.
    pub(super) async fn run(
        &self,
        part: usize,
        call: &Call,
        spec: ProcessSpec,
        stop: &Stop,
    ) -> Result<ProcessEnd, ProcessError> {
        self.guards.run_at(self.attempt_file(part), &self.proof, call, spec, stop).await
    }

    /// Takes the folder away, unless somebody survived or has to be told that he is too late.
    pub(super) fn end(self) -> io::Result<()> {
        if attempt_file::attempt_files_in(&self.folder)?.is_empty() {
            attempt_file::remove_folder_if_there(&self.folder)?;
        }
        Ok(())
    }

    fn attempt_file(&self, part: usize) -> PathBuf {
        self.file(part, "lock")
    }
}
