//! The only place that prints: tables for people, JSON and YAML for programs. Answers go to standard output, progress
//! and complaints to standard error.

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use comfy_table::{Table, presets};
use serde_json::Value;

use crate::cli::args::Format;
use crate::cli::failure::Failure;
use crate::cli::moments;
use crate::config::process_environment;
use crate::model::printable::{escape_json, escape_line, escape_text};
use crate::model::time::Timestamp;

type Stream = Arc<Mutex<dyn Write + Send>>;

/// Where answers and progress go, and in which form.
#[derive(Clone)]
pub struct Output {
    format: Format,
    answers: Stream,
    progress: Stream,
    answers_paint: Paint,
    progress_paint: Paint,
    reader: Reader,
}

/// Who reads the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// A person before a terminal: nothing that came from outside may command it.
    Terminal,
    /// A program, which gets bytes as they are where it asked for a value itself.
    Program,
}

/// Whether words are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Colours,
}

/// Says why a command could not be carried out, the whole chain, and gives back the code to end with.
pub fn complain(problem: &anyhow::Error) -> std::process::ExitCode {
    line(&mut io::stderr(), &format!("petrel: {problem:#}"));
    std::process::ExitCode::from(crate::cli::failure::FAILED)
}

/// Says one line beside the answer.
pub(super) fn warn(text: &str) {
    line(&mut io::stderr(), &format!("petrel: {text}"));
}

/// Says one line to the person who asked.
pub fn say(text: &str) {
    line(&mut io::stdout(), text);
}

/// A reader that went away wants nothing any more.
fn line(to: &mut dyn Write, text: &str) {
    if let Err(problem) = writeln!(to, "{}", escape_text(text)) {
        tracing::debug!(%problem, "nobody reads what is printed");
    }
}

impl Output {
    /// Standard output and standard error of this process; colours only on a terminal.
    pub fn of_this_process(format: Format) -> Self {
        let forbidden = process_environment().get("NO_COLOR").is_some_and(|value| !value.is_empty());
        let paint = |is_terminal: bool| if is_terminal && !forbidden { Paint::Colours } else { Paint::Plain };
        Self {
            format,
            answers: Arc::new(Mutex::new(io::stdout())),
            progress: Arc::new(Mutex::new(io::stderr())),
            answers_paint: paint(io::stdout().is_terminal()),
            progress_paint: paint(io::stderr().is_terminal()),
            reader: if io::stdout().is_terminal() { Reader::Terminal } else { Reader::Program },
        }
    }

    #[cfg(test)]
    pub(super) fn to(format: Format, answers: Stream, progress: Stream) -> Self {
        let (answers_paint, progress_paint) = (Paint::Plain, Paint::Plain);
        Self { format, answers, progress, answers_paint, progress_paint, reader: Reader::Program }
    }

    #[cfg(test)]
    pub(super) fn read_by(self, reader: Reader) -> Self {
        Self { reader, ..self }
    }

    /// How answers are shown.
    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// A list: a table with these columns, or the list as it is.
    pub(super) fn list(&self, items: &Value, columns: &[Column], now: Timestamp) -> Result<(), Failure> {
        self.answer(items, || table(items, columns, now))
    }

    /// One thing: the rows that have something to say, or the thing as it is.
    pub(super) fn object(&self, object: &Value, rows: &[Column], now: Timestamp) -> Result<(), Failure> {
        self.answer(object, || properties(object, rows, now))
    }

