//! The one binary: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("guard") => petrel::runners::guard::guard_main(),
        Some("detach") => petrel::runners::detached::detach_main(std::env::args_os().skip(2)),
        Some("node") => petrel::local::node::node_main(std::env::args_os().skip(2)),
        _ => ExitCode::SUCCESS,
    }
}
