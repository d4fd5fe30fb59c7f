//! A tree is packed for a machine: a squashfs of it, and an initramfs that puts an upper in memory over that.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use taproot_init::plan::fstab::FstabEntry;
use taproot_init::sys::System as _;
use taproot_init::sys::linux::Linux;

use super::qemu::{Boot, Options};
use super::{Packing, Subject, made_by, shell};
use crate::cli::InitramfsArgs;
use crate::initramfs::extras::Rescue;
use crate::initramfs::tree::Tree;
use crate::initramfs::{build, kernel_of, root};
use crate::output::Cleanup;
use crate::progress::Progress;
use crate::settings::{ModuleSet, Settings};

/// The root is the disk, under an upper in memory. Its fstab names disks of another machine, which nobody is to wait for.
const WORDS: &str = "root=/dev/vda rootfstype=squashfs taproot.layers=. taproot.fstab=no fstab=no console=ttyS0";

/// Mounts of datasets below the root, and of what they are shown there.
type Parts = Vec<(PathBuf, PathBuf)>;

/// What is packed, and where to.
#[derive(Debug)]
pub(super) struct Plan {
    /// The directory that the squashfs is made of.
    top: PathBuf,
    /// Snapshots that belong to it, and the places in it where they are shown.
    parts: Parts,
    squashfs: PathBuf,
    initramfs: PathBuf,
    kernel: PathBuf,
    settings: InitramfsArgs,
}

/// The snapshot of the running root, with those of the same name that its other datasets have, by what is mounted.
fn snapshot(name: &str, mounts: &[FstabEntry], there: impl Fn(&Path) -> bool) -> Result<(PathBuf, Parts)> {
    let dataset =
        root::dataset(mounts).context("expected a root on ZFS, found none: of others a directory is run, --root /")?;
    let pool = dataset.split('/').next().unwrap_or_default();
    let of = |place: &str| Path::new(place).join(".zfs/snapshot").join(name);
    let top = of("/");
    ensure!(
        there(&top),
        "expected the snapshot {dataset}@{name}, found none; zfs list -t snapshot {dataset} shows which there are"
    );
    let belongs = |mount: &&FstabEntry| {
        let same_pool = mount.source.split('/').next() == Some(pool);
        mount.fstype == "zfs" && same_pool && mount.target != "/" && there(&of(&mount.target))
    };
    let part = |mount: &FstabEntry| (of(&mount.target), top.join(mount.target.trim_start_matches('/')));
    let mut parts: Parts = mounts.iter().filter(belongs).map(part).collect();
    parts.sort_by(|a, b| a.1.cmp(&b.1));
    Ok((top, parts))
}

impl Plan {
    /// Finds what belongs together.
    pub(super) fn new(subject: &Subject, packing: &Packing, dir: &Path) -> Result<Self> {
        let (top, parts) = match subject {
            Subject::Snapshot(name) => snapshot(name, &root::mounts(), Path::exists)?,
            Subject::Tree(tree) => {
                (tree.canonicalize().with_context(|| format!("{}: expected a directory", tree.display()))?, Vec::new())
            }
            Subject::Image(path) => anyhow::bail!("{} is no tree", path.display()),
        };
        let initramfs = dir.join("initramfs");
        let settings = InitramfsArgs {
            root: Some(top.clone()),
            kernel: packing.kernel.clone(),
            modules: Some(ModuleSet::Generic),
            compress: "zstd:1".parse().ok(),
            compress_modules: "zstd:1".parse().ok(),
            rescue: Some(Rescue::None),
            init: packing.init.clone(),
            layers: true,
            no_microcode: true,
            output: Some(initramfs.clone()),
            ..InitramfsArgs::default()
        };
        let release = match &settings.kernel {
            Some(release) => release.clone(),
            None => kernel_of(&Tree::open(&top).with_context(|| format!("opening {}", top.display()))?)?,
        };
        let names = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
        let kernel = names.iter().map(|name| top.join(name)).find(|path| path.is_file());
        let kernel = kernel.with_context(|| {
            format!("expected the kernel {release} at {} in {}, found none", names.join(" or "), top.display())
        })?;
        let settings = InitramfsArgs { kernel: Some(release), ..settings };
        Ok(Self { squashfs: dir.join("root.squashfs"), top, parts, initramfs, kernel, settings })
    }

    fn squash(&self) -> Command {
        let mut command = Command::new("mksquashfs");
        command.arg(&self.top).arg(&self.squashfs);
        command.args(["-comp", "zstd", "-Xcompression-level", "1", "-noappend", "-quiet", "-no-progress"]);
        if self.parts.is_empty() {
            command.arg("-one-file-system");
        }
        command
    }

