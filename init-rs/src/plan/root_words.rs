//! What `rootfstype=` and `rootflags=` mean for the root that is mounted. They were written for the one that they stand beside; another one
//! taken in its place, as a fallback or by a person, is what it is.

use super::fstab;
use super::options::is_general;
use crate::cmdline::Request;

/// The type to mount a device as: what it holds if `rootfstype=` allows that, else what that says. For another root than the words were
/// written for it is what it holds, and what they say only where that is not known.
pub fn fstype<'t>(request: &'t Request, holds: Option<&'t str>) -> Option<&'t str> {
    let allowed = holds.filter(|kind| types(request).iter().any(|asked| asked == kind));
    let said = said(request);
    if request.instead_of.is_some() { holds.or(said) } else { allowed.or(said).or(holds) }
}

/// The options of `rootflags=` to mount a root of this type with, and those that are left out: options of one type, written for a root
/// of another.
pub fn flags<'r>(request: &'r Request, fstype: &str) -> (Vec<&'r str>, Vec<&'r str>) {
    let written_for = written_for(request).filter(|_| request.instead_of.is_some());
    let fits = written_for.is_none_or(|written_for| written_for == fstype);
    options(request).partition(|option| fits || is_general(option))
}

/// The type that the options were written for, if that shows.
fn written_for(request: &Request) -> Option<&str> {
    if options(request).any(|option| option.starts_with("subvol")) { Some("btrfs") } else { said(request) }
}

fn options(request: &Request) -> impl Iterator<Item = &str> {
    fstab::options(request.root_flags.as_ref().map(|flags| flags.value.as_str()).unwrap_or_default())
}

fn types(request: &Request) -> &[String] {
    request.root_fstype.as_ref().map(|asked| asked.value.as_slice()).unwrap_or_default()
}

/// The first type that `rootfstype=` names.
fn said(request: &Request) -> Option<&str> {
    types(request).iter().map(String::as_str).find(|kind| *kind != "auto")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::roots::ask_for;

    /// Type and options for a root that holds this, and what is left out; `other`: taken in place of the root of the words.
    fn of(line: &str, other: bool, holds: &str) -> (String, String, String) {
        let mut request = crate::cmdline::parse(line.as_bytes());
        if other {
            ask_for(&mut request, "UUID=b", "fallback").unwrap();
        }
        let kind = fstype(&request, Some(holds).filter(|kind| !kind.is_empty())).unwrap_or_default().to_owned();
        let (used, left) = flags(&request, &kind);
        (kind.clone(), used.join(","), left.join(","))
    }

    #[test]
    fn words_hold_for_the_root_beside_them() {
        for (line, other, holds, [kind, used, left]) in [
            ("root=UUID=a", false, "xfs", ["xfs", "", ""]),
            ("root=UUID=a rootfstype=ext4,xfs", false, "xfs", ["xfs", "", ""]),
            ("root=UUID=a rootfstype=ext4", false, "xfs", ["ext4", "", ""]),
            ("root=UUID=a rootfstype=auto,ext4", false, "", ["ext4", "", ""]),
            ("root=UUID=a rootfstype=ext4", true, "btrfs", ["btrfs", "", ""]),
            ("root=UUID=a rootfstype=ext4", true, "", ["ext4", "", ""]),
            ("root=UUID=a rootflags=subvol=@,ro", false, "ext4", ["ext4", "subvol=@,ro", ""]),
            ("root=UUID=a rootflags=subvol=@,ro", true, "ext4", ["ext4", "ro", "subvol=@"]),
            ("root=UUID=a rootflags=subvol=@,ro", true, "btrfs", ["btrfs", "subvol=@,ro", ""]),
            ("root=UUID=a rootfstype=xfs rootflags=logbufs=8,noatime", true, "ext4", ["ext4", "noatime", "logbufs=8"]),
            ("root=UUID=a rootflags=errors=continue", true, "xfs", ["xfs", "errors=continue", ""]),
            ("root=UUID=b rootfstype=ext4 rootflags=subvol=@", true, "xfs", ["ext4", "subvol=@", ""]),
        ] {
            let expected = (kind.to_owned(), used.to_owned(), left.to_owned());
            assert_eq!(of(line, other, holds), expected, "{line} {other} {holds}");
        }
    }

    #[test]
    fn back_at_the_first_root_its_words_hold_again() {
        let mut request = crate::cmdline::parse(b"root=UUID=a rootfstype=ext4");
        for (root, kind) in [("UUID=b", "xfs"), ("UUID=c", "xfs"), ("UUID=a", "ext4")] {
            ask_for(&mut request, root, "chosen").unwrap();
            assert_eq!(fstype(&request, Some("xfs")), Some(kind), "{root}");
        }
    }
}
