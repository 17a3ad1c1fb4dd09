//! The open connections of all listeners, and who has to make room. Connections of strangers have a share by address;
//! when a share, the part for strangers, or everything is taken, the oldest connection that keeps nobody busy is closed
//! for the new one. So whoever comes with a credential, or asks how the daemon is, gets in during any flood of idle ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;

use super::address::ClientShare;
use crate::metrics::Metrics;

/// One address may hold this part of all places before it has authenticated: 256 of 4,096.
const SHARE_OF_ADDRESS: usize = 16;
/// However few places there are, an address gets this many.
const SMALLEST_SHARE: usize = 8;
/// So many times its share an address may hold for a moment: many clients that come at once are no flood.
const BURST_TIMES: usize = 4;
/// Who has just come, or just been answered, is about to ask something.
const GRACE: Duration = Duration::from_secs(1);
/// This part of all places is never taken by strangers: 512 of 4,096.
const RESERVE: usize = 8;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::api) enum Phase {
    /// It waits for a request's head. It may be closed for another one.
    Waiting = 0,
    /// A body of somebody who is not known yet is being read. It may be closed if nobody is waiting.
    Reading = 1,
    /// A request is being answered.
    Busy = 2,
}

/// What the registry and the connection's own task share.
#[derive(Debug, Default)]
struct State {
    phase: AtomicU8,
    known: AtomicBool,
    evicted: AtomicBool,
    /// Milliseconds on the monotonic clock: since when it waits.
    waits_since: AtomicU64,
    waker: AtomicWaker,
}

impl State {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Waiting,
            1 => Phase::Reading,
            _ => Phase::Busy,
        }
    }

    fn waits_since(&self) -> Duration {
        Duration::from_millis(self.waits_since.load(Ordering::Acquire))
    }

    fn wait_from(&self, now: Duration) {
        self.waits_since.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }
}

/// How a connection counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Stranger(ClientShare),
    /// Of a trusted proxy: it carries requests of many clients, which are counted one by one.
    Proxy,
    Known,
}

/// Why a connection was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Turned {
    /// Its address has its share, and all of it is at work.
    ShareTaken,
    /// All places are taken by connections at work.
    Full,
}

/// All open connections.
#[derive(Debug)]
pub(super) struct Connections {
    total: usize,
    registry: Mutex<Registry>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Registry {
    /// By number, so the oldest comes first.
    open: BTreeMap<u64, (Arc<State>, Standing)>,
    strangers: BTreeSet<u64>,
    by_share: HashMap<ClientShare, BTreeSet<u64>>,
    last_number: u64,
}

impl Connections {
    /// `total`: of all listeners together.
    pub(super) fn new(total: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { total, registry: Mutex::default(), metrics })
    }

    /// How many connections, or requests through proxies, one address may have under way before it is known.
    pub(super) fn share(&self) -> usize {
        (self.total / SHARE_OF_ADDRESS).max(SMALLEST_SHARE)
    }

    fn most_strangers(&self) -> usize {
        (self.total - self.total / RESERVE).max(1)
    }