    /// What is done, as commands.
    pub(super) fn described(&self) -> Vec<String> {
        let words = |command: &Command| {
            let words: Vec<String> = std::iter::once(command.get_program())
                .chain(command.get_args())
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            shell(words.iter().map(String::as_str))
        };
        let mut lines: Vec<String> = self
            .parts
            .iter()
            .map(|(from, to)| {
                shell(["mount", "--bind", &from.display().to_string(), &to.display().to_string()].into_iter())
            })
            .collect();
        lines.push(words(&self.squash()));
        lines.push(format!(
            "taproot initramfs --layers --modules generic --root {} --output {}",
            self.top.display(),
            self.initramfs.display()
        ));
        lines
    }

    /// What QEMU starts.
    pub(super) fn boot(&self, words: &str) -> Boot {
        let words = format!("{WORDS} {words}");
        Boot::Kernel {
            kernel: self.kernel.clone(),
            initramfs: self.initramfs.clone(),
            words: words.trim_end().to_owned(),
            root: self.squashfs.clone(),
        }
    }
}

/// Packs it.
pub(super) fn pack(
    subject: &Subject,
    options: &Options,
    packing: &Packing,
    dir: &Path,
    progress: &Progress,
) -> Result<Boot> {
    let plan = Plan::new(subject, packing, dir)?;
    if !plan.parts.is_empty() {
        // Seen by this process and what it starts, and gone with it.
        let system = Linux::new();
        system.own_mounts().context("mounts of its own for this process")?;
        for (from, to) in &plan.parts {
            system.bind(from, to, true).with_context(|| format!("showing {} at {}", from.display(), to.display()))?;
        }
    }
    progress.step(&format!("packing {}", plan.top.display()));
    made_by(&mut plan.squash(), "squashfs-tools")?;
    progress.step("packing its initramfs");
    build(&Settings::new(&plan.settings)?, progress, &Cleanup::default(), |_| Ok(()))?;
    Ok(plan.boot(&options.words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, target: &str, fstype: &str) -> FstabEntry {
        FstabEntry { source: source.into(), target: target.into(), fstype: fstype.into(), options: vec![], line: 0 }
    }

    #[test]
    fn a_snapshot_is_that_of_the_root_and_of_what_belongs_to_it() {
        let mounts = [
            mount("tank/ROOT/be1", "/", "zfs"),
            mount("tank/home", "/home", "zfs"),
            mount("tank/ROOT/be1/log", "/var/log", "zfs"),
            mount("tank/srv", "/srv", "zfs"),
            mount("other/data", "/data", "zfs"),
            mount("/dev/vda1", "/boot", "ext4"),
        ];
        let there = |path: &Path| !path.starts_with("/srv");
        let (top, parts) = snapshot("today", &mounts, there).unwrap();
        assert_eq!(top, Path::new("/.zfs/snapshot/today"));
        let part = |place: &str| {
            (
                PathBuf::from(format!("{place}/.zfs/snapshot/today")),
                PathBuf::from(format!("/.zfs/snapshot/today{place}")),
            )
        };
        assert_eq!(parts, [part("/home"), part("/var/log")]);
        assert!(snapshot("today", &mounts, |_| false).unwrap_err().to_string().contains("tank/ROOT/be1@today"));
        assert!(snapshot("today", &mounts[5..], |_| true).unwrap_err().to_string().contains("--root /"));
    }

    #[test]
    fn what_is_made_can_be_told_before() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("boot")).unwrap();
        std::fs::create_dir_all(tree.join("lib/modules/6.1")).unwrap();
        std::fs::write(tree.join("lib/modules/6.1/modules.dep"), "").unwrap();
        let subject = Subject::Tree(tree.clone());
        let packing = Packing::default();
        let error = Plan::new(&subject, &packing, Path::new("/work")).unwrap_err().to_string();
        assert!(error.contains("expected the kernel 6.1 at boot/vmlinuz-6.1 or"), "{error}");
        std::fs::write(tree.join("boot/vmlinuz-6.1"), "").unwrap();
        let plan = Plan::new(&subject, &packing, Path::new("/work")).unwrap();
        let lines = plan.described().join("\n");
        assert!(lines.contains("/work/root.squashfs") && lines.contains("-one-file-system"), "{lines}");
        let Boot::Kernel { words, kernel, .. } = plan.boot("quiet") else { panic!("no kernel") };
        assert!(words.starts_with("root=/dev/vda ") && words.ends_with(" console=ttyS0 quiet"));
        assert_eq!(kernel, tree.canonicalize().unwrap().join("boot/vmlinuz-6.1"));
    }
}
