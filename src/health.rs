//! What is wrong with the daemon, by name: told by whoever notices it, shown by `/readyz`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much a trouble matters to whoever sends work here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The daemon cannot do its work: it is not ready.
    Blocks,
    /// An operator should look; the daemon works.
    Warns,
}

/// What is wrong just now. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Troubles {
    known: Arc<Mutex<BTreeMap<&'static str, (Severity, String)>>>,
}

impl Troubles {
    /// Something is wrong with `what`, and `text` says how to mend it. `false`: that was known.
    pub fn report(&self, what: &'static str, severity: Severity, text: String) -> bool {
        let told = (severity, text);
        self.lock().insert(what, told.clone()).as_ref() != Some(&told)
    }

    /// Nothing is wrong with `what` any more. `false`: nothing was.
    pub fn clear(&self, what: &'static str) -> bool {
        self.lock().remove(what).is_some()
    }

    /// Everything of one severity, in the order of the names.
    pub fn list(&self, severity: Severity) -> Vec<String> {
        let known = self.lock();
        known.values().filter(|(how, _)| *how == severity).map(|(_, text)| text.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, (Severity, String)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_news_once_and_gone_when_it_is_cleared() {
        let troubles = Troubles::default();
        assert!(troubles.report("clock", Severity::Warns, "ahead".to_owned()));
        assert!(!troubles.report("clock", Severity::Warns, "ahead".to_owned()));
        assert!(troubles.report("store", Severity::Blocks, "gone".to_owned()));
        assert_eq!(troubles.list(Severity::Blocks), ["gone"]);
        assert_eq!(troubles.list(Severity::Warns), ["ahead"]);
        assert!(troubles.clear("store") && !troubles.clear("store"));
        assert!(troubles.list(Severity::Blocks).is_empty());
    }
}
