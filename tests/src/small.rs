//! A small system: a kit system's kernel and modules, a static shell, and no more. It is packed, written, installed and cloned in a few
//! seconds, where a Debian takes minutes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::image::{boot_binary, builder};
use crate::kit::{self, System};
use crate::vm::Scratch;

/// Programs of busybox that scripts use.
const APPLETS: [&str; 17] = [
    "sh", "mount", "umount", "stty", "cat", "echo", "cp", "sleep", "uname", "ls", "mkdir", "find", "sort", "xargs",
    "env", "md5sum", "tar",
];

/// Modules that none of these machines has a use for, and three quarters of all.
const LEFT_OUT: [&str; 9] = [
    "kernel/drivers/net/",
    "kernel/drivers/media/",
    "kernel/drivers/gpu/",
    "kernel/drivers/iio/",
    "kernel/drivers/infiniband/",
    "kernel/drivers/platform/",
    "kernel/drivers/staging/",
    "kernel/net/",
    "kernel/sound/",
];

/// Makes a directory with it, in which these files of this machine are programs.
pub fn tree(system: &System, dir: &Path, programs: &[(&str, &Path)]) -> Result<()> {
    let make = |name: &str| fs::create_dir_all(dir.join(name)).with_context(|| format!("making {name}"));
    for name in ["boot", "dev", "proc", "sys", "run", "tmp", "etc", "root", "var/tmp", "usr/bin", "usr/lib/modules"] {
        make(name)?;
    }
    for (link, to) in [("bin", "usr/bin"), ("sbin", "usr/bin"), ("usr/sbin", "bin"), ("lib", "usr/lib")] {
        symlink(to, dir.join(link)).with_context(|| format!("making {link}"))?;
    }
    let kernel = &system.kernel;
    modules(&system.tree().join("lib/modules").join(kernel), &dir.join("usr/lib/modules").join(kernel))?;
    copy(&system.vmlinuz(), &dir.join(format!("boot/vmlinuz-{kernel}")), 0o644)?;
    copy(&system.tree().join("usr/lib/os-release"), &dir.join("usr/lib/os-release"), 0o644)?;
    copy(&system.tree().join("bin/busybox"), &dir.join("usr/bin/busybox"), 0o755)?;
    for name in APPLETS {
        symlink("busybox", dir.join("usr/bin").join(name)).with_context(|| format!("making {name}"))?;
    }
    programs.iter().try_for_each(|(to, from)| copy(from, &dir.join(to), 0o755))
}

/// Copies modules, without those that are left out, and what needs them.
fn modules(from: &Path, to: &Path) -> Result<()> {
    kit::run(Command::new("cp").arg("-a").args([from, to]))?;
    for name in LEFT_OUT {
        let _ = fs::remove_dir_all(to.join(name));
    }
    let path = to.join("modules.dep");
    let list = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let there = |line: &&str| line.split([':', ' ']).all(|path| !LEFT_OUT.iter().any(|name| path.starts_with(name)));
    let kept: Vec<&str> = list.lines().filter(there).collect();
    fs::write(&path, kept.join("\n") + "\n").with_context(|| format!("writing {}", path.display()))
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))
        .and_then(|()| fs::copy(from, to))
        .and_then(|_| fs::set_permissions(to, Permissions::from_mode(mode)))
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// Writes a text into a tree.
pub fn put(dir: &Path, path: &str, text: &str, mode: u32) -> Result<()> {
    let path = dir.join(path);
    fs::write(&path, text)
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
        .with_context(|| format!("writing {}", path.display()))
}

/// Makes a tree of that name whose init says what it sees and powers off; the name is its host name, too.
pub fn reporting(system: &System, scratch: &Scratch, name: &str) -> Result<PathBuf> {
    let dir = scratch.path().join(name);
    let guest_init = crate::checkout().join("out/guest-init");
    tree(system, &dir, &[("usr/bin/init", &guest_init)])?;
    put(&dir, "etc/hostname", &format!("{name}\n"), 0o644)?;
    Ok(dir)
}

/// Makes a disk of a tree, as `taproot image` does; the tree goes. Its name is the system's host name.
pub fn image(tree: &Path, options: &[&str], output: &str) -> Result<PathBuf> {
    let path = tree.with_extension(output.trim_start_matches('-'));
    let name = tree.file_name().context("a directory with a name")?.to_string_lossy();
    let mut command = Command::new(builder());
    command.args(["image", "--quiet", "--esp", "64M", "--set", "system.allow-empty-root=true"]).args(options);
    command.args(["--set", &format!("system.hostname={name}")]);
    command.args(["--cmdline", "zfs=zroot console=ttyS0 no_timer_check"]);
    command.arg("--init").arg(boot_binary()).arg("--directory").arg(tree).arg(output).arg(&path);
    kit::run(&mut command)?;
    fs::remove_dir_all(tree).with_context(|| format!("removing {}", tree.display()))?;
    Ok(path)
}

/// Puts a program of this machine into a tree, with the libraries that it needs.
pub fn with_libraries(tree: &Path, name: &str) -> Result<()> {
    let found = kit::run(Command::new("sh").args(["-c", "command -v \"$1\"", "sh", name]))?;
    let program = Path::new(found.trim());
    copy(program, &tree.join("usr/bin").join(name), 0o755)?;
    fs::create_dir_all(tree.join("usr/lib64")).context("making usr/lib64")?;
    symlink("usr/lib64", tree.join("lib64")).context("making lib64")?;
    // The C library loads this one when a thread ends.
    let unwinder = "/lib/x86_64-linux-gnu/libgcc_s.so.1";
    let words = kit::run(Command::new("ldd").arg(program))?;
    for library in words.split_whitespace().chain([unwinder]).filter(|word| word.starts_with('/')).map(Path::new) {
        let file = library.file_name().context("a library's name")?;
        let place = if library.starts_with("/lib64") { "usr/lib64" } else { "usr/lib" };
        copy(library, &tree.join(place).join(file), 0o755)?;
    }
    Ok(())
}
