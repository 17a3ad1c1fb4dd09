//! What HAProxy says of its servers, read by the names of columns: their order and number differ from version to version.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::Serialize;

use super::names::Name;

/// One server of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) name: Name,
    /// Not known of a server that was given by a host name which nothing resolves.
    pub(super) address: Option<SocketAddr>,
    /// What it was told to be.
    pub(super) mode: Mode,
    /// Would it be given requests if it is told to be ready?
    pub(super) is_up: bool,
    pub(super) check: Check,
    pub(super) load: Load,
}

/// What a server was told to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Maint,
    Drain,
    Ready,
}

/// What a server is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Maint,
    Drain,
    Ready,
    /// It was told to be ready, and its check fails.
    Down,
}

/// How a server is checked, and with what result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) activity: Activity,
    pub(super) result: CheckResult,
    /// So many checks in a row passed, or are left until it is down.
    health: u32,
    /// From this health on it is up.
    rise: u32,
    /// What the last check said, in HAProxy's words.
    pub(super) said: String,
}

/// Is it checked?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    /// It was added without `check`.
    None,
    /// Nobody has said `enable health` yet.
    Off,
    /// It was taken out of service; its last result is of the time before that.
    Paused,
    On,
}

/// What the last check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CheckResult {
    Unknown,
    Failed,
    Passed,
    /// Still serving, but not to be given new sessions.
    PassedWithCondition,
}

/// What a server has in hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Sessions under way.
    pub(super) sessions: u64,
    /// Requests that wait for their turn on this server.
    pub(super) queued: u64,
}

impl Server {
    /// In one word.
    pub(super) const fn state(&self) -> State {
        match (self.mode, self.is_up) {
            (Mode::Maint, _) => State::Maint,
            (Mode::Drain, _) => State::Drain,
            (Mode::Ready, true) => State::Ready,
            (Mode::Ready, false) => State::Down,
        }
    }
}

impl Check {
    /// Has it been checked since it was last put in place, and passed often enough?
    pub(super) fn has_passed(&self) -> bool {
        self.activity == Activity::On && self.result == CheckResult::Passed && self.health >= self.rise.max(1)
    }
}

impl Load {
    pub(super) const fn is_none(self) -> bool {
        self.sessions == 0 && self.queued == 0
    }
}

// Bits of `srv_admin_state`, from HAProxy's management guide. Drain and maintenance can be inherited from other servers.
const MAINT_BITS: u32 = 0x01 | 0x02 | 0x04 | 0x20 | 0x40;
const DRAIN_BITS: u32 = 0x08 | 0x10;

/// `srv_op_state` of a server that is neither starting nor running.
const STOPPED: u32 = 0;

// Bits of `srv_check_state`.
const CHECK_CONFIGURED: u32 = 0x02;
const CHECK_ENABLED: u32 = 0x04;
const CHECK_PAUSED: u32 = 0x08;

