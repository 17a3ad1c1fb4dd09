//! What the client said when a connection failed, in our words where we know more, and else in its own.

use super::visits::Whom;

const SSH_PORT: u16 = 22;

/// The client's own lines.
pub(super) struct Said(String);

impl Said {
    pub(super) const fn new(text: String) -> Self {
        Self(text)
    }

    /// Why there was no connection, with the way out. A client in between says what it says on standard error.
    pub(super) fn explain(&self, whom: Whom<'_>, stderr: &str) -> String {
        let host = whom.host.given();
        if let Some(file) = self.file_with_another_key() {
            let name = remembered_as(whom);
            return format!(
                "the host key of {host} is not the one in {file}: another machine answers there, or it was made anew; if \
                 that is as it should be, forget the old key with `ssh-keygen -f '{file}' -R '{name}'`"
            );
        }
        let words = self.words(stderr);
        if words.is_empty() {
            return format!(
                "the connection to {host} ended without a word: the shell there was killed, or the way there was cut"
            );
        }
        let way_out = if words.contains("Permission denied") {
            "; check `username` and `private_key` or `password`, and what the machine allows"
        } else {
            ""
        };
        format!("no connection to {host}: {words}{way_out}")
    }

    fn file_with_another_key(&self) -> Option<&str> {
        if !self.0.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") {
            return None;
        }
        let line = self.0.lines().find(|line| line.starts_with("Offending "))?;
        let (_, place) = line.split_once(" key in ")?;
        place.trim().rsplit_once(':').map(|(file, _line)| file)
    }

    fn words(&self, stderr: &str) -> String {
        let is_news = |line: &&str| !line.is_empty() && !line.starts_with("Warning: Permanently added");
        let own = self.0.lines().map(str::trim).filter(is_news);
        let others = stderr.lines().map(str::trim).filter(is_news);
        let mut words: Vec<&str> = others.rev().take(2).collect();
        words.reverse();
        words.extend(own);
        words.join("; ")
    }
}

/// As the client writes it into the file.
fn remembered_as(whom: Whom<'_>) -> String {
    if let Some(name) = whom.known_as {
        return name.to_owned();
    }
    let name = whom.host.name();
    match whom.host.port().or(whom.login.port).map(std::num::NonZeroU16::get) {
        None | Some(SSH_PORT) => name.to_owned(),
        Some(port) => format!("[{name}]:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runners::remote::openssh::Login;

    fn explained(said: &str, stderr: &str) -> String {
        let whom = Whom { host: &"10.0.0.1:2201".parse().unwrap(), login: &Login::default(), known_as: None };
        Said::new(said.to_owned()).explain(whom, stderr)
    }

    #[test]
    fn a_changed_key_names_host_file_and_the_way_out() {
        let said = "@@@@@@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n@@@@\r\nOffending ED25519 \
                    key in /data/known_hosts:3\r\nHost key verification failed.\r\n";
        let explained = explained(said, "");
        assert!(
            explained.starts_with("the host key of 10.0.0.1:2201 is not the one in /data/known_hosts:"),
            "{explained}"
        );
        assert!(explained.ends_with("`ssh-keygen -f '/data/known_hosts' -R '[10.0.0.1]:2201'`"), "{explained}");
    }

    #[test]
    fn other_failures_are_told_in_the_clients_words() {
        let met = "Warning: Permanently added 'x' (ED25519) to the list of known hosts.\r\n";
        let cases = [
            (
                format!("{met}root@x: Permission denied (publickey).\r\n"),
                "",
                "Permission denied (publickey).; check `username`",
            ),
            ("ssh: connect to host x port 1: Connection refused\r\n".to_owned(), "", "Connection refused"),
            (
                "Connection closed\r\n".to_owned(),
                "door: no route\n",
                "10.0.0.1:2201: door: no route; Connection closed",
            ),
            (met.to_owned(), "", "ended without a word"),
        ];
        for (said, stderr, wanted) in cases {
            let explained = explained(&said, stderr);
            assert!(explained.contains(wanted), "{explained}");
        }
    }
}
