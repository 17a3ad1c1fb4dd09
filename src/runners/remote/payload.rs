//! What is done on the other side, as a text for a shell there.
//!
//! It comes on standard input and not as the command of the connection: command lines can be read by everybody, here and
//! there. The command itself is the same for all: a shell that reads the text to its end and then does it.

use std::collections::BTreeMap;

use crate::runners::shell::quote;

/// Separates a password that `sudo` may or may not have taken from what is to be done.
const BEGIN: &str = "# petrel begins here";
/// The client ends with 255 if the connection fails. If the command did, this is written on standard error.
pub(super) const COMMAND_ENDED_WITH_255: &str = "petrel: the command itself ended with 255\n";

/// What is to be done. Holds secrets: never printed.
pub struct Task {
    /// Lines for the shell, which run in a shell of their own.
    pub lines: String,
    /// On top of what the login gives.
    pub env: BTreeMap<String, String>,
    /// Where; by default where a login begins.
    pub cwd: Option<String>,
    /// As whom.
    pub rights: Rights,
}

/// As whom something is done on the other side.
pub enum Rights {
    /// As the user who logged in.
    Own,
    /// As root, by `sudo`, with a password if it needs one.
    Root(Option<String>),
}

/// A name that no shell takes for that of a variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not the name of an environment variable: letters, digits and `_`, not beginning with a digit")]
pub struct BadVariable {
    name: String,
}

impl Task {
    /// With nothing around them.
    pub fn of(lines: impl Into<String>) -> Self {
        Self { lines: lines.into(), env: BTreeMap::new(), cwd: None, rights: Rights::Own }
    }

    /// Every name must be one that a shell can export.
    pub(super) fn check(&self) -> Result<(), BadVariable> {
        let bad = self.env.keys().find(|name| !is_variable(name));
        bad.map_or(Ok(()), |name| Err(BadVariable { name: name.clone() }))
    }

    /// The command of the connection; says nothing about the task but whether it needs `sudo`.
    pub(super) fn command(&self) -> String {
        let shell = r#"/bin/sh -c 'test -x /bin/bash && exec /bin/bash -c "$0"; exec /bin/sh -c "$0"'"#;
        let body = format!(r#"'while IFS= read -r line; do [ "$line" = "{BEGIN}" ] && break; done; eval "$(cat)"'"#);
        let sudo = match &self.rights {
            Rights::Own => "",
            Rights::Root(None) => "sudo -n -H -- ",
            Rights::Root(Some(_)) => "sudo -S -p '' -H -- ",
        };
        format!("exec {sudo}{shell} {body}")
    }

    /// What that shell reads.
    pub(super) fn stdin(&self) -> String {
        let mut text = String::new();
        if let Rights::Root(Some(password)) = &self.rights {
            line(&mut text, password);
        }
        line(&mut text, BEGIN);
        line(&mut text, "exec </dev/null");
        for (name, value) in &self.env {
            line(&mut text, &format!("export {name}={}", quote(value)));
        }
        if let Some(cwd) = &self.cwd {
            line(&mut text, &format!("cd -- {} || exit 1", quote(cwd)));
        }
        // Quoted once more, so that a mistake in them is their own and what follows still happens.
        line(&mut text, &format!("(eval {})", quote(&self.lines)));
        line(&mut text, "code=$?");
        let said = COMMAND_ENDED_WITH_255.trim_end();
        line(&mut text, &format!("[ \"$code\" -ne 255 ] || echo {} >&2", quote(said)));
        line(&mut text, "exit \"$code\"");
        text
    }
}

/// One word for the shell of the other side, whatever is in it.
pub fn word(text: &str) -> String {
    quote(text)
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn is_variable(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tells_nothing_about_the_task() {
        let task = Task {
            env: [("TOKEN".to_owned(), "hunter2".to_owned())].into(),
            cwd: Some("/srv/hunter2".to_owned()),
            rights: Rights::Root(Some("hunter2".to_owned())),
            ..Task::of("echo hunter2")
        };
        assert!(!task.command().contains("hunter2"));
        assert!(task.stdin().starts_with(&format!("hunter2\n{BEGIN}\nexec </dev/null\nexport TOKEN='hunter2'\n")));
    }

    #[test]
    fn a_variable_that_no_shell_can_export_is_refused() {
        for name in ["", "1A", "A B", "A;id", "A=B", "Ä"] {
            let task = Task { env: [(name.to_owned(), String::new())].into(), ..Task::of("true") };
            assert!(task.check().is_err(), "{name}");
        }
    }
}
