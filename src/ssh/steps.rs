//! A step as a task for a node, and what its answer means.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::files::{NodeFile, authorized_key};
use super::profile::{Content, Deed, FileSpec, Step};
use crate::model::group::GroupName;
use crate::model::node::NodeName;
use crate::runners::remote::{Rights, Task, VisitEnd, Visited, word};
use crate::templates::{self, Template};

/// The last thing a step says on standard output if all is well.
const OK: &str = "\npetrel: ok\n";
const CHANGED: &str = "\npetrel: changed\n";

/// What steps may know: templates by these names, commands as `PETREL_GROUP`, `PETREL_NODE` and so on.
pub(super) struct Node<'n> {
    pub(super) group: &'n GroupName,
    pub(super) name: &'n NodeName,
    pub(super) address: &'n str,
    /// Where it serves.
    pub(super) port: Option<NonZeroU16>,
    pub(super) public_key: &'n str,
    pub(super) variables: &'n Map<String, Value>,
}

/// What came of a step.
#[derive(Debug, Serialize)]
pub(super) struct StepEnd {
    pub(super) name: String,
    pub(super) status: StepStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StepStatus {
    Ok,
    Changed,
    Failed,
}

impl Node<'_> {
    /// The step as a task, with everything filled in.
    pub(super) fn task(&self, step: &Step, sudo: bool) -> anyhow::Result<Task> {
        let lines = self.lines(&step.deed).with_context(|| format!("step `{}`", step.name))?;
        let rights = if sudo { Rights::Root(None) } else { Rights::Own };
        Ok(Task { env: self.env(), rights, ..Task::of(lines) })
    }

    fn lines(&self, deed: &Deed) -> anyhow::Result<String> {
        Ok(match deed {
            Deed::Checked { check, run } => checked(check, run),
            Deed::CheckOnly(check) => always(check, OK),
            Deed::Always(run) => always(run, CHANGED),
            Deed::File(FileSpec { path, content, mode, owner }) => {
                let rendered;
                let content = match content {
                    Content::Inline(text) => text.as_bytes(),
                    Content::Bytes(bytes) => bytes,
                    Content::Template(text) => {
                        rendered = with_last_newline_of(text, self.render(text)?);
                        rendered.as_bytes()
                    }
                };
                let file = NodeFile { path, content, mode: *mode, owner: owner.as_deref() };
                checked(&file.check(), &file.run())
            }
            Deed::AuthorizedKey { user, key, file } => {
                let key = self.render(key)?;
                let key = key.trim();
                ensure!(
                    !key.is_empty() && !key.contains('\n'),
                    "`key` is not one public key; put the node's into the datastore as `ssh_pub_key` and write \
                     \"{{{{ public_key }}}}\", or write the key itself"
                );
                let (check, run) = authorized_key(&user.to_string(), key, file.as_deref());
                checked(&check, &run)
            }
        })
    }

    fn render(&self, text: &str) -> anyhow::Result<String> {
        if !templates::is_template(text) {
            return Ok(text.to_owned());
        }
        let names = json!({
            "group": self.group,
            "name": self.name,
            "address": self.address,
            "port": self.port,
            "public_key": self.public_key,
            "variables": self.variables,
        });
        let value = Template::compile(text)?.render(&templates::Context::new(&names, None))?;
        Ok(match value {
            Value::String(text) => text,
            other => other.to_string(),
        })
    }

    fn env(&self) -> BTreeMap<String, String> {
        let own = [
            ("PETREL_GROUP", self.group.to_string()),
            ("PETREL_NODE", self.name.to_string()),
            ("PETREL_ADDRESS", self.address.to_owned()),
            ("PETREL_PORT", self.port.map(|port| port.to_string()).unwrap_or_default()),
            ("PETREL_PUBLIC_KEY", self.public_key.to_owned()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        let variables = self.variables.iter().map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (format!("PETREL_VAR_{}", name.to_ascii_uppercase()), value)
        });
        own.chain(variables).collect()
    }
}

/// Jinja takes the last line's end away, and programs want the files that they read to have it.
fn with_last_newline_of(template: &str, mut rendered: String) -> String {
    if template.ends_with('\n') && !rendered.ends_with('\n') {
        rendered.push('\n');
    }
    rendered
}

/// Looks, does, looks again. What the first look says is nobody's concern: it is expected to fail once.
fn checked(check: &str, run: &str) -> String {
    let (check, run) = (word(check), word(run));
    format!(
        "if (eval {check}) >/dev/null 2>&1; then printf '%s' {ok}; exit 0; fi\n\
         (eval {run})\ncode=$?\n[ \"$code\" -eq 0 ] || exit \"$code\"\n\
         (eval {check}) || {{ echo 'it was done, and the check still fails' >&2; exit 1; }}\n\
         printf '%s' {changed}\n",
        ok = word(OK),
        changed = word(CHANGED)
    )
}

fn always(command: &str, said: &str) -> String {
    format!("(eval {})\ncode=$?\n[ \"$code\" -eq 0 ] || exit \"$code\"\nprintf '%s' {}\n", word(command), word(said))
}

impl StepEnd {
    /// Reads what a visit for a step came to.
    pub(super) fn of(step: &Step, visited: Visited) -> Self {
        let Visited { end, mut stdout, stderr } = visited;
        let said = [(OK, StepStatus::Ok), (CHANGED, StepStatus::Changed)];
        let said = said.into_iter().find_map(|(words, status)| Some((stdout.strip_suffix(words)?.len(), status)));
        let (status, error) = match (end, said) {
            (VisitEnd::Exited(0), Some((length, status))) => {
                stdout.truncate(length);
                (status, None)
            }
            (VisitEnd::Exited(0), None) => (StepStatus::Failed, Some("it ended the shell before its end".to_owned())),
            (VisitEnd::Exited(code), _) => (StepStatus::Failed, Some(format!("it ended with {code}"))),
            (VisitEnd::NoConnection(reason), _) => (StepStatus::Failed, Some(reason)),
            (VisitEnd::TimedOut, _) => {
                (StepStatus::Failed, Some("the time was up; on the node it may still be at work".to_owned()))
            }
            (VisitEnd::Stopped, _) => {
                (StepStatus::Failed, Some("stopped on request; on the node it may still be at work".to_owned()))
            }
        };
        Self { name: step.name.clone(), status, stdout, stderr, error }
    }
}
