//! What the packed system has its root on: a pool or a file system, and which types of file systems its boot mounts.

use super::host::{self, Chain};
use super::layered::{self, Layered};
use super::members::{self, Member};
use super::preflight::Remarks;
use super::tree::{self, Tree, TreeError};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use taproot_init::image::{ExpectedPool, ExpectedRoot};
use taproot_init::plan::fstab::{self, FstabEntry};
use taproot_init::sys::linux::Linux;
use taproot_init::zfs::ioctl::Zfs;
use taproot_init::zfs::keys::Encryption;

/// A type of file system that the boot mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// As mount(8) calls it.
    pub fstype: String,
    /// What is mounted: `the root`, `/usr`.
    pub what: &'static str,
}

/// What is known of the root when packing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The pool that the root is on.
    pub pools: Vec<ExpectedPool>,
    /// The disks of that pool.
    pub members: Vec<Member>,
    /// The file system that the root is, if it is no dataset and this machine's.
    pub plain: Option<ExpectedRoot>,
    /// What the root's disks hang on.
    pub disks: Vec<Chain>,
    /// Types besides zfs.
    pub types: Vec<Mounted>,
    /// That it is made of layers, and what of.
    pub layered: Option<Layered>,
    /// How the root is encrypted, and its key kept.
    pub key: Option<Encryption>,
    /// Why this image could not boot this root.
    pub problems: Vec<String>,
    /// What people should know.
    pub notes: Vec<String>,
}

impl Known {
    /// Of this machine if `root` is `/`; else what the tree's own fstab says.
    pub fn find(tree: &Tree) -> Result<Self, TreeError> {
        let fstab = tree.read_if_there("/etc/fstab", tree::TEXT)?.unwrap_or_default();
        let fstab = fstab::parse(&fstab);
        let mut known = if tree.is_running() { Self::of_this_machine(tree) } else { Self::default() };
        if !tree.is_running()
            && let Some(root) = in_fstab(&fstab, "/", "the root")
        {
            known.of_fstab(tree, root);
        }
        known.types.extend(in_fstab(&fstab, "/usr", "/usr"));
        Ok(known)
    }

    /// Whether a pool is what the image boots from, as far as is known.
    pub fn needs_zfs(&self) -> bool {
        match &self.layered {
            Some(layered) => layered.zfs || !self.pools.is_empty(),
            None => self.types.iter().all(|mounted| mounted.what != "the root"),
        }
    }

    /// Takes what the fstab of another tree says of its root, unless that is over: many systems on ZFS keep the line of the file
    /// system that they were installed on.
    fn of_fstab(&mut self, tree: &Tree, root: Mounted) {
        let fstype = &root.fstype;
        if tree.is_on_zfs() {
            self.notes.push(format!(
                "fstab of {tree} says that / is {fstype}, but the tree lies on ZFS: packed for a root in a pool"
            ));
            return;
        }
        if tree.program("zpool").is_some() {
            self.notes.push(format!(
                "fstab of {tree} says that / is {fstype}, so this image needs no ZFS; if its root is in a pool, take that line out"
            ));
        }
        self.types.push(root);
    }

    fn of_this_machine(tree: &Tree) -> Self {
        let mounts = mounts();
        if let Some(report) = layered::report(tree, &mounts) {
            return layered::known(&report, &mounts, (Path::new("/sys"), Path::new("/dev")), Self::dataset);
        }
        match of(&mounts) {
            Some(On::Dataset(name)) => Self::dataset(name),
            Some(On::Plain(entry)) => match plain(entry, Path::new("/sys"), Path::new("/dev")) {
                Ok((root, disk)) => Self {
                    types: vec![Mounted { fstype: root.fstype.clone(), what: "the root" }],
                    disks: vec![host::chain(Path::new("/sys"), &disk)],
                    plain: Some(root),
                    ..Self::default()
                },
                Err(NoDisk::Elsewhere(why)) => Self {
                    notes: vec![format!("the image does not expect this machine's root: {why}")],
                    ..Self::default()
                },
                Err(NoDisk::MadeUp(why)) => Self { problems: vec![format!("the root {why}")], ..Self::default() },
            },
            None => Self::default(),
        }
    }

    fn dataset(dataset: &str) -> Self {
        let name = dataset.split(['/', '@']).next().unwrap_or_default();
        let (sys, dev) = (Path::new("/sys"), Path::new("/dev"));
        let found = members::members(sys, dev, name);
        let mut known = match members::expected(name, &found, members::imported_guid(name)) {
            Ok((pool, own)) => {
                let Remarks { problems, notes } = members::trouble(name, &own, members::vdevs(name).as_ref());
                let disks = own.iter().map(|member| host::chain(sys, &member.device)).collect();
                Self { problems, notes, pools: vec![pool], disks, members: own, ..Self::default() }
            }
            Err(why) => {
                let why = format!("/ is on pool {name}, but none of its disks was found: {why}");
                Self { problems: vec![why], ..Self::default() }
            }
        };
        let system = Linux::new();
        known.key = Zfs::new(&system).encryption(dataset).ok().flatten();
        known
    }
}

