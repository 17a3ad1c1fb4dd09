//! What the governor's actions have in common: reading what they are given, and saying what came of it.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::governor::admission::Answer;
use crate::governor::error::GovernorError;
use crate::model::SYSTEM_USER;
use crate::model::decision::Request;
use crate::model::scaling::Origin;
use crate::runners::{Call, Outcome};
use crate::store::StoreError;

/// Why an action could not be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("parameters: {0}")]
    Parameters(#[from] serde_json::Error),
    #[error("name the `application`, the `server` or the `entities` that the alert is about")]
    AboutNothing,
    #[error(transparent)]
    Governor(#[from] GovernorError),
}

impl Problem {
    /// The store comes back; until then nothing is known.
    pub(super) const fn passes(&self) -> bool {
        matches!(self, Self::Governor(GovernorError::Store(StoreError::Unavailable(_))))
    }
}

pub(super) type Done = Result<Outcome, Problem>;

/// What is given; a parameter without a value is as good as absent.
pub(super) fn parameters<T: DeserializeOwned>(call: &Call) -> Result<T, Problem> {
    let given = call.parameters.iter().filter(|(_, value)| !value.is_null());
    let given: Map<String, Value> = given.map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(serde_json::from_value(Value::Object(given))?)
}

pub(super) fn origin(call: &Call) -> Origin {
    if call.user == SYSTEM_USER { Origin::Rule } else { Origin::Human { user: call.user.clone() } }
}

/// A person is told that it did not work; to a rule "not now" is an answer like any other.
pub(super) fn answered(answer: &Answer, request: &Request) -> Outcome {
    let mut result = json!(answer.view());
    if let Some(reason) = answer.refusal().filter(|_| !request.origin().is_automatic()) {
        result["error"] = Value::String(reason);
        return Outcome::failed(result);
    }
    Outcome::succeeded(result)
}
