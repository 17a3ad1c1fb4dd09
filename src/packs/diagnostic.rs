//! What is wrong with content, where, and the way out: for people in rustc's look, for programs as JSON.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::Serialize;

/// One finding about one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as it is shown to people.
    pub file: String,
    /// Where in the file, if known.
    pub span: Option<Span>,
    /// What is wrong.
    pub what: String,
    /// The way out.
    pub help: Option<String>,
    /// Unique id of the object concerned, as `rule:default:restart_web`.
    pub object: Option<String>,
    /// Text of the file, for the excerpt.
    #[serde(skip)]
    pub source: Arc<str>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object cannot be used as written.
    Error,
    /// It works, but probably not as meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// As shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A place in a file: lines and columns count from 1, columns in characters; the end is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Span {
    /// Line of the first character.
    pub line: usize,
    /// Column of the first character.
    pub column: usize,
    /// Line of the character after the last.
    pub end_line: usize,
    /// Column of the character after the last.
    pub end_column: usize,
}

impl Span {
    /// A single place.
    pub const fn point(line: usize, column: usize) -> Self {
        Self { line, column, end_line: line, end_column: column + 1 }
    }

    /// Bytes of `source` that the span covers, cut at the end of its first line.
    fn bytes_in(self, source: &str) -> Option<Range<usize>> {
        let line = source.split_inclusive('\n').nth(self.line.checked_sub(1)?).unwrap_or_default();
        let before: usize = source.split_inclusive('\n').take(self.line - 1).map(str::len).sum();
        let text = line.trim_end_matches(['\n', '\r']);
        let offset = |column: usize| text.char_indices().nth(column - 1).map_or(text.len(), |(offset, _)| offset);
        let start = offset(self.column.max(1));
        let end = if self.end_line == self.line { offset(self.end_column.max(1)) } else { text.trim_end().len() };
        Some(before + start..before + end.max(start))
    }
}

