//! Words that a person types at the prompt, on top of those that there are: what each takes the place of, and what may be lost
//! by the change.

use super::{HostidPolicy, Repair, Request, Word, integrity, tokenize};

/// Words for one setting, of whatever system: one that is typed (first list) takes the place of those in the second.
const SETTINGS: [(&[&str], &[&str]); 11] = [
    (&ROOTS, &ROOTS),
    (&["init", "real_init"], &["init", "real_init"]),
    (&["rootflags", "real_rootflags"], &["rootflags", "real_rootflags"]),
    (&["ro", "rw"], &["ro", "rw"]),
    (&WAITS, &WAITS),
    (&["zfs_force", "zfs.force", "zfsforce", "dozfs"], &["zfs_force", "zfs.force", "zfsforce", "dozfs"]),
    (&["spl_hostid", "spl.spl_hostid"], &["spl_hostid", "spl.spl_hostid"]),
    // `noresume` needs `resume=`, which says where the image is.
    (&["resume"], &["noresume", "hibernate"]),
    (&["taproot.resume_wait", "resumewait", "resumedelay"], &["taproot.resume_wait", "resumewait", "resumedelay"]),
    (&LEVELS, &LEVELS),
    (&POLICIES, &POLICIES),
];
const ROOTS: [&str; 7] = ["root", "zfs", "real_root", "REAL_ROOT", "bootfs", "zfs_bootfs", "rpool"];
const WAITS: [&str; 4] = ["taproot.wait", "zfs_wait", "rootdelay", "rootwait"];
const LEVELS: [&str; 8] =
    ["taproot.log", "quiet", "debug", "loglevel", "rd.debug", "zfs_debug", "zfs.debug", "zfsdebug"];
const POLICIES: [&str; 4] = ["taproot.rescue", "panic", "rd.emergency", "rd.shell"];

/// What a word is called: `-` is as good as `_`.
fn name(word: &Word) -> String {
    word.key.replace('-', "_")
}

/// Whether the word only takes others away: `init=`.
fn takes_away(word: &Word) -> bool {
    word.value.as_deref() == Some("")
}

/// Whether this typed word takes the place of that one.
fn replaces(typed: &Word, other: &Word) -> bool {
    let (typed_name, other_name) = (name(typed), name(other));
    let same_setting = |(of, instead): &(&[&str], &[&str])| {
        of.contains(&typed_name.as_str()) && instead.contains(&other_name.as_str())
    };
    typed_name == other_name || (!takes_away(typed) && SETTINGS.iter().any(same_setting))
}

/// Whether one of these words names a root.
pub fn names_root(typed: &str) -> bool {
    tokenize(typed.as_bytes()).iter().any(|word| ROOTS.contains(&name(word).as_str()))
}

/// A command line with these words typed on top. Each takes the place of every earlier word of its name, and of those for the
/// same setting; without a value (`init=`) it only takes them away. What stands behind `--` stays.
pub fn edit(line: &str, typed: &str) -> String {
    let typed = tokenize(typed.as_bytes());
    let mut words = tokenize(line.as_bytes());
    let end = words.iter().position(Word::ends_parameters).unwrap_or(words.len());
    let behind = words.split_off(end);
    words.retain(|word| !typed.iter().any(|typed| replaces(typed, word)));
    words.extend(typed.into_iter().filter(|word| !takes_away(word)));
    words.extend(behind);
    let texts: Vec<String> = words.iter().map(closed).collect();
    texts.join(" ")
}

/// The word as given; an open quote, which would swallow what follows, is closed.
fn closed(word: &Word) -> String {
    let open = word.text.matches('"').count() % 2 == 1;
    format!("{}{}", word.text, if open { "\"" } else { "" })
}

/// Whether two requests ask for the same, however it is said and whatever was noted.
pub fn same(one: &Request, other: &Request) -> bool {
    let bare = |request: &Request| Request {
        words: vec![],
        notes: vec![],
        problems: vec![],
        init_args: vec![],
        ..request.clone()
    };
    bare(one) == bare(other)
}

