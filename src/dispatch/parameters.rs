//! From what a caller gave to what a runner gets: defaults, templates in the order of their dependencies, casts,
//! schemas. Pure: no store, no clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::model::action::{Action, ParameterSpec};
use crate::requests::Texts;
use crate::schema::{Schema, cast};
use crate::secrets::{MASK, Redactor};
use crate::templates::{CompiledValue, Context, Datastore};

/// An action whose parameters are ready to be filled in: specs of runner and action merged, schemas compiled.
#[derive(Debug)]
pub struct CompiledAction {
    /// The action.
    pub action: Arc<Action>,
    slots: BTreeMap<String, Slot>,
    /// The texts of its templates: which keys they name.
    templates: Arc<str>,
}

#[derive(Debug)]
struct Slot {
    spec: ParameterSpec,
    schema: Schema,
    default: Option<CompiledValue>,
}

/// What templates in parameters can see beside their siblings.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// As `action_context`.
    pub action_context: Value,
    /// What templates of the action's metadata see.
    pub content: Sight,
    /// What templates in given parameters see: those have the rights of whoever wrote them.
    pub caller: Sight,
}

/// What templates by one author see.
#[derive(Clone, Default)]
pub struct Sight {
    /// The pack's configuration, as `config_context`.
    pub config_context: Value,
    /// As `st2kv`.
    pub datastore: Option<Arc<dyn Datastore>>,
    /// What other parameters hold that this author may not see.
    pub hidden: Hidden,
}

/// Which secrets an author may not see in other parameters.
#[derive(Clone, Default)]
pub enum Hidden {
    /// None.
    #[default]
    Nothing,
    /// What templates of content have opened by now, and secret defaults.
    Opened(Arc<dyn Fn() -> Vec<String> + Send + Sync>),
}

/// Who wrote a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Author {
    Content,
    Caller,
}

/// A value that is to be rendered, with its author.
type Authored = (Author, CompiledValue);

impl CompiledAction {
    /// Merges the runner's parameters with the action's and compiles what can be compiled. All problems at once.
    pub fn compile(action: Arc<Action>, runner: &BTreeMap<String, ParameterSpec>) -> Result<Self, Vec<String>> {
        let mut specs = runner.clone();
        for (name, own) in &action.parameters {
            let spec = specs.get(name).map_or_else(|| own.clone(), |inherited| override_spec(inherited, own));
            specs.insert(name.clone(), spec);
        }
        let mut slots = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, spec) in specs {
            match compile_slot(spec) {
                Ok(slot) => drop(slots.insert(name, slot)),
                Err(found) => problems.extend(found.into_iter().map(|problem| format!("`{name}`: {problem}"))),
            }
        }
        let texts = slots.values().filter_map(|slot: &Slot| slot.spec.default.as_ref()).map(Value::to_string);
        let templates = texts.collect::<Vec<_>>().join("\n").into();
        if problems.is_empty() { Ok(Self { action, slots, templates }) } else { Err(problems) }
    }

    /// The specs of all parameters, the runner's and the action's.
    pub fn specs(&self) -> impl Iterator<Item = (&String, &ParameterSpec)> {
        self.slots.iter().map(|(name, slot)| (name, &slot.spec))
    }

    /// The texts of the templates in its metadata.
    pub const fn templates(&self) -> &Arc<str> {
        &self.templates
    }

    /// Fills in, renders, casts and validates. All problems at once.
    pub fn fill(
        &self,
        given: Map<String, Value>,
        texts: Texts,
        around: &Surroundings,
    ) -> Result<Map<String, Value>, Vec<String>> {
        let accepts_anything = self.slots.is_empty() && self.action.runner == "noop";
        let mut problems = if accepts_anything { Vec::new() } else { self.refuse(&given) };
        let wanted = self.collect(given, texts, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut filled = self.render_in_order(wanted, around).map_err(|problem| vec![problem])?;
        for (name, slot) in &self.slots {
            if let Err(problem) = slot.check(name, &mut filled) {
                problems.push(problem);
            }
        }
        if problems.is_empty() { Ok(filled) } else { Err(problems) }
    }

    /// The values of secret parameters, for redaction.
    pub fn secret_values(&self, filled: &Map<String, Value>) -> Vec<String> {
        let values = self.slots.iter().filter_map(|(name, slot)| Some((slot, filled.get(name)?)));
        values.flat_map(|(slot, value)| slot.spec.secret_texts(value)).collect()
    }

    fn refuse(&self, given: &Map<String, Value>) -> Vec<String> {
        let mut problems = Vec::new();
        for name in given.keys() {
            match self.slots.get(name) {
                None => problems.push(self.unknown(name)),
                Some(slot) if slot.spec.immutable => problems.push(format!("`{name}` is immutable; leave it out")),
                Some(_) => {}
            }
        }
        problems
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self.slots.keys().map(String::as_str).collect();
        if known.is_empty() {
            return format!("`{name}` is not a parameter; this action takes none");
        }
        format!("`{name}` is not a parameter; there are {}", known.join(", "))
    }

    fn collect(
        &self,
        given: Map<String, Value>,
        texts: Texts,
        problems: &mut Vec<String>,
    ) -> BTreeMap<String, Authored> {
        let mut wanted = BTreeMap::new();
        let by_caller = |value| (Author::Caller, value);
        for (name, value) in given {
            match texts {
                Texts::Literal => drop(wanted.insert(name, by_caller(CompiledValue::Literal(value)))),
                Texts::Templates => match CompiledValue::compile(&value) {
                    Ok(compiled) => drop(wanted.insert(name, by_caller(compiled))),
                    Err(errors) => problems.extend(errors.iter().map(|error| format!("`{name}`: {error}"))),
                },
            }
        }
        for (name, slot) in &self.slots {
            if let Some(default) = slot.default.as_ref().filter(|_| !wanted.contains_key(name)) {
                wanted.insert(name.clone(), (Author::Content, default.clone()));
            }
        }
        wanted
    }

    /// Renders each value after those it refers to.
    fn render_in_order(
        &self,
        mut wanted: BTreeMap<String, Authored>,
        around: &Surroundings,
    ) -> Result<Map<String, Value>, String> {
        let mut done = Map::new();
        let authors: BTreeMap<String, Author> =
            wanted.iter().map(|(name, (author, _))| (name.clone(), *author)).collect();
        while !wanted.is_empty() {
            let is_ready = |value: &CompiledValue| {
                value.references().iter().all(|name| !authors.contains_key(name) || done.contains_key(name))
            };
            let ready: Vec<String> =
                wanted.iter().filter(|(_, (_, value))| is_ready(value)).map(|(name, _)| name.clone()).collect();
            if ready.is_empty() {
                let circle: Vec<String> = wanted.keys().map(|name| format!("`{name}`")).collect();
                return Err(format!("{} refer to each other in a circle", circle.join(", ")));
            }
            for name in ready {
                let Some((author, value)) = wanted.remove(&name) else { continue };
                let rendered = match author {
                    _ if matches!(value, CompiledValue::Literal(_)) => render_one(&value, &Map::new(), around, author),
                    Author::Content => render_one(&value, &done, around, author),
                    Author::Caller => render_one(&value, &self.visible(&done, &authors, around), around, author),
                };
                done.insert(name.clone(), rendered.map_err(|problem| format!("`{name}`: {problem}"))?);
            }
        }
        Ok(done)
    }

    /// Other parameters as the caller's templates may see them.
    fn visible(
        &self,
        done: &Map<String, Value>,
        authors: &BTreeMap<String, Author>,
        around: &Surroundings,
    ) -> Map<String, Value> {
        let Hidden::Opened(opened) = &around.caller.hidden else { return done.clone() };
        let redactor = Redactor::new(opened());
        let is_secret = |name: &String| self.slots.get(name).is_some_and(|slot| slot.spec.secret);
        let shown = |name: &String, value: &Value| match authors.get(name) {
            Some(Author::Content) if is_secret(name) => MASK.into(),
            Some(Author::Content) => redactor.redact_value(value),
            Some(Author::Caller) | None => value.clone(),
        };
        done.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
    }
}

