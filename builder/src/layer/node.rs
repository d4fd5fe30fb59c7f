//! One entry of a raw layer: what it is, its attributes, and what it means to an overlay (Linux, `filesystems/overlayfs.rst`).

use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;

/// Names and values of extended attributes.
pub type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// Begins the names of access control lists' attributes.
pub const ACL: &[u8] = b"system.posix_acl_";

/// Where an overlay keeps its own attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Namespace {
    /// `trusted.overlay.`, which root alone sees.
    #[default]
    Trusted,
    /// `user.overlay.`, of overlays that were mounted with `userxattr`.
    User,
}

impl Namespace {
    /// What the names begin with.
    pub fn prefix(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.",
            Self::User => b"user.overlay.",
        }
    }

    /// The attribute of an opaque directory.
    pub fn opaque(self) -> Vec<u8> {
        [self.prefix(), b"opaque"].concat()
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file of so many bytes.
    File(u64),
    /// A symbolic link.
    Link(OsString),
    /// A character device, by its number as `stat(2)` gives it.
    Character(u64),
    /// A block device.
    Block(u64),
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// What the layers below have at this place is deleted.
    Whiteout,
}

impl Kind {
    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File(_) => "file",
            Self::Link(_) => "link",
            Self::Character(_) | Self::Block(_) => "device",
            Self::Pipe => "pipe",
            Self::Socket => "socket",
            Self::Whiteout => "whiteout",
        }
    }
}

/// When it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct Time {
    /// Since 1970.
    pub seconds: i64,
    /// Of a second.
    pub nanoseconds: u32,
}

/// What an overlay noted at an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // one an attribute
pub struct Marks {
    /// The directory hides those of the layers below.
    pub opaque: bool,
    /// Files in this directory can be whiteouts by an attribute.
    pub attribute_whiteouts: bool,
    /// The directory was moved: the layers below have it there.
    pub redirect: Option<Vec<u8>>,
    /// The data are in a layer below.
    pub metacopy: bool,
    /// The empty file is a whiteout, if its directory has such.
    pub whiteout: bool,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-user-ID and the like.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of its content.
    pub mtime: Time,
    /// Those that mean something elsewhere too.
    pub xattrs: Attributes,
    /// Those of the overlay.
    pub marks: Marks,
    /// Device and inode of a file with further names.
    pub identity: Option<(u64, u64)>,
    /// A directory on which another file system is mounted.
    pub foreign: bool,
}

impl Node {
    /// A whiteout, as the kernel makes them.
    pub fn whiteout(mtime: Time) -> Self {
        Self {
            kind: Kind::Whiteout,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: Attributes::new(),
            marks: Marks::default(),
            identity: None,
            foreign: false,
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Bytes of a regular file.
    pub fn size(&self) -> u64 {
        if let Kind::File(size) = self.kind { size } else { 0 }
    }

    /// Whether it has an access control list.
    pub fn has_acl(&self) -> bool {
        self.xattrs.keys().any(|name| name.starts_with(ACL))
    }
}

/// Takes the attributes of an entry apart: those that are kept, and what those of the overlay say. What holds for one machine and one
/// stack only (`origin`, `impure`, `nlink`, `upper`, `uuid`, `protattr`) is left out.
pub fn sort_out(all: Attributes, namespace: Namespace) -> (Attributes, Marks) {
    /// Attributes of an overlay in this overlay, which shows them without the second `overlay.`.
    const NESTED: &[u8] = b"overlay.";
    let (mut kept, mut marks) = (Attributes::new(), Marks::default());
    for (name, value) in all {
        let own = name.strip_prefix(namespace.prefix());
        match own {
            Some(b"opaque") => {
                marks.opaque = value == b"y";
                marks.attribute_whiteouts = value == b"x";
            }
            Some(b"redirect") => marks.redirect = Some(value),
            Some(b"metacopy") => marks.metacopy = true,
            Some(b"whiteout") => marks.whiteout = true,
            Some(own) if !own.starts_with(NESTED) => {}
            _ => {
                let spaces: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", ACL];
                if spaces.iter().any(|space| name.starts_with(space)) {
                    kept.insert(name, value);
                }
            }
        }
    }
    (kept, marks)
}

/// The attributes as an overlay shows them: those of a nested overlay lose one `overlay.`.
pub fn shown(xattrs: &Attributes, namespace: Namespace) -> Attributes {
    let nested = [namespace.prefix(), b"overlay."].concat();
    let outer = |name: &[u8]| name.strip_prefix(nested.as_slice()).map(|own| [namespace.prefix(), own].concat());
    xattrs.iter().map(|(name, value)| (outer(name).unwrap_or_else(|| name.clone()), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(list: &[(&str, &str)]) -> Attributes {
        list.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn what_holds_elsewhere_is_kept() {
        let (kept, marks) = sort_out(
            all(&[
                ("user.a", "1"),
                ("trusted.b", "2"),
                ("security.capability", "3"),
                ("system.posix_acl_access", "4"),
                ("btrfs.compression", "zstd"),
                ("system.nfs4_acl", "x"),
                ("trusted.overlay.origin", "x"),
                ("trusted.overlay.impure", "y"),
                ("trusted.overlay.nlink", "x"),
                ("trusted.overlay.upper", "x"),
                ("trusted.overlay.uuid", "x"),
                ("trusted.overlay.protattr", "x"),
                ("trusted.overlay.opaque", "y"),
                ("trusted.overlay.overlay.opaque", "y"),
                ("user.overlay.opaque", "y"),
            ]),
            Namespace::Trusted,
        );
        let names: Vec<String> = kept.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let wanted = [
            "security.capability",
            "system.posix_acl_access",
            "trusted.b",
            "trusted.overlay.overlay.opaque",
            "user.a",
            "user.overlay.opaque",
        ];
        assert_eq!(names, wanted);
        assert_eq!(marks, Marks { opaque: true, ..Marks::default() });
        let outside = shown(&kept, Namespace::Trusted);
        assert!(outside.contains_key(b"trusted.overlay.opaque".as_slice()));
        assert!(!outside.contains_key(b"trusted.overlay.overlay.opaque".as_slice()));
    }

    #[test]
    fn marks_are_read() {
        let marks = |list, namespace| sort_out(all(list), namespace).1;
        let x = marks(&[("trusted.overlay.opaque", "x"), ("trusted.overlay.whiteout", "")], Namespace::Trusted);
        assert!(!x.opaque && x.attribute_whiteouts && x.whiteout);
        let moved = marks(&[("user.overlay.redirect", "/a"), ("user.overlay.metacopy", "")], Namespace::User);
        assert_eq!(moved.redirect.as_deref(), Some(b"/a".as_slice()));
        assert!(moved.metacopy);
        assert_eq!(marks(&[("user.overlay.redirect", "/a")], Namespace::Trusted), Marks::default());
    }
}
