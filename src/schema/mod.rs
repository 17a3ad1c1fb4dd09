//! JSON Schema: the only place that knows the validator.
//!
//! StackStorm's own flavour (`required: true` inside a property, `secret`, `position`, null allowed for
//! whatever is optional) is translated to real JSON Schema in [`parameters`], before anything is compiled.

pub mod parameters;

mod cast;

#[cfg(test)]
mod tests;

pub use cast::cast;
pub use parameters::{translate_parameter, translate_schema};

use std::fmt;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

/// Steps back that one `pattern` may take.
const BACKTRACK_LIMIT: usize = 100_000;

/// The automaton of one `pattern`.
const AUTOMATON_BYTES: usize = 2 << 20;

/// A schema, compiled.
pub struct Schema {
    validator: Validator,
}

/// Why a schema was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON Schema: {reason}{}", self.place())]
pub struct SchemaError {
    /// JSON pointer into the schema; empty for the schema itself.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl SchemaError {
    fn place(&self) -> String {
        if self.path.is_empty() { String::new() } else { format!(", at {}", self.path) }
    }
}

/// One way in which a value breaks its schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", self.place())]
pub struct Violation {
    /// JSON pointer into the value, as `/hosts/0`; empty for the value itself.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

impl Violation {
    fn place(&self) -> String {
        if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) }
    }
}

impl Schema {
    /// Compiles a JSON Schema; draft 7 unless it names another with `$schema`. Nothing is ever fetched.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        let patterns = PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT).size_limit(AUTOMATON_BYTES);
        let mut options = jsonschema::options().with_pattern_options(patterns);
        if schema.get("$schema").is_none() {
            options = options.with_draft(Draft::Draft7);
        }
        let validator = options.build(schema).map_err(|error| SchemaError {
            path: error.instance_path().as_str().to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { validator })
    }

    /// All that is wrong with `value`, sorted by place.
    pub fn validate(&self, value: &Value) -> Result<(), Vec<Violation>> {
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let violation = |error: jsonschema::ValidationError<'_>| Violation {
            path: error.instance_path().as_str().to_owned(),
            message: error.to_string(),
        };
        let mut violations: Vec<_> = self.validator.iter_errors(value).map(violation).collect();
        violations.sort_by(|left, right| (&left.path, &left.message).cmp(&(&right.path, &right.message)));
        Err(violations)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}
