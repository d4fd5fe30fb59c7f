//! What many datasets cost: a small root in a pool of its own, and the same among 10 000 datasets with a snapshot each. Both pools
//! are made by the pool writer of `taproot`: `zfs create` would take half an hour without KVM.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use taproot::pool::{Dataset, Options, Snapshot, write};
use taproot::tar::Archive;
use taproot_tests::checkout;
use taproot_tests::kit::System;
use taproot_tests::show::{self, seconds};
use taproot_tests::vm::{Scratch, Vm};

use crate::Limits;
use crate::boot::{Boot, took};

/// Hand-over with 10 000 more datasets and their snapshots in the pool, in hand-overs of the same pool without them; both
/// without IMPORT, in which the kernel opens every dataset whoever asks for it.
const LIMIT_REST: f64 = 2.0;
/// Our way from the first label to the imported pool, in runs of the stock `zpool import -N` of the same pool.
const LIMIT_IMPORT: f64 = 1.05;
const SIZE: u64 = 2 << 30;
/// What is not mounted at boot, as a machine with containers, users, another boot environment and guests has it: the dataset
/// above, the names below it, how many, and the mount point and `canmount` of each (`*`: its name).
const MORE: [(&str, &str, usize, &str, &str); 4] = [
    ("docker", "layer", 5020, "legacy", "on"),
    ("home", "user", 3900, "/home/*", "noauto"),
    ("ROOT/other", "part", 100, "/srv/*", "on"),
    ("vm", "disk", 980, "none", "on"),
];

pub(crate) fn table(system: &System, packed: &Path, runs: usize, limits: &Limits) -> Result<()> {
    let scratch = Scratch::new()?;
    for (pool, more) in [("empty", false), ("large", true)] {
        make(&scratch, pool, more)?;
    }
    let mut best: [Option<Boot>; 2] = [None, None];
    for (pool, best) in ["empty", "large"].into_iter().zip(&mut best) {
        // The large pool's import takes minutes without KVM; what is compared is far apart.
        for run in 0..if pool == "large" { 1 } else { runs } {
            let overlays = Scratch::new()?;
            let vm = Vm::new(&format!("bench-{pool}-{run}"), system, packed)
                .cpus(2)
                .append(&format!("root=ZFS={pool}/ROOT/default"))
                .disk(overlays.overlay_image(&image(&scratch, pool), &format!("{pool}0"))?)
                .start()?;
            let report = vm.report(900)?;
            let boot = Boot::of(&vm, report)?;
            if best.as_ref().is_none_or(|b| boot.hand_over < b.hand_over) {
                *best = Some(boot);
            }
        }
    }
    let [Some(empty), Some(large)] = best else { anyhow::bail!("no run") };
    let mut table = vec![["", "empty pool [s]", "large pool [s]"].map(str::to_owned).to_vec()];
    for phase in show::phases(&large.json) {
        table.push(vec![phase.name.clone(), seconds(took(&empty, &phase.name)), seconds(phase.took)]);
    }
    table.push(vec!["hand-over".to_owned(), seconds(empty.hand_over), seconds(large.hand_over)]);
    println!("{}", show::table(&table));
    let rest = |boot: &Boot| boot.hand_over - took(boot, "import");
    let ratio = rest(&large) / rest(&empty);
    let verdict = limits.verdict("all but IMPORT, of the empty pool's", ratio <= LIMIT_REST, "limit 2");
    println!("  all but IMPORT: {ratio:.2} of the empty pool's {verdict}");
    let stock = stock_import(system, &image(&scratch, "large"))?;
    let ratio = (took(&large, "tryimport") + took(&large, "import")) / stock;
    println!(
        "  TRYIMPORT and IMPORT: {ratio:.2} of the {} s that the stock zpool import -N takes {}",
        seconds(stock),
        limits.verdict("TRYIMPORT and IMPORT, of the stock tool's", ratio <= LIMIT_IMPORT, "limit 1.05")
    );
    println!("  hand-over, the kernel's IMPORT included: {:.2} of the empty pool's", large.hand_over / empty.hand_over);
    Ok(())
}

fn image(scratch: &Scratch, pool: &str) -> std::path::PathBuf {
    scratch.path().join(format!("{pool}.img"))
}

