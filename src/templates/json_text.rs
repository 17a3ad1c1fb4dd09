//! JSON and YAML text out of template values, spaced as Python spaces it.

use std::io;

use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// `{"a": 1,"b": 2}`, which is what StackStorm's `to_json_string` writes.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// `json.dumps`, on one line.
pub(super) fn write_json(value: &Value) -> Result<String, Error> {
    write_with(value, PythonFormatter)
}

/// `json.dumps` with an indent.
pub(super) fn write_json_indented(value: &Value, indent: usize) -> Result<String, Error> {
    write_with(value, PrettyFormatter::with_indent(" ".repeat(indent.min(16)).as_bytes()))
}

/// `yaml.dump` in block style.
pub(super) fn write_yaml(value: &Value) -> Result<String, Error> {
    serde_yaml::to_string(value).map_err(|error| refused(&error))
}

fn write_with(value: &Value, formatter: impl Formatter) -> Result<String, Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter)).map_err(|error| refused(&error))?;
    String::from_utf8(bytes).map_err(|error| refused(&error))
}

fn refused(error: &dyn std::error::Error) -> Error {
    Error::new(ErrorKind::BadSerialization, error.to_string())
}
