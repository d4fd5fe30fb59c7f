//! Every spelling of the systems that exist: what it meant there, what it does here, and why if that differs.
//!
//! archzfs: its hook for mkinitcpio. debian: OpenZFS for initramfs-tools and the core of that. dracut: its core and OpenZFS's
//! module for it.

mod live;

use super::*;

struct Row {
    system: &'static str,
    line: &'static str,
    meant: &'static str,
    ours: fn(&Request) -> bool,
    /// Why it is not what was meant there; empty if it is.
    differs: &'static str,
}

const fn row(
    system: &'static str,
    line: &'static str,
    meant: &'static str,
    ours: fn(&Request) -> bool,
    differs: &'static str,
) -> Row {
    Row { system, line, meant, ours, differs }
}

fn is_dataset(r: &Request, name: &str) -> bool {
    let pool = name.split('/').next().unwrap();
    r.ours && r.root.value == Selector::Dataset { pool: pool.into(), dataset: name.into() }
}

fn is_pool(r: &Request, name: &str) -> bool {
    r.ours && r.root.value == Selector::Pool(name.into())
}

fn auto(r: &Request) -> bool {
    r.ours && r.root.value == Selector::Auto
}

fn snap(r: &Request, name: &str) -> bool {
    r.snapshot.as_ref().is_some_and(|s| s.value == name)
}

fn is_device(r: &Request, spec: &str) -> bool {
    !r.ours && r.root.value == Selector::Device(spec.into()) && r.problems.is_empty()
}

fn unusable(r: &Request) -> bool {
    matches!(r.root.value, Selector::Unusable(_)) && r.problems.len() == 1
}

fn waits(r: &Request, seconds: u64) -> bool {
    r.wait.value == Duration::from_secs(seconds)
}

fn force(r: &Request) -> bool {
    r.import.hostid_policy.value == HostidPolicy::Force && r.module_options.is_empty()
}

fn careful(r: &Request) -> bool {
    r.import.hostid_policy == Decided::new(HostidPolicy::Known, "default (known)") && r.module_options.is_empty()
}

fn level(r: &Request, level: u8) -> bool {
    r.console_level.as_ref().is_some_and(|l| l.value == level)
}

fn hostid(r: &Request, id: u32) -> bool {
    r.import.hostid.as_ref().is_some_and(|h| h.value == id)
}

fn fails(r: &Request, how: OnFailure) -> bool {
    r.rescue.on_failure.value == how
}

fn stops(r: &Request, stages: &[Stage]) -> bool {
    r.rescue.stops.iter().map(|s| s.value).eq(stages.iter().copied()) && r.notes.is_empty()
}

/// Nothing but the words themselves is in the request.
fn nothing(r: &Request) -> bool {
    let mut bare = parse(b"");
    bare.words.clone_from(&r.words);
    *r == bare
}

/// As [`nothing`], but the user is told.
fn noted(r: &Request) -> bool {
    let mut quiet = r.clone();
    !std::mem::take(&mut quiet.notes).is_empty() && nothing(&quiet)
}

fn option(r: &Request, text: &str) -> bool {
    r.module_options.iter().any(|o| format!("{}.{}", o.module, o.render()) == text)
}

fn layered(r: &Request, check: fn(&LayerSettings) -> bool) -> bool {
    r.layers.as_ref().is_some_and(check) && r.notes.is_empty() && r.problems.is_empty()
}

const ALWAYS: &str = "always done";
const LATER: &str = "left to the booted system or to the kernel";

