//! The word `key`: the key of an encrypted dataset, asked for.

use super::desk::Desk;
use super::hands;
use crate::cmdline::Decided;
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

/// The word.
pub(super) fn run(desk: &mut Desk<'_>, dataset: &str) -> Result<(), String> {
    let mut dataset = dataset.to_owned();
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
    let (system, log, scout) = (desk.system, desk.log, desk.hands);
    let load = |module: &str| hands::load(scout, &[module]);
    let find = |wanted: &Wanted, wait: Duration| hands::find(system, log, scout, wanted, wait);
    let unlocker = Unlocker::new(system, log, &settings).with_modules(&load).with_devices(&find);
    let mut unlocker = unlocker.with_terminals(desk.talk.terminals());
    unlocker.unlock_with(&dataset, Effort::Optional).map_err(|e| e.to_string())?;
    desk.talk.say(&format!("the key of {dataset} is loaded\n"));
    Ok(())
}
