//! Answers when the client asks for a password: Petrel's own binary under another name, started by `ssh` with the
//! question as its only argument. The answer waits in the environment, which nobody else can read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// The name under which the binary is this program.
pub(super) const NAME: &str = "petrel-askpass";
pub(super) const PASSWORD: &str = "PETREL_SSH_PASSWORD";
pub(super) const PASSPHRASE: &str = "PETREL_SSH_PASSPHRASE";

/// What is asked, if these are the arguments of this program.
pub fn question(mut arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let is_asked = arguments.next().is_some_and(|name| Path::new(&name).ends_with(NAME));
    is_asked.then(|| arguments.next().unwrap_or_default().to_string_lossy().into_owned())
}

/// The program.
pub fn askpass_main(question: &str, environment: &BTreeMap<String, String>) -> ExitCode {
    match answer(question, environment) {
        Some(answer) if writeln!(io::stdout(), "{answer}").is_ok() => ExitCode::SUCCESS,
        Some(_) | None => ExitCode::FAILURE,
    }
}

/// Questions about anything else, as whether a host is trusted, have no answer.
fn answer<'e>(question: &str, environment: &'e BTreeMap<String, String>) -> Option<&'e str> {
    let question = question.to_ascii_lowercase();
    let name = if question.contains("passphrase") {
        PASSPHRASE
    } else if question.contains("password") {
        PASSWORD
    } else {
        return None;
    };
    environment.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_gets_its_own_answer_and_others_none() {
        let environment = [(PASSWORD, "word"), (PASSPHRASE, "phrase")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let cases = [
            ("root@web's password: ", Some("word")),
            ("(root@web) Password: ", Some("word")),
            ("Enter passphrase for key '/x': ", Some("phrase")),
            ("Are you sure you want to continue connecting (yes/no)? ", None),
        ];
        for (question, wanted) in cases {
            assert_eq!(answer(question, &environment), wanted, "{question}");
        }
    }
}
