//! `taproot replace`: a new disk in the place of one that a mirror lost. It gets partitions as a disk has that is left, with guids of its own,
//! a boot loader with the files of that one's, and is given to the pool. Nothing on it counts before its partition table is there, which is
//! written last; and what the system says of its disks is changed only then.

mod fstab;
mod mirror;
#[cfg(test)]
mod tests;

use crate::esp::config::{Config, PATH as LOADER};
use crate::firstboot::block::{self, Block};
use crate::firstboot::ids::{self, What};
use crate::firstboot::table::{Disk, Table};
use crate::firstboot::{grow, is_mounted, pool, random, save};
use crate::image::boot::grub::CODE;
use crate::image::disk::device::{self, Device};
use crate::image::disk::fat::{self, Copies, Lent};
use crate::image::disk::layout::{Layout, Partition, Role};
use crate::image::disk::{swap, table as gpt};
use crate::initramfs::tree::Tree;
use crate::machine::said;
use crate::output::printable;
use crate::progress::megabytes;
use crate::uuid;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use mirror::Mirror;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use taproot_init::hex::hex;
use taproot_init::sys::System;
use taproot_init::zfs::ioctl::Zfs;

const FSTAB: &str = "/etc/fstab";
/// What a vdev has for labels and the like, and in what it counts (`VDEV_LABEL_START_SIZE`, `VDEV_LABEL_END_SIZE`, `vdev_label_t`).
const LABELS: u64 = (4 << 20) + (512 << 10);
const LABEL: u64 = 256 << 10;
/// How long the kernel may take to see new partitions.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked for.
#[derive(Debug)]
pub struct Request<'a> {
    /// The new disk.
    pub device: &'a Path,
    /// Guid or path of the disk whose place it takes; `None`: the only one that is gone.
    pub gone: Option<&'a str>,
    /// All that is on it may go.
    pub yes: bool,
    /// Say what would be done.
    pub dry_run: bool,
}

/// The disks that are left.
struct Left {
    /// One of them, and its table.
    disk: Block,
    table: Table,
    /// The pool's partition on it.
    pool: u32,
    /// Serial numbers of the boot loader's partitions of all.
    esps: Vec<String>,
}

/// Where the boot loader's partition of the new disk belongs.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// Which disk of the mirror it is, from 0.
    nth: usize,
    /// Where it is mounted.
    at: PathBuf,
    /// Where another one is mounted, whose files it gets.
    from: PathBuf,
}

/// Prepares the disk and gives it to the pool. `say` is told of each step when it is done.
pub fn run(system: &dyn System, request: &Request<'_>, say: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let pool = grow::pool(None)?;
    let config =
        Zfs::new(system).pool_stats(&pool).with_context(|| format!("asking the kernel for the pool {pool}"))?;
    let mirror = Mirror::of(&config, &pool, request.gone)?;
    let left = Left::of(&mirror)?;
    let tree = Tree::open(Path::new("/")).context("/")?;
    let loader = Config::of(&tree)?.with_context(|| {
        format!("expected {LOADER}, which says where the boot loader's partitions are mounted, found none: this mirror is not looked after by taproot")
    })?;
    let text = fs::read_to_string(FSTAB).context(FSTAB)?;
    let place = placed(&loader, &text, &left.esps, &is_mounted)?;

    let device = Device::open(request.device)?;
    let layout = layout(&left.table, left.pool, (device.size, device.sector), &hex(&random::<16>()?))?;
    let layout = layout.of_member(place.nth);
    has_room(&layout, mirror.used)?;
    let copies = files(&place.from)?;
    let (shown, gone) = (request.device.display(), mirror.gone.path.display());
    if request.dry_run {
        let description = printable(&device.description);
        say(&format!(
            "{description}: all that is there would be gone, and it would get partitions as {} has them",
            left.disk.name
        ))?;
        say(&format!(
            "{} would be mounted there, with {} files of {}",
            place.at.display(),
            copies.len(),
            place.from.display()
        ))?;
        return say(&format!("pool {pool}: it would take the place of {gone} ({})", mirror.gone.guid));
    }
    if !request.yes {
        device::ask(std::iter::once(&device))?;
    }
    write(&device.file, &layout, &left.disk, &copies)?;
    say(&format!(
        "{shown}: partitions as {} has them, with {} files of {}",
        left.disk.name,
        copies.len(),
        place.from.display()
    ))?;
    drop(device);
    let part = announced(request.device, &layout)?;
    refer(&text, &place, &layout, request.device)?;
    say(&format!("{FSTAB}: {} is the new disk's", place.at.display()))?;
    let path = named(&part, &layout, &mirror.gone.path);
    let (old, path) = (mirror.gone.guid.to_string(), path.display().to_string());
    let words = ["replace", &pool, &old, &path];
    said(Command::new("zpool").args(words))
        .with_context(|| format!("the disk is ready, and the pool does not have it yet: zpool {}", words.join(" ")))?;
    say(&format!(
        "pool {pool}: {shown} takes the place of {old} ({gone}), and is filled: zpool status {pool} says how far"
    ))?;
    attach(&place, &layout, say)
}

