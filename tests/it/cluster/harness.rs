//! Several daemons over one database, each with a network of its own to the servers.

use std::fs;
use std::sync::{Arc, OnceLock};

use futures_util::future::join_all;
use petrel::clock::SystemClock;
use petrel::store::{PostgresSettings, Store};

use super::door::Door;
use super::member::{Member, Plan};
use crate::support::eventually;
use crate::support::site::Site;

/// What all daemons of a cluster talk to.
pub(super) struct Servers {
    /// A database of their own.
    pub(super) database: String,
    /// A virtual host of their own, if they are to use a broker.
    pub(super) broker: Option<String>,
}

/// Daemons that share a site, a database and, if there is one, a broker.
pub(super) struct Cluster {
    /// Before the site: their last words are in its folder.
    pub(super) members: Vec<Member>,
    pub(super) site: Site,
    database: String,
}

impl Cluster {
    /// Starts so many daemons that play every role, all at once, and waits until they are ready.
    pub(super) async fn start(site: Site, servers: &Servers, how_many: usize) -> Self {
        Self::start_with_roles(site, servers, &vec![""; how_many]).await
    }

    /// Starts a daemon for each of these sets of roles, all at once, and waits until they are ready.
    pub(super) async fn start_with_roles(site: Site, servers: &Servers, roles: &[&'static str]) -> Self {
        let key = Arc::new(OnceLock::new());
        let settings: Vec<(String, String)> =
            site.settings().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut members = Vec::new();
        for (number, roles) in roles.iter().enumerate() {
            let plan = Plan {
                number,
                site: site.path().to_owned(),
                settings: settings.clone(),
                roles,
                database: servers.database.clone(),
                broker: servers.broker.clone(),
            };
            members.push(Member::new(plan, Arc::clone(&key)).await);
        }
        members.iter_mut().for_each(Member::spawn);
        join_all(members.iter_mut().map(Member::until_ready)).await;
        let found = members.iter().find_map(|member| fs::read_to_string(member.data_dir().join("admin.key")).ok());
        key.set(found.expect("one of them made the first admin").trim().to_owned()).expect("once");
        Self { members, site, database: servers.database.clone() }
    }

    /// Requests to one of them.
    pub(super) fn door(&self, number: usize) -> Door {
        self.members[number].door.clone()
    }

    /// Requests to all of them.
    pub(super) fn doors(&self) -> Vec<Door> {
        self.members.iter().map(|member| member.door.clone()).collect()
    }

    /// Fails if one of them has ended by itself.
    pub(super) fn assert_alive(&mut self) {
        self.members.iter_mut().for_each(Member::assert_alive);
    }

    /// The truth, read past the daemons and their networks.
    pub(super) async fn store(&self) -> Store {
        let settings = PostgresSettings { url: self.database.clone(), connections: 2, ca_file: None };
        Store::open_postgres(&settings, Arc::new(SystemClock::new())).await.unwrap()
    }

    /// Waits until no event and no execution is unfinished.
    pub(super) async fn until_idle(&self) {
        eventually("everything is done", async || self.is_idle().await.then_some(())).await;
    }

    /// Is no event and no execution unfinished?
    pub(super) async fn is_idle(&self) -> bool {
        let door = self.door(0);
        // What was an event in the first look may be an execution in the second.
        door.is_idle().await == Some(true) && door.is_idle().await == Some(true)
    }
}
