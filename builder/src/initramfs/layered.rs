//! Roots made of layers (`docs/layers.md`): what lies under the running one, and what the boot of any of them needs.

use super::host;
use super::layer_keys::wants_checked;
use super::root::{Known, Mounted, NoDisk, plain};
use super::tree::{self, Tree};
use crate::layer::stack::running::{Live, Running};
use serde_json::Value;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use taproot_init::devices::probe::sealed;
use taproot_init::devices::table::canonical_name;
use taproot_init::devices::verity;
use taproot_init::plan::fstab::FstabEntry;
use taproot_init::plan::layers::{BASE, DEVICE, KEPT, MEDIA, PARTS, UPPER, UPPERS};
use taproot_init::report::boot::REPORT_PATH;
use taproot_init::sys::System as _;
use taproot_init::sys::linux::Linux;

/// Bytes that say what an image is.
const HEAD: u64 = 4096;

/// What is known of a root made of layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layered {
    /// Its images; `None`: not known, because it was only said that there are layers.
    pub images: Option<Vec<Image>>,
    /// Something of it is in a pool.
    pub zfs: bool,
    /// Modules that the boot of the running one loaded: also for what was given back since.
    pub loaded: Vec<String>,
    /// Its boot wants layers that are checked.
    pub checked: bool,
}

/// A layer that is an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The layer's name.
    pub name: String,
    /// Type of its file system.
    pub fstype: String,
    /// How its data are compressed, if they are.
    pub compression: Option<&'static str>,
}

impl Layered {
    /// The modules that its boot cannot do without, each with what it is for. Of types of images that are not known one has to do.
    pub fn needed(&self) -> Vec<(&str, &'static str)> {
        let mut needed = vec![("overlay", "the overlay that makes one root of them")];
        let images = self.images.as_deref().unwrap_or_default();
        if self.images.is_none() || !images.is_empty() {
            needed.push(("loop", "attaching their images"));
        }
        for image in images {
            if !needed.iter().any(|(name, _)| *name == image.fstype) {
                needed.push((&image.fstype, "mounting their images"));
            }
        }
        if self.checked {
            needed.extend(verity::MODULES.first().map(|name| (*name, "layers that are checked as they are read")));
        }
        needed
    }

    /// Why a kernel cannot boot it: `there` says whether it has a module, `config` how it was built.
    pub fn problems(&self, version: &str, there: impl Fn(&str) -> bool, config: Option<&str>) -> Vec<String> {
        let advice = "choose a kernel that has it";
        let mut problems: Vec<String> = self
            .needed()
            .into_iter()
            .filter(|(name, _)| !there(name))
            .map(|(name, why)| {
                format!("layers need module {name} ({why}), which kernel {version} does not have or modprobe.d keeps out; {advice}")
            })
            .collect();
        if self.images.is_none() && !there("squashfs") && !there("erofs") {
            problems.push(format!(
                "layers are images of squashfs or erofs, and kernel {version} has a module for neither; {advice}"
            ));
        }
        for image in self.images.iter().flatten() {
            let option = image.option();
            let lacks =
                |config: &str| option.is_some_and(|option| !config.lines().any(|line| line == format!("{option}=y")));
            if let (Some(option), Some(compression), true) = (option, image.compression, config.is_some_and(lacks)) {
                problems.push(format!(
                    "layer {} is {} with {compression}, and kernel {version} is built without {option}; choose a kernel that has it, or \
                     make the layer anew with another --compress",
                    image.name, image.fstype
                ));
            }
        }
        problems
    }
}

impl Image {
    /// What the kernel has to be built with for its data.
    fn option(&self) -> Option<&'static str> {
        Some(match (self.fstype.as_str(), self.compression?) {
            ("squashfs", "gzip") => "CONFIG_SQUASHFS_ZLIB",
            ("squashfs", "lzo") => "CONFIG_SQUASHFS_LZO",
            ("squashfs", "xz") => "CONFIG_SQUASHFS_XZ",
            ("squashfs", "lz4") => "CONFIG_SQUASHFS_LZ4",
            ("squashfs", "zstd") => "CONFIG_SQUASHFS_ZSTD",
            ("erofs", "lz4") => "CONFIG_EROFS_FS_ZIP",
            ("erofs", "lzma") => "CONFIG_EROFS_FS_ZIP_LZMA",
            ("erofs", "deflate") => "CONFIG_EROFS_FS_ZIP_DEFLATE",
            ("erofs", "zstd") => "CONFIG_EROFS_FS_ZIP_ZSTD",
            _ => return None,
        })
    }
}