    /// What `words` says for people, and `value` for programs.
    pub(super) fn answer(&self, value: &Value, words: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => paint(&escape_text(&words()), self.answers_paint),
            Format::Json | Format::Yaml => self.for_programs(value)?,
        };
        write_line(&self.answers, text.trim_end_matches('\n'))
    }

    /// A value that somebody asked for by its name, as `$(petrel key get NAME)` does: as it is, unless a terminal reads.
    pub(super) fn answer_value(&self, whole: &Value, value: &Value) -> Result<(), Failure> {
        match (self.format, value) {
            (Format::Table, Value::String(text)) => {
                write_line(&self.answers, self.for_reader(text).trim_end_matches('\n'))
            }
            _ => self.answer(whole, || plain(value)),
        }
    }

    /// A value that comes while others follow: a line of JSON, a document of YAML, for people what a program printed.
    pub(super) fn answer_in_stream(&self, value: &Value, words: &str) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => self.for_reader(words).into_owned(),
            Format::Json => format!("{}\n", escape_json(&value.to_string())),
            Format::Yaml => format!("---\n{}", self.for_programs(value)?),
        };
        write_text(&self.answers, &text)
    }

    fn for_programs(&self, value: &Value) -> Result<String, Failure> {
        Ok(match self.format {
            Format::Json => {
                let json = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
                escape_json(&json).into_owned()
            }
            Format::Table | Format::Yaml => self.for_reader(&yaml(value)).into_owned(),
        })
    }

    fn for_reader<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.reader {
            Reader::Terminal => escape_text(text),
            Reader::Program => Cow::Borrowed(text),
        }
    }

    /// A remark beside the answer.
    pub(super) fn remark(&self, text: &str) -> Result<(), Failure> {
        write_line(&self.progress, &paint(&escape_text(text), self.progress_paint))
    }

    /// What went wrong, with its causes.
    pub(super) fn complain(&self, failure: &Failure) -> Result<(), Failure> {
        let mut lines = vec![format!("error: {failure}")];
        let mut cause = failure.source();
        while let Some(error) = cause {
            lines.push(format!("  because: {error}"));
            cause = error.source();
        }
        self.remark(&lines.join("\n"))
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("format", &self.format).finish_non_exhaustive()
    }
}

/// One column of a table, or one row of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    cell: Cell,
}

#[derive(Debug, Clone, Copy)]
enum Cell {
    /// What stands there.
    Text(&'static str),
    /// The first line of it, cut.
    Line(&'static str),
    /// How long ago that was.
    Ago(&'static str),
    /// A time, and how long ago.
    Moment(&'static str),
    /// From one time to the other.
    Took(&'static str, &'static str),
    /// Whatever takes more thought.
    With(fn(&Value, Timestamp) -> String),
}

/// Columns of free text are cut here, so that the table stays one.
const LINE_CHARS: usize = 60;

impl Column {
    pub(super) const fn text(title: &'static str, pointer: &'static str) -> Self {
        Self { title, cell: Cell::Text(pointer) }
    }

    pub(super) const fn line(title: &'static str, pointer: &'static str) -> Self {
        Self { title, cell: Cell::Line(pointer) }
    }

    pub(super) const fn ago(title: &'static str, pointer: &'static str) -> Self {
        Self { title, cell: Cell::Ago(pointer) }
    }

    pub(super) const fn moment(title: &'static str, pointer: &'static str) -> Self {
        Self { title, cell: Cell::Moment(pointer) }
    }

    pub(super) const fn took(title: &'static str, from: &'static str, to: &'static str) -> Self {
        Self { title, cell: Cell::Took(from, to) }
    }

    pub(super) const fn with(title: &'static str, cell: fn(&Value, Timestamp) -> String) -> Self {
        Self { title, cell: Cell::With(cell) }
    }

    /// A text stays in the line of its row, so that none looks like a row of its own.
    fn show_in_row(self, item: &Value, now: Timestamp) -> String {
        match self.cell {
            Cell::Text(pointer) if item.pointer(pointer).is_some_and(Value::is_string) => {
                escape_line(&self.show(item, now)).into_owned()
            }
            _ => escape_text(&self.show(item, now)).into_owned(),
        }
    }

    fn show(self, item: &Value, now: Timestamp) -> String {
        let at = |pointer: &str| item.pointer(pointer).unwrap_or(&Value::Null);
        match self.cell {
            Cell::Text(pointer) => plain(at(pointer)),
            Cell::Line(pointer) => cut(&plain(at(pointer))),
            Cell::Ago(pointer) => moments::ago(at(pointer), now),
            Cell::Moment(pointer) => moments::moment(at(pointer), now),
            Cell::Took(from, to) => moments::took(at(from), at(to), now),
            Cell::With(show) => show(item, now),
        }
    }
}

/// A value as people read it: texts without quotes, lists with commas, objects as YAML.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(items) if !items.iter().any(Value::is_object) => {
            items.iter().map(plain).collect::<Vec<_>>().join(", ")
        }
        Value::Object(members) if members.is_empty() => String::new(),
        Value::Number(number) => number.to_string(),
        Value::Array(_) | Value::Object(_) => yaml(value).trim_end().to_owned(),
    }
}

fn cut(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(LINE_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or(line).trim_end()),
        None => line.to_owned(),
    }
}