/// What the second request may destroy that the first did not, a line each.
pub fn dangers(before: &Request, after: &Request) -> Vec<String> {
    let mut dangers = integrity::dangers(before, after);
    let read_only = |request: &Request| request.import.read_only.value;
    if read_only(after) {
        // Nothing is written then.
        return dangers;
    }
    if read_only(before) {
        let why = &before.import.read_only.why;
        dangers.push(format!("{why} says that nothing is to be written; the next attempt may write."));
    }
    let rank = |request: &Request| match request.import.hostid_policy.value {
        HostidPolicy::Strict => 0,
        HostidPolicy::Known => 1,
        HostidPolicy::Force => 2,
    };
    if rank(after) > rank(before) {
        let why = &after.import.hostid_policy.why;
        dangers.push(format!("{why}: importing a pool that another running system uses destroys the pool."));
    }
    let id = |request: &Request| request.import.hostid.as_ref().map(|hostid| hostid.value);
    if let Some(hostid) = after.import.hostid.as_ref().filter(|_| id(before) != id(after)) {
        dangers.push(format!(
            "{}: pools of that hostid are taken for this system's own. If another running system has it, importing \
             destroys them.",
            hostid.why
        ));
    }
    if after.import.missing_log.value && !before.import.missing_log.value {
        let why = &after.import.missing_log.why;
        dangers.push(format!("{why}: without its log device a pool loses the last synchronous writes."));
    }
    dangers.extend(rollback(before, after));
    dangers.extend(hibernated(before, after));
    if after.fsck.repair.value == Repair::Yes && before.fsck.repair.value != Repair::Yes {
        let why = &after.fsck.repair.why;
        dangers.push(format!("{why}: a check that repairs everything can lose files of a damaged file system."));
    }
    dangers
}

fn rollback(before: &Request, after: &Request) -> Option<String> {
    let asked = |request: &Request| {
        let snapshots = &request.snapshots;
        let to = snapshots.rollback_to.as_ref().map(|to| (to.why.clone(), to.value.clone()));
        let behind = request.snapshot.as_ref().filter(|_| snapshots.rollback.value);
        to.or_else(|| behind.map(|snapshot| (snapshots.rollback.why.clone(), Some(snapshot.value.clone()))))
    };
    let (why, to) = asked(after)?;
    let newer = |request: &Request| request.snapshots.destroy_newer.value;
    let known = asked(before).is_some_and(|(_, before)| before == to) && before.root.value == after.root.value;
    if known && newer(before) == newer(after) {
        return None;
    }
    let and = if newer(after) { ", and every newer snapshot," } else { "" };
    let to = to.map_or_else(|| "the snapshot called like the kernel".to_owned(), |to| format!("@{to}"));
    Some(format!("{why}: all that was written to the root since {to}{and} will be lost."))
}