/// What the boot has told of the layers of the running system's root; `None` if that is no overlay of ours.
pub fn report(tree: &Tree, mounts: &[FstabEntry]) -> Option<Value> {
    let root = mounts.iter().rfind(|entry| entry.target == "/")?;
    if !tree.is_running() || root.fstype != "overlay" {
        return None;
    }
    let report: Value = serde_json::from_slice(&tree.read(REPORT_PATH, tree::TEXT).ok()?).ok()?;
    report.get("layers")?.is_object().then_some(report)
}

/// What a place of the boot is, if something of the root lies there.
fn part(target: &str) -> Option<&'static str> {
    let below = |place: &str| Path::new(target).starts_with(place) && target != place;
    Some(match target {
        BASE => "the base of the layers",
        DEVICE => "the layer device",
        UPPER | UPPERS | KEPT => "the upper of the layers",
        _ if below(MEDIA) => "a medium that directories are kept on",
        _ if below(PARTS) => "a part of the root",
        _ => return None,
    })
}

/// What such a root lies on, by what the boot has told and what is mounted. `of_pool`: what is known of a dataset's pool.
pub fn known(
    report: &Value,
    mounts: &[FstabEntry],
    (sys, dev): (&Path, &Path),
    of_pool: impl Fn(&str) -> Known,
) -> Known {
    let mut known = Known::default();
    let mut layered = told(report);
    let linux = Linux::new();
    for entry in mounts {
        let Some(what) = part(&entry.target) else { continue };
        let mut pool = None;
        match entry.fstype.as_str() {
            "tmpfs" | "overlay" => continue,
            "zfs" => pool = Some(entry.source.clone()),
            fstype => {
                if !known.types.iter().any(|mounted| mounted.fstype == fstype) {
                    known.types.push(Mounted { fstype: fstype.to_owned(), what });
                }
                match plain(entry, sys, dev) {
                    Ok((root, disk)) if what == "the base of the layers" => {
                        known.disks.push(host::chain(sys, &disk));
                        known.plain = Some(root);
                    }
                    Ok((_, disk)) => known.disks.push(host::chain(sys, &disk)),
                    // What such a device is made of is a file of another part, or a zvol.
                    Err(NoDisk::MadeUp(_)) if entry.source.starts_with("/dev/loop") => {}
                    Err(NoDisk::MadeUp(_)) if entry.source.starts_with("/dev/zd") => {
                        pool = Some(linux.zvol_name(Path::new(&entry.source)).unwrap_or_default());
                    }
                    Err(NoDisk::MadeUp(why)) => known.problems.push(format!("{what}: {why}")),
                    Err(NoDisk::Elsewhere(why)) => known.notes.push(format!("{what}: {why}")),
                }
            }
        }
        if let Some(name) = pool {
            layered.zfs = true;
            let of = if name.is_empty() { Known::default() } else { of_pool(&name) };
            known.disks.extend(of.disks);
            known.problems.extend(of.problems);
            known.notes.extend(of.notes);
            known.key = known.key.or(of.key);
            // A boot that is told no root looks for the base alone.
            if what == "the base of the layers" {
                known.pools = of.pools;
                known.members = of.members;
            }
        }
    }
    if !mounts.iter().any(|entry| entry.target == BASE) {
        known.notes.push(
            "the base of the layers was given back when they were copied to memory: packed for it is what this boot loaded"
                .to_owned(),
        );
    }
    known.layered = Some(layered);
    known
}

