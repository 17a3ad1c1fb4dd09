//! Who sent a request, as far as the connection tells: the address that its shares go by, and whether a valid credential
//! was shown since.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::Extensions;

use super::address::ClientShare;
use super::connections::{Peer, Phase};
use super::guard::UnderWay;

/// The sender of one request.
#[derive(Debug, Clone)]
pub(in crate::api) struct Client {
    address: IpAddr,
    peer: Option<Peer>,
    /// Of this request; the connection may carry others' as well, through a proxy.
    known: Arc<AtomicBool>,
    /// Its part of the share of requests through proxies, until it is known.
    under_way: Arc<Mutex<Option<UnderWay>>>,
}

impl Client {
    pub(super) fn new(address: IpAddr, peer: Option<Peer>) -> Self {
        Self { address, peer, known: Arc::default(), under_way: Arc::default() }
    }

    pub(super) fn count_until_known(&self, under_way: Option<UnderWay>) {
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner) = under_way;
    }

    /// The sender of the request with these extensions. Requests that came over no socket are this machine's.
    pub(in crate::api) fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_else(|| Self::new(Ipv4Addr::LOCALHOST.into(), None))
    }

    /// Its address, behind trusted proxies.
    pub(in crate::api) const fn address(&self) -> IpAddr {
        self.address
    }

    pub(in crate::api) fn share(&self) -> ClientShare {
        ClientShare::of(self.address)
    }

    /// Did this request show a valid credential?
    pub(in crate::api) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// This request has shown a valid credential: no share of its address holds it back any more.
    pub(in crate::api) fn become_known(&self) {
        self.known.store(true, Ordering::Release);
        if let Some(peer) = &self.peer {
            peer.become_known();
        }
        self.count_until_known(None);
    }

    /// For as long as the answer lives, a body of somebody who is not known is being read.
    pub(super) fn read_as_stranger(&self) -> Reading {
        let peer = self.peer.clone().filter(|_| !self.is_known());
        if let Some(peer) = &peer {
            peer.set_phase(Phase::Reading);
        }
        Reading { peer }
    }
}

/// Sets the connection's phase back when the body has been read.
pub(super) struct Reading {
    peer: Option<Peer>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(peer) = &self.peer {
            peer.set_phase(Phase::Busy);
        }
    }
}