fn hibernated(before: &Request, after: &Request) -> Option<String> {
    let (old, new) = (&before.resume, &after.resume);
    if let (None, Some(word)) = (&old.disabled, &new.disabled) {
        return Some(format!("{word}: if a hibernated system waits, what it had not saved is lost."));
    }
    let device = old.device.as_ref().filter(|_| old.disabled.is_none() && new.disabled.is_none())?;
    let other = new.device.as_ref().is_none_or(|new| new.value != device.value);
    other.then(|| {
        format!(
            "If a hibernated system waits at {}, booting another and resuming it later destroys the pool.",
            device.why
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::{Selector, parse};

    #[test]
    fn a_typed_word_takes_the_place_of_earlier_ones() {
        for (line, typed, edited) in [
            ("root=ZFS=t/a init=/bad ro", "init=", "root=ZFS=t/a ro"),
            ("init=/bad real_init=/worse", "init=/good", "init=/good"),
            ("a resume=/dev/x b", "resume=none", "a b resume=none"),
            ("zfs=t/a rpool=t root=/dev/x", "root=ZFS=u/b", "root=ZFS=u/b"),
            ("zfs=t/a root=/dev/x", "zfs=", "root=/dev/x"),
            ("taproot.key-wait=1 taproot.key_wait=2", "taproot.key_wait=3", "taproot.key_wait=3"),
            ("taproot.wait=5", "zfs_wait=9", "zfs_wait=9"),
            ("resume=UUID=1 noresume", "resume=UUID=2", "resume=UUID=2"),
            ("resume=UUID=1", "noresume", "resume=UUID=1 noresume"),
            ("ro quiet -- single", "rw loglevel=7", "rw loglevel=7 -- single"),
            ("taproot.key=/a", "taproot.key=/b taproot.key=/c", "taproot.key=/b taproot.key=/c"),
            ("init=/a init=/b", "init= init=/c", "init=/c"),
            ("quiet=", "quiet=", ""),
            ("x=\"a b", "ro", "x=\"a b\" ro"),
            ("spl_hostid=00bab10c ro", "ro=", "spl_hostid=00bab10c"),
            ("", "", ""),
        ] {
            assert_eq!(edit(line, typed), edited, "{line} + {typed}");
        }
        assert!(names_root("quiet zfs=t/a") && names_root("root=") && !names_root("rootflags=x"));
    }

    #[test]
    fn what_is_typed_decides_whatever_stood_there() {
        let root = |line: &str, typed: &str| parse(edit(line, typed).as_bytes()).root.value;
        let wanted = Selector::Dataset { pool: "u".into(), dataset: "u/b".into() };
        for line in ["zfs=t/a", "root=/dev/x", "bootfs=t/a boot=zfs", "real_root=ZFS=t/a dozfs", "root=\"open"] {
            assert_eq!(root(line, "root=ZFS=u/b"), wanted, "{line}");
        }
    }

    #[test]
    fn dangers_are_those_that_are_new() {
        let ask = |before: &str, after: &str| dangers(&parse(before.as_bytes()), &parse(after.as_bytes()));
        for (before, after, says) in [
            ("taproot.import=ro", "", "taproot.import=ro says that nothing is to be written"),
            ("", "zfs_force=1", "zfs_force=1: importing a pool that another running system"),
            ("taproot.hostid=strict", "", "importing a pool that another"),
            ("", "spl_hostid=00bab10c", "spl_hostid=00bab10c: pools of that hostid"),
            ("", "taproot.missing_log=yes", "loses the last synchronous writes"),
            ("root=ZFS=t/a@s", "root=ZFS=t/a@s rollback=on", "since @s will be lost"),
            ("root=ZFS=t/a bootfs.rollback=s", "root=ZFS=t/b bootfs.rollback=s", "since @s will be lost"),
            ("bootfs.rollback=s", "bootfs.rollback=s taproot.destroy_newer", "and every newer snapshot"),
            ("resume=/dev/x", "", "waits at resume=/dev/x"),
            ("resume=/dev/x", "resume=/dev/y", "waits at resume=/dev/x"),
            ("resume=/dev/x", "resume=/dev/x noresume", "noresume: if a hibernated"),
            ("", "fsck.repair=yes", "can lose files"),
        ] {
            let dangers = ask(before, after);
            assert!(dangers.len() == 1 && dangers[0].contains(says), "{before} -> {after}: {dangers:?}");
            assert_eq!(ask(after, after), [""; 0], "{after}");
            assert_eq!(ask(before, &format!("{after} taproot.import=ro")), [""; 0], "{after}");
        }
        for (before, after) in [
            ("spl_hostid=00bab10c", ""),
            ("zfs_force=1", ""),
            ("init=/x", "init=/y ro taproot.mounts=none"),
            ("noresume resume=/dev/x", "resume=/dev/x"),
            ("bootfs.rollback=s", ""),
        ] {
            assert_eq!(ask(before, after), [""; 0], "{before} -> {after}");
        }
    }

    #[test]
    fn what_asks_for_the_same() {
        let same = |one: &str, other: &str| same(&parse(one.as_bytes()), &parse(other.as_bytes()));
        assert!(same("ro taproot.nope=1 x y=z", "ro") && same("root=ZFS=t/a -- 1", "root=ZFS=t/a"));
        assert!(!same("ro", "") && !same("zfs.x=1", "zfs.x=2"));
    }
}