/// Why an answer is not a table of servers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadTable {
    #[error("it has no column `{0}`")]
    NoColumn(&'static str),
    #[error("`{value}` in its column `{column}` cannot be read")]
    BadValue { column: &'static str, value: String },
    #[error("it is no table")]
    NoTable,
}

/// The servers of `show servers state <backend>`, with what `show stat <backend> 4 -1` adds: load, and the last check in
/// words. A server that is only in the second is newer than the first and left out.
pub(super) fn read_servers(state: &str, statistics: &str) -> Result<Vec<Server>, BadTable> {
    let said = Table::of_statistics(statistics)?;
    let said: BTreeMap<&str, Row<'_>> =
        said.rows().map(|row| Ok((row.text("svname")?, row))).collect::<Result<_, BadTable>>()?;
    let servers = Table::of_state(state)?;
    servers.rows().map(|row| server(&row, said.get(row.text("srv_name")?))).collect()
}

fn server(row: &Row<'_>, said: Option<&Row<'_>>) -> Result<Server, BadTable> {
    let admin: u32 = row.value("srv_admin_state")?;
    let mode = match admin {
        _ if admin & MAINT_BITS != 0 => Mode::Maint,
        _ if admin & DRAIN_BITS != 0 => Mode::Drain,
        _ => Mode::Ready,
    };
    let load = said.map(load).transpose()?.unwrap_or_default();
    Ok(Server {
        name: row.value("srv_name")?,
        address: address(row)?,
        mode,
        is_up: row.value::<u32>("srv_op_state")? != STOPPED,
        check: check(row, said)?,
        load,
    })
}

fn address(row: &Row<'_>) -> Result<Option<SocketAddr>, BadTable> {
    let port = row.value("srv_port")?;
    Ok(row.text("srv_addr")?.parse().ok().map(|address: IpAddr| SocketAddr::new(address.to_canonical(), port)))
}

fn check(row: &Row<'_>, said: Option<&Row<'_>>) -> Result<Check, BadTable> {
    let bits: u32 = row.value("srv_check_state")?;
    let activity = match bits {
        _ if bits & CHECK_CONFIGURED == 0 => Activity::None,
        _ if bits & CHECK_ENABLED == 0 => Activity::Off,
        _ if bits & CHECK_PAUSED != 0 => Activity::Paused,
        _ => Activity::On,
    };
    let result = match row.value::<u32>("srv_check_result")? {
        2 => CheckResult::Failed,
        3 => CheckResult::Passed,
        4 => CheckResult::PassedWithCondition,
        _ => CheckResult::Unknown,
    };
    let text = |column| said.map_or(Ok(""), |row| row.text(column));
    let parts = [text("check_status")?, text("check_code")?, text("check_desc")?, text("last_chk")?];
    let words: Vec<&str> = parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect();
    let rise = text("check_rise")?.parse().unwrap_or(1);
    Ok(Check { activity, result, health: row.value("srv_check_health")?, rise, said: words.join(", ") })
}

fn load(row: &Row<'_>) -> Result<Load, BadTable> {
    Ok(Load { sessions: row.value("scur")?, queued: row.value("qcur")? })
}

/// Rows under the names of their columns.
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy)]
struct Row<'t> {
    columns: &'t [String],
    fields: &'t [String],
}

impl Table {
    /// Words after a line with the version of the format; the columns' names begin with `#`.
    fn of_state(text: &str) -> Result<Self, BadTable> {
        let lines = text.lines().skip_while(|line| !line.starts_with("# "));
        Self::of_lines(lines.map(|line| line.split(' ').map(str::to_owned).collect()))
    }

    /// Values separated by commas, quoted where they have one.
    fn of_statistics(text: &str) -> Result<Self, BadTable> {
        Self::of_lines(csv(text).into_iter())
    }

    fn of_lines(mut lines: impl Iterator<Item = Vec<String>>) -> Result<Self, BadTable> {
        let mut columns = lines.next().unwrap_or_default();
        if columns.first().is_some_and(|first| first == "#") {
            columns.remove(0);
        }
        match columns.first_mut() {
            Some(first) if first.starts_with("# ") => *first = first.split_off(2),
            Some(first) if !first.is_empty() => {}
            _ => return Err(BadTable::NoTable),
        }
        let rows = lines.filter(|fields| fields.iter().any(|field| !field.is_empty())).collect();
        Ok(Self { columns, rows })
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|fields| Row { columns: &self.columns, fields })
    }
}

impl<'t> Row<'t> {
    fn text(&self, column: &'static str) -> Result<&'t str, BadTable> {
        let place = self.columns.iter().position(|name| name == column);
        let field = place.and_then(|place| self.fields.get(place));
        field.map(String::as_str).ok_or(BadTable::NoColumn(column))
    }

    fn value<T: FromStr>(&self, column: &'static str) -> Result<T, BadTable> {
        let value = self.text(column)?;
        value.parse().map_err(|_| BadTable::BadValue { column, value: value.to_owned() })
    }
}

/// Lines of fields. A field in quotes may have commas and line ends in it; a quote in it is doubled.
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut is_quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if is_quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => line.push(std::mem::take(&mut field)),
            '\n' if !is_quoted => {
                line.push(std::mem::take(&mut field));
                lines.push(std::mem::take(&mut line));
            }
            c => field.push(c),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As HAProxy 2.6.12 says it.
    const STATE: &str = "1\n\
        # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
        srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
        bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr \
        srv_agent_addr srv_agent_port\n\
        3 web 1 new 127.0.0.1 0 1 1 1 0 1 0 0 2 0 0 0 - 28110 - 0 0 - - 0\n\
        3 web 2 begun ::1 0 1 1 1 1 15 3 1 6 0 0 0 - 28111 - 0 0 - - 0\n\
        3 web 3 serving 127.0.0.1 2 0 1 1 1 15 3 4 6 0 0 0 - 28112 - 0 0 - - 0\n\
        3 web 4 draining 127.0.0.1 2 8 1 1 0 15 3 3 6 0 0 0 - 28113 - 0 0 - - 0\n\
        3 web 5 dead 127.0.0.1 0 0 1 1 1 8 2 0 6 0 0 0 - 28114 - 0 0 - - 0\n\
        3 web 6 left 127.0.0.1 0 1 1 1 0 15 3 0 14 0 0 0 - 28115 - 0 0 - - 0\n\
        3 web 7 unchecked - 2 0 1 1 0 1 0 1 0 0 0 0 nowhere.test 28116 - 0 0 - - 0\n\n";

