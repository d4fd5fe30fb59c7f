//! Kernels and images on the partition that the boot loader reads, where the tree's configuration asks for that (`esp/`).

use super::behind::Behind;
use super::files::BootFiles;
use super::running;
use crate::esp::config::{Config, PATH, Recipe};
use crate::esp::store::{Mounted, Store as _};
use crate::esp::{self, Kernel};
use crate::firstboot::esp::meant;
use crate::firstboot::pool::leaves;
use crate::firstboot::{grow, is_mounted};
use crate::initramfs::tree::{BINARY, Tree};
use crate::output::{Cleanup, print};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use taproot_init::sys::linux::Linux;
use taproot_init::zfs::ioctl::Zfs;

/// The partitions that are there, and what they are filled by.
struct Partitions {
    stores: Vec<(PathBuf, Mounted)>,
    recipe: Recipe,
    behind: Behind,
}

/// `None`: the boot loader's files are not ours. `going`: a kernel that goes, which a partition that is not there keeps.
fn open(tree: &Tree, going: Option<&str>, cleanup: &Cleanup) -> Result<Option<Partitions>> {
    let Some(config) = Config::of(tree)? else { return Ok(None) };
    let (mut stores, mut missing, mut behind) = (Vec::new(), Vec::new(), Behind::of(tree)?);
    for dir in config.esps() {
        let esp = tree.place(dir)?;
        // Of another tree only what is in it is known.
        if if tree.is_running() { is_mounted(dir) } else { esp.is_dir() } {
            if tree.is_running() {
                ensure_own(dir)?;
            }
            stores.push((dir.clone(), Mounted::new(&esp, cleanup)));
        } else {
            behind.missed(dir, going);
            missing.push(esp.display().to_string());
        }
    }
    if !missing.is_empty() {
        // Before the others are written: the power may go.
        behind.save(tree, cleanup)?;
    }
    ensure!(
        !stores.is_empty(),
        "{}: expected the partition that the boot loader reads to be mounted there ({PATH} says so), and it is not: mount it, then try again",
        missing.join(", ")
    );
    for dir in missing {
        eprintln!(
            "taproot: {dir}: NOT MOUNTED, AND NOT IN STEP: its disk boots what it had before; when it is back and mounted: taproot hooks update"
        );
    }
    Ok(Some(Partitions { stores, recipe: Recipe::of(tree, &config)?, behind }))
}

impl Partitions {
    /// Does something to all, whatever becomes of each, and first brings those up to date that were away; the first error, and whether
    /// anything was changed.
    fn each(
        mut self,
        tree: &Tree,
        going: Option<&str>,
        cleanup: &Cleanup,
        mut act: impl FnMut(&mut Mounted, &Recipe) -> Result<bool>,
    ) -> Result<bool> {
        let (mut changed, mut failed) = (false, None);
        let (before, several) = (self.behind.clone(), self.stores.len() > 1);
        for (dir, store) in &mut self.stores {
            let caught_up = self.behind.catch_up(tree, dir, (store, &self.recipe), going);
            match caught_up.and_then(|was_behind| Ok((was_behind, act(store, &self.recipe)?))) {
                Ok((was_behind, did)) => {
                    changed |= did;
                    if was_behind {
                        self.behind.is_in_step(dir);
                        eprintln!("taproot: {}: it was behind, and is up to date now", store.shown());
                    }
                }
                Err(error) => {
                    // Of an only one, which did not get a kernel, the caller is told.
                    if several || going.is_some() {
                        self.behind.missed(dir, going);
                    }
                    if let Some(other) = failed.replace(error) {
                        eprintln!("taproot: {other:#}");
                    }
                }
            }
        }
        if self.behind != before {
            self.behind.save(tree, cleanup)?;
        }
        failed.map_or(Ok(changed), Err)
    }
}

