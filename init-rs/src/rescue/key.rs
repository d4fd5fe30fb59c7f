//! The word `key`: the key of an encrypted dataset, asked for.

use super::apart::{PATIENCE, Part};
use super::desk::Desk;
use super::{apart, hands};
use crate::cmdline::{self, Decided, KeyFile};
use crate::devices::filesystems;
use crate::devices::probe::Wanted;
use crate::plan::from_zfs;
use crate::pools::waits;
use crate::report::log::Log;
use crate::sys::System;
use crate::sys::consoles::Secret;
use crate::unlock::{self, Apart, Effort, KEY_MOUNTED_AT, KeyDevice, Unlocker};
use crate::zfs::ioctl::{Zfs, ZfsError};
use crate::zfs::keys::KEY_LEN;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Encryption roots of imported pools that wait for their keys.
pub(super) fn missing(system: &dyn System) -> BTreeSet<String> {
    let zfs = Zfs::new(system);
    let mut roots = BTreeSet::new();
    let mut pools = zfs.imported_pools().unwrap_or_default();
    pools.retain(|(pool, _)| waits(system, pool).is_none());
    for (pool, _) in pools {
        for objset in zfs.datasets(&pool).unwrap_or_default() {
            let dataset = from_zfs::dataset(&objset, true);
            if dataset.key_available == Some(false) {
                roots.insert(dataset.encryption_root.unwrap_or(dataset.name));
            }
        }
    }
    roots
}

/// A dataset, whose name may have blanks in it, and a file with its key.
fn parse(rest: &[&str]) -> Result<(String, Vec<KeyFile>), String> {
    let Some((place, name)) = rest.split_last().filter(|(last, name)| !name.is_empty() && is_file(last)) else {
        return Ok((rest.join(" "), vec![]));
    };
    let files = cmdline::parse(format!("taproot.key={place}").as_bytes()).keys.files;
    if files.is_empty() {
        return Err(format!("{place}: expected /path, or DEVICE:/path with LABEL=x, UUID=x or /dev/x for DEVICE"));
    }
    let typed = |file| KeyFile { why: (*place).to_owned(), ..file };
    Ok((name.join(" "), files.into_iter().map(typed).collect()))
}

fn is_file(word: &str) -> bool {
    word.starts_with('/') || word.contains(":/")
}

/// The word.
pub(super) fn run(desk: &mut Desk<'_>, rest: &[&str]) -> Result<(), String> {
    let (mut dataset, files) = parse(rest)?;
    if dataset.is_empty() {
        let roots: Vec<String> = desk.asking("asking for keys", missing).into_iter().collect();
        match roots.as_slice() {
            [] => return Err("no dataset of an imported pool waits for a key".to_owned()),
            [one] => dataset.clone_from(one),
            several => {
                for (at, root) in several.iter().enumerate() {
                    desk.talk.say(&format!("  {:>2}  {root}\n", at + 1));
                }
                let answer = desk.talk.ask("Which one? ").unwrap_or_default();
                let number = answer.parse::<usize>().ok().and_then(|n| several.get(n.checked_sub(1)?).cloned());
                dataset = number.unwrap_or(answer);
            }
        }
    }
    let mut settings = desk.request.keys.clone();
    // Whatever the command line says of prompts: somebody is here and wants to type.
    settings.prompt = Decided::new(true, "the word `key`");
    // A file that is named is meant: nothing else is tried.
    let effort = if files.is_empty() { Effort::Optional } else { Effort::Unasked };
    if !files.is_empty() {
        settings.files = files;
    }
    let (system, log, scout) = (desk.system, desk.log, desk.hands);
    let load = |module: &str| hands::load(scout, &[module]);
    let find = |wanted: &Wanted, wait: Duration| hands::find(system, log, scout, wanted, wait);
    let elsewhere = Elsewhere { system, log, load: &load };
    let unlocker = Unlocker::new(system, log, &settings).with_modules(&load).with_devices(&find);
    let mut unlocker = unlocker.with_terminals(desk.talk.terminals());
    if system.is_init() {
        unlocker = unlocker.with_apart(&elsewhere);
    }
    unlocker.unlock_with(&dataset, effort).map_err(|e| {
        let tried: Vec<String> = e.found().iter().map(|line| format!("\n  {line}")).collect();
        format!("{e}{}", tried.concat())
    })?;
    desk.talk.say(&format!("the key of {dataset} is loaded\n"));
    Ok(())
}

/// What unlocking does with disks, in a process of its own.
struct Elsewhere<'a> {
    system: &'a dyn System,
    log: &'a Log,
    load: &'a dyn Fn(&str),
}