/// What is mounted now.
pub fn mounts() -> Vec<FstabEntry> {
    fstab::parse(&fs::read("/proc/self/mounts").unwrap_or_default())
}

/// An image below `/boot` is for the boot loader, which looks at the file system that fstab has there.
pub fn not_mounted(tree: &Tree, image: &Path) -> Result<Option<String>, TreeError> {
    if !tree.is_running() {
        return Ok(None);
    }
    let fstab = tree.read_if_there("/etc/fstab", tree::TEXT)?.unwrap_or_default();
    Ok(absent(&fstab::parse(&fstab), &mounts(), image).map(|place| {
        let image = image.display();
        format!("{place} is not mounted, though fstab names it: the boot loader will not see {image}; mount {place}, and pack again")
    }))
}

fn absent(fstab: &[FstabEntry], mounts: &[FstabEntry], image: &Path) -> Option<String> {
    let mut wanted = fstab.iter().filter(|entry| entry.target.starts_with("/boot") && image.starts_with(&entry.target));
    wanted.find(|entry| mounts.iter().all(|mount| mount.target != entry.target)).map(|entry| entry.target.clone())
}

/// The type of what an fstab has at `target`, if it is a file system of a device other than zfs.
fn in_fstab(fstab: &[FstabEntry], target: &str, what: &'static str) -> Option<Mounted> {
    let entry = fstab.iter().rev().find(|entry| entry.target == target)?;
    let bound = entry.has("bind") || entry.has("rbind");
    let on_device = entry.source.contains('=') || entry.source.starts_with("/dev/");
    let known = !matches!(entry.fstype.as_str(), "zfs" | "auto" | "none" | "swap");
    (on_device && known && !bound).then(|| Mounted { fstype: entry.fstype.clone(), what })
}

#[derive(Debug, PartialEq, Eq)]
enum On<'a> {
    Dataset(&'a str),
    Plain(&'a FstabEntry),
}

/// The dataset that `/` of these mounts is on.
pub fn dataset(mounts: &[FstabEntry]) -> Option<&str> {
    match of(mounts)? {
        On::Dataset(name) => Some(name),
        On::Plain(_) => None,
    }
}

/// What `/` of these mounts (`/proc/mounts`, which has fstab's form) is on.
fn of(mounts: &[FstabEntry]) -> Option<On<'_>> {
    // The last one that was mounted there is the one that is seen; what an initramfs has put over a dataset still needs its
    // pool.
    let mut roots = mounts.iter().rev().filter(|entry| entry.target == "/" && entry.fstype != "rootfs");
    let last = roots.next()?;
    let dataset = std::iter::once(last).chain(roots).find(|entry| entry.fstype == "zfs");
    Some(match dataset {
        Some(entry) => On::Dataset(&entry.source),
        None => On::Plain(last),
    })
}

/// Why a root that is no dataset is on no disk that a boot finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoDisk {
    /// On no disk of this machine: a container's root, a network's.
    Elsewhere(String),
    /// Device mapper or md makes the device up of others.
    MadeUp(String),
}

/// The root as an image expects it, and the kernel's name of its device.
pub(super) fn plain(entry: &FstabEntry, sys: &Path, dev: &Path) -> Result<(ExpectedRoot, String), NoDisk> {
    let FstabEntry { source, fstype, .. } = entry;
    let there = |name: &String| sys.join("class/block").join(name).exists();
    let node = Path::new(source).canonicalize().ok();
    let by_node = node.as_deref().and_then(|node| Some(node.strip_prefix(dev).ok()?.to_str()?.replace('/', "!")));
    let Some(name) = by_node.filter(there).or_else(|| by_number(entry, sys)) else {
        return Err(NoDisk::Elsewhere(format!("it is {source} of type {fstype}, which is on no disk of this machine")));
    };
    if let Some(by) = members::made_by(sys, &name) {
        return Err(NoDisk::MadeUp(format!(
            "{source} is made by {by}, which taproot-init does not set up; use another initramfs, or its hook in one"
        )));
    }
    let node = dev.join(name.replace('!', "/"));
    let named = |dir: &str| {
        let entries = fs::read_dir(dev.join("disk").join(dir)).into_iter().flatten().flatten();
        let found = entries.map(|e| e.path()).find(|link| link.canonicalize().is_ok_and(|to| to == node))?;
        found.file_name()?.to_str().map(str::to_owned)
    };
    let source = match (named("by-uuid"), named("by-partuuid")) {
        (Some(uuid), _) => format!("UUID={uuid}"),
        (None, Some(uuid)) => format!("PARTUUID={uuid}"),
        (None, None) => node.display().to_string(),
    };
    Ok((ExpectedRoot { source, fstype: fstype.clone() }, name))
}