    /// A place for a connection from `address`, if need be that of another one.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr, is_proxy: bool, now: Duration) -> Result<Place, Turned> {
        let mut registry = self.lock();
        let standing = if is_proxy { Standing::Proxy } else { Standing::Stranger(ClientShare::of(address)) };
        if let Standing::Stranger(share) = standing {
            self.keep_share(&mut registry, share, now)?;
            if registry.strangers.len() >= self.most_strangers() {
                let longest = registry.to_evict(registry.strangers.iter().copied());
                self.make_room(&mut registry, longest, "strangers").ok_or(Turned::Full)?;
            }
        }
        if registry.open.len() >= self.total {
            let strangers = registry.to_evict(registry.strangers.iter().copied());
            let longest = strangers.or_else(|| registry.to_evict(registry.open.keys().copied()));
            self.make_room(&mut registry, longest, "all_places").ok_or(Turned::Full)?;
        }
        let (number, state) = registry.enter(standing, now);
        drop(registry);
        Ok(Place { peer: Peer { connections: Arc::clone(self), number, state, address } })
    }

    /// Beyond its share an address loses what has been idle for a while; beyond a burst, whatever waits.
    fn keep_share(&self, registry: &mut Registry, share: ClientShare, now: Duration) -> Result<(), Turned> {
        let of_share: Vec<u64> = registry.by_share.get(&share).into_iter().flatten().copied().collect();
        if of_share.len() < self.share() {
            return Ok(());
        }
        let longest = registry.to_evict(of_share.iter().copied());
        let is_idle = |number: &u64| registry.waits_since(*number).is_some_and(|since| since + GRACE <= now);
        let is_burst = of_share.len() < self.share() * BURST_TIMES;
        let evicted = longest.filter(|number| !is_burst || is_idle(number));
        match self.make_room(registry, evicted, "address_share") {
            None if !is_burst => Err(Turned::ShareTaken),
            _ => Ok(()),
        }
    }

    fn make_room(&self, registry: &mut Registry, number: Option<u64>, reason: &'static str) -> Option<()> {
        let state = registry.leave(number?)?;
        state.evicted.store(true, Ordering::Release);
        state.waker.wake();
        self.metrics.connection_closed(reason);
        Some(())
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn enter(&mut self, standing: Standing, now: Duration) -> (u64, Arc<State>) {
        self.last_number += 1;
        let (number, state) = (self.last_number, Arc::new(State::default()));
        state.wait_from(now);
        self.open.insert(number, (Arc::clone(&state), standing));
        if let Standing::Stranger(share) = standing {
            self.strangers.insert(number);
            self.by_share.entry(share).or_default().insert(number);
        }
        (number, state)
    }

    fn leave(&mut self, number: u64) -> Option<Arc<State>> {
        let (state, standing) = self.open.remove(&number)?;
        self.forget_stranger(number, standing);
        Some(state)
    }

    fn forget_stranger(&mut self, number: u64, standing: Standing) {
        let Standing::Stranger(share) = standing else { return };
        self.strangers.remove(&number);
        if let Some(held) = self.by_share.get_mut(&share) {
            held.remove(&number);
            if held.is_empty() {
                self.by_share.remove(&share);
            }
        }
    }

    /// The one that has waited longest; if none waits, the oldest whose body is still on its way.
    fn to_evict(&self, numbers: impl Iterator<Item = u64>) -> Option<u64> {
        let (mut waiting, mut reading): (Option<(Duration, u64)>, Option<u64>) = (None, None);
        for number in numbers {
            let Some((state, _)) = self.open.get(&number) else { continue };
            match state.phase() {
                Phase::Waiting => {
                    let this = (state.waits_since(), number);
                    waiting = Some(waiting.map_or(this, |longest| longest.min(this)));
                }
                Phase::Reading => reading = reading.or(Some(number)),
                Phase::Busy => {}
            }
        }
        waiting.map(|(_, number)| number).or(reading)
    }

    /// Since when it waits, if it does.
    fn waits_since(&self, number: u64) -> Option<Duration> {
        let (state, _) = self.open.get(&number)?;
        (state.phase() == Phase::Waiting).then(|| state.waits_since())
    }

    fn become_known(&mut self, number: u64) {
        let Some((_, standing)) = self.open.get_mut(&number) else { return };
        let before = std::mem::replace(standing, Standing::Known);
        self.forget_stranger(number, before);
    }
}

/// One connection's place; given back when it is dropped.
#[derive(Debug)]
pub(in crate::api) struct Place {
    peer: Peer,
}

impl Place {
    pub(in crate::api) const fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.peer.connections.lock().leave(self.peer.number);
    }
}

/// A connection, as its requests and its socket see it.
#[derive(Debug, Clone)]
pub(in crate::api) struct Peer {
    connections: Arc<Connections>,
    number: u64,
    state: Arc<State>,
    address: IpAddr,
}

impl Peer {
    /// The other end: a client, or a proxy.
    pub(in crate::api) const fn address(&self) -> IpAddr {
        self.address
    }

    /// Did a request on it show a valid credential?
    pub(in crate::api) fn is_known(&self) -> bool {
        self.state.known.load(Ordering::Acquire)
    }

    /// A request on it showed a valid credential.
    pub(super) fn become_known(&self) {
        if !self.state.known.swap(true, Ordering::AcqRel) {
            self.connections.lock().become_known(self.number);
        }
    }

    pub(in crate::api) fn phase(&self) -> Phase {
        self.state.phase()
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.state.phase.store(phase as u8, Ordering::Release);
    }

    /// It waits for a head again.
    pub(in crate::api) fn waits_since(&self, now: Duration) {
        self.state.wait_from(now);
        self.set_phase(Phase::Waiting);
    }

    /// Something was written to it at `now`.
    pub(in crate::api) fn wrote_at(&self, now: Duration) {
        self.state.wait_from(now);
    }

    /// Since when it waits.
    pub(in crate::api) fn waiting_since(&self) -> Duration {
        self.state.waits_since()
    }

    /// Was its place given to another one? If not yet, `waker` is called when it is.
    pub(in crate::api) fn is_evicted(&self, waker: &Waker) -> bool {
        self.state.waker.register(waker);
        self.state.evicted.load(Ordering::Acquire)
    }

