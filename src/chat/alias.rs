//! An action alias as chat uses it: its formats and templates compiled, who may use it, whether it asks back.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::format::{Format, Given};
use crate::model::pack::Alias;
use crate::model::refs::{ActionRef, AliasRef};
use crate::templates::{CompiledValue, Template};

/// How an action is called from chat.
#[derive(Debug, Clone)]
pub struct ChatAlias {
    /// `pack.name`.
    pub reference: AliasRef,
    /// For people.
    pub description: String,
    /// The action it runs.
    pub action: ActionRef,
    /// All ways to write it.
    pub ways: Vec<Way>,
    /// What is said at once.
    pub ack: Reply,
    /// What is said at its end.
    pub result: Reply,
    /// Parameters that nobody can set, which may be templates.
    pub immutable: CompiledValue,
    /// Only people with one of these names may use it; nobody named: everybody who may run actions.
    pub users: Vec<String>,
    /// It is done only once who asked has said that it is meant.
    pub confirm: bool,
}

/// How a command is shown, and how it may be written.
#[derive(Debug, Clone)]
pub struct Way {
    /// As help shows it.
    pub display: String,
    /// As it may be written.
    pub representations: Vec<Format>,
}

/// Something that is said.
#[derive(Debug, Clone)]
pub struct Reply {
    /// It is said at all.
    pub enabled: bool,
    /// In these words; `None`: in ours.
    pub format: Option<Template>,
    /// For adapters, as StackStorm's have it.
    pub extra: Value,
    /// Where the execution can be seen is said as well.
    pub append_url: bool,
}

/// What keeps an alias from being used: where in its metadata, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Keys from the top of the metadata.
    pub path: Vec<String>,
    /// What is wrong.
    pub what: String,
}

/// Which way a command is written, and what it gives.
#[derive(Debug, Clone)]
pub struct Reading<'a> {
    /// Its way.
    pub way: &'a Way,
    /// Its very format.
    pub format: &'a Format,
    /// What it gives.
    pub given: Given,
}

impl ChatAlias {
    /// Compiles what an alias says; everything that is wrong with it at once.
    pub fn compile(alias: &Alias) -> Result<Self, Vec<Fault>> {
        let metadata = &alias.metadata;
        let mut faults = Vec::new();
        let ways = ways(&metadata["formats"], &mut faults);
        let ack = reply(metadata, "ack", &mut faults);
        let result = reply(metadata, "result", &mut faults);
        let fixed = metadata.get("immutable_parameters").cloned().unwrap_or_else(|| Value::Object(Map::new()));
        let immutable = CompiledValue::compile(&fixed).map_err(|problems| {
            faults.extend(problems.iter().map(|problem| Fault::at(&["immutable_parameters"], problem.to_string())));
        });
        let names = |key: &str| metadata[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        match immutable {
            Ok(immutable) if faults.is_empty() => Ok(Self {
                reference: alias.reference.clone(),
                description: alias.description.clone(),
                action: alias.action.clone(),
                ways,
                ack,
                result,
                immutable,
                users: names("users").map(str::to_owned).collect(),
                confirm: metadata["confirm"] == true,
            }),
            _ => Err(faults),
        }
    }

    /// How a command is written, if this alias knows it.
    pub fn read<'a>(&'a self, command: &str) -> Option<Reading<'a>> {
        self.ways.iter().find_map(|way| {
            way.representations.iter().find_map(|format| {
                let given = format.read(command)?;
                Some(Reading { way, format, given })
            })
        })
    }

    /// One line per way to write it.
    pub fn help(&self) -> String {
        let mut help = String::new();
        for way in &self.ways {
            let _infallible = writeln!(help, "!{} - {}", way.display, self.description);
        }
        help
    }
}

impl Fault {
    fn at(path: &[&str], what: String) -> Self {
        Self { path: path.iter().map(|part| (*part).to_owned()).collect(), what }
    }
}

fn ways(formats: &Value, faults: &mut Vec<Fault>) -> Vec<Way> {
    let mut ways = Vec::new();
    for (number, written) in formats.as_array().into_iter().flatten().enumerate() {
        let place = number.to_string();
        let (display, sources) = match written {
            Value::String(format) => (format.clone(), vec![format.clone()]),
            Value::Object(fields) => spelled_out(fields),
            _ => (String::new(), Vec::new()),
        };
        if sources.is_empty() {
            faults.push(Fault::at(&["formats", &place], "it is no text and has no `representation`".to_owned()));
        }
        let mut representations = Vec::new();
        for source in sources {
            match Format::compile(&source) {
                Ok(format) => representations.push(format),
                Err(what) => faults.push(Fault::at(&["formats", &place], what)),
            }
        }
        ways.push(Way { display, representations });
    }
    ways
}

/// `{display, representation}`: either may be one text, the second a list.
fn spelled_out(fields: &Map<String, Value>) -> (String, Vec<String>) {
    let texts = |value: Option<&Value>| match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let representations = texts(fields.get("representation"));
    let display = texts(fields.get("display")).into_iter().next();
    let shown = display.or_else(|| representations.first().cloned()).unwrap_or_default();
    (shown, representations)
}

fn reply(metadata: &Value, key: &str, faults: &mut Vec<Fault>) -> Reply {
    let said = &metadata[key];
    let format = said["format"].as_str().and_then(|source| match Template::compile(source) {
        Ok(template) => Some(template),
        Err(problem) => {
            faults.push(Fault::at(&[key, "format"], problem.to_string()));
            None
        }
    });
    Reply {
        enabled: said["enabled"].as_bool().unwrap_or(true),
        format,
        extra: said["extra"].clone(),
        append_url: said["append_url"].as_bool().unwrap_or(true),
    }
}
