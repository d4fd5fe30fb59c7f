//! What the image gets besides the tree: this program, so that the installed system looks after its boot itself.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::Boot;
use super::boot::{config, mounted};
use super::disk::layout::{Layout, Role};
use super::edit::{Added, Content};
use crate::esp::config::{PATH, stub_places};
use crate::firstboot::MARKER;
use crate::hooks::files::ENABLED;
use crate::settings::beside;
use crate::uuid;

/// What packages' managers call, and units: as `make install` has them.
const INSTALLED: &[(&str, u32, &[u8])] = &[
    ("usr/lib/taproot/update-initramfs", 0o755, include_bytes!("../../hooks/update-initramfs")),
    ("etc/kernel/postinst.d/taproot", 0o755, include_bytes!("../../hooks/kernel/postinst.d/taproot")),
    ("etc/kernel/postrm.d/taproot", 0o755, include_bytes!("../../hooks/kernel/postrm.d/taproot")),
    ("etc/kernel/header_postinst.d/taproot", 0o755, include_bytes!("../../hooks/kernel/header_postinst.d/taproot")),
    (
        "usr/lib/kernel/install.d/50-taproot.install",
        0o755,
        include_bytes!("../../hooks/kernel-install/50-taproot.install"),
    ),
    (
        "usr/lib/kernel/install.d/95-taproot.install",
        0o755,
        include_bytes!("../../hooks/kernel-install/95-taproot.install"),
    ),
    ("usr/share/libalpm/hooks/10-taproot-mask.hook", 0o644, include_bytes!("../../hooks/pacman/10-taproot-mask.hook")),
    (
        "usr/share/libalpm/hooks/90-taproot-install.hook",
        0o644,
        include_bytes!("../../hooks/pacman/90-taproot-install.hook"),
    ),
    (
        "usr/share/libalpm/hooks/60-taproot-remove.hook",
        0o644,
        include_bytes!("../../hooks/pacman/60-taproot-remove.hook"),
    ),
    ("usr/share/libalpm/scripts/taproot", 0o755, include_bytes!("../../hooks/pacman/taproot")),
    (
        "usr/lib/systemd/system/taproot-layer-work.service",
        0o644,
        include_bytes!("../../units/taproot-layer-work.service"),
    ),
    (
        "usr/lib/systemd/system/taproot-layer-confirm.service",
        0o644,
        include_bytes!("../../units/taproot-layer-confirm.service"),
    ),
    (
        "usr/lib/systemd/system/taproot-first-boot.service",
        0o644,
        include_bytes!("../../units/taproot-first-boot.service"),
    ),
    ("usr/lib/systemd/system/taproot-grow.service", 0o644, include_bytes!("../../units/taproot-grow.service")),
];
/// Where units are enabled, and what enables the first boot of a copy and growth.
const WANTS: &str = "usr/lib/systemd/system/multi-user.target.wants";
const GROW: &str = "etc/taproot/grow";

/// Files of this program and of its configuration, for a system on so many disks.
pub fn files(boot: &Boot, disks: usize) -> Result<Vec<Added>> {
    let own = std::env::current_exe().context("looking for this program")?;
    let init = boot.init.clone().unwrap_or_else(|| beside("taproot-init"));
    let program = |path: &str, content: PathBuf| Added { mode: 0o755, ..added(path, Content::File(content)) };
    let config = config(boot, disks)?;
    let mut all = vec![
        program("usr/bin/taproot", own),
        program("usr/lib/taproot/taproot-init", init),
        Added::file(PATH.trim_start_matches('/'), config.render()?),
        Added::file(ENABLED.trim_start_matches('/'), ""),
        Added::file(MARKER.trim_start_matches('/'), ""),
        Added::file(GROW, ""),
    ];
    let [systemds, own] = stub_places();
    let missing = systemds.to_string_lossy().trim_start_matches('/').to_owned();
    if config.loader.uki && systemds.exists() {
        // Kernels of later on are put into unified images, too.
        let path = own.to_string_lossy().trim_start_matches('/').to_owned();
        all.push(added(&path, Content::Spare(systemds, missing)));
    }
    all.extend(INSTALLED.iter().map(|(path, mode, bytes)| Added { mode: *mode, ..Added::file(path, *bytes) }));
    let units = INSTALLED.iter().filter_map(|(path, _, _)| path.strip_prefix("usr/lib/systemd/system/"));
    all.extend(units.map(|unit| Added::link(&format!("{WANTS}/{unit}"), &format!("../{unit}"))));
    Ok(all)
}

fn added(path: &str, content: Content) -> Added {
    Added { path: path.into(), content, mode: 0o644, owner: (0, 0) }
}

/// What follows where an EFI system partition is mounted, and the UUID of swap: a disk of a mirror may be gone, so none is waited for.
pub const ESP_REST: &str = "vfat umask=0077,nofail 0 2";
/// The same of swap.
pub const SWAP_REST: &str = "none swap sw,nofail 0 0";

/// Lines of fstab for the partitions beside the pool, of all disks.
pub fn fstab(layouts: &[&Layout]) -> Vec<String> {
    let mut lines = Vec::new();
    for (nth, layout) in layouts.iter().enumerate() {
        lines.push(format!("UUID={} {} {ESP_REST}", layout.serial_text(), mounted(nth).display()));
        if layout.find(Role::Swap).is_some() {
            lines.push(format!("UUID={} {SWAP_REST}", uuid::text(layout.swap_uuid())));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// The installed files are those of the Makefile.
    #[test]
    fn what_is_installed_is_added() {
        let makefile = include_str!("../../../Makefile");
        let lines = makefile.lines().filter(|line| line.contains("install -D"));
        let words = lines.flat_map(str::split_whitespace).filter_map(|word| word.strip_prefix("builder/"));
        let words = words.filter(|word| word.starts_with("hooks/") || word.starts_with("units/"));
        let sources: Vec<&str> = words.filter(|word| !word.contains("$$")).collect();
        assert!(sources.len() > 5, "{sources:?}");
        for source in sources {
            let name = source.rsplit('/').next().unwrap();
            let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(source)).unwrap();
            assert!(INSTALLED.iter().any(|(path, _, is)| path.ends_with(name) && *is == bytes), "{source}");
        }
    }
}
