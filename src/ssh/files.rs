//! A file on a node, as lines for its shell: looked at first, and replaced whole or not at all.

use sha2::{Digest, Sha256};

use crate::runners::remote::{word, written};

/// Content, mode and owner, all of them known.
pub(super) struct NodeFile<'f> {
    pub(super) path: &'f str,
    pub(super) content: &'f [u8],
    pub(super) mode: u32,
    pub(super) owner: Option<&'f str>,
}

impl NodeFile<'_> {
    /// Succeeds if the file is as it is to be.
    pub(super) fn check(&self) -> String {
        let path = word(self.path);
        let owner = match self.owner {
            None => String::new(),
            Some(owner) => {
                let shown = if owner.contains(':') { "%U:%G" } else { "%U" };
                format!(" && [ \"$(stat -L -c {shown} -- {path})\" = {} ]", word(owner))
            }
        };
        format!(
            "[ -f {path} ] && {} && [ \"$(stat -L -c %a -- {path})\" = {:o} ]{owner}",
            self.has_content(&path),
            self.mode
        )
    }

    /// Makes it so. Nobody ever sees half of it, and a file that cannot be made leaves the old one.
    pub(super) fn run(&self) -> String {
        let path = word(self.path);
        let template = word(&format!("{}.petrel-XXXXXXXX", self.path));
        let owner = self.owner.map(|owner| format!(" && chown -- {} \"$new\"", word(owner))).unwrap_or_default();
        format!(
            "if [ -d {path} ]; then echo {path}' is a folder' >&2; exit 1; fi\n\
             mkdir -p -- \"$(dirname -- {path})\" || exit 1\n\
             new=$(mktemp {template}) || exit 1\n\
             if {} > \"$new\" && {} && chmod {:o} \"$new\"{owner} && mv -f -- \"$new\" {path}; then exit 0; fi\n\
             rm -f -- \"$new\"\nexit 1",
            written(self.content),
            self.has_content("\"$new\""),
            self.mode
        )
    }

    fn has_content(&self, quoted_path: &str) -> String {
        let sum: Vec<String> = Sha256::digest(self.content).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[ \"$(sha256sum < {quoted_path} | cut -d ' ' -f 1)\" = {} ]", sum.concat())
    }
}

/// Lines of a check and of what is done, by which a user may log in with a key.
pub(super) fn authorized_key(user: &str, key: &str, file: Option<&str>) -> (String, String) {
    let (place, owner) = if let Some(file) = file {
        (format!("keys={}", word(file)), String::new())
    } else {
        let home = format!("home=$(getent passwd {user} | cut -d : -f 6); [ -n \"$home\" ] || exit 1");
        let place = format!("{home}; keys=$home/.ssh/authorized_keys");
        (place, format!("chown -- {user}: \"$keys\" \"${{keys%/*}}\" || exit 1\n"))
    };
    let key = word(key);
    let check = format!("{place}\ngrep -qxF -- {key} \"$keys\"");
    // The last line may lack its end, and then the key would become a part of it.
    let run = format!(
        "{place}\numask 077\nmkdir -p -- \"${{keys%/*}}\" || exit 1\n\
         if [ -s \"$keys\" ] && [ -n \"$(tail -c 1 -- \"$keys\")\" ]; then echo >> \"$keys\" || exit 1; fi\n\
         printf '%s\\n' {key} >> \"$keys\" || exit 1\n{owner}"
    );
    (check, run)
}
