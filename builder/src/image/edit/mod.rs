//! What is changed of a tree on its way into an image: what belongs to the machine that it was made on is left out, and what the image is
//! to have is put in. Nothing is unpacked: entries are changed in passing, and the few texts that several things are said of - accounts,
//! settings, the table of file systems - are kept until the end of the stream and written there.
//!
//! Nothing of the machine that this runs on has a say: no locale, no time zone, no umask, no names of users.

mod accounts;
pub mod crypt;
mod desk;
mod identity;
mod report;
mod rules;
mod seen;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod texts;

use std::path::PathBuf;

pub use report::{Change, Report};
pub(in crate::image) use seen::clean;
pub use stream::Edited;

/// Whether what one machine has for itself stays in the tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// It is left out: each machine of the image gets its own.
    #[default]
    Strip,
    /// It stays: the image is to be this very machine.
    Keep,
}

/// What an account is opened by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Password {
    /// What the tree has.
    #[default]
    Unchanged,
    /// Nothing: keys may open it.
    Locked,
    /// Whoever comes.
    Empty,
    /// A password with this hash, as in `/etc/shadow` (`crypt(5)`).
    Hash(String),
}

/// An account for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number; `None`: that of the tree, or the next free one from 1000 on.
    pub uid: Option<u32>,
    /// Groups besides its own; the tree must have them.
    pub groups: Vec<String>,
    /// Its shell; `None`: that of the tree, or `/bin/bash`.
    pub shell: Option<String>,
    /// Whether it may become root by sudo.
    pub sudo: bool,
    /// What opens it.
    pub password: Password,
    /// Lines for its `authorized_keys`.
    pub ssh_keys: Vec<String>,
}

/// Content of something added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A file with what a file of this machine has.
    File(PathBuf),
    /// The same, but nothing if the tree has something at that place.
    Spare(PathBuf, String),
    /// A symbolic link that leads there.
    Link(Vec<u8>),
    /// A directory. One that is there stays as it is.
    Directory,
}

/// Something that is put into the tree, in the place of what is there. Directories above it that lack are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Where, without a slash at the beginning.
    pub path: Vec<u8>,
    /// What.
    pub content: Content,
    /// Permissions.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
}

impl Added {
    /// A file that everybody may read.
    pub fn file(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: Content::Bytes(content.into()), mode: 0o644, owner: (0, 0) }
    }

    /// A symbolic link.
    pub fn link(path: &str, target: &str) -> Self {
        Self { path: path.into(), content: Content::Link(target.into()), mode: 0o777, owner: (0, 0) }
    }
}

/// All that is changed. The default is what every image needs: no identity, no scaffolding, nothing that names disks of the machine
/// that the tree was made on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// Whether identity stays.
    pub identity: Identity,
    /// Paths that stay although a rule takes them out.
    pub keep: Vec<String>,
    /// Paths that are left out besides; `*` stands for any part of a name.
    pub remove: Vec<String>,
    /// What is put in.
    pub add: Vec<Added>,
    /// The host name; `None`: `localhost`, or that of the tree with its identity.
    pub hostname: Option<String>,
    /// The host id of ZFS; `None`: none, or that of the tree with its identity.
    pub hostid: Option<u32>,
    /// As below `/usr/share/zoneinfo`.
    pub timezone: Option<String>,
    /// Lines of `locale.gen`; the first one is the system's.
    pub locales: Vec<String>,
    /// As `loadkeys` knows it.
    pub keymap: Option<String>,
    /// What opens root.
    pub root_password: Password,
    /// Whether root may stand open to whoever comes.
    pub allow_empty_root: bool,
    /// Lines for root's `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// Accounts of people.
    pub users: Vec<User>,
    /// Lines of `/etc/fstab` for the image's own partitions; `None`: the table stays as it is.
    pub fstab: Option<Vec<String>>,
    /// Time of what is written anew, in seconds since 1970.
    pub time: i64,
}

impl Edits {
    /// In two parts, for those who look at the tree in between: what is put in, and what is left out then, with what they left behind.
    pub fn apart(self) -> (Self, Self) {
        let last = Self {
            identity: self.identity,
            keep: self.keep.clone(),
            remove: self.remove.clone(),
            hostname: self.hostname.clone(),
            hostid: self.hostid,
            allow_empty_root: self.allow_empty_root,
            time: self.time,
            ..Self::default()
        };
        // Who opens root is asked at the end: somebody may set a password in between.
        (Self { identity: Identity::Keep, allow_empty_root: true, ..self }, last)
    }
}
