//! `taproot hooks enable` and `disable`: who makes this system's images from now on. What is changed for it is written down in
//! [`ENABLED`], and taken back from there.

use super::files::{BootFiles, ENABLED, enabled, has_dpkg};
use super::{INSTALL_CONF, generator, remove_file, run, unread, update};
use crate::initramfs::Summary;
use crate::initramfs::tree::{TEXT, Tree};
use crate::output::{Cleanup, print};
use crate::settings;
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// What Debian's packages and hooks ask for images.
const UPDATE: &str = "/usr/sbin/update-initramfs";
/// Where that of another package waits (`dpkg-divert`); `builder/hooks/update-initramfs` knows it too.
const DIVERTED: &str = "/usr/sbin/update-initramfs.without-taproot";
/// Hooks of pacman: a package's, and where a link to /dev/null switches one off.
const ALPM_HOOKS: &str = "/usr/share/libalpm/hooks";
const ALPM_MASKS: &str = "/etc/pacman.d/hooks";
/// Other programs that make images.
const OTHERS: [&str; 3] = ["mkinitcpio", "dracut", "booster"];

/// Who calls when a kernel comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Dpkg,
    Pacman,
    KernelInstall,
}

impl Way {
    fn find(tree: &Tree) -> Result<Self> {
        Ok(match () {
            () if has_dpkg(tree) => Self::Dpkg,
            () if tree.program("pacman").is_some() => Self::Pacman,
            () if tree.program("kernel-install").is_some() => Self::KernelInstall,
            () => bail!("nothing here tells when a kernel is installed: expected dpkg, pacman or kernel-install"),
        })
    }
}

fn this_system() -> Result<Tree> {
    ensure!(nix::unistd::geteuid().is_root(), "this changes who makes this system's images; run it as root");
    Tree::open(Path::new("/")).context("/")
}

/// Makes the images of all installed kernels, and then sees to it that no other program does.
pub fn enable(cleanup: &Cleanup) -> Result<Vec<Summary>> {
    let tree = this_system()?;
    if enabled(&tree) {
        return update(&tree, true, cleanup);
    }
    if let Some(why) = unread(&tree, "taproot hooks enable")? {
        bail!("the hooks stay off: {why}");
    }
    let way = Way::find(&tree)?;
    if way == Way::KernelInstall {
        // It asks for the image only when it knows whom.
        note(&take_over(&tree, way)?)?;
        return update(&tree, true, cleanup).or_else(|error| {
            give_back(&tree)?;
            Err(error.context("nothing was changed"))
        });
    }
    let made = update(&tree, true, cleanup).context("the hooks stay off")?;
    note(&take_over(&tree, way)?)?;
    Ok(made)
}

/// What was changed, for the way back.
fn note(changes: &str) -> Result<()> {
    let text = format!(
        "# While this file is there, taproot makes the images of installed kernels. `taproot hooks disable` takes it back.\n{changes}"
    );
    let written = fs::create_dir_all("/etc/taproot").and_then(|()| fs::write(ENABLED, text));
    written.with_context(|| format!("{ENABLED}: writing"))
}

fn take_over(tree: &Tree, way: Way) -> Result<String> {
    let mut changes = String::new();
    match way {
        Way::Dpkg => {
            let own = settings::beside("update-initramfs");
            ensure!(own.exists(), "{}: not there; install all of taproot (make install)", own.display());
            run("dpkg-divert", &["--local", "--rename", "--divert", DIVERTED, "--add", UPDATE])?;
            if let Err(error) = symlink(&own, UPDATE) {
                undivert()?;
                return Err(error).with_context(|| format!("{UPDATE}: making a link"));
            }
            let _ = writeln!(changes, "diverted={UPDATE}");
        }
        Way::Pacman => {
            changes = masked(Path::new(ALPM_MASKS), tree.list(ALPM_HOOKS)?.iter().map(Path::new))?;
        }
        Way::KernelInstall => {
            let _ = writeln!(changes, "initrd_generator={}", generator(tree).unwrap_or_default());
            set_generator(tree, "taproot")?;
        }
    }
    Ok(changes)
}

/// Masks those of these hooks that are other programs' and have no file there yet; what was done, for the way back.
fn masked<'n>(masks: &Path, hooks: impl IntoIterator<Item = &'n Path>) -> Result<String> {
    let mut changes = String::new();
    for name in hooks.into_iter().filter_map(Path::file_name) {
        let text = name.to_string_lossy();
        let mask = masks.join(name);
        let theirs = OTHERS.iter().any(|other| text.contains(other)) && text.strip_suffix(".hook").is_some();
        if theirs && mask.symlink_metadata().is_err() {
            fs::create_dir_all(masks).with_context(|| format!("{}: making it", masks.display()))?;
            symlink("/dev/null", &mask).with_context(|| format!("{}: making a link", mask.display()))?;
            let _ = writeln!(changes, "masked={}", mask.display());
        }
    }
    Ok(changes)
}