#[rustfmt::skip] // one row a spelling
const ROWS: &[Row] = &[
    // root=, by spelling
    row("archzfs", "root=zfs", "bootfs of a pool", auto, ""),
    row("debian", "root=zfs boot=zfs", "dataset called zfs", auto, "archzfs and dracut mean the bootfs, and no pool is called zfs"),
    row("dracut", "root=zfs", "bootfs of a pool", auto, ""),
    row("archzfs", "root=zfs:", "ignored", auto, "dracut's meaning; ignoring it boots nothing"),
    row("debian", "root=zfs:", "empty name, shell", auto, "dracut's meaning"),
    row("dracut", "root=zfs:", "bootfs of a pool", auto, ""),
    row("archzfs", "root=zfs:AUTO", "ignored", auto, "the meaning of all others"),
    row("debian", "root=zfs:AUTO", "bootfs of a pool", auto, ""),
    row("dracut", "root=zfs:AUTO", "bootfs of a pool", auto, ""),
    row("sd-zfs", "root=ZFS=AUTO", "bootfs of a pool", auto, ""),
    row("archzfs", "root=ZFS=AUTO", "dataset called AUTO", auto, "sd-zfs's meaning; nobody calls a pool so"),
    row("archzfs", "root=ZFS=p/ROOT/d", "this dataset", |r| is_dataset(r, "p/ROOT/d"), ""),
    row("debian", "root=ZFS=p/d", "this dataset", |r| is_dataset(r, "p/d"), ""),
    row("dracut", "root=ZFS=p/d", "this dataset", |r| is_dataset(r, "p/d"), ""),
    row("sd-zfs", "root=ZFS=p/d", "this dataset", |r| is_dataset(r, "p/d"), ""),
    row("alpine", "root=ZFS=p/d", "this dataset", |r| is_dataset(r, "p/d"), ""),
    row("grub", "root=ZFS=p/ROOT/d ro quiet", "this dataset", |r| is_dataset(r, "p/ROOT/d"), ""),
    row("grub", "root=ZFS=p", "the pool's own dataset", |r| is_dataset(r, "p"), ""),
    row("archzfs", "root=ZFS=auto", "dataset called auto", |r| is_dataset(r, "auto"), ""),
    row("archzfs", "root=zfs:p/d", "ignored", |r| is_dataset(r, "p/d"), "the meaning of all others"),
    row("debian", "root=zfs:p/d", "this dataset", |r| is_dataset(r, "p/d"), ""),
    row("dracut", "root=zfs:p/d", "this dataset", |r| is_dataset(r, "p/d"), ""),
    row("zfsbootmenu", "root=zfs:p/ROOT/d quiet spl.spl_hostid=0x00bab10c", "this dataset", |r| is_dataset(r, "p/ROOT/d") && hostid(r, 0x00ba_b10c), ""),
    row("debian", "root=zfs:ZFS=p/d", "dataset called ZFS=p/d", |r| is_dataset(r, "p/d"), "dracut's meaning; the other name is impossible"),
    row("dracut", "root=zfs:ZFS=p/d", "this dataset", |r| is_dataset(r, "p/d"), ""),
    row("debian", "boot=zfs root=p/d", "this dataset", |r| is_dataset(r, "p/d"), ""),
    row("dracut", "root=p/d rootfstype=zfs", "this dataset", |r| is_dataset(r, "p/d"), ""),
    row("dracut", "root=p rootfstype=zfs", "the pool's own dataset", |r| is_dataset(r, "p"), ""),
    row("archzfs", "root=p/d", "no ZFS root", |r| unusable(r) && !r.ours, ""),
    row("debian", "boot=zfs", "bootfs of a pool", |r| auto(r) && r.root.why == "boot=zfs", ""),
    row("dracut", "rootfstype=zfs", "bootfs of a pool", |r| auto(r) && r.root.why == "rootfstype=zfs", ""),
    row("dracut", "", "bootfs of a pool", auto, ""),
    row("dracut", "root=", "bootfs of a pool", auto, ""),
    row("archzfs", "", "nothing to mount, shell", auto, "dracut's meaning; an image for ZFS is asked to boot ZFS"),
    row("mkinitcpio", "root=UUID=1-2", "this block device", |r| is_device(r, "UUID=1-2"), "as a hook, taproot steps aside"),
    row("mkinitcpio", "root=/dev/sda1", "this block device", |r| is_device(r, "/dev/sda1"), "as above"),
    row("mkinitcpio", "root=LABEL=x rootfstype=ext4", "this block device", |r| is_device(r, "LABEL=x") && r.root_fstype.as_ref().is_some_and(|t| t.value == ["ext4"]), "as above"),
    row("kernel", "root=8:2", "this block device", |r| is_device(r, "8:2"), ""),
    row("kernel", "root=/dev/nfs", "a root on the network", |r| unusable(r) && !r.ours, "not ours"),
    row("debian", "root=PARTUUID=1 fsck.mode=force fsckfix", "checked and repaired", |r| is_device(r, "PARTUUID=1") && r.fsck.mode.value == Fsck::Force && r.fsck.repair.value == Repair::Yes, ""),
    row("all", "root=zfs=p/d", "no ZFS root", |r| is_dataset(r, "p/d"), "a slip that can mean nothing else; guides for openSUSE have it"),
    row("all", "root=ZFS:p/d", "no ZFS root", |r| is_dataset(r, "p/d"), "a slip that can mean nothing else"),
    row("grub", "root=ZFS=p/ ro boot=zfs", "the pool's own dataset", |r| is_dataset(r, "p"), ""),
    row("grub", "root=ZFS=/ROOT/d ro", "the pool's name is lost", |r| unusable(r) && r.ours, "grub-probe could not read the pool; the message says what is missing"),
    row("nixos", "init=/nix/store/x/init root=fstab", "the root that a file of its initramfs names", |r| r.root.value == Selector::Auto && !r.ours && r.notes.len() == 1, "the bootfs of a pool, and told of; as a hook, taproot steps aside"),
    row("dracut", "root=/dev/sda1 rootfstype=zfs", "dataset called /dev/sda1", |r| unusable(r) && r.ours, "impossible name: refused"),
    // zfs=
    row("archzfs", "zfs=auto", "bootfs of a pool", auto, ""),
    row("archzfs", "zfs=bootfs", "bootfs of a pool", auto, ""),
    row("archzfs", "zfs=p/d", "this dataset", |r| is_dataset(r, "p/d"), ""),
    row("archzfs", "zfs=p/auto", "this dataset", |r| is_dataset(r, "p/auto"), ""),
    row("archzfs", "root=ZFS=p/a zfs=p/b", "zfs= wins", |r| is_dataset(r, "p/b"), ""),
    row("archzfs", "zfs=p/b root=ZFS=p/a", "zfs= wins", |r| is_dataset(r, "p/b"), ""),
    row("archzfs", "zfs=p", "the pool's own dataset", |r| is_pool(r, "p"), "the pool's bootfs: hardly any root is a pool's own dataset; root=ZFS=p is"),
    row("booster", "zfs=p/d", "this dataset", |r| is_dataset(r, "p/d"), ""),
    row("zfsbootmenu", "zfs=p/ROOT/d rw", "this dataset", |r| is_dataset(r, "p/ROOT/d"), ""),
    row("debian", "zfs=off", "services of the booted system are off", nothing, ""),
    row("debian", "zfs=no root=ZFS=p/d", "services of the booted system are off", |r| is_dataset(r, "p/d") && r.notes.is_empty(), ""),
    row("debian", "zfs=0", "services of the booted system are off", nothing, ""),
    row("debian", "zfs=OFF zfs=False zfs=on zfs=yes zfs=1", "services of the booted system are off or on", nothing, ""),
    // genkernel, and what initramfs-tools knows of it
    row("genkernel", "root=/dev/ram0 real_root=ZFS=p/d dozfs", "this dataset", |r| is_dataset(r, "p/d") && r.notes.is_empty(), ""),
    row("genkernel", "dozfs real_root=ZFS", "bootfs of a pool", |r| auto(r) && r.notes.is_empty(), ""),
    row("genkernel", "root=/dev/ram0 dozfs", "bootfs of a pool", auto, ""),
    row("genkernel", "root=/dev/ram0", "asks for the root", unusable, ""),
    row("genkernel", "dozfs root=ZFS", "bootfs of a pool", auto, ""),
    row("genkernel", "dozfs=force root=ZFS=p/d", "force every import", force, ""),
    row("genkernel", "dozfs=cache,force", "force, and import by the cache file", force, "there is no cache file"),
    row("genkernel", "dozfs=cache", "import by the cache file", nothing, "there is no cache file"),
    row("ruckusrd", "sqsh_layers=a:b sqsh_layerdev=LABEL=x sqsh_layerdir=d sqshfstype=ext4 overlayflags=index=on root_true_rw", "a root made of layers", |r| layered(r, |l| l.names.value == ["a", "b"] && l.dir.value == "d" && l.device.is_some() && l.device_types.is_some() && l.flags.is_some()), ""),
    row("ruckusrd", "sqsh_layers=a ram_layer=1G", "the upper in memory", |r| layered(r, |l| l.retained.is_some() && matches!(l.upper.value, Upper::Ram { .. })), ""),
    row("systemd", "taproot.layers=a roothash=a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0", "a root under dm-verity", |r| layered(r, |l| l.integrity.only.is_some()), "the layer's, not a partition's"),
    row("ruckusrd", "sqsh_layers=a to_ram", "layers in memory", |r| layered(r, |l| l.to_ram.is_some()), "the upper stays where it is"),
    row("ruckusrd", "sqsh_layers=a shell shell_mountdevs", "shells", |r| stops(r, &[Stage::Start, Stage::Mount]), ""),
    row("ruckusrd", "sqsh_layers=a shell_sqshprep maint", "shells", |r| stops(r, &[Stage::Mount, Stage::HandOver]), ""),
    row("ruckusrd", "sqsh_layers=a shell_mountoverlay", "a shell instead of the overlay", |r| stops(r, &[Stage::Mount]), "before anything is mounted"),
    row("dracut", "root=UUID=1 rd.overlay", "the root under an upper in memory", |r| layered(r, |l| l.itself() && matches!(l.upper.value, Upper::Ram { .. })), ""),
    row("dracut", "sqsh_layers=a rd.overlay.reset rd.overlay.readonly", "a fresh upper; it is a layer", |r| layered(r, |l| l.fresh.is_some() && l.retained.is_some()), "the old upper is set aside, not emptied"),
    row("dracut", "sqsh_layers=a rd.live.overlay.reset rd.live.overlay.readonly", "the same, by their older names", |r| layered(r, |l| l.fresh.is_some() && l.retained.is_some()), "the old upper is set aside, not emptied"),
    row("live-boot", "sqsh_layers=a persistence", "kept on a medium, the rest in memory", |r| layered(r, |l| l.persistence.is_some() && matches!(l.upper.value, Upper::Ram { .. })), ""),
    row("live-boot", "sqsh_layers=a persistence nopersistence", "nothing is kept", |r| layered(r, |l| l.persistence.is_none()), ""),
    row("live-boot", "sqsh_layers=a persistence persistence-label=x persistence-storage=file persistence-path=/d persistence-media=removable persistence-read-only persistence-encryption=none persistence-method=overlay", "where media are", |r| r.notes.is_empty() && layered(r, |l| l.persistence.as_ref().is_some_and(|kept| kept.labels.value == ["x"] && kept.path.value == "d" && kept.read_only.is_some())), ""),
    row("live-boot", "sqsh_layers=a persistence persistence-remove", "what was kept is removed", |r| r.notes.len() == 1, "reported, and nothing is removed"),
    row("hootnas", "sqsh_layers=a persistence persistence-zfs=p/live", "media in the pool p", |r| layered(r, |l| l.is_zvol("p/live")), "this zvol"),
    row("genkernel", "dozfs=always", "as dozfs", noted, "reported"),
    row("genkernel", "real_root=/dev/sda3 root=/dev/ram0", "this block device", |r| is_device(r, "/dev/sda3"), ""),
    row("genkernel", "real_rootflags=noatime real_init=/bin/sh init=/linuxrc", "mount options and init of the root", |r| r.root_flags.as_ref().unwrap().value == "noatime" && r.init.as_ref().unwrap().value == "/bin/sh", "init=/linuxrc is the initramfs's own: told of"),
    row("debian", "REAL_ROOT=ZFS=p/d", "this dataset", |r| is_dataset(r, "p/d") && r.notes.is_empty(), ""),
    row("debian", "REAL_ROOT=ZFS=p/e root=ZFS=p/d", "root= wins", |r| is_dataset(r, "p/d") && r.notes.len() == 1, ""),
    // rpool=, bootfs=
    row("debian", "root=zfs:AUTO rpool=p", "bootfs of this pool", |r| is_pool(r, "p"), ""),
    row("debian", "boot=zfs rpool=p", "documented: bootfs of this pool; done: shell", |r| is_pool(r, "p"), "as documented"),
    row("sd-zfs", "root=ZFS=AUTO rpool=p", "bootfs of this pool", |r| is_pool(r, "p"), ""),
    row("debian", "root=ZFS=p/d rpool=q", "rpool= has no effect", |r| is_dataset(r, "p/d") && r.notes.len() == 1, ""),
    row("debian", "root=ZFS=p/d rpool=p", "this dataset", |r| is_dataset(r, "p/d") && r.notes.is_empty(), ""),
    row("debian", "bootfs=p/d", "documented: this dataset; done: shell", |r| is_dataset(r, "p/d"), "as documented"),
    row("debian", "zfs-bootfs=p/d boot=zfs", "documented: this dataset; done: shell", |r| is_dataset(r, "p/d"), "as documented"),
    row("debian", "root=zfs:AUTO bootfs=p/d", "bootfs of a pool", |r| is_dataset(r, "p/d"), "as documented: it stands for the property"),
    row("debian", "bootfs=p/d root=ZFS=p/e", "root=", |r| is_dataset(r, "p/e") && r.notes.len() == 1, ""),
    row("debian", "bootfs=p/d rpool=q", "no root, shell", |r| is_dataset(r, "p/d") && r.notes.len() == 1, "the dataset is the more exact of the two"),
    // snapshots behind the root
    row("debian", "root=ZFS=p/d@s", "clone it", |r| is_dataset(r, "p/d") && snap(r, "s") && !r.snapshots.rollback.value, ""),
    row("debian", "root=zfs:p/d@s rollback=on", "roll back to it", |r| snap(r, "s") && r.snapshots.rollback.value, ""),
    row("debian", "root=ZFS=p/d@s rollback=yes", "roll back to it", |r| r.snapshots.rollback.value, ""),
    row("debian", "root=ZFS=p/d@s rollback=1", "roll back to it", |r| r.snapshots.rollback.value, ""),
    row("debian", "root=ZFS=p/d@s rollback=0", "clone it", |r| !r.snapshots.rollback.value && r.notes.is_empty(), ""),
    row("debian", "root=ZFS=p/d@s rollback", "clone it", |r| r.snapshots.rollback.value, "a bare word is on everywhere"),
    row("dracut", "root=ZFS=p/d@s", "refused by mount", |r| is_dataset(r, "p/d") && snap(r, "s"), "the meaning of the others"),
    row("archzfs", "zfs=p/d@s", "nothing mounted, shell", |r| is_dataset(r, "p/d") && snap(r, "s"), "the meaning of the others"),
    row("sd-zfs", "root=ZFS=p/d@s", "clone it", |r| is_dataset(r, "p/d") && snap(r, "s"), ""),
    row("sd-zfs", "root=ZFS=AUTO@s", "clone this snapshot of the bootfs", |r| auto(r) && snap(r, "s"), ""),
    row("debian", "root=zfs:AUTO@s", "dataset called AUTO", |r| auto(r) && snap(r, "s"), "sd-zfs's meaning"),
    row("debian", "bootfs=p/d@s", "clone it", |r| is_dataset(r, "p/d") && snap(r, "s"), ""),
    row("dracut", "root=zfs:p/d bootfs.snapshot=s", "take this snapshot first", |r| r.snapshots.take.as_ref().unwrap().value.as_deref() == Some("s") && is_dataset(r, "p/d") && r.module_options.is_empty(), ""),
    row("dracut", "bootfs.snapshot", "take a snapshot called as the kernel", |r| r.snapshots.take.as_ref().unwrap().value.is_none(), ""),
    row("dracut", "bootfs.rollback=s", "roll back to it", |r| r.snapshots.rollback_to.as_ref().unwrap().value.as_deref() == Some("s") && r.module_options.is_empty(), ""),
    row("dracut", "bootfs.rollback", "roll back to the snapshot called as the kernel", |r| r.snapshots.rollback_to.as_ref().unwrap().value.is_none(), ""),
    row("dracut", "bootfs.rollback=no", "roll back to a snapshot called no", noted, "what says no must not destroy"),
    // names
    row("debian", "root=ZFS=1234567890/d", "this dataset of the pool with this guid", |r| is_dataset(r, "1234567890/d"), ""),
    row("archzfs", "zfs=1234567890/d", "nothing mounted", |r| is_dataset(r, "1234567890/d"), "the meaning of initramfs-tools"),
    row("dracut", "root=zfs:my+pool/my+ds", "names with a space", |r| is_dataset(r, "my pool/my ds") && r.notes.len() == 1, ""),
    row("debian", "root=ZFS=p/my+ds", "impossible name", |r| is_dataset(r, "p/my ds") && r.notes.len() == 1, "dracut's meaning: no name holds a +"),
    row("mkinitcpio", "root=\"ZFS=p/my ds\"", "name with a space", |r| is_dataset(r, "p/my ds"), ""),
    row("mkinitcpio", "root='ZFS=p/my ds'", "name with a space", unusable, "single quotes are no quotes to the kernel, which splits the words for everybody else"),
    row("mkinitcpio", "root='ZFS=p/d'", "this dataset", |r| is_dataset(r, "p/d"), "no name holds a quote, so they are dropped where nothing was split"),
    row("all", "root=ZFS=\"p/d\"", "a dataset with quotes in its name", |r| is_dataset(r, "p/d"), "as above"),
    row("mkinitcpio", "zfs=p/d #x rw", "ends at #", |r| r.read_only.is_some(), "# is no comment to the kernel"),
    // 1.2 archzfs
    row("archzfs", "zfs_force=1", "force every import", force, ""),
    row("archzfs", "zfs_force", "force every import", force, ""),
    row("archzfs", "zfs_force=0", "force every import", careful, "0 is off"),
    row("archzfs", "zfs_force=1 zfs_force=no", "force every import", careful, "no is off, the last word decides"),
    row("archzfs", "zfs_wait=5", "wait up to 5 s", |r| waits(r, 5), ""),
    row("archzfs", "zfs_wait=soon", "not checked", noted, "reported"),
    row("archzfs", "zfs_import_dir=/dev/disk/by-id", "look there only", |r| r.import.dirs.iter().map(|d| d.value.as_str()).eq(["/dev/disk/by-id"]), ""),
    row("archzfs", "zfs_import_dir=/dev/a:/dev/b", "one directory of that name", |r| r.import.dirs.len() == 2, "separated, as in ZPOOL_IMPORT_PATH"),
    row("archzfs", "zfs_boot_only=1", "no import of the other pools", nothing, ""),
    row("archzfs", "zfs_boot_only=no", "no import of the other pools", nothing, ALWAYS),
    row("archzfs", "zfs=p/d rw", "import and mount writable", |r| r.read_only.as_ref().is_some_and(|ro| !ro.value) && !r.import.read_only.value, ""),
    row("archzfs", "zfs=p/d ro", "import read-only", |r| r.read_only.as_ref().is_some_and(|ro| ro.value) && !r.import.read_only.value, "mount read-only; a read-only import cannot be undone, taproot.import=ro asks for it"),
    row("archzfs", "zfs=p/d", "import read-only", |r| r.read_only.is_none() && !r.import.read_only.value, "the properties decide"),
    // 1.3 initramfs-tools
    row("debian", "zfs_force=on", "force", force, ""),
    row("debian", "zfs.force=yes", "force", force, ""),
    row("debian", "zfsforce=1", "force", force, ""),
    row("debian", "zfsforce", "nothing", force, "a bare word is on everywhere"),
    row("debian", "zfs_debug=on", "trace", |r| level(r, 10), "everything is logged; there is no script to trace"),
    row("debian", "zfs.debug=1", "trace", |r| level(r, 10) && r.module_options.is_empty(), "as above"),
    row("debian", "zfsdebug=yes", "trace", |r| level(r, 10), "as above"),
    row("debian", "zfs_debug=off", "nothing", nothing, ""),
    row("debian", "rootdelay=60", "sleep 60 s, then try modprobe for 60 s", |r| waits(r, 60), "the longest wait; nobody sleeps when the disks are there"),
    row("debian", "rootdelay=5", "sleep 5 s", |r| waits(r, 30), "never less than the default"),
    row("mkinitcpio", "rootdelay=45", "wait up to 45 s", |r| waits(r, 45), ""),
    row("kernel", "rootwait", "wait for ever", |r| r.wait.value == Duration::MAX, ""),
    row("kernel", "rootwait=90", "wait up to 90 s", |r| waits(r, 90), ""),
    row("debian", "ro", "nothing: properties decide", |r| r.read_only.is_some(), "the root is read-only until the booted system remounts it, or at once if that would not"),
    row("debian", "rootflags=noatime", "nothing", |r| r.root_flags.as_ref().unwrap().value == "noatime", "dracut's meaning"),
    row("debian", "quiet", "no progress", |r| level(r, 4) && r.quiet(), ""),
    row("debian", "panic=30", "no shell, reboot after 30 s", |r| fails(r, OnFailure::Reboot(Duration::from_secs(30))) && r.keys.prompt.value, ""),
    row("debian", "panic=0", "no shell, reboot at once", |r| fails(r, OnFailure::Reboot(Duration::ZERO)), ""),
    row("debian", "panic=-1", "no shell, reboot at once", |r| fails(r, OnFailure::Reboot(Duration::ZERO)), ""),
    row("debian", "init=/bin/sh", "this init", |r| r.init.as_ref().unwrap().value == "/bin/sh", ""),
    row("debian", "resume=UUID=1-2", "resume from there", |r| r.resume.device.as_ref().unwrap().value == "UUID=1-2" && r.notes.is_empty(), ""),
    row("debian", "resume=/dev/sda2 resume_offset=4096", "resume from a swap file", |r| r.resume.offset.as_ref().unwrap().value == 4096, ""),
    row("debian", "noresume", "do not resume", |r| r.resume.disabled.is_some(), ""),
    row("kernel", "hibernate=noresume", "do not resume", |r| r.resume.disabled.is_some(), ""),
    row("kernel", "hibernate=no", "do not resume", |r| r.resume.disabled.is_some(), ""),
    row("kernel", "hibernate=nocompress", "a property of the image", nothing, LATER),
    row("kernel", "resume=8:2", "resume from there", |r| r.resume.device.is_some() && r.notes.is_empty(), ""),
    row("kernel", "resumewait", "wait for the device for ever", |r| r.resume.wait.value == Duration::MAX, ""),
    row("kernel", "resumedelay=20", "sleep 20 s", |r| r.resume.wait.value == Duration::from_secs(20), "the longest wait"),
    row("debian", "break", "shell before premount", |r| stops(r, &[Stage::Import]), ""),
    row("debian", "break=top", "shell before anything", |r| stops(r, &[Stage::Start]), ""),
    row("debian", "break=modules", "shell before modules are loaded", |r| stops(r, &[Stage::Start]), "the nearest stage"),
    row("debian", "break=premount", "shell before the pool is imported", |r| stops(r, &[Stage::Import]), ""),
    row("debian", "break=mount", "shell before the pool is imported", |r| stops(r, &[Stage::Mount]), "before mounting, as the name says; premount is before the import"),
    row("debian", "break=mountroot", "shell before the pool is imported", |r| stops(r, &[Stage::Mount]), "as above"),
    row("debian", "break=bottom", "shell after mounting", |r| stops(r, &[Stage::HandOver]), ""),
    row("debian", "break=init", "shell before init", |r| stops(r, &[Stage::HandOver]), ""),
    row("debian", "break=init,top,bottom", "both", |r| stops(r, &[Stage::Start, Stage::HandOver]), ""),
    row("debian", "break=tpo", "nothing", noted, "reported"),
    row("debian", "break=0", "nothing", nothing, ""),
    row("debian", "debug", "log to a file", |r| level(r, 10), "the log is always kept; the console shows it"),
    row("debian", "debug=vc", "trace to the console", |r| level(r, 10), ""),
    row("debian", "blacklist=a netconsole=x ip=dhcp nfsroot=x netboot=nfs loop=x loopflags=x loopfstype=x cryptopts=x BOOTIF=x hwaddr=x", "network, loop and LUKS roots", nothing, LATER),
    row("debian", "drop_capabilities=x fastboot forcefsck fsck.repair=yes fsckfix recovery ubi.mtd=0", "checks and init's start", |r| r.notes.is_empty() && auto(r), LATER),
    // 1.5 dracut
    row("dracut", "zfs_force=0", "off", careful, ""),
    row("dracut", "rootflags=noatime,zfsutil", "mount options", |r| r.root_flags.is_some(), ""),
    row("dracut", "spl_hostid=00bab10c", "hostid 0x00bab10c", |r| hostid(r, 0x00ba_b10c) && r.module_options.is_empty(), ""),
    row("dracut", "spl_hostid=0x00bab10c", "hostid 0x00bab10c", |r| hostid(r, 0x00ba_b10c), ""),
    row("dracut", "spl_hostid=bab10c", "nothing", noted, "reported"),
    row("dracut", "spl_hostid=00000000", "a random hostid", |r| hostid(r, 0), "0, as ZFSBootMenu means it"),
    row("dracut", "rd.break", "shell before switch_root", |r| stops(r, &[Stage::HandOver]), ""),
    row("dracut", "rd.break=cmdline", "shell after the command line", |r| stops(r, &[Stage::Start]), ""),
    row("dracut", "rd.break=pre-udev", "shell before udev", |r| stops(r, &[Stage::Start]), ""),
    row("dracut", "rd.break=pre-trigger", "shell before coldplug", |r| stops(r, &[Stage::Start]), ""),
    row("dracut", "rd.break=initqueue", "shell before waiting for devices", |r| stops(r, &[Stage::Start]), ""),
    row("dracut", "rd.break=pre-mount", "shell after the import", |r| stops(r, &[Stage::Mount]), ""),
    row("dracut", "rd.break=mount", "shell about mounting", |r| stops(r, &[Stage::Mount]), ""),
    row("dracut", "rd.break=pre-pivot", "shell before switch_root", |r| stops(r, &[Stage::HandOver]), ""),
    row("dracut", "rd.break=cleanup", "shell before switch_root", |r| stops(r, &[Stage::HandOver]), ""),
    row("dracut", "rd.shell=0", "no shell", |r| fails(r, OnFailure::Locked), ""),
    row("dracut", "rd.shell", "a shell", nothing, ""),
    row("dracut", "rd.emergency=reboot", "reboot instead of a shell", |r| fails(r, OnFailure::Reboot(Duration::from_secs(10))), "after 10 s, so that the reason can be read"),
    row("dracut", "rd.shell=0 rd.emergency=poweroff", "power off instead of a shell", |r| fails(r, OnFailure::PowerOff(Duration::from_secs(10))), ""),
    row("dracut", "rd.emergency=halt rd.shell=0", "halt instead of a shell", |r| fails(r, OnFailure::PowerOff(Duration::from_secs(10))), "powered off: a halted machine helps nobody"),
    row("dracut", "rd.debug", "trace", |r| level(r, 10) && r.module_options.is_empty(), "everything is logged; there is no script to trace"),
    row("dracut", "rd.skipfsck", "no checks", |r| r.fsck.mode.value == Fsck::Skip, ""),
    row("dracut", "rd.retry=5 rd.timeout=0 rd.info rd.hostonly=0 rd.cmdline=ask rootfallback=x", "dracut's own queue", nothing, "taproot.wait and taproot.fallback are ours"),
    row("dracut", "rd.driver.blacklist=x rd.luks=0 rd.lvm=0 rd.md=0 rd.auto", "other storage below", nothing, "modprobe.blacklist= works"),
    // 1.6 mkinitcpio
    row("mkinitcpio", "rw", "mount writable", |r| r.read_only.as_ref().is_some_and(|ro| !ro.value), ""),
    row("mkinitcpio", "break=y", "shell before mounting", |r| stops(r, &[Stage::Import]), ""),
    row("mkinitcpio", "break=premount", "shell before mounting", |r| stops(r, &[Stage::Import]), ""),
    row("mkinitcpio", "break=postmount", "shell after mounting", |r| stops(r, &[Stage::HandOver]), ""),
    row("mkinitcpio", "disablehooks=a earlymodules=b fstype=zfs cryptdevice=x cryptkey=x crypto=x sleeptime=1 sleepdevice=x", "hooks", nothing, "there are none; with mkinitcpio they still work"),
    row("mkinitcpio", "rd.log=all fsck.mode=skip", "logging, checks", |r| r.notes.is_empty() && auto(r), LATER),
    // 1.7 others
    row("sd-zfs", "zfs_force=1", "force", force, ""),
    row("sd-zfs", "zfs_ignorecache=1", "no zpool.cache", nothing, ""),
    row("sd-zfs", "root=ZFS=p/d rw", "mount writable", |r| is_dataset(r, "p/d"), ""),
    row("alpine", "root=ZFS=p/d zfs_force=1 rootflags=ro", "as it says", |r| is_dataset(r, "p/d") && r.root_flags.is_some(), ""),
    row("zfsbootmenu", "zbm.import_policy=force", "its own", noted, "told which word of ours it would be"),
    row("zfsbootmenu", "zbm.prefer=p!!", "its own", noted, "as above"),
    row("zfsbootmenu", "zbm.timeout=5", "its own", noted, "as above"),
    row("zfsbootmenu", "zbm.show", "its own", noted, "as above"),
    row("zfsbootmenu", "zbm.skip", "its own", noted, "as above"),
    row("zfsbootmenu", "zbm.retry_delay=5 zbm.wait_for=x zbm.set_hostid zbm.skip_hooks=x zbm.hookroot=x zbm.sort_key=x zbm.autosize=0 zbm.kcl_override=x zbm.import_delay=1 zbm.force_import", "its own", noted, "as above"),
    row("kernel", "spl.spl_hostid=0x00bab10c", "hostid", |r| hostid(r, 0x00ba_b10c) && option(r, "spl.spl_hostid=0x00bab10c"), ""),
    row("kernel", "spl.spl_hostid=12237068", "hostid", |r| hostid(r, 0x00ba_b90c), ""),
    row("kernel", "spl.spl_hostid=00bab10c", "the module does not load", |r| r.problems.len() == 1 && r.module_options.is_empty() && r.import.hostid.is_none(), "left out, so that the boot goes on"),
    row("kernel", "spl.spl_hostid", "the module does not load", |r| r.problems.len() == 1 && r.module_options.is_empty(), "left out, so that the boot goes on"),
    row("kernel", "spl.spl_hostid=010", "hostid 8", |r| hostid(r, 8), ""),
    row("kernel", "spl.spl_hostid=0", "hostid of the file", |r| r.import.hostid.is_none() && option(r, "spl.spl_hostid=0"), ""),
    row("kernel", "spl.spl_hostid_path=/x", "file with the hostid", |r| option(r, "spl.spl_hostid_path=/x"), ""),
    row("kernel", "zfs.zfs_arc_max=1", "option of the module", |r| option(r, "zfs.zfs_arc_max=1"), ""),
    row("kernel", "loglevel=7", "console level", |r| level(r, 7), ""),
    row("guides", "hostid=00bab10c", "nothing, anywhere", noted, "told the word that works"),
];

#[test]
fn every_spelling() {
    for row in ROWS.iter().chain(live::ROWS) {
        let request = parse(row.line.as_bytes());
        assert!(
            (row.ours)(&request),
            "{} `{}` (meant: {}; differs: {:?}): {request:#?}",
            row.system,
            row.line,
            row.meant,
            row.differs
        );
    }
}

/// The table covers every word of other systems that the parser knows.
#[test]
fn every_known_word_is_in_the_table() {
    for known in known::all().filter(|known| !known.word.starts_with("taproot.")) {
        let there = ROWS
            .iter()
            .chain(live::ROWS)
            .any(|row| tokenize(row.line.as_bytes()).iter().any(|word| word.key == known.word));
        let elsewhere = ["modprobe.blacklist", "module_blacklist"].contains(&known.word);
        assert!(there || elsewhere, "{}", known.word);
    }
}
