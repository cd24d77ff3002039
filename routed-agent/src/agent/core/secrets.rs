// SPDX-License-Identifier: Apache-2.0
//! Passwords of peers as their files have them, and that a file says something else now. Nobody announces that: where
//! Kubernetes mounts a Secret, it replaces a link somewhere above.

use std::collections::BTreeMap;

use bgp::PeerId;

use super::Core;
use crate::{agent::peers, journal::Change};

/// What was read, by name and key of the Secret.
pub(super) type Read = BTreeMap<(String, String), Option<String>>;

/// See the file's comment.
#[derive(Default)]
pub(super) struct Secrets {
    used: Read,
    /// What the files said at the last look, where that was something else: whoever writes a file may be halfway.
    seen: Option<Read>,
}

impl Secrets {
    /// What sessions are made with.
    pub(super) fn set(&mut self, used: Read) {
        self.used = used;
        self.seen = None;
    }

    /// The password to use where the file says `found`. One that was in use stays until the file has settled.
    pub(super) fn choose(&self, name: &str, key: &str, found: Option<String>) -> Option<String> {
        let used = self.used.get(&(name.to_owned(), key.to_owned()));
        used.and_then(Clone::clone).or(found)
    }

    /// Whether files that say `now` have said the same, and something else than what is used, at two looks in turn.
    fn have_changed(&mut self, now: Read) -> bool {
        if now == self.used {
            self.seen = None;
            return false;
        }
        if self.seen.as_ref() == Some(&now) {
            // From now on what is read counts.
            *self = Self::default();
            return true;
        }
        self.seen = Some(now);
        false
    }
}

impl Core {
    /// Whether there are passwords to look after.
    pub(in crate::agent) fn has_secrets(&self) -> bool {
        !self.secrets.used.is_empty()
    }

    /// Looks whether files of passwords have changed, and follows them.
    pub(in crate::agent) fn look_at_secrets(&mut self) {
        let names = self.secrets.used.keys();
        let now = names
            .map(|(name, key)| {
                let found = peers::secret(&self.start.secrets_dir, name, key);
                ((name.clone(), key.clone()), found)
            })
            .collect();
        if self.secrets.have_changed(now) {
            self.plan();
        }
    }

    /// A peer's password is another one, or there is none any more, or one for the first time.
    pub(super) fn note_password(&mut self, id: PeerId) {
        let text = "the password has changed, also for the open connection; unless the peer changes its own within the hold time, the session goes down";
        self.note_session(id, Change::Noted, text.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: Option<&str>) -> Read {
        [(("bgp".to_owned(), "mesh".to_owned()), text.map(str::to_owned))].into()
    }

    #[test]
    fn a_file_counts_once_it_says_the_same_twice() {
        let mut secrets = Secrets::default();
        secrets.set(one(Some("old")));
        assert!(!secrets.have_changed(one(Some("old"))));
        // Half written, and then whole.
        assert!(!secrets.have_changed(one(Some(""))));
        assert!(!secrets.have_changed(one(Some("new"))));
        let choose = |secrets: &Secrets, found: &str| secrets.choose("bgp", "mesh", Some(found.to_owned()));
        assert_eq!(choose(&secrets, "new").as_deref(), Some("old"));
        assert!(secrets.have_changed(one(Some("new"))));
        assert_eq!(choose(&secrets, "new").as_deref(), Some("new"));
        secrets.set(one(Some("new")));
        assert!(!secrets.have_changed(one(None)));
        assert!(!secrets.have_changed(one(Some("new"))));
        assert!(!secrets.have_changed(one(None)));
        assert!(secrets.have_changed(one(None)));
    }
}