impl Diagnostic {
    /// The finding as plain text in rustc's look, without a final line break.
    pub fn render(&self) -> String {
        let title = match self.severity {
            Severity::Error => Level::ERROR.primary_title(self.what.as_str()),
            Severity::Warning => Level::WARNING.primary_title(self.what.as_str()),
            Severity::Note => Level::NOTE.primary_title(self.what.as_str()),
        };
        let group = self.with_place(Group::with_title(title));
        let group = match &self.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        };
        Renderer::plain().render(&[group])
    }

    /// Adds the excerpt, or only the file's name when no place is known.
    fn with_place<'a>(&'a self, group: Group<'a>) -> Group<'a> {
        let bytes = self.span.and_then(|span| span.bytes_in(&self.source)).filter(|_| !self.source.is_empty());
        match bytes {
            Some(bytes) => group.element(
                Snippet::source(&*self.source).path(self.file.as_str()).annotation(AnnotationKind::Primary.span(bytes)),
            ),
            None => group.element(Origin::path(self.file.as_str())),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

/// Findings of one severity that a file gets at most. More help nobody, and each costs a look at the whole file.
const MOST_OF_A_SEVERITY: usize = 100;

/// Collects the findings about one file.
#[derive(Debug)]
pub struct Report {
    file: String,
    source: Arc<str>,
    object: Option<String>,
    diagnostics: Vec<Diagnostic>,
    /// Whether the finding that was added last is kept, so that help for it has a place.
    keeps_last: bool,
}

impl Report {
    /// An empty report about `file` with this text.
    pub fn new(file: impl Into<String>, source: Arc<str>) -> Self {
        Self { file: file.into(), source, object: None, diagnostics: Vec::new(), keeps_last: true }
    }

    /// Names the object that the file turned out to describe, also in what was already found.
    pub fn name_object(&mut self, uid: &str) {
        self.object = Some(uid.to_owned());
        for diagnostic in &mut self.diagnostics {
            diagnostic.object = Some(uid.to_owned());
        }
    }

    /// Adds a finding; `help` is added by [`Self::help`]. Beyond [`MOST_OF_A_SEVERITY`] only their existence is told.
    pub fn add(&mut self, severity: Severity, span: Option<Span>, what: impl Into<String>) -> &mut Self {
        let before = self.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
        self.keeps_last = before < MOST_OF_A_SEVERITY;
        if self.keeps_last {
            self.push(severity, span, what.into());
        } else if before == MOST_OF_A_SEVERITY {
            let name = severity.as_str();
            self.push(
                severity,
                None,
                format!("more {name}s than {MOST_OF_A_SEVERITY}; mend these first to see the rest"),
            );
        }
        self
    }

    fn push(&mut self, severity: Severity, span: Option<Span>, what: String) {
        self.diagnostics.push(Diagnostic {
            severity,
            file: self.file.clone(),
            span,
            what,
            help: None,
            object: self.object.clone(),
            source: Arc::clone(&self.source),
        });
    }

    /// Adds an error.
    pub fn error(&mut self, span: Option<Span>, what: impl Into<String>) -> &mut Self {
        self.add(Severity::Error, span, what)
    }

    /// Adds a warning.
    pub fn warning(&mut self, span: Option<Span>, what: impl Into<String>) -> &mut Self {
        self.add(Severity::Warning, span, what)
    }

    /// Adds a note.
    pub fn note(&mut self, span: Option<Span>, what: impl Into<String>) -> &mut Self {
        self.add(Severity::Note, span, what)
    }

    /// Gives the way out of the finding that was added last.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        if let Some(last) = self.diagnostics.last_mut().filter(|_| self.keeps_last) {
            last.help = Some(help.into());
        }
        self
    }

    /// Has an error been found?
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// All findings, in the order in which they were made.
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Diagnostic {
        let mut report = Report::new("rules/a.yaml", "name: a\naction:\n  ref: core.locl\n".into());
        let span = Span { line: 3, column: 8, end_line: 3, end_column: 17 };
        report.error(Some(span), "there is no action `core.locl`").help("did you mean `core.local`?");
        report.name_object("rule:default:a");
        report.into_diagnostics().remove(0)
    }

    #[test]
    fn a_finding_points_at_its_place_and_says_the_way_out() {
        let expected = "\
error: there is no action `core.locl`
 --> rules/a.yaml:3:8
  |
3 |   ref: core.locl
  |        ^^^^^^^^^
  |
  = help: did you mean `core.local`?";
        assert_eq!(finding().render(), expected);
    }

    #[test]
    fn a_finding_without_a_place_names_its_file() {
        let finding = Diagnostic { span: None, ..finding() };
        assert!(finding.render().contains("--> rules/a.yaml\n"), "{}", finding.render());
    }

    #[test]
    fn programs_get_the_place_as_numbers() {
        let json = serde_json::to_value(finding()).unwrap();
        assert_eq!(json["span"]["line"], 3);
        assert_eq!(json["severity"], "error");
        assert_eq!(json["object"], "rule:default:a");
        assert!(json.get("source").is_none());
    }

    #[test]
    fn a_place_outside_of_the_text_is_survived() {
        for span in [Span::point(0, 0), Span::point(99, 1), Span::point(1, 99)] {
            let finding = Diagnostic { span: Some(span), ..finding() };
            assert!(finding.render().starts_with("error: "), "{span:?}");
        }
    }

    #[test]
    fn a_file_full_of_mistakes_gets_a_bounded_number_of_findings() {
        let mut report = Report::new("rules/a.yaml", "x: [\n".repeat(10_000).into());
        for line in 1..=10_000 {
            report.warning(Some(Span::point(line, 1)), "unknown field").help("remove it");
        }
        report.error(Some(Span::point(3, 1)), "no trigger").help("write `trigger:`");
        assert!(report.has_errors(), "an error is kept whatever number of warnings came before it");
        let found = report.into_diagnostics();
        assert_eq!(found.len(), MOST_OF_A_SEVERITY + 2);
        assert_eq!(found[MOST_OF_A_SEVERITY].what, "more warnings than 100; mend these first to see the rest");
        assert_eq!(found[MOST_OF_A_SEVERITY].help, None);
        assert_eq!(found.last().unwrap().help.as_deref(), Some("write `trigger:`"));
    }
}
