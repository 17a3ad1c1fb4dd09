//! How a node comes into service: which step follows from what HAProxy has, until its health check has passed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::commands::Seat;
use super::pool::{Deadline, Pool};
use super::servers::{Activity, Mode, Server, State};
use crate::model::time::format_duration;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is not there.
    Add,
    /// What is there is of no use: another address, or out of service with the result of a check of long ago, which
    /// HAProxy would believe.
    Replace,
    EnableHealth,
    /// For the check.
    Wait,
    /// It passed.
    LetServe,
    /// It serves.
    Done,
    /// Nothing will ever say that it works.
    Unchecked,
}

fn next_step(found: Option<&Server>, address: SocketAddr) -> Step {
    let Some(server) = found else { return Step::Add };
    if server.address != Some(address) {
        return Step::Replace;
    }
    match (server.check.activity, server.state()) {
        (Activity::None, _) => Step::Unchecked,
        (Activity::Off, _) => Step::EnableHealth,
        (Activity::Paused, _) => Step::Replace,
        (Activity::On, _) if !server.check.has_passed() => Step::Wait,
        (Activity::On, State::Ready) => Step::Done,
        (Activity::On, State::Maint | State::Drain) => Step::LetServe,
        (Activity::On, State::Down) => Step::Wait,
    }
}

impl Pool {
    /// Brings a server into service, from wherever an earlier attempt has left it. One that serves is left alone; one
    /// whose check does not pass in time is taken away again.
    pub(super) async fn add(&self, seat: &Seat, address: SocketAddr, within: Duration) -> anyhow::Result<Server> {
        let deadline = Deadline::after(self.runtime.clock(), within);
        let mut last = None;
        loop {
            let found = self.runtime.server(seat).await?;
            let step = next_step(found.as_ref(), address);
            if let (Step::Done, Some(server)) = (step, &found) {
                return Ok(server.clone());
            }
            if deadline.has_passed() {
                return Err(self.give_up(seat, address, found, within).await);
            }
            if last == Some(step) {
                self.look_later().await;
            }
            last = Some(step);
            self.take(step, seat, address, deadline.left()).await?;
        }
    }

    async fn take(&self, step: Step, seat: &Seat, address: SocketAddr, left: Duration) -> anyhow::Result<()> {
        let Seat { backend, server } = seat;
        match step {
            Step::Add => self.runtime.add_server(seat, address, &self.check).await?,
            Step::EnableHealth => self.runtime.enable_health(seat).await?,
            Step::LetServe => self.runtime.set_mode(seat, Mode::Ready).await?,
            Step::Replace => self.replace(seat, left).await?,
            Step::Unchecked => bail!(
                "the server `{server}` of the backend `{backend}` is there already and has no health check, so nobody \
                 can say whether it works: give it `check` in haproxy.cfg, or take it away from there"
            ),
            Step::Wait | Step::Done => {}
        }
        Ok(())
    }

    /// Takes away what stands in the way. Whoever still uses it gets half of the time.
    async fn replace(&self, seat: &Seat, left: Duration) -> anyhow::Result<()> {
        let Seat { backend, server } = seat;
        self.drain(seat, left / 2).await?;
        let removal = self.remove(seat).await.with_context(|| format!("taking the old server `{server}` away"))?;
        if removal.is_left_in_maintenance() {
            bail!(
                "the server `{server}` of the backend `{backend}` has to be added anew, but haproxy.cfg refers to it \
                 by name and so it cannot be deleted: take it out of that file, or give the node another name"
            );
        }
        Ok(())
    }

    async fn give_up(
        &self,
        seat: &Seat,
        address: SocketAddr,
        found: Option<Server>,
        within: Duration,
    ) -> anyhow::Error {
        let Seat { backend, server } = seat;
        let within = format_duration(within);
        let said = match &found {
            Some(found) if !found.check.said.is_empty() => found.check.said.clone(),
            Some(_) => "no check has ended yet".to_owned(),
            None => "it is not there".to_owned(),
        };
        let late = anyhow!(
            "`{server}` at {address} did not pass the health check of the backend `{backend}` within {within}: {said}"
        );
        match found.map(|found| found.state()) {
            None => late,
            Some(State::Ready) => late.context(format!("`{server}` serves already, and is left to")),
            Some(_) => match self.remove(seat).await {
                Ok(_) => late,
                Err(problem) => late.context(format!("{problem:#}")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::haproxy::servers::read_servers;

    const ADDRESS: &str = "127.0.0.1:80";

    /// Operation, administration, result of the check, its health and its bits, as HAProxy numbers them.
    fn step_after(numbers: [u32; 5]) -> Step {
        let [operation, administration, result, health, check] = numbers;
        let state = format!(
            "# srv_name srv_addr srv_port srv_op_state srv_admin_state srv_check_result srv_check_health \
             srv_check_state\nn1 127.0.0.1 80 {operation} {administration} {result} {health} {check}\n"
        );
        let statistics = "# svname,scur,qcur,check_status,check_code,check_desc,last_chk,check_rise\nn1,0,0,,,,,2\n";
        let servers = read_servers(&state, statistics).unwrap();
        next_step(servers.first(), ADDRESS.parse().unwrap())
    }

    #[test]
    fn a_server_gets_requests_only_after_its_check_passed() {
        let cases = [
            ([0, 1, 0, 0, 2], Step::EnableHealth, "added, and the answer was lost"),
            ([0, 1, 0, 0, 6], Step::Wait, "not checked yet"),
            ([0, 1, 3, 1, 6], Step::Wait, "passed once of twice"),
            ([0, 1, 2, 0, 6], Step::Wait, "failed"),
            ([0, 1, 3, 2, 6], Step::LetServe, "passed"),
            ([2, 8, 3, 4, 6], Step::LetServe, "drained by somebody, and still well"),
            ([2, 8, 2, 0, 6], Step::Wait, "drained and ill"),
            ([2, 0, 3, 4, 6], Step::Done, "serves"),
            ([2, 0, 0, 0, 6], Step::Wait, "let in by somebody before it was checked"),
            ([0, 0, 2, 0, 6], Step::Wait, "down"),
            ([0, 1, 0, 2, 14], Step::Replace, "out of service: HAProxy would believe its last result of long ago"),
            ([2, 0, 0, 0, 0], Step::Unchecked, "of the file, without a check"),
        ];
        for (numbers, step, why) in cases {
            assert_eq!(step_after(numbers), step, "{why}");
        }
        assert_eq!(next_step(None, ADDRESS.parse().unwrap()), Step::Add);
    }
}
