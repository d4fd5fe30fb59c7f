//! The smallest image that boots a kit system: the modules of this boot, uncompressed, and `bin/minimal-init.rs`, which is told
//! what to do. What it takes is as near to the floor of `make bench` as a boot can come.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;
use taproot_init::devices::table::{ModuleTable, TABLE_PATH, When};

use crate::kit::{self, System};
use crate::vm::Scratch;
use crate::{checkout, image, show};

/// What [`image`] tells `minimal-init`: the pool's disk, then a line for each mount: dataset, target, options.
pub const PLAN_PATH: &str = "/plan";
/// The vdev of the pool `tank`, in a machine without other disks.
const NODE: &str = "/dev/vda1";
/// What is needed to read it, besides what these need themselves.
const MODULES: [&str; 3] = ["zfs", "virtio_pci", "virtio_blk"];

/// Packs the image for a boot that ends as the one of which this is the `boot.json`: the same mounts.
pub fn image(system: &System, scratch: &Scratch, boot: &Value) -> Result<PathBuf> {
    let [packed, all, dir] = ["whole.img", "whole", "minimal"].map(|name| scratch.path().join(name));
    let options = ["--modules", "generic", "--rescue", "none", "--compress", "none", "--compress-modules", "none"];
    kit::run(&mut image::pack_command(system, &options, &packed))?;
    fs::create_dir_all(&all).context("a directory for the whole image")?;
    let script = "cd \"$1\" && cpio --quiet -id 'lib/*' 'etc/*' <\"$2\"";
    kit::run(Command::new("sh").args(["-c", script, "sh"]).arg(&all).arg(&packed))?;

    for name in ["dev", "proc", "sys", "run", "newroot"] {
        fs::create_dir_all(dir.join(name)).with_context(|| format!("making {name}"))?;
    }
    let table = fs::read_to_string(below(&all, TABLE_PATH)).context("the module table")?;
    let table = needed(ModuleTable::parse(&table)?);
    for module in &table.modules {
        copy(&below(&all, &module.path), &below(&dir, &module.path))?;
    }
    write(&below(&dir, TABLE_PATH), &table.render())?;
    write(&below(&dir, PLAN_PATH), &plan(boot))?;
    copy(&checkout().join("out/minimal-init"), &dir.join("init"))?;
    let image = scratch.path().join("minimal.cpio");
    cpio(&dir, &image)?;
    for done in [&all, &dir] {
        fs::remove_dir_all(done).with_context(|| format!("removing {}", done.display()))?;
    }
    Ok(image)
}

/// An uncompressed archive of what is in a directory.
pub fn cpio(dir: &Path, image: &Path) -> Result<()> {
    let script = "cd \"$1\" && find . -mindepth 1 | sort | cpio --quiet -o -H newc >\"$2\"";
    kit::run(Command::new("sh").args(["-c", script, "sh"]).arg(dir).arg(image)).map(drop)
}

/// [`MODULES`] and what they need, to be loaded at once.
fn needed(mut table: ModuleTable) -> ModuleTable {
    let mut names: BTreeSet<String> = MODULES.map(str::to_owned).into();
    // Each stands behind what it needs.
    for module in table.modules.iter().rev() {
        if names.contains(&module.name) {
            names.extend(module.deps.iter().cloned());
        }
    }
    table.modules.retain(|module| names.contains(&module.name));
    for module in &mut table.modules {
        module.when = When::Boot;
        module.soft.clear();
    }
    table.aliases.clear();
    table.blacklist.clear();
    table
}

fn plan(boot: &Value) -> String {
    let mut plan = format!("{NODE}\n");
    for mount in show::entries(boot, "mounts") {
        let [dataset, target, options] = ["/dataset", "/target", "/options"].map(|field| show::text(mount, field));
        let _ = writeln!(plan, "{dataset}\t{target}\t{options}");
    }
    plan
}

fn below(dir: &Path, path: &str) -> PathBuf {
    dir.join(path.trim_start_matches('/'))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).and_then(|()| fs::write(path, text)).with_context(|| format!("writing {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let dir = to.parent().unwrap_or(to);
    fs::create_dir_all(dir)
        .and_then(|()| fs::copy(from, to))
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_the_disk_and_of_zfs_with_what_they_need_and_no_others() {
        let text = "taproot-modules 1\n\
            module\tspl\t/s\tboot\t-\t-\tspl_hostid=1\n\
            module\tzfs\t/z\tboot\tspl\t-\t-\n\
            module\tvirtio\t/v\tdevice\t-\t-\t-\n\
            module\tvirtio_ring\t/r\tdevice\tvirtio\t-\t-\n\
            module\tvirtio_blk\t/b\tdevice\tvirtio_ring\tloop\t-\n\
            module\tloop\t/l\tdevice\t-\t-\t-\n\
            alias\tvirtio:d2v*\tvirtio_blk\n";
        let table = needed(ModuleTable::parse(text).unwrap());
        let names: Vec<&str> = table.modules.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["spl", "zfs", "virtio", "virtio_ring", "virtio_blk"]);
        assert!(table.aliases.is_empty() && table.modules.iter().all(|m| m.when == When::Boot && m.soft.is_empty()));
    }

    #[test]
    fn the_plan_has_the_mounts_in_their_order() {
        let boot = serde_json::json!({"mounts": [
            {"dataset": "tank/ROOT/x", "target": "/", "options": "zfsutil"},
            {"dataset": "tank/var", "target": "/var", "options": ""}]});
        assert_eq!(plan(&boot), "/dev/vda1\ntank/ROOT/x\t/\tzfsutil\ntank/var\t/var\t\n");
    }
}
