//! The log on standard error. What comes from outside is escaped where lines are made, so that nobody who logs has to think
//! of it: a value can neither begin a line of its own nor command the terminal of whoever reads.

use std::fmt;
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{Config, LogFormat};
use crate::model::printable::{escape_json, escape_line};

/// It shows whole messages when it warns, and credentials when it traces. What matters we say ourselves.
const AMQP_LIBRARY: &str = "lapin=off";
/// The field whose value is an excerpt of a file. Its lines stand below the event, each indented.
const EXCERPT: &str = "excerpt";
const EXCERPT_INDENT: &str = "    ";

/// Starts the log as it is configured.
pub(super) fn start(config: &Config) {
    let filter = EnvFilter::try_new(&config.log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = filter.add_directive(AMQP_LIBRARY.parse().expect("a directive"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Colours only for eyes; on a terminal NO_COLOR decides.
    let builder = if std::io::stderr().is_terminal() { builder } else { builder.with_ansi(false) };
    let started = match config.log.format {
        LogFormat::Json => builder.json().map_event_format(EscapedJson).try_init(),
        LogFormat::Text => builder.fmt_fields(EscapedFields).try_init(),
    };
    if let Err(problem) = started {
        tracing::debug!(problem, "a log was started before");
    }
}

/// Fields of the text format: the message, then `name=value`, all of it in one line but for excerpts.
struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = EscapedVisitor { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct EscapedVisitor<'w> {
    writer: Writer<'w>,
    is_first: bool,
    result: fmt::Result,
}

impl EscapedVisitor<'_> {
    fn write(&mut self, field: &Field, value: &str) -> fmt::Result {
        if field.name() == EXCERPT {
            return value.lines().try_for_each(|line| write!(self.writer, "\n{EXCERPT_INDENT}{}", escape_line(line)));
        }
        if !std::mem::replace(&mut self.is_first, false) {
            self.writer.write_char(' ')?;
        }
        if field.name() != "message" {
            write!(self.writer, "{}=", field.name())?;
        }
        self.writer.write_str(&escape_line(value))
    }
}

impl Visit for EscapedVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if matches!(field.name(), "message" | EXCERPT) {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = self.result.and_then(|()| self.write(field, &format!("{value:?}")));
        self.result = written;
    }
}

/// The JSON format. Its texts are escaped already, but for what JSON allows in them.
struct EscapedJson<F>(F);

impl<S, N, F> FormatEvent<S, N> for EscapedJson<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&escape_json(&line))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use proptest::prelude::*;
    use serde_json::Value;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::model::printable::is_command;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn log(bad: &str) {
        let chain = anyhow::anyhow!("{bad}").context(bad.to_owned());
        let source: &(dyn std::error::Error + 'static) = chain.as_ref();
        tracing::warn!(text = bad, %bad, debug = ?bad, chain = format!("{chain:#}"), source, "a message: {bad}");
    }

    fn as_text(bad: &str) -> String {
        let written = Written::default();
        let subscriber =
            tracing_subscriber::fmt().with_writer(written.clone()).with_ansi(false).fmt_fields(EscapedFields).finish();
        tracing::subscriber::with_default(subscriber, || log(bad));
        written.text()
    }

    fn as_json(bad: &str) -> String {
        let written = Written::default();
        let subscriber =
            tracing_subscriber::fmt().with_writer(written.clone()).json().map_event_format(EscapedJson).finish();
        tracing::subscriber::with_default(subscriber, || log(bad));
        written.text()
    }

    #[test]
    fn a_line_shows_the_message_and_its_fields() {
        let line = as_text("x");
        assert!(line.ends_with("a message: x text=\"x\" bad=x debug=\"x\" chain=\"x: x\" source=x\n"), "{line}");
    }

    #[test]
    fn an_excerpt_stands_below_its_event_and_cannot_begin_a_line() {
        let written = Written::default();
        let subscriber =
            tracing_subscriber::fmt().with_writer(written.clone()).with_ansi(false).fmt_fields(EscapedFields).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(excerpt = "one\n2026 ERROR\u{1b}[1m forged", "content");
        });
        let text = written.text();
        assert!(text.ends_with("content\n    one\n    2026 ERROR\\u{1b}[1m forged\n"), "{text}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        #[test]
        fn no_value_forges_a_line_or_reaches_the_terminal(bad in "(?s)[\u{0}-\u{a0}\u{2020}-\u{2030}\u{2066}a]{0,20}") {
            let text = as_text(&bad);
            prop_assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "{text:?}");
            prop_assert!(!text.trim_end_matches('\n').contains(is_command), "{text:?}");
            let json = as_json(&bad);
            prop_assert!(json.ends_with('\n') && json.matches('\n').count() == 1, "{json:?}");
            prop_assert!(!json.trim_end_matches('\n').contains(is_command), "{json:?}");
            let read: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&read["fields"]["text"], &Value::from(bad.as_str()), "nothing is lost");
        }
    }
}