/// A pool on a whole disk, with `more` among all those datasets.
fn make(scratch: &Scratch, pool: &str, more: bool) -> Result<()> {
    let set = |name: &str, mountpoint: &str, canmount: &str| Dataset {
        name: name.to_owned(),
        properties: [("mountpoint", mountpoint), ("canmount", canmount)].map(|(k, v)| (k.into(), v.into())).to_vec(),
        snapshot: more.then(|| Snapshot { name: "daily".to_owned(), holds: Vec::new() }),
        ..Dataset::default()
    };
    let mut datasets = vec![
        set("", "none", "off"),
        set("ROOT", "none", "on"),
        Dataset { tree: Some("/".to_owned()), ..set("ROOT/default", "/", "noauto") },
        set("data", "/data", "on"),
        set("legacy", "legacy", "on"),
    ];
    if more {
        datasets.extend([set("docker", "legacy", "on"), set("home", "/home", "off"), set("vm", "none", "on")]);
        datasets.push(set("ROOT/other", "/", "noauto"));
        for (above, name, count, mountpoint, canmount) in MORE {
            let below = (0..count).map(|n| format!("{name}{n:04}"));
            datasets
                .extend(below.map(|name| set(&format!("{above}/{name}"), &mountpoint.replace('*', &name), canmount)));
        }
    }
    let tree = tree(scratch, pool, &datasets)?;
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "-cf", "-", "-C"]).arg(tree).arg(".");
    let mut tar = tar.stdout(Stdio::piped()).spawn().context("starting tar")?;
    let stream = tar.stdout.take().context("tar's output")?;
    let disk = File::create(image(scratch, pool))?;
    disk.set_len(SIZE)?;
    let options = Options {
        name: pool.to_owned(),
        size: SIZE,
        bootfs: Some("ROOT/default".to_owned()),
        datasets,
        ..Options::default()
    };
    let written = write(&disk, &options, &mut Archive::new(BufReader::new(stream)))
        .with_context(|| format!("writing the pool {pool}"))?;
    anyhow::ensure!(tar.wait()?.success(), "tar failed");
    println!("pool {pool}: {} datasets, {} MB", options.datasets.len(), written.allocated >> 20);
    Ok(())
}

/// The test init, an fstab, and the list of datasets that ZED would have left for the booted system.
fn tree(scratch: &Scratch, pool: &str, datasets: &[Dataset]) -> Result<std::path::PathBuf> {
    let root = scratch.path().join(format!("{pool}.tree"));
    let dirs = "dev proc sys run tmp home sbin data legacy mnt usr/lib etc/zfs/zfs-list.cache";
    for dir in dirs.split(' ') {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::copy(checkout().join("out/guest-init"), root.join("sbin/init")).context("out/guest-init (make guest-init)")?;
    fs::write(root.join("etc/hostname"), pool)?;
    fs::write(root.join("etc/fstab"), format!("{pool}/legacy /legacy zfs defaults 0 0\n"))?;
    let mut list = String::new();
    for set in datasets {
        let of =
            |name: &str| set.properties.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
        let name = format!("{pool}/{}", set.name);
        let _ = writeln!(list, "{}\t{}\t{}", name.trim_end_matches('/'), of("mountpoint"), of("canmount"));
    }
    fs::write(root.join("etc/zfs/zfs-list.cache").join(pool), list)?;
    Ok(root)
}

/// Milliseconds that the stock `zpool import -N` of the large pool takes in a VM of the same size, nothing mounted.
fn stock_import(system: &System, image: &Path) -> Result<f64> {
    let script = "set -e; now() { cut -d' ' -f1 /proc/uptime; }; before=$(now)\n\
        zpool import -N -f -o cachefile=none -d /dev/disk/by-id/virtio-large0 large\n\
        echo \"@@TOOK $before $(now)\"\n";
    let overlays = Scratch::new()?;
    let vm =
        Vm::helper("bench-stock", system, script).cpus(2).disk(overlays.overlay_image(image, "large0")?).start()?;
    let said = vm.script(1200)?;
    let line = said.lines().find_map(|l| l.strip_prefix("@@TOOK ")).with_context(|| format!("no time in {said:?}"))?;
    let times: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [before, after] = times[..] else { anyhow::bail!("two times expected, found {line:?}") };
    Ok((after - before) * 1000.0)
}
