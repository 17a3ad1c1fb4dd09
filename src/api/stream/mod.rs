//! `/stream`: what happens, as it happens, by server-sent events. Ids are those of the store's announcements, so whoever
//! comes back with `Last-Event-ID` misses nothing that is still kept. A listener that is slow reads later: nothing is
//! queued for it here.

mod frames;
mod wanted;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::body::Query;
use crate::api::error::{ApiError, ApiResult};
use crate::api::gate::{Authenticated, Gate, Session};
use crate::api::shape::Shaper;
use crate::bus::{Bus, Hints, Topic};
use crate::clock::Clock;
use crate::model::time::Timestamp;
use crate::store::{Announcements, Executions, Outputs, StoreResult};

use frames::Frames;
use wanted::{StreamQuery, Wanted};

/// What this route reaches for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) announcements: Announcements,
    pub(super) executions: Executions,
    pub(super) outputs: Outputs,
    pub(super) shaper: Shaper,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stop: CancellationToken,
    pub(super) places: Places,
}

/// As many may listen at once; beyond it 429.
const MOST_STREAMS: usize = 256;
/// So many of them for one user: a page that is left open in many windows keeps nobody else out.
const MOST_STREAMS_OF_USER: usize = 32;
/// Listeners come and go.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Proxies close what is silent for longer; StackStorm's interval.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// A lost hint costs this much and no more.
const LOOK_BY_ITSELF: Duration = Duration::from_secs(1);
/// A token or key that another daemon has revoked is heard of after this long.
const LOOK_AT_CALLER: Duration = Duration::from_secs(5);
/// So many announcements are read at once.
const BATCH: i64 = 256;

pub(super) fn router(door: Door) -> Router {
    Router::new().route("/stream", get(listen)).with_state(door)
}

async fn listen(
    State(door): State<Door>,
    caller: Authenticated,
    headers: HeaderMap,
    Query(query): Query<StreamQuery>,
) -> ApiResult<Response> {
    let place = door.places.take(&caller.principal.name)?;
    let wanted = query.understand(&headers)?;
    let tail = Tail::begin(door, wanted, place, Watched::new(&caller)).await?;
    let frames = stream::unfold(tail, |mut tail| async move {
        let frame = tail.next().await?;
        Some((Ok::<_, Infallible>(frame), tail))
    });
    let headers = [
        (CONTENT_TYPE, "text/event-stream; charset=UTF-8"),
        (CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(frames)).into_response())
}

/// Who listens, by user.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<String, usize>>>);

/// A place of a listener; given back when it is dropped.
#[derive(Debug)]
struct StreamPlace {
    user: String,
    places: Places,
}