/// The items as a table; how many there are if there are none.
pub(super) fn table(items: &Value, columns: &[Column], now: Timestamp) -> String {
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return "(none)".to_owned();
    }
    let mut table = bare_table();
    table.set_header(columns.iter().map(|column| column.title.to_uppercase()));
    for item in items {
        table.add_row(columns.iter().map(|column| column.show_in_row(item, now)));
    }
    trimmed(&table)
}

/// One line per row that has something to say; what is longer than a line stands indented below its name.
pub(super) fn properties(object: &Value, rows: &[Column], now: Timestamp) -> String {
    let width = rows.iter().map(|row| row.title.chars().count()).max().unwrap_or_default();
    let shown = rows.iter().map(|row| (row.title, row.show(object, now))).filter(|(_, value)| !value.is_empty());
    let lines = shown.map(|(title, value)| {
        if value.contains('\n') {
            let lines: Vec<String> = value.lines().map(|line| format!("    {line}")).collect();
            return format!("{title}:\n{}", lines.join("\n"));
        }
        format!("{:<width$}  {value}", format!("{title}:"), width = width + 1)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Cells in columns without any lines.
pub(super) fn bare_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

/// The table's text without the blanks around it.
pub(super) fn trimmed(table: &Table) -> String {
    let lines = table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).unwrap_or_else(|_| value.to_string())
}

/// Words that say at a glance whether all is well.
const COLOURED: [(&str, &str); 18] = [
    ("succeeded", GREEN),
    ("failed", RED),
    ("timeout", RED),
    ("abandoned", RED),
    ("canceled", YELLOW),
    ("canceling", YELLOW),
    ("running", CYAN),
    ("scheduled", CYAN),
    ("requested", CYAN),
    ("delayed", CYAN),
    ("paused", YELLOW),
    ("pausing", YELLOW),
    ("pending", YELLOW),
    ("✓", GREEN),
    ("✗", RED),
    ("error:", RED),
    ("error", RED),
    ("warning", YELLOW),
];
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

fn paint(text: &str, paint: Paint) -> String {
    if paint == Paint::Plain {
        return text.to_owned();
    }
    let colour_of = |word: &str| COLOURED.iter().find(|(coloured, _)| *coloured == word.trim_end_matches('\n'));
    let words = text.split_inclusive([' ', '\n']).map(|piece| {
        let word = piece.trim_end_matches([' ', '\n']);
        let rest = piece.get(word.len()..).unwrap_or_default();
        match colour_of(word) {
            Some((_, colour)) => format!("\u{1b}[{colour}m{word}\u{1b}[0m{rest}"),
            None => piece.to_owned(),
        }
    });
    words.collect()
}

fn write_line(stream: &Stream, text: &str) -> Result<(), Failure> {
    write_text(stream, &format!("{text}\n"))
}

fn write_text(stream: &Stream, text: &str) -> Result<(), Failure> {
    let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
    stream.write_all(text.as_bytes())?;
    Ok(stream.flush()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::text("id", "/id"),
        Column::text("action", "/action/ref"),
        Column::line("said", "/said"),
        Column::ago("started", "/start_timestamp"),
    ];

    fn now() -> Timestamp {
        "2026-11-21T08:30:00Z".parse().unwrap()
    }

    #[test]
    fn a_list_is_a_table_without_lines() {
        let items = json!([
            {"id": "1", "action": {"ref": "core.local"}, "said": "one\ntwo", "start_timestamp": "2026-11-21T08:29:18Z"},
            {"id": "22", "action": {"ref": "core.noop"}, "said": "x".repeat(70)},
        ]);
        insta::assert_snapshot!(table(&items, &COLUMNS, now()), @r#"
        ID  ACTION      SAID                                                           STARTED
        1   core.local  one                                                            42s ago
        22  core.noop   xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
        "#);
    }

    #[test]
    fn an_empty_list_says_so() {
        assert_eq!(table(&json!([]), &COLUMNS, now()), "(none)");
    }

    #[test]
    fn an_object_shows_what_it_has() {
        let object = json!({"id": "1", "action": {"ref": "core.local"}, "result": {"a": 1, "b": [true]}});
        let rows = [COLUMNS[0], COLUMNS[1], COLUMNS[3], Column::text("result", "/result")];
        insta::assert_snapshot!(properties(&object, &rows, now()), @r#"
        id:       1
        action:   core.local
        result:
            a: 1
            b:
            - true
        "#);
    }

    #[test]
    fn whole_words_are_coloured_and_nothing_else() {
        let text = "a  failed  1s\nunfailed succeeded";
        assert_eq!(paint(text, Paint::Plain), text);
        assert_eq!(
            paint(text, Paint::Colours),
            "a  \u{1b}[31mfailed\u{1b}[0m  1s\nunfailed \u{1b}[32msucceeded\u{1b}[0m"
        );
    }

    /// An output whose answers and remarks can be read.
    fn output(format: Format, reader: Reader) -> (Output, Arc<Mutex<Vec<u8>>>) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let output = Output::to(format, Arc::<Mutex<Vec<u8>>>::clone(&written), Arc::<Mutex<Vec<u8>>>::clone(&written));
        (output.read_by(reader), written)
    }

    fn print(format: Format, reader: Reader, bad: &str) -> String {
        let (output, written) = output(format, reader);
        let value = json!([{ "id": bad, "action": { "ref": bad }, "said": bad, bad: bad }]);
        output.list(&value, &COLUMNS, now()).unwrap();
        output.object(&value[0], &COLUMNS, now()).unwrap();
        output.answer_in_stream(&value, bad).unwrap();
        output.answer_value(&value[0], &value[0]["id"]).unwrap();
        output.remark(bad).unwrap();
        output.complain(&Failure::Usage(bad.to_owned())).unwrap();
        let bytes = written.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_value_goes_into_a_pipe_as_it_is() {
        let (output, written) = output(Format::Table, Reader::Program);
        output.answer_value(&json!({}), &json!("a\u{1b}[1m\rb")).unwrap();
        assert_eq!(written.lock().unwrap().as_slice(), b"a\x1b[1m\rb\n");
    }

    #[test]
    fn no_row_of_a_table_is_forged() {
        let items = json!([{"id": "1\n2   core.local  forged", "action": {"ref": "core.noop"}}]);
        assert_eq!(table(&items, &COLUMNS, now()).lines().count(), 2);
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config {
            failure_persistence: None, ..proptest::test_runner::Config::with_cases(64)
        })]

        #[test]
        fn nothing_that_is_printed_commands_a_terminal(bad in "(?s)[\u{0}-\u{a0}\u{2020}-\u{2030}\u{2066}a]{0,20}") {
            for format in [Format::Table, Format::Json, Format::Yaml] {
                let printed = print(format, Reader::Terminal, &bad);
                let commands = printed.chars().filter(|c| crate::model::printable::is_command(*c) && !matches!(c, '\n' | '\t'));
                proptest::prop_assert_eq!(commands.count(), 0, "{:?}: {:?}", format, printed);
            }
        }
    }
}