/// Fails if what is mounted there is the partition of another copy of the disk that this system runs from: that copy would boot these
/// kernels, and this one would not.
fn ensure_own(esp: &Path) -> Result<()> {
    // Without such a pool nothing is known of copies.
    let Ok(pool) = grow::pool(None) else { return Ok(()) };
    let Ok(config) = Zfs::new(&Linux::new()).pool_stats(&pool) else { return Ok(()) };
    match meant(esp, &leaves(&config)?)? {
        None => Ok(()),
        Some(own) => bail!(
            "{}: expected the partition of this system's own disk to be mounted there ({}), found that of another copy of it: mount the right \
             one, then try again",
            esp.display(),
            own.name
        ),
    }
}

/// Whether the boot loader has a kernel: in an image of a disk there is no other trace of it before its image is made anew.
pub(super) fn has(tree: &Tree, release: &str) -> Result<bool> {
    let Some(config) = Config::of(tree)? else { return Ok(false) };
    let mut places = config.esps().map(|dir| tree.place(dir)).collect::<Result<Vec<_>, _>>()?.into_iter();
    Ok(places.any(|esp| esp::has(&Mounted::new(&esp, &Cleanup::default()), release)))
}

/// Puts a kernel with its image there.
pub(super) fn add(tree: &Tree, files: &BootFiles, cleanup: &Cleanup) -> Result<()> {
    let release = &files.version;
    let put = || {
        let Some(partitions) = open(tree, None, cleanup)? else { return Ok(false) };
        let (kernel, image) = (tree.read(&files.kernel, BINARY)?, tree.read(&files.image, BINARY)?);
        let new = || Kernel { release, kernel: kernel.as_slice().into(), image: image.as_slice().into() };
        let running = running(tree);
        partitions.each(tree, None, cleanup, |store, recipe| esp::install(store, recipe, new(), running.as_deref()))
    };
    let changed = put().with_context(|| {
        format!("kernel {release}: {} is made, but DOES NOT REACH THE BOOT LOADER", tree.shown(&files.image).display())
    })?;
    if changed { print(&format!("taproot: kernel {release} is where the boot loader finds it\n")) } else { Ok(()) }
}