    /// Says why it is closed.
    pub(in crate::api) fn count_closed(&self, reason: &'static str) {
        self.connections.metrics.connection_closed(reason);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn connections(total: usize) -> Arc<Connections> {
        Connections::new(total, Metrics::default())
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn evicted(place: &Place) -> bool {
        place.peer.is_evicted(Waker::noop())
    }

    #[test]
    fn an_address_over_its_share_loses_what_has_been_idle_longest() {
        let all = connections(256);
        let stranger = all.admit(address(2), false, NOW).unwrap();
        let held: Vec<Place> = (0..16).map(|_| all.admit(address(1), false, NOW).unwrap()).collect();
        held[0].peer.set_phase(Phase::Busy);
        held[1].peer.waits_since(NOW + GRACE / 2);
        let at_once = all.admit(address(1), false, NOW + GRACE / 2).unwrap();
        assert!(!held.iter().any(evicted), "who comes at once is no flood");
        let later = all.admit(address(1), false, NOW + GRACE).unwrap();
        let gone: Vec<usize> = (0..16).filter(|at| evicted(&held[*at])).collect();
        assert_eq!(gone, [2], "neither the one at work nor the one that was just answered");
        assert!(!evicted(&at_once) && !evicted(&later) && !evicted(&stranger));
    }

    #[test]
    fn an_address_whose_burst_is_all_at_work_is_turned_away_and_others_are_not() {
        let all = connections(256);
        let held: Vec<Place> = (0..64).map(|_| all.admit(address(1), false, NOW).unwrap()).collect();
        held.iter().for_each(|place| place.peer.set_phase(Phase::Busy));
        assert_eq!(all.admit(address(1), false, NOW).unwrap_err(), Turned::ShareTaken);
        assert!(all.admit(address(2), false, NOW).is_ok());
        held[3].peer.set_phase(Phase::Reading);
        assert!(all.admit(address(1), false, NOW).is_ok());
        assert!(evicted(&held[3]));
    }

    #[test]
    fn who_has_authenticated_is_not_counted_in_a_share() {
        let all = connections(256);
        let held: Vec<Place> = (0..100)
            .map(|_| {
                let place = all.admit(address(1), false, NOW).unwrap();
                place.peer.become_known();
                place
            })
            .collect();
        assert!(!held.iter().any(evicted));
        assert!(all.lock().strangers.is_empty());
    }

    #[test]
    fn strangers_leave_a_reserve_for_those_who_authenticate() {
        let all = connections(64);
        let held: Vec<Place> = (0..80).map(|last| all.admit(address(last), false, NOW).unwrap()).collect();
        assert_eq!(held.iter().filter(|place| !evicted(place)).count(), 56);
        let known: Vec<Place> = (0..64)
            .filter_map(|last| {
                let place = all.admit(address(last), false, NOW).ok()?;
                place.peer.become_known();
                Some(place)
            })
            .collect();
        assert_eq!(known.len(), 64);
        assert!(!known.iter().any(evicted), "strangers made room for all of them");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        /// Whatever comes and goes, the limits hold, and only connections at work can keep somebody out.
        #[test]
        fn limits_hold_in_every_history(steps in proptest::collection::vec((0_u8..6, 0_u8..4, any::<u16>()), 1..400)) {
            let all = connections(64);
            let mut held: Vec<Place> = Vec::new();
            for (kind, last, chosen) in steps {
                let at = usize::from(chosen) % held.len().max(1);
                match (kind, held.get(at)) {
                    (1, Some(_)) => drop(held.swap_remove(at)),
                    (2, Some(place)) => place.peer.set_phase(Phase::Busy),
                    (3, Some(place)) => place.peer.become_known(),
                    (4, Some(place)) => place.peer.set_phase(Phase::Waiting),
                    _ => match all.admit(address(last), last == 0, NOW) {
                        Ok(place) => held.push(place),
                        Err(Turned::ShareTaken) => {
                            let registry = all.lock();
                            let of_share = &registry.by_share[&ClientShare::of(address(last))];
                            prop_assert!(of_share.iter().all(|number| registry.open[number].0.phase() == Phase::Busy));
                        }
                        Err(Turned::Full) => {
                            let registry = all.lock();
                            prop_assert!(registry.strangers.iter().all(|number| registry.open[number].0.phase() == Phase::Busy));
                        }
                    },
                }
                held.retain(|place| !evicted(place));
                let registry = all.lock();
                prop_assert_eq!(registry.open.len(), held.len());
                prop_assert!(registry.open.len() <= 64 && registry.strangers.len() <= 56);
                prop_assert!(registry.by_share.values().all(|of_share| of_share.len() <= all.share() * BURST_TIMES));
                prop_assert_eq!(registry.by_share.values().map(BTreeSet::len).sum::<usize>(), registry.strangers.len());
            }
        }
    }
}
