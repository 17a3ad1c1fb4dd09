//! The desk at which chat asks: understands a line, sees whether it may be done and is meant, and has it done. What is
//! done goes the way of every execution; its end comes back through a notify trigger.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::alias::ChatAlias;
use super::book::{Book, Command, NoCommand};
use super::format::Given;
use crate::clock::Clock;
use crate::datastore::{self, Datastore, TemplateView};
use crate::model::access::Role;
use crate::model::key_access::KeyAccess;
use crate::model::pack::Catalogue;
use crate::model::refs::{AliasRef, ExecutionId};
use crate::requests::{RequestError, Requester, Requests, Texts, Wanted};
use crate::store::{Executions, Identities, StoreError};
use crate::templates::{self, Context};

/// Who asks back waits at least this long, and at most twice as long, for the answer.
const SURE_WITHIN: Duration = Duration::from_mins(2);
/// So much of a code is typed.
const CODE_LETTERS: usize = 6;
/// The pair that says that something is meant.
const CONFIRM: &str = "confirm";

/// Where commands are understood and begun.
#[derive(Clone)]
pub struct Desk {
    parts: Parts,
    /// The book of a catalogue, as long as that is the one: its formats are compiled once and not for each line.
    open_at: Arc<Mutex<Option<(Arc<Catalogue>, Arc<Book>)>>>,
}

/// What the desk works with.
#[derive(Clone)]
pub struct Parts {
    /// The aliases there are.
    pub catalogue: watch::Receiver<Arc<Catalogue>>,
    /// Plans executions.
    pub requests: Arc<dyn Requests>,
    /// Where they are written.
    pub executions: Executions,
    /// The roles of those who speak in chat.
    pub identities: Identities,
    /// For templates in immutable parameters, and for codes that only this installation can make.
    pub datastore: Datastore,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}

/// Who says something, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// On whose behalf it is done.
    pub user: String,
    /// With which rights.
    pub role: Role,
    /// What chat calls them.
    pub chat_user: String,
    /// The room.
    pub channel: String,
    /// Where the answer goes; nobody is told if empty.
    pub route: String,
}

