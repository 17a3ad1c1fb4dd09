//! The one binary: arguments in, exit code out.

use std::process::ExitCode;

use petrel::cli::args::Command;

fn main() -> ExitCode {
    match petrel::cli::parse(std::env::args_os()) {
        Err(code) => code,
        Ok(Command::Guard) => petrel::runners::guard::guard_main(),
        Ok(Command::Client(command, globals)) => petrel::cli::client::run(&command, &globals),
        Ok(Command::Serve(_) | Command::Demo(_) | Command::Validate(_) | Command::Restore(_) | Command::Node(_)) => {
            ExitCode::FAILURE
        }
    }
}
