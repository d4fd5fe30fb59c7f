//! The word `key`: the key of an encrypted dataset, asked for.

use super::desk::Desk;
use super::hands;
use crate::cmdline::{self, Decided, KeyFile};
use crate::devices::probe::Wanted;
use crate::plan::from_zfs;
use crate::pools::waits;
use crate::sys::System;
use crate::unlock::{Effort, Unlocker};
use crate::zfs::ioctl::Zfs;
use std::collections::BTreeSet;
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
        let roots: Vec<String> = missing(desk.system).into_iter().collect();
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
    let unlocker = Unlocker::new(system, log, &settings).with_modules(&load).with_devices(&find);
    let mut unlocker = unlocker.with_terminals(desk.talk.terminals());
    unlocker.unlock_with(&dataset, effort).map_err(|e| {
        let tried: Vec<String> = e.found().iter().map(|line| format!("\n  {line}")).collect();
        format!("{e}{}", tried.concat())
    })?;
    desk.talk.say(&format!("the key of {dataset} is loaded\n"));
    Ok(())
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
