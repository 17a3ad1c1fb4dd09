//! The user that actions run as (`runners.local.user`): found in the machine's lists of users and groups, and checked
//! before anything starts. Deciding is pure; who reads the lists and this process's rights is [`Machine`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};
use rustix::thread::{CapabilitySet, capabilities};
use serde::{Deserialize, Serialize};

/// What the configuration names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedUser {
    /// A name, or a number.
    pub user: String,
    /// Its group, if it is not the user's own.
    pub group: Option<String>,
    /// Further groups; `None`: those that list the user.
    pub supplementary: Option<Vec<String>>,
}

/// As whom child processes of actions run, all of it looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionUser {
    /// For `USER` and `LOGNAME`.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// For `HOME`.
    pub home: PathBuf,
    /// Where guards put private files that this user must read.
    pub scripts: PathBuf,
}

/// Why actions cannot run as that user. Each names the setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Not in `/etc/passwd`.
    #[error(
        "runners.local.user: there is no user `{0}` on this machine; make one with `useradd --system --create-home {0}`, \
         or name another"
    )]
    NoUser(String),
    /// Not in `/etc/group`.
    #[error("runners.local.{setting}: there is no group `{name}` on this machine; make one with `groupadd {name}`")]
    NoGroup {
        /// The setting's last word.
        setting: &'static str,
        /// What it says.
        name: String,
    },
    /// That would be no protection.
    #[error("runners.local.user: actions cannot be kept from anything as root; name another user, or leave it out")]
    Root,
    /// This process lacks the right to.
    #[error(
        "runners.local.user: the daemon runs as user {uid} and lacks {}, so it cannot start processes as `{name}`; start it \
         as root, or by a unit with AmbientCapabilities=CAP_SETUID CAP_SETGID CAP_CHOWN CAP_KILL (docs/petrel.service), or leave the \
         setting out",
        missing.join(", ")
    )]
    NotAllowed {
        /// As whom the daemon runs.
        uid: u32,
        /// As whom actions should.
        name: String,
        /// What is missing.
        missing: Vec<&'static str>,
    },
    /// A guard could not end what it started.
    #[error(
        "runners.local.user: this daemon cannot see processes of other users in /proc, so it could not end those of `{0}`: \
         mount /proc without hidepid, and leave ProtectProc out of the unit"
    )]
    Blind(String),
    /// The user would not find the scripts of packs.
    #[error(
        "runners.dir: `{name}` (runners.local.user) may not enter {}, so it cannot read the scripts of packs below; set \
         runners.dir to a folder that it can reach, or `chmod o+x {}`", folder.display(), folder.display()
    )]
    Unreachable {
        /// The user.
        name: String,
        /// The folder that keeps it out.
        folder: PathBuf,
    },
}

/// The capabilities that a daemon needs that is not root: to become another user, to give it its files, and to end it.
const NEEDED: [(CapabilitySet, &str); 4] = [
    (CapabilitySet::SETUID, "CAP_SETUID"),
    (CapabilitySet::SETGID, "CAP_SETGID"),
    (CapabilitySet::CHOWN, "CAP_CHOWN"),
    (CapabilitySet::KILL, "CAP_KILL"),
];

/// What is known of this machine and this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// As `/etc/passwd`.
    pub passwd: String,
    /// As `/etc/group`.
    pub group: String,
    /// As whom this process runs.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What this process may do beyond its user.
    pub capabilities: CapabilitySet,
    /// Whether `/proc` shows it processes of other users.
    pub sees_others: bool,
}

impl Machine {
    /// This one.
    pub fn this() -> io::Result<Self> {
        Ok(Self {
            passwd: fs::read_to_string("/etc/passwd")?,
            group: fs::read_to_string("/etc/group")?,
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            capabilities: capabilities(None)?.effective,
            sees_others: fs::read("/proc/1/stat").is_ok(),
        })
    }

