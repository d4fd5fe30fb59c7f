//! The kit: Debian trees, their pools and where they lie (`tests/kit/*.sh` makes them).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// The kit systems of `make kit`, the ends of what is run here; default first.
pub const SYSTEMS: [&str; 2] = ["debian13-zfs2.4", "debian12-zfs2.1"];
/// The one between them: made and run on demand (`make test-all`).
pub const ON_DEMAND: &str = "debian12-zfs2.3";

/// The kit's cache directory: `$TAPROOT_KIT`, else `$XDG_CACHE_HOME/taproot-kit`, else `~/.cache/taproot-kit`.
pub fn cache() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("TAPROOT_KIT") {
        return Ok(dir.into());
    }
    if let Some(dir) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(Path::new(&dir).join("taproot-kit"));
    }
    let home = std::env::var_os("HOME").context("neither TAPROOT_KIT nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/taproot-kit"))
}

/// What a test leaves when it is killed, and what is made for one image only, goes when it is so old; no test takes as long.
const LEFT: Duration = Duration::from_secs(6 * 3600);

/// A directory of the cache, made if it is not there; what no test touched lately in it is removed.
pub fn cache_of_tests(name: &str) -> Result<PathBuf> {
    let dir = cache()?.join(name);
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > LEFT) {
            let path = entry.path();
            // Another test may be at it; what cannot be removed is left.
            let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        }
    }
    Ok(dir)
}

/// One kit system: a Debian tree with its kernel and pools.
#[derive(Debug, Clone)]
pub struct System {
    /// One of [`SYSTEMS`], or [`ON_DEMAND`].
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// `OpenZFS` version.
    pub zfs: String,
    dir: PathBuf,
    pools: PathBuf,
    live: PathBuf,
}

impl System {
    /// Opens a kit system that `make kit` has built.
    pub fn open(name: &str) -> Result<Self> {
        let cache = cache()?;
        let dir = cache.join("trees").join(name);
        let facts = std::fs::read_to_string(dir.join("facts"))
            .with_context(|| format!("{name}: no finished tree in {}; run: make kit", dir.display()))?;
        let fact = |key: &str| {
            facts
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .map(str::to_owned)
                .with_context(|| format!("{name}: no {key}= in {}", dir.join("facts").display()))
        };
        let pools = cache.join("pools").join(name);
        let live = cache.join("live").join(name);
        let system = Self { name: name.to_owned(), kernel: fact("KERNEL")?, zfs: fact("ZFS")?, dir, pools, live };
        ensure!(
            system.pool_sets().next().is_some(),
            "{name}: no finished pools in {}; run: make kit",
            system.pools.display()
        );
        Ok(system)
    }

    /// The system of this test run: `$TAPROOT_SYSTEM`, else the default one.
    pub fn current() -> Result<Self> {
        Self::open(&std::env::var("TAPROOT_SYSTEM").unwrap_or_else(|_| SYSTEMS[0].to_owned()))
    }

    /// What its Debian calls itself.
    pub fn debian(&self) -> Result<String> {
        let path = self.tree().join("usr/lib/os-release");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        Ok(name.with_context(|| format!("no PRETTY_NAME in {}", path.display()))?.trim_matches('"').to_owned())
    }

    /// The directory tree of the system.
    pub fn tree(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The bootable kernel.
    pub fn vmlinuz(&self) -> PathBuf {
        self.tree().join("boot").join(format!("vmlinuz-{}", self.kernel))
    }

    /// The tree as a squashfs, for the helper VM.
    pub fn squashfs(&self) -> PathBuf {
        self.dir.join("system.squashfs")
    }

    /// The initramfs of the helper VM.
    pub fn helper_initrd(&self) -> PathBuf {
        self.dir.join("helper.cpio")
    }

    /// The initramfs that another live system's tool made for it (`tests/kit/live.sh`): `live-boot` or `dracut`. If there is none, the path
    /// is one that does not exist.
    pub fn live_initrd(&self, tool: &str) -> PathBuf {
        self.live.join(format!("{tool}.img"))
    }

    /// What the tree was made from, for caches that depend on it.
    pub fn stamp(&self) -> Result<String> {
        let path = self.dir.join("stamp");
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// A raw image of the pool disk with this serial, whatever pool set (`tests/kit/pools/SET.sh`) it belongs to. It is
    /// shared by all tests: never write to it. If no finished set has it, the path is one that does not exist.
    pub fn pool_disk(&self, serial: &str) -> PathBuf {
        let file = format!("{serial}.img");
        let found = self.pool_sets().map(|set| set.join(&file)).find(|path| path.exists());
        found.unwrap_or_else(|| self.pools.join("in-no-finished-pool-set").join(file))
    }

    /// The directories of the finished pool sets. Only those that this checkout knows: another one that shares the cache
    /// may have a disk in another set.
    fn pool_sets(&self) -> impl Iterator<Item = PathBuf> {
        let scripts = crate::checkout().join("tests/kit/pools");
        let sets = std::fs::read_dir(&self.pools).into_iter().flatten().flatten().map(|entry| entry.path());
        sets.filter(move |set| {
            set.join("stamp").exists()
                && set.file_name().is_some_and(|name| scripts.join(name).with_extension("sh").exists())
        })
    }
}

/// Runs a command, with its output in the error if it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("starting {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_what_the_tests_run_on() {
        let text = |path: &str| std::fs::read_to_string(crate::checkout().join(path)).unwrap();
        let made = format!("set -- {} \"$@\"", SYSTEMS.join(" "));
        assert!(text("tests/kit/all.sh").contains(&made), "all.sh: no {made}");
        assert!(
            text("Makefile").contains(&format!("@tests/kit/all.sh {ON_DEMAND}")),
            "make test-all does not make {ON_DEMAND}"
        );
        for system in SYSTEMS.into_iter().chain([ON_DEMAND]) {
            assert!(text("tests/kit/tree.sh").contains(&format!("\n    {system}) ")), "tree.sh does not know {system}");
        }
    }
}