/// What the boot itself has told.
fn told(report: &Value) -> Layered {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let list = |pointer: &str| report.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let image = |layer: &Value| {
        let (name, path) = (text(layer, "name")?, text(layer, "path")?);
        let mut head = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
        let compression = read.ok().and_then(|_| sealed(&head)).and_then(|found| found.compression);
        Some(Image { name, fstype: text(layer, "type")?, compression })
    };
    let loaded = list("/modules").into_iter().filter(|module| module.get("error").is_none_or(Value::is_null));
    let words: Vec<String> =
        list("/request/words").iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
    Layered {
        images: Some(list("/layers/stack").iter().filter_map(image).collect()),
        zfs: false,
        loaded: loaded.filter_map(|module| text(&module, "name")).map(|name| canonical_name(&name)).collect(),
        checked: wants_checked(&words.join(" ")) || !list("/declared/rooted").is_empty(),
    }
}

/// Why the next boot of the running system would have no modules of a kernel: they were written to memory.
pub fn lost(running: &Running, mounts: &[FstabEntry], version: &str) -> Option<String> {
    let dirs = ["lib/modules", "usr/lib/modules"].map(|dir| Path::new(dir).join(version));
    let kept = |dir: &Path| {
        mounts.iter().any(|entry| entry.target != "/" && Path::new("/").join(dir).starts_with(&entry.target))
    };
    if running.live != Live::Ram || dirs.iter().any(|dir| kept(dir)) {
        return None;
    }
    let has = |layer: &Path| dirs.iter().any(|dir| layer.join(dir).join("modules.dep").is_file());
    if running.lowers.iter().any(|lower| has(&running.place_of(lower))) {
        return None;
    }
    Some(format!(
        "the modules of kernel {version} lie in memory (taproot.upper=ram) and in no layer, so the next boot would have none: commit them \
         (taproot layer commit NAME) and pack behind the next boot, or pack for a kernel that the layers have (--kernel)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use taproot_init::image::ExpectedRoot;
    use taproot_init::plan::fstab;

    const REPORT: &str = r#"{"layers": {"stack": [{"name": "site", "kind": "image", "type": "erofs", "path": "/none"},
        {"name": "base", "kind": "image", "type": "squashfs", "path": "/none"}, {"name": "d", "kind": "directory", "type": null, "path": "/d"}]},
        "modules": [{"name": "virtio-blk", "error": null}, {"name": "bad", "error": "x"}],
        "request": {"words": ["root=LABEL=A", "taproot.layers=site:base"]}, "declared": {"rooted": []}}"#;

    fn machine() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for made in ["sys/class/block/vda1", "sys/class/block/vdb", "sys/class/block/dm-0/dm", "dev/disk/by-uuid"] {
            fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        for node in ["vda1", "vdb", "dm-0"] {
            fs::write(dir.path().join("dev").join(node), "").unwrap();
        }
        fs::write(dir.path().join("sys/class/block/dm-0/dm/uuid"), "CRYPT-x\n").unwrap();
        std::os::unix::fs::symlink(dir.path().join("dev/vda1"), dir.path().join("dev/disk/by-uuid/1-2")).unwrap();
        dir
    }

    fn found(mounts: &str) -> Known {
        let dir = machine();
        let (sys, dev) = (dir.path().join("sys"), dir.path().join("dev"));
        let mounts = mounts.replace("DEV", &dev.display().to_string());
        let pool = |name: &str| Known { notes: vec![format!("pool of {name}")], ..Known::default() };
        known(&serde_json::from_str(REPORT).unwrap(), &fstab::parse(mounts.as_bytes()), (&sys, &dev), pool)
    }

    #[test]
    fn what_lies_under_the_running_root() {
        let known = found(
            "overlay / overlay rw 0 0\nDEV/vda1 /run/taproot/base ext4 rw 0 0\nDEV/vdb /run/taproot/layer-device xfs ro 0 0\n\
             /dev/loop0 /run/taproot/layers/base squashfs ro 0 0\nDEV/vdb /srv btrfs rw 0 0\n",
        );
        let types: Vec<(&str, &str)> = known.types.iter().map(|m| (m.fstype.as_str(), m.what)).collect();
        assert_eq!(types, [("ext4", "the base of the layers"), ("xfs", "the layer device")]);
        assert_eq!(known.plain, Some(ExpectedRoot { source: "UUID=1-2".into(), fstype: "ext4".into() }));
        assert_eq!(known.disks.iter().map(|disk| disk.disk.as_str()).collect::<Vec<_>>(), ["vda1", "vdb"]);
        assert!(!known.needs_zfs() && known.problems.is_empty() && known.notes.is_empty(), "{known:?}");
        let layered = known.layered.unwrap();
        assert_eq!(layered.loaded, ["virtio_blk"]);
        let needed: Vec<&str> = layered.needed().into_iter().map(|(name, _)| name).collect();
        assert_eq!(needed, ["overlay", "loop", "erofs", "squashfs"]);
    }

    #[test]
    fn a_pool_an_encrypted_upper_and_a_base_that_was_given_back() {
        let known = found(
            "overlay / overlay rw 0 0\ntank/live /run/taproot/base zfs rw 0 0\nDEV/dm-0 /run/taproot/upper ext4 rw 0 0\n",
        );
        assert!(known.needs_zfs());
        assert_eq!(known.notes, ["pool of tank/live"]);
        assert!(
            known.problems[0].starts_with("the upper of the layers: ") && known.problems[0].contains("LUKS"),
            "{known:?}"
        );
        let known = found("overlay / overlay rw 0 0\n");
        assert!(!known.needs_zfs() && known.notes[0].contains("was given back"), "{known:?}");
    }

    #[test]
    fn a_kernel_that_cannot_boot_them_is_refused() {
        let image = |fstype: &str, compression| Image { name: "base".into(), fstype: fstype.into(), compression };
        let stack =
            Layered { images: Some(vec![image("squashfs", Some("zstd"))]), checked: true, ..Layered::default() };
        let problems = stack.problems("6.1", |name| name == "loop", Some("CONFIG_SQUASHFS_XZ=y\n"));
        let text = problems.join("\n");
        for part in ["module overlay", "module squashfs", "module dm_verity", "without CONFIG_SQUASHFS_ZSTD"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(problems.len(), 4, "{text}");
        assert_eq!(stack.problems("6.1", |_| true, Some("CONFIG_SQUASHFS_ZSTD=y\n")), [""; 0]);
        assert_eq!(stack.problems("6.1", |_| true, None), [""; 0], "how it was built is not known");
        let unknown = Layered::default();
        assert_eq!(unknown.problems("6.1", |name| name != "squashfs", None), [""; 0], "erofs will do");
        let neither = unknown.problems("6.1", |name| !matches!(name, "squashfs" | "erofs"), None);
        assert!(neither.len() == 1 && neither[0].contains("squashfs or erofs"), "{neither:?}");
        let directories = Layered { images: Some(Vec::new()), ..Layered::default() };
        assert_eq!(directories.problems("6.1", |name| name == "overlay", None), [""; 0]);
    }

    #[test]
    fn modules_that_lie_in_memory_alone() {
        let dir = tempfile::tempdir().unwrap();
        let layer = dir.path().join("layer");
        fs::create_dir_all(layer.join("usr/lib/modules/6.1")).unwrap();
        fs::write(layer.join("usr/lib/modules/6.1/modules.dep"), "").unwrap();
        let overlay = |upper: &str, more: &str| {
            let line = format!(
                "30 1 0:29 / / rw - overlay overlay rw,lowerdir+={},upperdir={upper}/upper,workdir=x\n{more}",
                layer.display()
            );
            Running::of(&line, "taproot.layers=x", |_| false).unwrap()
        };
        let ram = overlay("/run/taproot/upper", "31 30 0:31 / /run/taproot/upper rw - tmpfs taproot-upper rw\n");
        assert_eq!(lost(&ram, &[], "6.1"), None, "a layer has them");
        assert!(lost(&ram, &[], "6.2").unwrap().contains("the modules of kernel 6.2 lie in memory"));
        let kept = fstab::parse(b"overlay / overlay rw\n/dev/vdb /usr overlay rw\n");
        assert_eq!(lost(&ram, &kept, "6.2"), None, "a medium keeps /usr");
        let disk = overlay("/run/taproot/base/upper", "");
        assert_eq!(lost(&disk, &[], "6.2"), None);
    }
}