impl Elsewhere<'_> {
    /// What was read by a process of its own; an error of the kernel comes back as its number.
    fn read_file(&self, args: &[&str]) -> io::Result<Secret> {
        apart::do_part(self.system, self.log, &READ, args).map_err(|why| match why.parse() {
            Ok(errno) => io::Error::from_raw_os_error(errno),
            Err(_) => io::Error::other(why),
        })
    }
}

impl Apart for Elsewhere<'_> {
    fn read(&self, root: &Path, path: &str) -> io::Result<Secret> {
        self.read_file(&[&root.to_string_lossy(), path])
    }

    fn read_on(&self, device: &KeyDevice, path: &str) -> Result<Secret, String> {
        // The process has no scout.
        unlock::kinds(device).into_iter().flat_map(filesystems::modules).for_each(self.load);
        let kind = device.kind.as_deref().unwrap_or_default();
        self.read_file(&[&device.node, kind, path]).map_err(|e| e.to_string())
    }

    fn load_key(&self, encryption_root: &str, key: &[u8; KEY_LEN]) -> Result<(), ZfsError> {
        let failed = |errno| ZfsError { call: "LOAD_KEY", name: encryption_root.to_owned(), errno };
        // Arguments of processes can be seen.
        let file = Path::new(KEY_FILE);
        let written = self.system.write(file, key);
        let loaded = written
            .map_err(|e| e.to_string())
            .and_then(|()| apart::do_part(self.system, self.log, &LOAD, &[encryption_root]));
        let _ = self.system.wipe(file).and_then(|()| self.system.remove(file));
        loaded.map(drop).map_err(|why| {
            failed(why.parse().unwrap_or_else(|_| {
                self.log.warn(format!("the key of {encryption_root}: {why}"));
                libc::ETIMEDOUT
            }))
        })
    }
}

/// Where the key lies, in RAM, for the moment in which a process of its own loads it.
const KEY_FILE: &str = "/run/taproot/key-to-load";

/// Reads a key file: `ROOT PATH`, or `NODE KIND PATH` with an empty kind where it is not known.
pub(super) const READ: Part = Part { name: "read-key", work: read, mounts: Some(KEY_MOUNTED_AT), patience: PATIENCE };

fn read(system: &dyn System, log: &Log, args: &[&str]) -> Result<Secret, String> {
    match *args {
        [root, path] => unlock::read_beneath(system, Path::new(root), path)
            .map_err(|e| e.raw_os_error().map_or_else(|| e.to_string(), |errno| errno.to_string())),
        [node, kind, path] => {
            let kind = Some(kind.to_owned()).filter(|kind| !kind.is_empty());
            unlock::read_on(system, log, &|_| {}, &KeyDevice { node: node.to_owned(), kind }, path)
        }
        _ => Err("expected a tree and a path, or a device, what is on it and a path".to_owned()),
    }
}

/// Loads the key that lies in [`KEY_FILE`].
pub(super) const LOAD: Part = Part { name: "load-key", work: load_key, mounts: None, patience: PATIENCE };

fn load_key(system: &dyn System, _: &Log, args: &[&str]) -> Result<Secret, String> {
    let key = system.read_secret(Path::new(KEY_FILE), KEY_LEN).map_err(|e| e.to_string())?;
    let key: &[u8; KEY_LEN] = key.as_slice().try_into().map_err(|_| libc::EINVAL.to_string())?;
    let root = args.first().copied().unwrap_or_default();
    Zfs::new(system).load_key(root, key).map(|()| Secret::default()).map_err(|e| e.errno.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_and_a_file() {
        let read = |line: &str| {
            let (dataset, files) = parse(&line.split_whitespace().collect::<Vec<_>>())?;
            Ok(match files.as_slice() {
                [file] => format!("{dataset} {} {}", file.device.as_deref().unwrap_or("-"), file.path),
                _ => dataset,
            })
        };
        for (line, is) in [
            ("", ""),
            ("t/a b", "t/a b"),
            ("t/a b LABEL=stick:/k", "t/a b LABEL=stick /k"),
            ("t/a /dev/sdb1:/x/k", "t/a /dev/sdb1 /x/k"),
            ("t/a /mnt/k", "t/a - /mnt/k"),
        ] {
            assert_eq!(read(line), Ok::<_, String>(is.to_owned()), "{line}");
        }
        assert!(read("t/a bad:/k").is_err_and(|e| e.contains("expected /path")));
    }
}