/// What was begun for a command.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The execution.
    pub execution: ExecutionId,
    /// What the line was.
    pub command: Command,
    /// What is said at once, if anything is.
    pub message: Option<String>,
}

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The line is no command.
    #[error(transparent)]
    NoCommand(#[from] NoCommand),
    /// The alias that was named is not there.
    #[error("there is no action alias `{0}` that can be used")]
    NoAlias(AliasRef),
    /// It is not written like that.
    #[error("`{line}` is not written as `{format}`")]
    OtherFormat {
        /// What was said.
        line: String,
        /// How it should be.
        format: String,
    },
    /// Chat's name stands for a user that Petrel does not have, so nobody can say what he may do.
    #[error("`{0}` is not a user of Petrel; an admin makes one with `petrel user create {0} --role operator`")]
    NoUser(String),
    /// Somebody else may.
    #[error("only {} may do this", .0.join(", "))]
    NotYou(Vec<String>),
    /// It is destructive.
    #[error("this cannot be undone. If it is meant, say within {} s: !{line} {CONFIRM}={code}", SURE_WITHIN.as_secs())]
    AreYouSure {
        /// What was said.
        line: String,
        /// What shows that it is meant.
        code: String,
    },
    /// A parameter that is fixed was given.
    #[error("`{0}` cannot be set here")]
    Fixed(String),
    /// What the alias fixes cannot be worked out.
    #[error("the alias's own parameters: {0}")]
    OwnParameters(String),
    /// It cannot be asked for.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Desk {
    /// A desk that works with these.
    pub fn new(parts: Parts) -> Self {
        Self { parts, open_at: Arc::default() }
    }

    /// What there is at the moment.
    pub fn book(&self) -> Arc<Book> {
        let catalogue = Arc::clone(&self.parts.catalogue.borrow());
        let mut open_at = self.open_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, book)) = &*open_at
            && Arc::ptr_eq(of, &catalogue)
        {
            return Arc::clone(book);
        }
        let book = Arc::new(Book::of(&catalogue));
        *open_at = Some((catalogue, Arc::clone(&book)));
        book
    }

    /// The role of the user that a name in chat stands for. It is looked up for each line, so that who was deleted is
    /// no longer listened to.
    pub async fn role_of(&self, user: &str) -> Result<Role, Refusal> {
        let row = self.parts.identities.user_get(user).await?;
        let row = row.ok_or_else(|| Refusal::NoUser(user.to_owned()))?;
        let role = row.role.parse();
        role.map_err(|problem| Refusal::Store(StoreError::Corrupt(format!("user `{user}`: {problem}"))))
    }

    /// Does what a line says.
    pub async fn say(&self, line: &str, speaker: &Speaker) -> Result<Begun, Refusal> {
        let line = line.trim().trim_start_matches('!').trim();
        let command = self.book().find(line)?;
        self.carry_out(line, command, speaker, None).await
    }

    /// Does what a line says by an execution of this id, unless that is there already: for those who may have to ask
    /// again without knowing that they were heard.
    pub async fn say_once(&self, line: &str, speaker: &Speaker, id: ExecutionId) -> Result<Begun, Refusal> {
        let line = line.trim().trim_start_matches('!').trim();
        let command = self.book().find(line)?;
        match self.parts.executions.execution_get(id).await {
            Ok(_) => Ok(Begun { execution: id, message: acknowledgement(&command.alias, id), command }),
            Err(StoreError::NotFound(_)) => self.carry_out(line, command, speaker, Some(id)).await,
            Err(problem) => Err(problem.into()),
        }
    }

    /// Does what a line says that somebody else has understood already: a bot that knows the alias and the format.
    pub async fn say_as(
        &self,
        alias: &AliasRef,
        format: &str,
        line: &str,
        speaker: &Speaker,
    ) -> Result<Begun, Refusal> {
        let book = self.book();
        let known = book.aliases().find(|known| known.reference == *alias);
        let known = known.ok_or_else(|| Refusal::NoAlias(alias.clone()))?;
        let line = line.trim().trim_start_matches('!').trim();
        let reading = known.read(line).filter(|reading| {
            let of_way = |other: &super::format::Format| other.source() == format;
            format.is_empty() || reading.way.display == format || reading.way.representations.iter().any(of_way)
        });
        let other = || Refusal::OtherFormat { line: line.to_owned(), format: format.to_owned() };
        let reading = reading.ok_or_else(other)?;
        let command = Command {
            alias: Arc::clone(known),
            display: reading.way.display.clone(),
            representation: reading.format.source().to_owned(),
            given: reading.given,
        };
        self.carry_out(line, command, speaker, None).await
    }

    async fn carry_out(
        &self,
        line: &str,
        mut command: Command,
        speaker: &Speaker,
        id: Option<ExecutionId>,
    ) -> Result<Begun, Refusal> {
        let alias = Arc::clone(&command.alias);
        if !alias.users.is_empty() && !alias.users.contains(&speaker.chat_user) {
            return Err(Refusal::NotYou(alias.users.clone()));
        }
        if alias.confirm {
            self.make_sure(line, &mut command.given, speaker)?;
        }
        let wanted = Wanted { id, ..self.wanted(&alias, &command.given, speaker)? };
        let plan = self.parts.requests.plan(wanted)?;
        let execution = plan.execution().clone();
        self.parts.executions.execution_request(&execution).await?;
        plan.committed();
        let message = acknowledgement(&alias, execution.id);
        tracing::info!(execution = %execution.id, alias = %alias.reference, user = speaker.chat_user, "asked for in chat");
        Ok(Begun { execution: execution.id, command, message })
    }

    /// The code belongs to the line, the person, the room and the time, so that nothing has to be remembered.
    fn make_sure(&self, line: &str, given: &mut Given, speaker: &Speaker) -> Result<(), Refusal> {
        let said = given.remove(CONFIRM);
        let bare = match &said {
            Some(code) => line.replace(&format!("{CONFIRM}={code}"), "").trim().to_owned(),
            None => line.to_owned(),
        };
        let span = SURE_WITHIN.as_secs().cast_signed();
        let slot = self.parts.clock.now().as_seconds().div_euclid(span);
        let code_of = |slot: i64| {
            let text = format!("{bare}\n{}\n{}\n{slot}", speaker.chat_user, speaker.channel);
            self.parts.datastore.keyed_hash(text.as_bytes()).chars().take(CODE_LETTERS).collect::<String>()
        };
        let is_meant = said.is_some_and(|code| [slot, slot - 1].into_iter().any(|slot| code == code_of(slot)));
        let code = code_of(slot);
        if is_meant { Ok(()) } else { Err(Refusal::AreYouSure { line: bare, code }) }
    }

    fn wanted(&self, alias: &ChatAlias, given: &Given, speaker: &Speaker) -> Result<Wanted, Refusal> {
        let view = self.parts.datastore.for_templates(&speaker.user);
        let names: Arc<dyn templates::Datastore> = Arc::<TemplateView>::clone(&view);
        let own = alias.immutable.render(&Context::new(&json!({}), Some(&names)));
        if let Some(problem) = view.missed() {
            return Err(problem.into());
        }
        let secrets = view.opened();
        let own = own.map_err(|problem| {
            let problem = datastore::redactor(&secrets).redact(&problem.to_string()).into_owned();
            Refusal::OwnParameters(problem)
        })?;
        let mut parameters: Map<String, Value> =
            given.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        for (name, value) in own.as_object().into_iter().flatten() {
            if parameters.insert(name.clone(), value.clone()).is_some() {
                return Err(Refusal::Fixed(name.clone()));
            }
        }
        let Speaker { user, role, chat_user, channel, route } = speaker;
        let requester = Requester::User { name: user.clone(), role: *role };
        // A room sees the answer: what content does not name is decrypted for nobody there.
        let key_access = KeyAccess::NamedByContent;
        let wanted = Wanted::new(alias.action.clone(), parameters, requester);
        let mut wanted = Wanted { texts: Texts::Literal, secrets, key_access, ..wanted };
        wanted.context.insert("user".to_owned(), json!(user));
        wanted.context.insert("api_user".to_owned(), json!(chat_user));
        wanted.context.insert("source_channel".to_owned(), json!(channel));
        wanted.context.insert("action_alias_ref".to_owned(), json!(alias.reference));
        if !route.is_empty() && alias.result.enabled {
            let data = json!({ "user": chat_user, "source_channel": channel, "action_alias": alias.reference });
            wanted.context.insert("notify".to_owned(), json!({ "on-complete": { "routes": [route], "data": data } }));
        }
        Ok(wanted)
    }
}

/// A template that cannot be rendered is no reason to say nothing.
fn acknowledgement(alias: &ChatAlias, execution: ExecutionId) -> Option<String> {
    if !alias.ack.enabled {
        return None;
    }
    let Some(format) = &alias.ack.format else {
        return Some(format!("on it: {execution}"));
    };
    let names = json!({
        "execution": { "id": execution, "action": { "ref": alias.action } },
        "actionalias": { "ref": alias.reference, "name": alias.reference.name(), "description": alias.description },
    });
    let said = format.render(&Context::new(&names, None));
    Some(said.map_or_else(|problem| format!("on it: {execution} (ack.format: {problem})"), |text| as_text(&text)))
}

/// A template that is a single expression keeps its type; chat has only text.
pub(super) fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
