//! The one binary: arguments in, exit code out.

use std::process::ExitCode;

use petrel::cli::args::Command;
use petrel::runners::remote::askpass;
use petrel::{cli, config, daemon, demo, local, runners};

fn main() -> ExitCode {
    if let Some(question) = askpass::question(std::env::args_os()) {
        return askpass::askpass_main(&question, &config::process_environment());
    }
    match cli::parse(std::env::args_os()) {
        Err(code) => code,
        Ok(Command::Guard) => runners::guard::guard_main(),
        Ok(Command::AsUser(words)) => runners::as_user::as_user_main(words, &config::process_environment()),
        Ok(Command::Detach(words)) => runners::detached::detach_main(words.into_iter()),
        Ok(Command::Node(words)) => local::node::node_main(words.into_iter()),
        Ok(Command::Client(command, globals)) => cli::client::run(&command, &globals, daemon::runner_parameters),
        Ok(Command::Serve(options)) => daemon::serve_main(&options),
        Ok(Command::Validate(options)) => daemon::validate_main(&options),
        Ok(Command::Restore(options)) => daemon::restore_main(&options),
        Ok(Command::MigrateStore(options)) => daemon::migrate_store_main(&options),
        Ok(Command::Demo(options)) => demo::demo_main(&options),
    }
}