    /// The user that the configuration names, if this process may start others as that user.
    pub fn find(&self, named: &NamedUser, scripts: PathBuf) -> Result<ActionUser, UserError> {
        let no_user = || UserError::NoUser(named.user.clone());
        let fields = entry(&self.passwd, &named.user).ok_or_else(no_user)?;
        let number = |place: usize| fields.get(place).and_then(|field| field.parse::<u32>().ok());
        let (uid, own_gid) = number(2).zip(number(3)).ok_or_else(no_user)?;
        if uid == 0 {
            return Err(UserError::Root);
        }
        let name = fields.first().map_or_else(|| named.user.clone(), |name| (*name).to_owned());
        let gid = named.group.as_ref().map(|group| self.group_named("group", group)).transpose()?.unwrap_or(own_gid);
        let groups = match &named.supplementary {
            Some(groups) => {
                let number = |group: &String| self.group_named("supplementary_groups", group);
                groups.iter().map(number).collect::<Result<Vec<_>, _>>()?
            }
            None => self.groups_that_list(&name),
        };
        let home = fields.get(5).filter(|home| !home.is_empty()).map_or_else(|| PathBuf::from("/"), PathBuf::from);
        self.check(ActionUser { name, uid, gid, groups, home, scripts })
    }

    fn group_named(&self, setting: &'static str, name: &str) -> Result<u32, UserError> {
        let number = entry(&self.group, name).and_then(|fields| fields.get(2)?.parse().ok());
        number.ok_or_else(|| UserError::NoGroup { setting, name: name.to_owned() })
    }

    fn groups_that_list(&self, user: &str) -> Vec<u32> {
        let fields = self.group.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let lists_it =
            |fields: &Vec<&str>| fields.get(3).is_some_and(|names| names.split(',').any(|name| name == user));
        fields.filter(lists_it).filter_map(|fields| fields.get(2)?.parse().ok()).collect()
    }

    fn check(&self, user: ActionUser) -> Result<ActionUser, UserError> {
        let missing: Vec<&str> =
            NEEDED.iter().filter(|(one, _)| !self.capabilities.contains(*one)).map(|(_, name)| *name).collect();
        match (missing.is_empty(), self.sees_others) {
            (false, _) => Err(UserError::NotAllowed { uid: self.uid, name: user.name, missing }),
            (true, false) => Err(UserError::Blind(user.name)),
            (true, true) => Ok(user),
        }
    }
}

/// The line of a name, or of a number in its third field.
fn entry<'a>(list: &'a str, wanted: &str) -> Option<Vec<&'a str>> {
    let lines = || list.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let by_name = lines().find(|fields| fields.first() == Some(&wanted));
    let is_number = !wanted.is_empty() && wanted.bytes().all(|byte| byte.is_ascii_digit());
    by_name.or_else(|| lines().find(|fields| is_number && fields.get(2) == Some(&wanted)))
}

