//! Where `taproot image` is run on a small made-up tree.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)] // no test needs all; a test stops at the first surprise

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::made::tar::{Made, archive};
use crate::made::{kernel, module};
use taproot::pool::Disk;

pub(crate) const RELEASE: &str = "6.1.0-test";
pub(crate) const SIZE: u64 = 512 << 20;
pub(crate) const ESP: u64 = 64 << 20;
pub(crate) const MIB: u64 = 1 << 20;

/// A small tree that could boot.
pub(crate) fn tree() -> Vec<Made> {
    let modules = format!("./usr/lib/modules/{RELEASE}");
    let mut all = vec![
        Made { target: b"usr/lib".to_vec(), ..Made::new("./lib", b'2') },
        Made::file(format!("./boot/vmlinuz-{RELEASE}"), kernel(RELEASE)),
        Made::file("./etc/os-release", "ID=made\nPRETTY_NAME=\"Made up\"\n"),
        Made::file("./etc/fstab", "UUID=gone / ext4 defaults 0 1\n"),
        Made::file(format!("{modules}/modules.dep"), "updates/zfs.ko:\n"),
        Made::file(format!("{modules}/updates/zfs.ko"), module(&format!("vermagic={RELEASE} SMP\0version=2.9.9\0"))),
        Made::file("./usr/lib/systemd/boot/efi/systemd-bootx64.efi", "MZ loader"),
    ];
    all.extend(["alias", "softdep", "builtin"].map(|end| Made::file(format!("{modules}/modules.{end}"), "# none\n")));
    // Something to do for a while.
    all.extend((0..300_u32).map(|n| Made::file(format!("./srv/{n}"), n.to_le_bytes().repeat(25_000))));
    all
}

/// A directory with its archive.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new(tree: &[Made]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("root.tar"), archive(tree)).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn command(&self, options: &[&str]) -> Command {
        let mut command = self.bare(&["--tar", "root.tar"]);
        command.args(options);
        command
    }

    /// Without a source.
    pub(crate) fn bare(&self, options: &[&str]) -> Command {
        // By this the test program counts as taproot-init.
        std::hint::black_box(taproot_init::image::CONFIG_PATH);
        let mut command = Command::new(env!("CARGO_BIN_EXE_taproot"));
        command.args(["image", "--loader", "bls", "--size", "512M", "--esp", "64M"]);
        command.arg("--init").arg(std::env::current_exe().unwrap()).args(options).current_dir(self.0.path());
        command
    }

    pub(crate) fn make(&self, options: &[&str]) -> Output {
        self.command(options).output().unwrap()
    }

    pub(crate) fn refused(&self, options: &[&str], because: &str) {
        let output = self.make(options);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(because), "{because:?} is not in: {said}");
        assert_eq!(self.names(), ["root.tar"], "{because}");
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub(crate) fn whole(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The pool of a disk without swap space.
pub(crate) struct Pool(pub(crate) File, pub(crate) u64);

impl Pool {
    /// Where it is on a disk with such a partition for the boot loader, and how large it is.
    pub(crate) fn size(&self) -> u64 {
        self.0.metadata().unwrap().len() - self.1 - MIB
    }
}

impl Disk for Pool {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, self.1 + offset)
    }
}
