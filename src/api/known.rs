//! Credentials that were good a moment ago: so that a flood of events asks the store once, and so that events are taken
//! while the store is away. What the store says when it answers always wins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::{AuthMethod, Principal, StoredHash};
use crate::clock::Clock;
use crate::store::StoreError;

/// A key that was good this long ago is not looked up again: what a revocation by another process waits for.
const FRESH: Duration = Duration::from_secs(5);
/// While the store is away, what was good this long ago still opens the door.
pub(super) const TRUSTED_WHILE_AWAY: Duration = Duration::from_mins(5);
/// So many are remembered; beyond it the memory starts anew.
const MOST: usize = 4096;

/// Remembers whose credentials were good.
#[derive(Clone)]
pub(super) struct Known {
    clock: Arc<dyn Clock>,
    memory: Arc<Mutex<HashMap<String, Remembered>>>,
}

#[derive(Clone)]
struct Remembered {
    principal: Principal,
    checked: Duration,
}

impl Known {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, memory: Arc::default() }
    }

    /// Whose credential this was a few seconds ago.
    pub(super) fn fresh(&self, hash: &StoredHash) -> Option<Principal> {
        self.remembered(hash, FRESH)
    }

    /// What a look into the store means: its answer if it has one, which is remembered; what is remembered if it is away.
    pub(super) fn settle(
        &self,
        hash: &StoredHash,
        looked_up: Result<Option<Principal>, StoreError>,
    ) -> Result<Option<Principal>, StoreError> {
        match looked_up {
            Ok(found) => {
                self.remember(hash, found.as_ref());
                Ok(found)
            }
            Err(StoreError::Unavailable(why)) => match self.remembered(hash, TRUSTED_WHILE_AWAY) {
                Some(principal) => Ok(Some(principal)),
                None => Err(StoreError::Unavailable(why)),
            },
            Err(problem) => Err(problem),
        }
    }

    /// Forgets everything: some key or user was changed here.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn remembered(&self, hash: &StoredHash, at_most: Duration) -> Option<Principal> {
        let Remembered { principal, checked } = self.lock().get(hash.as_str())?.clone();
        let is_over = matches!(principal.method, AuthMethod::Token { expires } if expires <= self.clock.now());
        (!is_over && self.clock.monotonic().saturating_sub(checked) <= at_most).then_some(principal)
    }

    fn remember(&self, hash: &StoredHash, found: Option<&Principal>) {
        let mut memory = self.lock();
        let Some(principal) = found else {
            memory.remove(hash.as_str());
            return;
        };
        if memory.len() >= MOST && !memory.contains_key(hash.as_str()) {
            memory.clear();
        }
        let known = Remembered { principal: principal.clone(), checked: self.clock.monotonic() };
        memory.insert(hash.as_str().to_owned(), known);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::auth::Role;
    use crate::clock::SimClock;
    use crate::model::time::Timestamp;

    fn known() -> (Known, Arc<SimClock>) {
        let clock = Arc::new(SimClock::new(Timestamp::default()));
        (Known::new(Arc::<SimClock>::clone(&clock)), clock)
    }

    fn ada(method: AuthMethod) -> Principal {
        Principal { name: "ada".to_owned(), role: Role::Operator, method }
    }

    fn away() -> Result<Option<Principal>, StoreError> {
        Err(StoreError::Unavailable("gone".to_owned()))
    }

    #[test]
    fn a_key_that_was_good_opens_the_door_for_a_while_when_the_store_is_away() {
        let (known, clock) = known();
        let (hash, other) = (StoredHash::of_api_key("k"), StoredHash::of_api_key("other"));
        assert!(known.settle(&hash, Ok(Some(ada(AuthMethod::ApiKey)))).unwrap().is_some());
        clock.advance(TRUSTED_WHILE_AWAY);
        assert_eq!(known.settle(&hash, away()).unwrap(), Some(ada(AuthMethod::ApiKey)));
        assert_eq!(known.settle(&other, away()), away(), "who was never seen is not let in");
        assert_eq!(known.fresh(&hash), None, "and the store is asked again each time");
        clock.advance(Duration::from_secs(1));
        assert_eq!(known.settle(&hash, away()), away(), "looks that failed do not make it any younger");
    }

    #[test]
    fn g10_a_key_that_was_switched_off_is_forgotten_as_soon_as_the_store_says_so() {
        let (known, _) = known();
        let hash = StoredHash::of_api_key("k");
        known.settle(&hash, Ok(Some(ada(AuthMethod::ApiKey)))).unwrap();
        assert_eq!(known.settle(&hash, Ok(None)).unwrap(), None);
        assert_eq!(known.settle(&hash, away()), away());
        known.settle(&hash, Ok(Some(ada(AuthMethod::ApiKey)))).unwrap();
        known.forget();
        assert_eq!(known.fresh(&hash), None);
    }

    #[test]
    fn a_token_is_trusted_no_longer_than_it_lives() {
        let (known, clock) = known();
        let hash = StoredHash::of_token("t");
        let expires = Timestamp::default().plus(Duration::from_secs(60));
        known.settle(&hash, Ok(Some(ada(AuthMethod::Token { expires })))).unwrap();
        clock.advance(Duration::from_secs(59));
        assert!(known.settle(&hash, away()).unwrap().is_some());
        clock.advance(Duration::from_secs(1));
        assert_eq!(known.settle(&hash, away()), away());
    }

    #[test]
    fn the_memory_is_bounded() {
        let (known, _) = known();
        for number in 0..=MOST {
            let hash = StoredHash::of_api_key(&number.to_string());
            known.settle(&hash, Ok(Some(ada(AuthMethod::ApiKey)))).unwrap();
        }
        assert_eq!(known.lock().len(), 1);
    }
}