/// Removes what a kernel that goes has there. A package that goes is not kept for it.
pub(super) fn remove(tree: &Tree, release: &str, cleanup: &Cleanup) {
    let going = Some(release);
    let gone = || match open(tree, going, cleanup)? {
        Some(partitions) => partitions.each(tree, going, cleanup, |store, recipe| esp::remove(store, recipe, release)),
        None => Ok(false),
    };
    match gone() {
        Ok(true) => eprintln!("taproot: the boot loader has kernel {release} no more"),
        Ok(false) => {}
        Err(error) => {
            eprintln!("taproot: THE BOOT LOADER STILL HAS KERNEL {release}, whose modules are gone: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_a_kernel_has_reaches_every_partition_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let config =
            Config { esp_copies: vec!["/efi2".into()], ..Config::new("bls".parse().unwrap(), Path::new("/efi"), "x") };
        put("etc/taproot/loader.toml", &config.render().unwrap());
        put("boot/vmlinuz-6.1", "kernel");
        put("lib/modules/6.1/modules.dep", "");
        let tree = Tree::open(dir.path()).unwrap();
        let files = BootFiles::of(&tree, "6.1").unwrap();
        put(files.image.strip_prefix("/").unwrap().to_str().unwrap(), "image");
        let there = |esp: &str| dir.path().join(esp).join("loader/entries/taproot-6.1.conf").exists();

        // Without any the kernel does not boot; one of them is enough, and the other one gets it later.
        let error = format!("{:#}", add(&tree, &files, &Cleanup::default()).unwrap_err());
        assert!(error.contains("DOES NOT REACH THE BOOT LOADER") && error.contains("efi2"), "{error}");
        fs::create_dir(dir.path().join("efi2")).unwrap();
        add(&tree, &files, &Cleanup::default()).unwrap();
        assert!(has(&tree, "6.1").unwrap() && !has(&tree, "6").unwrap());
        assert!(there("efi2") && !dir.path().join("efi").exists());
        fs::create_dir(dir.path().join("efi")).unwrap();
        add(&tree, &files, &Cleanup::default()).unwrap();
        assert!(there("efi") && there("efi2"));
        // One that cannot be written does not keep the other from it.
        fs::remove_dir_all(dir.path().join("efi/loader")).unwrap();
        put("efi/loader", "no directory");
        put("boot/vmlinuz-6.1", "newer");
        let error = format!("{:#}", add(&tree, &files, &Cleanup::default()).unwrap_err());
        assert!(error.contains("efi/loader"), "{error}");
        let text = fs::read_to_string(dir.path().join("efi2/loader/entries/taproot-6.1.conf")).unwrap();
        let kernel = text.lines().find_map(|line| line.strip_prefix("linux /")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("efi2").join(kernel)).unwrap(), "newer");
        fs::remove_file(dir.path().join("efi/loader")).unwrap();
        remove(&tree, "6.1", &Cleanup::default());
        assert!(!there("efi2"));
    }

    /// While its disk is away a kernel comes and another one goes; the first run that finds it again does both there.
    #[test]
    fn a_partition_that_was_away_is_brought_up_to_date_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let put = |path: &str, text: &str| {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), text).unwrap();
        };
        let (tree, cleanup) = (Tree::open(dir.path()).unwrap(), Cleanup::default());
        let install = |release: &str| {
            put(&format!("boot/vmlinuz-{release}"), &format!("kernel {release}"));
            put(&format!("lib/modules/{release}/modules.dep"), "");
            let files = BootFiles::of(&tree, release).unwrap();
            put(files.image.strip_prefix("/").unwrap().to_str().unwrap(), "image");
            add(&tree, &files, &cleanup).unwrap();
        };
        let uninstall = |release: &str| {
            fs::remove_dir_all(at(&format!("lib/modules/{release}"))).unwrap();
            remove(&tree, release, &cleanup);
        };
        let entries = |esp: &str| {
            let list = fs::read_dir(at(esp).join("loader/entries")).unwrap();
            let mut names: Vec<String> = list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let config =
            Config { esp_copies: vec!["/efi2".into()], ..Config::new("bls".parse().unwrap(), Path::new("/efi"), "x") };
        put("etc/taproot/loader.toml", &config.render().unwrap());
        for esp in ["efi", "efi2"] {
            fs::create_dir(at(esp)).unwrap();
        }
        for release in ["6.1", "6.2"] {
            install(release);
        }
        let record = at(super::super::behind::PATH.trim_start_matches('/'));
        assert!(!record.exists());

        fs::rename(at("efi2"), at("away")).unwrap();
        uninstall("6.1");
        install("6.3");
        // One that is installed again is not removed.
        uninstall("6.2");
        install("6.2");
        assert_eq!(entries("efi"), ["taproot-6.2.conf", "taproot-6.3.conf"]);
        assert_eq!(entries("away"), ["taproot-6.1.conf", "taproot-6.2.conf"], "what it had before");
        assert!(record.exists());
        fs::rename(at("away"), at("efi2")).unwrap();
        install("6.4");
        assert_eq!(entries("efi2"), ["taproot-6.2.conf", "taproot-6.3.conf", "taproot-6.4.conf"]);
        assert_eq!(entries("efi2"), entries("efi"));
        assert!(!record.exists());

        // One that could not be written is behind, too, and a kernel that goes first is not put there for that.
        fs::rename(at("efi2/loader"), at("loader")).unwrap();
        put("efi2/loader", "no directory");
        uninstall("6.3");
        assert!(record.exists() && entries("efi") == ["taproot-6.2.conf", "taproot-6.4.conf"]);
        fs::remove_file(at("efi2/loader")).unwrap();
        fs::rename(at("loader"), at("efi2/loader")).unwrap();
        uninstall("6.2");
        assert_eq!((entries("efi2"), record.exists()), (vec!["taproot-6.4.conf".to_owned()], false));
    }
}