/// Masks hooks that are being installed: of a program that came after the hooks were enabled. It would take the place of our
/// images in the very transaction that it comes with.
pub fn mask(tree: &Tree, hooks: &[PathBuf]) -> Result<()> {
    let changes = masked(Path::new(ALPM_MASKS), hooks.iter().map(PathBuf::as_path))?;
    if changes.is_empty() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&tree.read(ENABLED, TEXT)?).into_owned();
    fs::write(ENABLED, text + &changes).with_context(|| format!("{ENABLED}: writing"))
}

fn undivert() -> Result<()> {
    run("dpkg-divert", &["--local", "--rename", "--remove", UPDATE])
}

/// Undoes what the note says, and removes it.
fn give_back(tree: &Tree) -> Result<()> {
    let text = String::from_utf8_lossy(&tree.read(ENABLED, TEXT)?).into_owned();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match key {
            "diverted" if value == UPDATE => {
                // Only what was put there.
                if Path::new(UPDATE).is_symlink() {
                    remove_file(Path::new(UPDATE))?;
                }
                undivert()?;
            }
            "masked" if Path::new(value).starts_with(ALPM_MASKS) && tree.is_masked(value) => {
                remove_file(Path::new(value))?;
            }
            "initrd_generator" => set_generator(tree, value)?,
            _ => {}
        }
    }
    remove_file(Path::new(ENABLED))
}

/// Gives the images back to whoever made them before, who makes them anew.
pub fn disable() -> Result<()> {
    let tree = this_system()?;
    ensure!(enabled(&tree), "the hooks are off already ({ENABLED} is not there)");
    let way = Way::find(&tree)?;
    give_back(&tree)?;
    let kernels = BootFiles::installed(&tree)?;
    let theirs = match way {
        Way::Dpkg => tree.program("update-initramfs").map(|_| run("update-initramfs", &["-c", "-k", "all"])),
        Way::Pacman => tree.program("mkinitcpio").map(|_| run("mkinitcpio", &["-P"])),
        Way::KernelInstall => Some(kernels.iter().try_for_each(|files| {
            let kernel = files.copied.as_ref().map_or(&files.kernel, |copied| &copied.from);
            run("kernel-install", &["add", &files.version, &kernel.to_string_lossy()])
        })),
    };
    match theirs {
        None => {
            return print(
                "taproot: the hooks are off; no other program here makes images, so those that are there stay\n",
            );
        }
        Some(done) => {
            done.context("the hooks are off, but not all images were made anew; those that are there stay")?;
        }
    }
    for files in &kernels {
        remove_file(&tree.place(&files.fallback)?)?;
        if let Some(copied) = &files.copied {
            remove_file(&tree.place(&copied.fallback)?)?;
        }
    }
    Ok(())
}

/// Names what makes images for kernel-install; nothing, if `name` is empty.
fn set_generator(tree: &Tree, name: &str) -> Result<()> {
    let mut text = None;
    // A file in /etc takes the place of the package's.
    for path in [INSTALL_CONF, "/usr/lib/kernel/install.conf"] {
        text = text.or(tree.read_if_there(path, TEXT)?);
    }
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
    let written = fs::create_dir_all("/etc/kernel").and_then(|()| fs::write(INSTALL_CONF, with_generator(&text, name)));
    written.with_context(|| format!("{INSTALL_CONF}: writing"))
}

fn with_generator(text: &str, name: &str) -> String {
    let others = text.lines().filter(|line| !line.starts_with("initrd_generator="));
    let mut out: String = others.flat_map(|line| [line, "\n"]).collect();
    if !name.is_empty() {
        let _ = writeln!(out, "initrd_generator={name}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_is_set_and_taken_back() {
        let before = "# comment\nlayout=bls\ninitrd_generator=dracut\n";
        let ours = with_generator(before, "taproot");
        assert_eq!(ours, "# comment\nlayout=bls\ninitrd_generator=taproot\n");
        assert_eq!(with_generator(&ours, "dracut"), before);
        assert_eq!(with_generator("initrd_generator=taproot", ""), "");
    }

    #[test]
    fn hooks_that_make_images_are_masked_once() {
        let dir = tempfile::tempdir().unwrap();
        let masks = dir.path().join("hooks");
        let mask = |names: &[&str]| masked(&masks, names.iter().map(|name| Path::new(*name))).unwrap();
        assert_eq!(mask(&["90-systemd.hook", "usr/share/libalpm/hooks/dracut.sh", "/"]), "");
        assert!(!masks.exists());
        let made = mask(&["usr/share/libalpm/hooks/90-dracut-install.hook", "60-mkinitcpio-remove.hook"]);
        let [first, second] = ["90-dracut-install.hook", "60-mkinitcpio-remove.hook"].map(|name| masks.join(name));
        assert_eq!(made, format!("masked={}\nmasked={}\n", first.display(), second.display()));
        assert_eq!(fs::read_link(&first).unwrap(), Path::new("/dev/null"));
        // What an administrator has there, or was masked before, is not ours to take back.
        assert_eq!(mask(&["90-dracut-install.hook"]), "");
    }

    /// The shell has no constants of ours.
    #[test]
    fn the_stand_in_knows_where_the_real_one_waits() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks/update-initramfs");
        assert!(fs::read_to_string(script).unwrap().contains(DIVERTED));
    }
}
