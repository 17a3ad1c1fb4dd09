//! The command line: words in, an exit code out. Everything but `validate` talks to a daemon over HTTP; nothing in
//! here knows the store or an engine.

pub mod args;
pub mod client;
pub mod failure;
pub mod output;
pub mod validate;
mod commands;
mod moments;
mod parameters;
mod sse;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use self::args::{Arguments, Command};
use self::failure::USAGE;

/// Reads the arguments of this process, program name first. Help and usage errors are printed here; the error is then
/// the code to end with.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, ExitCode> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(command) = internal(&arguments) {
        return Ok(command);
    }
    Arguments::try_parse_from(arguments).map(Command::from).map_err(|error| {
        let shown = error.print();
        let was_asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        if was_asked && shown.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
    })
}

/// What the daemon starts of its own binary. It is no command for people, and a guard has to start fast.
fn internal(arguments: &[OsString]) -> Option<Command> {
    let rest = || arguments.iter().skip(2).cloned().collect();
    match arguments.get(1)?.to_str()? {
        "guard" => Some(Command::Guard),
        "detach" => Some(Command::Detach(rest())),
        "as-user" => Some(Command::AsUser(rest())),
        "node" => Some(Command::Node(rest())),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