impl Slot {
    fn check(&self, name: &str, filled: &mut Map<String, Value>) -> Result<(), String> {
        let Some(value) = filled.remove(name).filter(|value| !value.is_null()) else {
            return if self.spec.required { Err(format!("`{name}` is required")) } else { Ok(()) };
        };
        let value = cast(&self.spec, value).map_err(|problem| format!("`{name}`: {problem}"))?;
        self.schema.validate(&value).map_err(|violations| {
            let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
            format!("`{name}`: {}", texts.join(", "))
        })?;
        filled.insert(name.to_owned(), value);
        Ok(())
    }
}

/// An action may change what its runner says of a parameter, but not set free what the runner holds fast.
fn override_spec(inherited: &ParameterSpec, own: &ParameterSpec) -> ParameterSpec {
    let mut schema = inherited.schema.clone();
    if let (Value::Object(base), Value::Object(over)) = (&mut schema, &own.schema) {
        over.iter().for_each(|(name, value)| drop(base.insert(name.clone(), value.clone())));
    }
    ParameterSpec {
        schema,
        description: if own.description.is_empty() { &inherited.description } else { &own.description }.clone(),
        required: own.required || (inherited.required && own.default.is_none()),
        default: own.default.clone().or_else(|| inherited.default.clone()),
        immutable: own.immutable || inherited.immutable,
        secret: own.secret || inherited.secret,
        position: own.position.or(inherited.position),
    }
}

fn compile_slot(spec: ParameterSpec) -> Result<Slot, Vec<String>> {
    let schema = Schema::compile(&spec.schema).map_err(|problem| vec![problem.to_string()])?;
    let compiled = spec.default.as_ref().map(CompiledValue::compile).transpose();
    let default = compiled.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(Slot { spec, schema, default })
}

fn render_one(
    value: &CompiledValue,
    siblings: &Map<String, Value>,
    around: &Surroundings,
    author: Author,
) -> Result<Value, String> {
    if let CompiledValue::Literal(value) = value {
        return Ok(value.clone());
    }
    let sight = match author {
        Author::Content => &around.content,
        Author::Caller => &around.caller,
    };
    let mut names = siblings.clone();
    names.insert("action_context".to_owned(), around.action_context.clone());
    names.insert("config_context".to_owned(), sight.config_context.clone());
    let context = Context::new(&Value::Object(names), sight.datastore.as_ref());
    value.render(&context).map_err(|problem| problem.to_string())
}
