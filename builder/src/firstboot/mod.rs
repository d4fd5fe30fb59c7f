//! What a copy of an image does in its first boot, so that it becomes a machine of its own (`taproot first-boot`), and at each boot, so
//! that it makes use of a disk that has become larger (`taproot grow`). Only where an image asks for it: without [`MARKER`] nothing is
//! renewed.
//!
//! The power may go at any moment. What is to become of which identity is written down before the first is changed ([`STATE`]), a step that
//! is done says so by what it has changed, and the marker goes last, behind what was written down. Between the change of an identity and that of the files that refer to
//! it a rule of udev has devices go by both names, so that the boot in between finds them.

pub mod block;
pub mod esp;
pub mod grow;
mod identity;
pub mod ids;
pub mod pool;
pub mod table;
#[cfg(test)]
mod tests;

use crate::esp::config::{Config, PATH as LOADER, Recipe};
use crate::esp::{refresh, store::Mounted};
use crate::initramfs::tree::Tree;
use crate::output::Cleanup;
use crate::uuid;
use anyhow::{Context, Result, ensure};
use block::{Block, Partition, Within, numbered};
pub use identity::random;
pub(crate) use identity::save;
use ids::{Change, What};
use pool::Leaf;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use table::Table;
use taproot_init::pools::hostid;
use taproot_init::sys::System;
use taproot_init::zfs::ioctl::Zfs;

/// An image's word that this is a copy of it, which has not become a machine of its own.
pub const MARKER: &str = "/etc/taproot/first-boot";
/// What is renewed, and what was before.
const STATE: &str = "/var/lib/taproot/first-boot.json";
/// Files that refer to partitions and file systems.
const REFERENCES: [&str; 7] = [
    "etc/fstab",
    "etc/crypttab",
    "etc/default/grub",
    "etc/kernel/cmdline",
    "etc/initramfs-tools/conf.d/resume",
    "etc/taproot/initramfs.toml",
    "etc/taproot/loader.toml",
];
/// The rule by which devices go by both names until the files have the new ones, and the one for the rest of this boot.
const RULE: &str = "etc/udev/rules.d/99-taproot-first-boot.rules";
const RULE_NOW: &str = "run/udev/rules.d/99-taproot-first-boot.rules";
/// Bytes that are written at once by way of a disk: what shares them with a neighbour's is left alone.
const PAGE: u64 = 4096;
const EFIVARS: &str = "sys/firmware/efi/efivars";

/// What is written down before anything is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Of this object; grows when what is there changes its meaning.
    pub format: u32,
    /// The pool.
    pub pool: String,
    /// Its guid before.
    pub pool_guid: String,
    /// Identities on its disks.
    pub changes: Vec<Change>,
    /// What people should know.
    pub notes: Vec<String>,
}

/// Renews what a copy must not share with others, and makes what is missing. `say` is told of each step when it is done.
pub fn run(system: &dyn System, dry_run: bool, say: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let root = Path::new("/");
    ensure!(
        Path::new(MARKER).exists(),
        "this is no copy of an image that waits for its first boot ({MARKER} is not there); nothing is changed"
    );
    if !dry_run {
        // First, and whatever becomes of the rest: without keys nobody reaches a machine that has no screen.
        let made = [identity::machine_id(root)?, identity::host_keys(root)?, identity::seed(root)?];
        for made in made.into_iter().flatten() {
            say(&made)?;
        }
    }
    let zfs = Zfs::new(system);
    let pool = grow::pool(None)?;
    let config = zfs.pool_stats(&pool).with_context(|| format!("asking the kernel for the pool {pool}"))?;
    let guid = config.u64("pool_guid").unwrap_or(0).to_string();
    let leaves = pool::leaves(&config)?;
    pool::all_there(&pool, &leaves)?;
    let state = match read(root)? {
        Some(state) => state,
        None => planned(root, &pool, &guid, &leaves)?,
    };
    for note in &state.notes {
        say(note)?;
    }
    if dry_run {
        for change in &state.changes {
            say(&format!("{} would become {}", describe(change), change.new))?;
        }
        return say(&format!(
            "the pool {pool} would get a new guid; machine-id, ssh host keys and random seed where they are missing"
        ));
    }
    for (dir, partition) in other_copies(root, &leaves)? {
        esp::remount(&dir, &partition)?;
        say(&format!("{}: {} is mounted there now, instead of that of another copy", dir.display(), partition.name))?;
    }
    save(Path::new(STATE), &serde_json::to_vec_pretty(&state).context("writing the state")?, 0o600)?;
    renew(root, &state, &leaves, say)?;
    if guid == state.pool_guid {
        zfs.new_guid(&pool)?;
        say(&format!("pool {pool}: new guid (it was {guid})"))?;
    }
    if let Some(wrong) = identity::hostid(root, hostid::own(system)) {
        say(&wrong)?;
    }
    // The state before the marker: it must not be there when somebody makes an image of this machine.
    for path in [STATE, MARKER] {
        fs::remove_file(path).with_context(|| format!("{path}: removing"))?;
    }
    say("this copy of the image is a machine of its own now")
}

