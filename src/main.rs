//! The one binary: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("guard") {
        return petrel::runners::guard::guard_main();
    }
    ExitCode::SUCCESS
}