/// Mode, owner and group of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The permission bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl ActionUser {
    /// Does the system let this user through this folder? The most special class decides, as in the kernel.
    pub fn may_enter(&self, folder: Access) -> bool {
        let is_of_group = folder.gid == self.gid || self.groups.contains(&folder.gid);
        let bit = match () {
            () if folder.uid == self.uid => 0o100,
            () if is_of_group => 0o010,
            () => 0o001,
        };
        folder.mode & bit != 0
    }

    /// Can this user get to that folder, which is there?
    pub fn check_reach(&self, folder: &Path) -> io::Result<Result<(), UserError>> {
        use std::os::unix::fs::MetadataExt;
        let real = folder.canonicalize()?;
        let mut above: Vec<&Path> = real.ancestors().collect();
        above.reverse();
        for folder in above {
            let found = fs::metadata(folder)?;
            let access = Access { mode: found.mode(), uid: found.uid(), gid: found.gid() };
            if !self.may_enter(access) {
                return Ok(Err(UserError::Unreachable { name: self.name.clone(), folder: folder.to_owned() }));
            }
        }
        Ok(Ok(()))
    }

    /// What a child finds in its environment.
    pub fn environment(&self) -> [(String, String); 3] {
        let home = self.home.to_string_lossy().into_owned();
        [("HOME", home), ("USER", self.name.clone()), ("LOGNAME", self.name.clone())]
            .map(|(name, value)| (name.to_owned(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            passwd: "root:x:0:0:root:/root:/bin/bash\nstanley:x:991:985::/home/stanley:/bin/sh\n\
                     nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\nhalf:x\n"
                .to_owned(),
            group: "root:x:0:\nstanley:x:985:\nwww:x:33:ada,stanley\nstan:x:34:stanley2\ndocker:x:999:stanley\n"
                .to_owned(),
            uid: 0,
            gid: 0,
            capabilities: CapabilitySet::all(),
            sees_others: true,
        }
    }

    fn named(user: &str) -> NamedUser {
        NamedUser { user: user.to_owned(), ..NamedUser::default() }
    }

    fn find(machine: &Machine, named: &NamedUser) -> Result<ActionUser, UserError> {
        machine.find(named, "/scripts".into())
    }

    #[test]
    fn a_user_is_found_by_name_or_number_with_group_groups_and_home() {
        let stanley = ActionUser {
            name: "stanley".to_owned(),
            uid: 991,
            gid: 985,
            groups: vec![33, 999],
            home: "/home/stanley".into(),
            scripts: "/scripts".into(),
        };
        assert_eq!(find(&machine(), &named("stanley")), Ok(stanley.clone()));
        assert_eq!(find(&machine(), &named("991")), Ok(stanley.clone()));
        let other = NamedUser {
            group: Some("www".to_owned()),
            supplementary: Some(vec!["docker".to_owned(), "34".to_owned()]),
            ..named("stanley")
        };
        assert_eq!(find(&machine(), &other), Ok(ActionUser { gid: 33, groups: vec![999, 34], ..stanley.clone() }));
        let variables = stanley.environment().map(|(name, value)| format!("{name}={value}"));
        assert_eq!(variables, ["HOME=/home/stanley", "USER=stanley", "LOGNAME=stanley"]);
    }

    #[test]
    fn what_is_unknown_is_refused_by_the_name_of_its_setting() {
        let group = NamedUser { group: Some("gone".to_owned()), ..named("stanley") };
        let groups = NamedUser { supplementary: Some(vec!["gone".to_owned()]), ..named("stanley") };
        for (named, said) in [
            (named("gone"), "runners.local.user: there is no user `gone`"),
            (named("half"), "runners.local.user: there is no user `half`"),
            (named(""), "runners.local.user: there is no user ``"),
            (named("root"), "runners.local.user: actions cannot be kept from anything as root"),
            (group, "runners.local.group: there is no group `gone`"),
            (groups, "runners.local.supplementary_groups: there is no group `gone`"),
        ] {
            let refusal = find(&machine(), &named).unwrap_err().to_string();
            assert!(refusal.starts_with(said), "{refusal}");
        }
    }

    #[test]
    fn a_daemon_that_may_not_become_others_is_told_what_it_lacks() {
        let plain = Machine { uid: 1000, gid: 1000, capabilities: CapabilitySet::empty(), ..machine() };
        let refusal = find(&plain, &named("stanley")).unwrap_err().to_string();
        assert!(
            refusal.contains("runs as user 1000 and lacks CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_KILL"),
            "{refusal}"
        );
        let some = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN;
        let refusal = find(&Machine { capabilities: some, ..plain.clone() }, &named("stanley")).unwrap_err();
        assert!(refusal.to_string().contains("lacks CAP_KILL, so"), "{refusal}");
        let able = Machine { capabilities: some | CapabilitySet::KILL, ..plain };
        assert!(find(&able, &named("stanley")).is_ok());
        let blind = find(&Machine { sees_others: false, ..able }, &named("stanley")).unwrap_err();
        assert!(blind.to_string().contains("mount /proc without hidepid"), "{blind}");
    }

    #[test]
    fn the_example_unit_gives_the_capabilities_that_are_needed_and_no_others() {
        let unit = include_str!("../../docs/petrel.service");
        let names = NEEDED.map(|(_, name)| name).join(" ");
        assert!(unit.contains(&format!("\nAmbientCapabilities={names}\n")), "{names}");
        assert!(unit.contains("PETREL__RUNNERS__LOCAL__USER=stanley") && unit.contains("PETREL__RUNNERS__DIR="));
    }

    #[test]
    fn the_most_special_class_decides_who_may_enter() {
        let user = find(&machine(), &named("stanley")).unwrap();
        #[rustfmt::skip]
        let cases = [
            (0o711, 0, 0, true), (0o700, 0, 0, false), (0o700, 991, 0, true), (0o077, 991, 33, false),
            (0o710, 0, 985, true), (0o710, 0, 33, true), (0o701, 0, 33, false), (0o750, 0, 34, false),
        ];
        for (mode, uid, gid, expected) in cases {
            assert_eq!(user.may_enter(Access { mode, uid, gid }), expected, "{mode:o} {uid}:{gid}");
        }
    }
}