/// Where the partition of another copy is mounted for the boot loader's files, and the one that belongs there.
fn other_copies(root: &Path, leaves: &[Leaf]) -> Result<Vec<(PathBuf, Partition)>> {
    let tree = Tree::open(root).with_context(|| root.display().to_string())?;
    let Some(config) = Config::of(&tree)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for dir in config.esps() {
        found.extend(esp::meant(dir, leaves)?.map(|partition| (dir.clone(), partition)));
    }
    Ok(found)
}

/// What an earlier run, which the power ended, has written down.
fn read(root: &Path) -> Result<Option<State>> {
    let path = root.join(STATE.trim_start_matches('/'));
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("{}: reading", path.display()))?;
    let state: State = serde_json::from_str(&text).with_context(|| format!("{}: reading", path.display()))?;
    ensure!(state.format == 1, "{}: format {} is not known", path.display(), state.format);
    Ok(Some(state))
}

/// What is to be renewed on the disks of the pool.
fn planned(root: &Path, pool: &str, guid: &str, leaves: &[Leaf]) -> Result<State> {
    let (mut changes, mut notes) = (Vec::new(), Vec::new());
    for leaf in leaves {
        let place = pool::place(leaf)?;
        let disk = Block::open(&place.disk, false)?;
        let table = Table::read(&disk).with_context(|| disk.name.clone())?;
        for (number, old) in ids::guids(&table) {
            let what = if number == 0 { What::Disk } else { What::Partition };
            if what == What::Partition && is_booted_by_firmware(root, &table, number) {
                notes.push(format!(
                    "{} partition {number} keeps its guid: the firmware has it in its boot entries",
                    disk.name
                ));
                continue;
            }
            changes.push(Change {
                what,
                vdev: leaf.guid,
                partition: number,
                old,
                new: uuid::text(uuid::of_random(random()?)),
            });
        }
        for number in table.numbers() {
            let what = match table.kind(number) {
                Some(ids::ESP) => What::Fat,
                Some(ids::SWAP) => What::Swap,
                _ => continue,
            };
            let Partition { name, span, .. } = numbered(&place.disk, number)?;
            if what == What::Swap && !span.start.is_multiple_of(PAGE) {
                notes.push(format!(
                    "{name} is left as it is: it begins within a page, and its header is written by pages"
                ));
                continue;
            }
            match ids::read(what, &Block::open(&name, false)?) {
                Ok(old) => {
                    let bytes = random()?;
                    let new =
                        if what == What::Fat { ids::random_serial(bytes) } else { uuid::text(uuid::of_random(bytes)) };
                    changes.push(Change { what, vdev: leaf.guid, partition: number, old, new });
                }
                Err(error) => notes.push(format!("{name} is left as it is: {error:#}")),
            }
        }
    }
    Ok(State { format: 1, pool: pool.to_owned(), pool_guid: guid.to_owned(), changes, notes })
}

/// Whether a boot entry of the firmware names a partition by its guid: it would not find it by another one.
fn is_booted_by_firmware(root: &Path, table: &Table, number: u32) -> bool {
    let Some(guid) = table.guid(Some(number)) else { return false };
    let entries = fs::read_dir(root.join(EFIVARS)).into_iter().flatten().flatten();
    let boots = entries.filter(|entry| is_boot_entry(&entry.file_name().to_string_lossy()));
    boots.filter_map(|entry| fs::read(entry.path()).ok()).any(|bytes| bytes.windows(16).any(|found| *found == guid))
}