/// A kernel that mounted the root itself calls it `/dev/root`, and has no such node.
fn by_number(entry: &FstabEntry, sys: &Path) -> Option<String> {
    let number = fs::metadata(&entry.target).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let dir = sys.join("dev/block").join(format!("{major}:{minor}")).canonicalize().ok()?;
    Some(dir.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_the_root_is_on() {
        let of = |mounts: &str| match of(&fstab::parse(mounts.as_bytes())) {
            Some(On::Dataset(name)) => name.to_owned(),
            Some(On::Plain(entry)) => format!("{} {}", entry.source, entry.fstype),
            None => String::new(),
        };
        let pool = "rootfs / rootfs rw 0 0\nrpool/ROOT/debian / zfs rw 0 0\nbpool/b /boot zfs rw 0 0\n";
        assert_eq!(of(pool), "rpool/ROOT/debian");
        assert_eq!(of("a\\040b/x / zfs rw 0 0\noverlay / overlay rw 0 0\n"), "a b/x");
        assert_eq!(of("rootfs / rootfs rw 0 0\n/dev/vda1 / ext4 rw 0 0\ntank /t zfs rw 0 0\n"), "/dev/vda1 ext4");
        assert_eq!(of("rootfs / rootfs rw 0 0\n"), "");
    }

    #[test]
    fn types_in_fstab() {
        let fstab =
            b"UUID=1 / ext4 ro 0 1\nLABEL=u /usr xfs ro 0 2\n/x /bound none bind\ntank/u /z zfs x\n/dev/a /auto auto\n";
        let fstab = fstab::parse(fstab);
        let at = |target: &str| in_fstab(&fstab, target, "x").map(|mounted| mounted.fstype);
        assert_eq!((at("/"), at("/usr")), (Some("ext4".to_owned()), Some("xfs".to_owned())));
        assert_eq!([at("/bound"), at("/z"), at("/auto"), at("/none")], [const { None }; 4]);
    }

    #[test]
    fn boot_that_is_not_mounted() {
        let fstab = fstab::parse(b"UUID=1 /boot ext4 noauto 0 0\nUUID=2 /boot/efi vfat x 0 0\nUUID=3 /bootx ext4 x\n");
        let absent = |mounts: &[u8], image: &str| absent(&fstab, &fstab::parse(mounts), Path::new(image));
        assert_eq!(absent(b"", "/boot/a.img").as_deref(), Some("/boot"));
        assert_eq!(absent(b"/dev/a /boot ext4 rw\n", "/boot/efi/a.img").as_deref(), Some("/boot/efi"));
        assert_eq!([absent(b"/dev/a /boot ext4 rw\n", "/boot/a.img"), absent(b"", "/var/a.img")], [None, None]);
    }

    #[test]
    fn a_tree_whose_fstab_has_a_plain_root_needs_no_zfs() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        assert!(Known::find(&tree).unwrap().needs_zfs());
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/fstab"), "UUID=1 / btrfs defaults 0 0\n").unwrap();
        let known = Known::find(&tree).unwrap();
        assert!(!known.needs_zfs() && known.notes.is_empty());
        assert_eq!((known.plain, known.types.len()), (None, 1));
        // Left from the file system before, it may be.
        fs::create_dir(dir.path().join("sbin")).unwrap();
        fs::write(dir.path().join("sbin/zpool"), "").unwrap();
        assert!(Known::find(&tree).unwrap().notes[0].contains("if its root is in a pool, take that line out"));
    }

    #[test]
    fn a_plain_root_by_its_uuid_and_one_that_others_set_up() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, dev) = (dir.path().canonicalize().unwrap(), dir.path().canonicalize().unwrap().join("dev"));
        let sys = dir.join("sys");
        for made in ["sys/class/block/vda1", "sys/class/block/dm-0/dm", "dev/disk/by-uuid", "dev/mapper"] {
            fs::create_dir_all(dir.join(made)).unwrap();
        }
        for node in ["vda1", "dm-0"] {
            fs::write(dev.join(node), "").unwrap();
        }
        fs::write(sys.join("class/block/dm-0/dm/uuid"), "LVM-x\n").unwrap();
        symlink(dev.join("vda1"), dev.join("disk/by-uuid/1-2")).unwrap();
        symlink(dev.join("dm-0"), dev.join("mapper/root")).unwrap();
        let plain = |source: &str| {
            let entry = fstab::parse(format!("{} / ext4 rw 0 0\n", dev.join(source).display()).as_bytes()).remove(0);
            super::plain(&entry, &sys, &dev)
        };
        let expected = ExpectedRoot { source: "UUID=1-2".to_owned(), fstype: "ext4".to_owned() };
        assert_eq!(plain("vda1"), Ok((expected, "vda1".to_owned())));
        assert!(matches!(plain("mapper/root"), Err(NoDisk::MadeUp(why)) if why.contains("made by LVM")));
        assert!(matches!(plain("absent"), Err(NoDisk::Elsewhere(why)) if why.contains("on no disk")));
    }
}
