//! What a format cannot hold of a plan, and what is done about it.

use super::acl::mode_without;
use super::format::Format;
use super::merge::Plan;
use super::node::{ACL, Kind, Node, Time};
use anyhow::{Result, bail};
use std::path::PathBuf;

/// So many paths are named.
const NAMED: usize = 3;

/// Makes the plan what the format can hold. What is said of that; an error where something would be lost that `drop_acls` does not
/// allow to lose. `epoch`: no time is later (`SOURCE_DATE_EPOCH`).
pub fn fit(plan: &mut Plan, format: Format, drop_acls: bool, epoch: Option<u64>) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if format == Format::Squashfs {
        acls(plan, drop_acls, &mut notes)?;
        sockets(plan, &mut notes);
        if let Some(top) = plan.items.first_mut()
            && !top.node.xattrs.is_empty()
        {
            let names: Vec<String> =
                top.node.xattrs.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
            notes.push(format!(
                "mksquashfs gives the top directory no attributes: {} are left out there (--type erofs has them)",
                names.join(", ")
            ));
            top.node.xattrs.clear();
        }
    }
    times(plan, format, epoch, &mut notes);
    Ok(notes)
}

fn several(paths: &[PathBuf]) -> String {
    let first: Vec<String> = paths.iter().take(NAMED).map(|path| format!("/{}", path.display())).collect();
    let more = paths.len().saturating_sub(NAMED);
    first.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

fn acls(plan: &mut Plan, drop_acls: bool, notes: &mut Vec<String>) -> Result<()> {
    let with: Vec<PathBuf> =
        plan.items.iter().filter(|item| item.node.has_acl()).map(|item| item.path.clone()).collect();
    if with.is_empty() {
        return Ok(());
    }
    if !drop_acls {
        bail!(
            "squashfs cannot hold access control lists, and these have one: {}; write the layer as erofs (--type erofs), or without them \
             (--drop-acls)",
            several(&with)
        );
    }
    for item in &mut plan.items {
        if let Some(list) = item.node.xattrs.get(b"system.posix_acl_access".as_slice()) {
            item.node.mode = mode_without(item.node.mode, list);
        }
        item.node.xattrs.retain(|name, _| !name.starts_with(ACL));
    }
    notes.push(format!("access control lists are left out of {}", several(&with)));
    Ok(())
}

/// A tar stream has no sockets. Whoever listened at one is gone; what a layer below has there stays hidden.
fn sockets(plan: &mut Plan, notes: &mut Vec<String>) {
    let is_socket = |node: &Node| node.kind == Kind::Socket;
    let with: Vec<PathBuf> =
        plan.items.iter().filter(|item| is_socket(&item.node)).map(|item| item.path.clone()).collect();
    if with.is_empty() {
        return;
    }
    if plan.complete {
        // No other name of a file points behind them: numbers of items are looked up anew.
        let gone: Vec<usize> =
            plan.items.iter().enumerate().filter(|(_, item)| is_socket(&item.node)).map(|(at, _)| at).collect();
        plan.items.retain(|item| !is_socket(&item.node));
        for item in &mut plan.items {
            item.link_to = item.link_to.map(|to| to - gone.iter().filter(|at| **at < to).count());
        }
    } else {
        for item in plan.items.iter_mut().filter(|item| is_socket(&item.node)) {
            item.node = Node::whiteout(item.node.mtime);
        }
    }
    notes.push(format!("sockets are left out: {}", several(&with)));
}

/// Squashfs has seconds from 1970 to 2106, erofs nanoseconds from 1970.
fn times(plan: &mut Plan, format: Format, epoch: Option<u64>, notes: &mut Vec<String>) {
    let latest = if format == Format::Squashfs { i64::from(u32::MAX) } else { i64::MAX };
    let wished = epoch.map_or(i64::MAX, |epoch| i64::try_from(epoch).unwrap_or(i64::MAX));
    let mut outside = Vec::new();
    for item in &mut plan.items {
        let time = item.node.mtime;
        if time.seconds < 0 || time.seconds > latest {
            outside.push(item.path.clone());
        }
        let seconds = time.seconds.clamp(0, latest.min(wished));
        let whole = format == Format::Squashfs || seconds != time.seconds;
        item.node.mtime = Time { seconds, nanoseconds: if whole { 0 } else { time.nanoseconds } };
    }
    if !outside.is_empty() {
        notes.push(format!(
            "{} cannot hold the times of {}; they get the nearest that it has",
            format.word(),
            several(&outside)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::merge::Item;
    use std::path::Path;

    fn plan(complete: bool, kinds: &[(&str, Kind)]) -> Plan {
        let item = |(path, kind): &(&str, Kind)| {
            let mut node = Node::whiteout(Time { seconds: 100, nanoseconds: 5 });
            node.kind = kind.clone();
            Item { path: PathBuf::from(path), node, source: 0, link_to: None }
        };
        Plan { items: kinds.iter().map(item).collect(), complete, excluded: Vec::new(), foreign: Vec::new() }
    }

    #[test]
    fn a_socket_hides_and_is_gone() {
        let kinds = [
            ("", Kind::Directory),
            ("a", Kind::Socket),
            ("b", Kind::File(1)),
            ("c", Kind::Socket),
            ("d", Kind::File(1)),
        ];
        let mut partial = plan(false, &kinds);
        fit(&mut partial, Format::Squashfs, false, None).unwrap();
        assert!(partial.items[1].node.kind == Kind::Whiteout && partial.items.len() == 5);
        let mut complete = plan(true, &kinds);
        complete.items[4].link_to = Some(2);
        let notes = fit(&mut complete, Format::Squashfs, false, None).unwrap();
        assert_eq!(notes, ["sockets are left out: /a, /c"]);
        assert_eq!(complete.items.len(), 3);
        assert_eq!(complete.items[2].link_to, Some(1));
        assert_eq!(complete.items[1].path, Path::new("b"));
        let mut erofs = plan(true, &kinds);
        assert!(fit(&mut erofs, Format::Erofs, false, None).unwrap().is_empty());
        assert_eq!(erofs.items.len(), 5);
    }

    #[test]
    fn lists_are_lost_only_when_that_is_asked_for() {
        let mut with = plan(true, &[("", Kind::Directory), ("log", Kind::Directory)]);
        with.items[1].node.xattrs.insert(b"system.posix_acl_default".to_vec(), Vec::new());
        let error = fit(&mut with.clone(), Format::Squashfs, false, None).unwrap_err().to_string();
        assert!(error.contains("/log") && error.contains("--type erofs"), "{error}");
        fit(&mut with.clone(), Format::Erofs, false, None).unwrap();
        let notes = fit(&mut with, Format::Squashfs, true, None).unwrap();
        assert_eq!(notes, ["access control lists are left out of /log"]);
        assert!(!with.items[1].node.has_acl());
    }

    #[test]
    fn times_are_what_the_format_has() {
        let of = |seconds, format, epoch| {
            let mut one = plan(true, &[("", Kind::Directory)]);
            one.items[0].node.mtime = Time { seconds, nanoseconds: 5 };
            let notes = fit(&mut one, format, false, epoch).unwrap().len();
            (one.items[0].node.mtime.seconds, one.items[0].node.mtime.nanoseconds, notes)
        };
        assert_eq!(of(100, Format::Squashfs, None), (100, 0, 0));
        assert_eq!(of(100, Format::Erofs, None), (100, 5, 0));
        assert_eq!(of(100, Format::Erofs, Some(50)), (50, 0, 0));
        assert_eq!(of(-7, Format::Erofs, None), (0, 0, 1));
        assert_eq!(of(1 << 33, Format::Squashfs, None), (i64::from(u32::MAX), 0, 1));
        assert_eq!(of(1 << 33, Format::Erofs, None), (1 << 33, 5, 0));
    }
}