/// Whether a variable of the firmware is a boot entry: `Boot`, four hexadecimal digits, and whose it is.
fn is_boot_entry(name: &str) -> bool {
    let number = name.strip_prefix("Boot").and_then(|rest| rest.split_once('-')).map(|(number, _)| number);
    number.is_some_and(|number| number.len() == 4 && number.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn describe(change: &Change) -> String {
    let Change { partition, old, .. } = change;
    match change.what {
        What::Disk => format!("guid of the disk, {old},"),
        What::Partition => format!("guid of partition {partition}, {old},"),
        What::Fat => format!("serial number of the file system on partition {partition}, {old},"),
        What::Swap => format!("UUID of the swap area on partition {partition}, {old},"),
    }
}

/// Disks, then the files that refer to them, then udev and systemd.
fn renew(root: &Path, state: &State, leaves: &[Leaf], say: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    save(&root.join(RULE), rule(&state.changes).as_bytes(), 0o644)?;
    let mut nodes = Vec::new();
    for leaf in leaves {
        let place = pool::place(leaf)?;
        for node in renew_disk(&place, leaf.guid, &state.changes, say)? {
            nodes.push(format!("/dev/{node}"));
        }
    }
    let mut cmdline = false;
    for path in REFERENCES.map(|path| root.join(path)) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let new = ids::replaced(&text, &state.changes);
        if new != text {
            let mode = fs::metadata(&path).map_or(0o644, |meta| meta.permissions().mode() & 0o7777);
            save(&path, new.as_bytes(), mode)?;
            say(&format!("{}: refers to the new identities", path.display()))?;
        }
        // Again if the power went before the menus were made.
        let renewed = ids::mentions(&new, &state.changes);
        cmdline |= path.ends_with(LOADER.trim_start_matches('/')) && renewed;
    }
    if cmdline {
        menus(root)?;
    }
    announce(root, &nodes)
}

/// Renews what is on one disk; the names of what udev has to look at again.
fn renew_disk(
    place: &Partition,
    vdev: u64,
    changes: &[Change],
    say: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Vec<String>> {
    let of = |what: &[What]| -> Vec<&Change> {
        changes.iter().filter(|change| change.vdev == vdev && what.contains(&change.what)).collect()
    };
    let mut nodes = vec![place.disk.clone()];
    let disk = Block::open(&place.disk, true)?;
    for change in of(&[What::Fat, What::Swap]) {
        let Partition { name, span, .. } = numbered(&place.disk, change.partition)?;
        let device = Block::open(&name, true)?;
        let now = ids::read(change.what, &device).with_context(|| name.clone())?;
        if now != change.new {
            ensure!(now == change.old, "{name}: is {now}; expected {} or {}", change.old, change.new);
            // A mounted file system has its boot sector in the partition's cache, and writes it from there.
            let within = Within { disk: &disk, partition: &device, span };
            let way: &dyn table::Disk = if change.what == What::Swap { &within } else { &device };
            ids::write(change.what, way, &change.new).with_context(|| name.clone())?;
            say(&format!("{name}: {} {}", describe(change), format_args!("is {} now", change.new)))?;
        }
    }
    let mut table = Table::read(&disk).with_context(|| disk.name.clone())?;
    if ids::renew_guids(&mut table, &of(&[What::Disk, What::Partition])).with_context(|| disk.name.clone())? {
        table.write(&disk).with_context(|| disk.name.clone())?;
        say(&format!("{}: new guids of the disk and its partitions", place.disk))?;
    }
    for number in table.numbers() {
        nodes.push(numbered(&place.disk, number)?.name);
    }
    Ok(nodes)
}

/// Links by the old identities beside those by the new ones.
fn rule(changes: &[Change]) -> String {
    let mut out =
        String::from("# Of taproot first-boot: devices go by both names until all files have the new ones.\n");
    for change in changes {
        let (key, link) = match change.what {
            What::Disk => continue,
            What::Partition => ("ID_PART_ENTRY_UUID", "by-partuuid"),
            What::Fat | What::Swap => ("ID_FS_UUID", "by-uuid"),
        };
        let Change { old, new, .. } = change;
        let _ = writeln!(out, "SUBSYSTEM==\"block\", ENV{{{key}}}==\"{new}\", SYMLINK+=\"disk/{link}/{old}\"");
    }
    out
}

/// Makes anew what the boot loader has of the command line.
fn menus(root: &Path) -> Result<()> {
    let tree = Tree::open(root).with_context(|| root.display().to_string())?;
    let Some(config) = Config::of(&tree)? else { return Ok(()) };
    let recipe = Recipe::of(&tree, &config)?;
    for dir in config.esps() {
        let esp = tree.place(dir)?;
        ensure!(
            is_mounted(dir),
            "{} is not mounted, and the boot loader has its files there: mount it, then: taproot first-boot",
            esp.display()
        );
        refresh(&mut Mounted::new(&esp, &Cleanup::default()), &recipe)?;
    }
    Ok(())
}

/// Whether something is mounted at a directory.
pub(crate) fn is_mounted(dir: &Path) -> bool {
    let mounts = fs::read_to_string(grow::MOUNTS).unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == dir))
}

/// Has udev and systemd look anew, now that files and disks agree. For the rest of this boot devices go by both names: systemd holds
/// mounts that it began by the old ones.
fn announce(root: &Path, nodes: &[String]) -> Result<()> {
    let (rule, now) = (root.join(RULE), root.join(RULE_NOW));
    if rule.exists() {
        if root.join("run/udev").is_dir() {
            let text = fs::read(&rule).with_context(|| format!("{}: reading", rule.display()))?;
            save(&now, &text, 0o644)?;
        }
        fs::remove_file(&rule).with_context(|| format!("{}: removing", rule.display()))?;
    }
    if !root.join("run/udev/control").exists() {
        return Ok(());
    }
    let done = |program: &str, args: &[&str]| -> Result<()> {
        let status = Command::new(program).args(args).status().with_context(|| format!("starting {program}"))?;
        ensure!(status.success(), "{program} {}: {status}", args.join(" "));
        Ok(())
    };
    done("udevadm", &["control", "--reload"])?;
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    done("udevadm", &[&["trigger", "--action=change", "--settle"][..], &nodes].concat())?;
    if root.join("run/systemd/system").is_dir() {
        done("systemctl", &["daemon-reload"])?;
    }
    Ok(())
}