    const STATISTICS: &str = "# pxname,svname,qcur,scur,check_status,check_code,last_chk,check_desc,check_rise,-,\n\
        web,new,0,0,,,,,,,\n\
        web,begun,0,0,L7OK,200,,Layer7 check passed,3,,\n\
        web,serving,1,4,L7OK,200,OK,Layer7 check passed,3,,\n\
        web,draining,0,2,L7OK,200,OK,Layer7 check passed,3,,\n\
        web,dead,0,0,L7STS,503,\"said \"\"no\"\", twice\nand again\",Layer7 wrong status,2,,\n\
        web,left,0,0,L7OK,200,,Layer7 check passed,3,,\n\
        web,unchecked,0,0,,,,,,,\n\n";

    fn servers() -> BTreeMap<String, Server> {
        let servers = read_servers(STATE, STATISTICS).unwrap();
        servers.into_iter().map(|server| (server.name.to_string(), server)).collect()
    }

    #[test]
    fn each_server_is_what_haproxy_says_it_is() {
        let servers = servers();
        let states: Vec<(&str, State)> = servers.iter().map(|(name, server)| (name.as_str(), server.state())).collect();
        let expected = [
            ("begun", State::Maint),
            ("dead", State::Down),
            ("draining", State::Drain),
            ("left", State::Maint),
            ("new", State::Maint),
            ("serving", State::Ready),
            ("unchecked", State::Ready),
        ];
        assert_eq!(states, expected);
        assert_eq!(servers["begun"].address, Some("[::1]:28111".parse().unwrap()));
        assert_eq!(servers["unchecked"].address, None);
        assert_eq!(servers["serving"].load, Load { sessions: 4, queued: 1 });
        assert_eq!(servers["dead"].check.said, "L7STS, 503, Layer7 wrong status, said \"no\", twice\nand again");
    }

    #[test]
    fn a_check_has_passed_only_if_it_goes_on_and_passed_often_enough() {
        let servers = servers();
        let passed: Vec<&str> =
            servers.iter().filter(|(_, server)| server.check.has_passed()).map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            passed,
            ["draining", "serving"],
            "not what passed once of three, nor what passed before it was left"
        );
        let activities = ["new", "begun", "left", "unchecked"].map(|name| servers[name].check.activity);
        assert_eq!(activities, [Activity::Off, Activity::On, Activity::Paused, Activity::None]);
    }

    #[test]
    fn columns_are_found_by_name_wherever_they_are() {
        let state = "1\n# srv_port srv_check_state srv_name new_column srv_addr srv_op_state srv_admin_state \
                     srv_check_result srv_check_health\n80 6 n1 what 10.0.0.1 2 0 3 2\n";
        let statistics =
            "# check_desc,scur,svname,qcur,check_status,check_code,last_chk,check_rise\nfine,7,n1,0,L4OK,,,2\n";
        let servers = read_servers(state, statistics).unwrap();
        assert_eq!(servers[0].address, Some("10.0.0.1:80".parse().unwrap()));
        assert_eq!((servers[0].load.sessions, servers[0].check.said.as_str()), (7, "L4OK, fine"));
    }

    #[test]
    fn what_is_no_table_says_what_it_lacks() {
        let without = |column: &str| STATE.replace(column, "other");
        assert_eq!(read_servers("", STATISTICS), Err(BadTable::NoTable));
        assert_eq!(read_servers(STATE, "\n"), Err(BadTable::NoTable));
        assert_eq!(read_servers(&without("srv_op_state"), STATISTICS), Err(BadTable::NoColumn("srv_op_state")));
        let bad = STATE.replace("127.0.0.1 0 1 ", "127.0.0.1 0 x ");
        let problem = BadTable::BadValue { column: "srv_admin_state", value: "x".to_owned() };
        assert_eq!(read_servers(&bad, STATISTICS), Err(problem));
    }
}
