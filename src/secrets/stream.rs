//! Redaction of text that comes in pieces: a secret that was cut in two is still seen.

use std::sync::Arc;

use crate::secrets::Redactor;
use crate::secrets::redact::mask;

/// Masks a stream. What could be the beginning of a secret is held back until more is known; the rest goes out at once.
#[derive(Debug, Clone)]
pub struct RedactingLines {
    redactor: Arc<Redactor>,
    held: String,
}

impl RedactingLines {
    /// A stream of which nothing was seen yet.
    pub const fn new(redactor: Arc<Redactor>) -> Self {
        Self { redactor, held: String::new() }
    }

    /// Takes the next piece and gives what can be shown by now.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let spans = self.redactor.find_secrets(&self.held);
        let mut cut = self.redactor.open_from(&self.held);
        if let Some(open) = spans.iter().find(|span| span.start < cut && cut <= span.end && cut < self.held.len()) {
            cut = open.start;
        }
        let whole: Vec<_> = spans.into_iter().take_while(|span| span.end <= cut).collect();
        let rest = self.held.split_off(cut);
        mask(&std::mem::replace(&mut self.held, rest), &whole)
    }

    /// The stream is over: gives what was held back.
    pub fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.held);
        self.redactor.redact(&rest).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn stream(secrets: &[&str]) -> RedactingLines {
        RedactingLines::new(Arc::new(Redactor::new(secrets.iter().copied())))
    }

    #[test]
    fn a_secret_cut_in_two_is_masked() {
        let mut stream = stream(&["hunter2"]);
        assert_eq!(stream.push("password: hun"), "password: ");
        assert_eq!(stream.push("ter2 done\n"), "******** done\n");
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn what_cannot_be_a_secret_goes_out_at_once() {
        let mut stream = stream(&["hunter2"]);
        assert_eq!(stream.push("a line\n"), "a line\n");
        assert_eq!(stream.push("gone hunting."), "gone hunting.");
    }

    #[test]
    fn what_was_held_back_comes_at_the_end() {
        let mut stream = stream(&["hunter2"]);
        assert_eq!(stream.push("hunt"), "");
        assert_eq!(stream.finish(), "hunt");
    }

    #[test]
    fn a_secret_that_begins_another_one_waits_for_it() {
        let mut stream = stream(&["hunter2", "hunter2-long"]);
        let shown = [stream.push("x hunter2"), stream.push("-lo"), stream.push("ng y"), stream.finish()].concat();
        assert_eq!(shown, "x ******** y");
    }

    proptest! {
        #[test]
        fn cutting_never_shows_what_the_whole_hides(
            before in "[a-cé ]{0,9}", after in "[a-cé ]{0,9}", cuts in prop::collection::vec(1_usize..6, 0..20),
        ) {
            let redactor = Arc::new(Redactor::new(["abécab", "cabba"]));
            let text = format!("{before}abécab{after}cabba{before}");
            let mut stream = RedactingLines::new(Arc::clone(&redactor));
            let mut characters = text.chars();
            let mut shown = String::new();
            for length in cuts {
                let piece: String = characters.by_ref().take(length).collect();
                shown.push_str(&stream.push(&piece));
            }
            shown.push_str(&stream.push(characters.as_str()));
            shown.push_str(&stream.finish());
            prop_assert!(!shown.contains("abécab") && !shown.contains("cabba"), "{}", shown);
        }
    }
}