impl Left {
    fn of(mirror: &Mirror) -> Result<Self> {
        let mut esps = Vec::new();
        let mut first = None;
        for leaf in &mirror.left {
            let place = pool::place(leaf)?;
            let disk = Block::open(&place.disk, false)?;
            let table = Table::read(&disk).with_context(|| disk.name.clone())?;
            for number in table.numbers().filter(|number| table.kind(*number) == Some(ids::ESP)) {
                let name = block::numbered(&place.disk, number)?.name;
                esps.push(ids::read(What::Fat, &Block::open(&name, false)?).with_context(|| name.clone())?);
            }
            first.get_or_insert((disk, table, place.number));
        }
        let (disk, table, pool) = first.context("expected a disk of the mirror that is left, found none")?;
        Ok(Self { disk, table, pool, esps })
    }
}

/// Where the new disk's boot loader belongs: in the first place that is no disk's that is left.
fn placed(config: &Config, fstab: &str, left: &[String], is_mounted: &dyn Fn(&Path) -> bool) -> Result<Place> {
    let is_left =
        |at: &Path| fstab::uuid_at(fstab, at).is_some_and(|uuid| left.iter().any(|esp| esp.eq_ignore_ascii_case(uuid)));
    let from = config.esps().find(|at| is_left(at) && is_mounted(at)).with_context(|| {
        let places: Vec<String> = config.esps().map(|at| at.display().to_string()).collect();
        format!("expected the boot loader's partition of a disk that is left to be mounted ({}), with its UUID in {FSTAB}; mount it, then try again", places.join(", "))
    })?;
    let free = config.esps().enumerate().find(|(_, at)| !is_left(at)).with_context(|| {
        format!("{LOADER}: expected a place for the new disk's boot loader, and all are those of disks that are left: add one to esp-copies, such as /efi3")
    })?;
    Ok(Place { nth: free.0, at: free.1.clone(), from: from.clone() })
}

/// Partitions as on another disk.
fn layout(table: &Table, pool: u32, (size, sector): (u64, u64), seed: &str) -> Result<Layout> {
    let mut parts: Vec<Partition> = Vec::new();
    for (expected, number) in (1..).zip(table.numbers()) {
        let role = if number == pool { Some(Role::Pool) } else { table.kind(number).and_then(Role::of_type) };
        let role = role.filter(|role| number == expected && parts.iter().all(|part| part.role != *role));
        let (role, span) = role.zip(table.span(number)).with_context(|| {
            format!("partition {number} of the disk that is left: expected BIOS boot, EFI system partition, swap and pool, each once and in a row, found something else: such a disk is prepared by hand")
        })?;
        parts.push(Partition { role, start: span.start, size: span.size });
    }
    ensure!(
        table.sector() == sector,
        "sectors of {} bytes expected, as the disk has that is left, and the new one's have {sector}",
        table.sector()
    );
    ensure!(
        parts.iter().any(|part| part.role == Role::Esp),
        "expected an EFI system partition on the disk that is left, found none"
    );
    Layout::like(parts, size, sector, seed)
}

/// Whether the pool would take it.
fn has_room(layout: &Layout, used: u64) -> Result<()> {
    let place = layout.find(Role::Pool).context("a partition for the pool expected")?;
    let room = (place.size / LABEL * LABEL).saturating_sub(LABELS);
    ensure!(
        room >= used,
        "the pool uses {} of each disk of the mirror, and the new one would have {} for it: choose a larger one",
        megabytes(used),
        megabytes(room)
    );
    Ok(())
}

/// Files of a partition, by their paths on it.
fn files(dir: &Path) -> Result<Copies> {
    let (mut all, mut dirs) = (Copies::new(), vec![(dir.to_owned(), String::new())]);
    while let Some((dir, above)) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("{}: listing", dir.display()))? {
            let entry = entry.with_context(|| format!("{}: listing", dir.display()))?;
            let name = entry.file_name().into_string();
            let name = name.map_err(|_| anyhow!("{}: expected a name of letters", entry.path().display()))?;
            if entry.file_type().with_context(|| entry.path().display().to_string())?.is_dir() {
                dirs.push((entry.path(), format!("{above}{name}/")));
            } else {
                all.insert(format!("{above}{name}"), entry.path());
            }
        }
    }
    Ok(all)
}