impl Places {
    fn take(&self, user: &str) -> ApiResult<StreamPlace> {
        let mut listening = self.lock();
        if listening.values().sum::<usize>() >= MOST_STREAMS {
            return Err(ApiError::too_many(format!("{MOST_STREAMS} clients listen already"), RETRY_AFTER));
        }
        let of_user = listening.entry(user.to_owned()).or_default();
        if *of_user >= MOST_STREAMS_OF_USER {
            let fault = format!("{MOST_STREAMS_OF_USER} clients of `{user}` listen already");
            return Err(ApiError::too_many(fault, RETRY_AFTER));
        }
        *of_user += 1;
        Ok(StreamPlace { user: user.to_owned(), places: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut listening = self.places.lock();
        if let Some(of_user) = listening.get_mut(&self.user) {
            *of_user -= 1;
            if *of_user == 0 {
                listening.remove(&self.user);
            }
        }
    }
}

/// Who listens, to be asked again whether they still may: a token that was revoked hears no more.
struct Watched {
    gate: Gate,
    session: Session,
    changes: watch::Receiver<u64>,
}

impl Watched {
    fn new(caller: &Authenticated) -> Self {
        let gate = caller.gate().clone();
        Self { changes: gate.changes(), session: caller.session().clone(), gate }
    }
}

/// One listener's place in the sequence.
struct Tail {
    door: Door,
    wanted: Wanted,
    frames: Frames,
    hints: Hints,
    /// The last announcement that was looked at.
    after: i64,
    ready: VecDeque<String>,
    caller: Watched,
    /// When it was last asked whether the caller may go on listening, by the monotonic clock.
    checked_at: Duration,
    last_sign: Duration,
    ended: bool,
    _place: StreamPlace,
}

impl Tail {
    async fn begin(door: Door, wanted: Wanted, place: StreamPlace, caller: Watched) -> StoreResult<Self> {
        let hints = door.bus.listen(Topic::Announcements);
        let now = door.clock.now();
        let (after, since) = match wanted.last_event_id {
            Some(id) => (id, announced_at(&door.announcements, id).await?),
            None => (door.announcements.announcements_last().await?, now),
        };
        let frames = Frames::new(door.executions.clone(), door.outputs.clone(), door.shaper.clone(), since);
        let ready = VecDeque::from(["\n".to_owned()]);
        let last_sign = door.clock.monotonic();
        let mut tail = Self {
            door,
            caller,
            checked_at: last_sign,
            wanted,
            frames,
            hints,
            after,
            ready,
            last_sign,
            ended: false,
            _place: place,
        };
        tail.look_at_the_end().await?;
        Ok(tail)
    }

    /// The execution whose end is waited for may have ended before anybody listened.
    async fn look_at_the_end(&mut self) -> StoreResult<()> {
        let Some(id) = self.wanted.end_execution.filter(|_| self.wanted.last_event_id.is_none()) else {
            return Ok(());
        };
        let row = self.door.executions.execution_get(id).await?;
        if row.status.is_completed() {
            self.ready.push_back(self.frames.update(self.after, &row));
            self.ended = true;
        }
        Ok(())
    }

    /// The next piece of text; `None` at the end of the stream.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                self.last_sign = self.door.clock.monotonic();
                return Some(frame);
            }
            if self.ended || self.door.stop.is_cancelled() || !self.may_go_on().await {
                return None;
            }
            match self.read().await {
                Ok(true) => {}
                Ok(false) => self.wait().await,
                // The client comes back with its last id.
                Err(problem) => {
                    tracing::warn!(%problem, "an event stream ends early");
                    return None;
                }
            }
        }
    }

    /// At once after a change of users, tokens or keys here; after [`LOOK_AT_CALLER`] after one by another daemon.
    async fn may_go_on(&mut self) -> bool {
        let now = self.door.clock.monotonic();
        let is_told = self.caller.changes.has_changed().unwrap_or(false);
        if !is_told && now.saturating_sub(self.checked_at) < LOOK_AT_CALLER {
            return true;
        }
        self.checked_at = now;
        self.caller.changes.mark_unchanged();
        self.caller.gate.still_admits(&self.caller.session).await
    }

    /// Looks at what was announced; `false`: there was nothing.
    async fn read(&mut self) -> StoreResult<bool> {
        let rows = self.door.announcements.announcements_read(self.after, BATCH).await?;
        for row in &rows {
            self.after = row.sequence;
            if !self.wanted.event(&row.name) {
                continue;
            }
            let made = self.frames.of(row, &self.wanted).await?;
            self.ready.extend(made.texts);
            if made.is_the_end {
                self.ended = true;
                break;
            }
        }
        Ok(!rows.is_empty())
    }

    async fn wait(&mut self) {
        let door = &self.door;
        let silent_for = door.clock.monotonic().saturating_sub(self.last_sign);
        if silent_for >= HEARTBEAT {
            self.ready.push_back("\n".to_owned());
            return;
        }
        tokio::select! {
            () = self.hints.heard() => {}
            _ = self.caller.changes.changed() => self.caller.changes.mark_changed(),
            () = door.clock.sleep_for(LOOK_BY_ITSELF) => {}
            () = door.stop.cancelled() => {}
        }
    }
}

/// When the announcement with this id was made: output written later is new to the client.
async fn announced_at(announcements: &Announcements, id: i64) -> StoreResult<Timestamp> {
    let rows = announcements.announcements_read(id.saturating_sub(1), 1).await?;
    Ok(rows.first().filter(|row| row.sequence == id).map_or_else(Timestamp::default, |row| row.announced_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_places_of_the_stream() {
        let places = Places::default();
        let held: Vec<StreamPlace> = (0..100).filter_map(|_| places.take("obs").ok()).collect();
        assert_eq!(held.len(), MOST_STREAMS_OF_USER);
        let refused = places.take("obs").unwrap_err();
        assert!(refused.status().as_u16() == 429 && refused.fault().contains("`obs`"), "{refused}");
        let others: Vec<StreamPlace> = (0..300).filter_map(|user| places.take(&format!("user{user}")).ok()).collect();
        assert_eq!(others.len(), MOST_STREAMS - MOST_STREAMS_OF_USER);
        drop((held, others));
        assert!(places.lock().is_empty());
    }
}