/// Writes everything but the pool. The table comes last: without one nothing on the disk counts.
fn write(file: &File, layout: &Layout, like: &dyn Disk, copies: &Copies) -> Result<()> {
    gpt::wipe(file, layout).context("wiping the ends of the device")?;
    let esp = layout.find(Role::Esp).context("an EFI system partition expected")?;
    fat::write_with(file, layout, &esp, &Lent::new(), copies)?;
    if let Some(place) = layout.find(Role::Swap) {
        swap::write(file, place.start, place.size, layout.swap_uuid()).context("writing swap space")?;
    }
    if let Some(place) = layout.find(Role::Bios) {
        // GRUB knows its own place on the disk, which is the same.
        let mut core = vec![0; usize::try_from(place.size).context("a partition for GRUB's core of that size")?];
        let mut sector = [0; CODE];
        like.read_at(place.start, &mut core).and_then(|()| like.read_at(0, &mut sector)).context("reading GRUB")?;
        file.write_all_at(&core, place.start).and_then(|()| file.write_all_at(&sector, 0)).context("writing GRUB")?;
    }
    file.sync_all().context("syncing the disk")?;
    gpt::write(file, layout)
}

/// Has fstab name the new disk's partitions in the place of those that are gone.
fn refer(text: &str, place: &Place, layout: &Layout, device: &Path) -> Result<()> {
    let mut new = fstab::with_esp(text, &place.at, &layout.serial_text());
    if layout.find(Role::Swap).is_some() {
        let disk = device.canonicalize().with_context(|| device.display().to_string())?;
        // One on the new disk itself is of a run that was cut off.
        let is_gone = |uuid: &&str| {
            let link = Path::new("/dev/disk/by-uuid").join(uuid);
            !link.exists()
                || block::partition(&link).is_ok_and(|found| disk.file_name().is_some_and(|name| *name == *found.disk))
        };
        new = fstab::with_swap(&new, fstab::swaps(text).find(is_gone), &uuid::text(layout.swap_uuid()));
    }
    let mode = fs::metadata(FSTAB).map_or(0o644, |meta| meta.permissions().mode() & 0o7777);
    save(Path::new(FSTAB), new.as_bytes(), mode)
}

/// Has the kernel read the new table; its name of the pool's partition.
fn announced(device: &Path, layout: &Layout) -> Result<String> {
    let disk = device.canonicalize().with_context(|| device.display().to_string())?;
    let number = layout.number(Role::Pool).context("a partition for the pool expected")?;
    let since = Instant::now();
    loop {
        // udev has it read, too, as soon as nobody writes there; one of both may come too early.
        let read = said(Command::new("blockdev").arg("--rereadpt").arg(&disk));
        let found = block::numbered(&disk.file_name().unwrap_or_default().to_string_lossy(), number);
        match (read, found) {
            (_, Ok(found)) if layout.find(Role::Pool).is_some_and(|place| place.start == found.span.start) => {
                return Ok(found.name);
            }
            (read, found) if since.elapsed() > PATIENCE => {
                let shown = disk.display();
                read.and(found).with_context(|| format!("{shown}: expected the kernel to see its new partitions"))?;
                bail!(
                    "{shown}: the kernel has other partitions than were written: restart the machine, then: taproot replace {shown}"
                );
            }
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// The name by which the pool is to have the new partition: that of the one before, if it leads there, or else its guid.
fn named(part: &str, layout: &Layout, before: &Path) -> PathBuf {
    // Without udev there are no such names.
    let _ = Command::new("udevadm").args(["settle", "--timeout=20"]).status();
    let guid = uuid::text(uuid::mixed(layout.guid(Role::Pool.name())));
    let names = [before.to_owned(), Path::new("/dev/disk/by-partuuid").join(guid)];
    let leads = |path: &PathBuf| path.canonicalize().is_ok_and(|to| to.file_name().is_some_and(|to| *to == *part));
    names.into_iter().find(leads).unwrap_or_else(|| Path::new("/dev").join(part))
}

/// Mounts what the new disk has beside the pool, in the place of what is not there any more.
fn attach(place: &Place, layout: &Layout, say: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let at = &place.at;
    fs::create_dir_all(at).with_context(|| format!("{}: making it", at.display()))?;
    let run = |program: &str, words: &[&str]| said(Command::new(program).args(words)).map(drop);
    let shown = at.display().to_string();
    if is_mounted(at) {
        run("umount", &["-l", &shown])?;
    }
    if Path::new("/run/systemd/system").is_dir() {
        run("systemctl", &["daemon-reload"])?;
    }
    run("mount", &[&shown]).with_context(|| {
        format!("the disk is ready, and its boot loader's files are not mounted yet: mount {shown}")
    })?;
    say(&format!("{shown}: the new disk's is mounted there, and the hooks of kernels write to it"))?;
    if layout.find(Role::Swap).is_some() {
        run("swapon", &["-U", &uuid::text(layout.swap_uuid())])?;
        say("swap of the new disk is used")?;
    }
    Ok(())
}
