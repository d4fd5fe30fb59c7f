//! What one turn of the loop costs with as wide a pool as there is: `next` is asked after every event. No machine is needed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use taproot_init::cmdline::parse;
use taproot_init::devices::known::{Content, Device, Hardware, Module, Reading, Zfs, ZfsLabel};
use taproot_init::devices::swap::Header;
use taproot_init::plan::candidates;
use taproot_init::plan::next::facts::{Asked, Disks, Facts, Watched, ZfsModule};
use taproot_init::plan::next::{Moment, Next, next};
use taproot_init::zfs::assemble::{Seen, assemble};
use taproot_init::zfs::label::Label;
use taproot_init::zfs::nvlist::{NvList, Value};
use taproot_tests::show;

use crate::Limits;

/// Leaves of the pool: as many as a vdev can have. One of them is not there, so it is waited for.
const LEAVES: u64 = 255;
const TURNS: u32 = 200;
const CHANGES: u64 = 20;
/// Milliseconds of a turn, whether or not one of the disks has changed.
const LIMIT: f64 = 5.0;

fn node<const N: usize>(pairs: [(&str, Value); N]) -> NvList {
    pairs.into_iter().collect()
}

/// The label of one disk of a raidz1 of all of them.
fn label(leaf: u64) -> NvList {
    let disk = |id: u64| {
        let path = Value::text(format!("/dev/disk/by-id/ata-disk{id}-part1"));
        node([
            ("type", Value::text("disk")),
            ("id", Value::U64(id)),
            ("guid", Value::U64(1000 + id)),
            ("path", path),
            ("whole_disk", Value::U64(1)),
        ])
    };
    let top = node([
        ("type", Value::text("raidz")),
        ("id", Value::U64(0)),
        ("guid", Value::U64(9)),
        ("nparity", Value::U64(1)),
        ("children", Value::ListArray((0..LEAVES).map(disk).collect())),
    ]);
    node([
        ("version", Value::U64(5000)),
        ("name", Value::text("tank")),
        ("state", Value::U64(0)),
        ("txg", Value::U64(4)),
        ("pool_guid", Value::U64(7)),
        ("guid", Value::U64(1000 + leaf)),
        ("top_guid", Value::U64(9)),
        ("vdev_children", Value::U64(1)),
        ("vdev_tree", Value::List(top)),
    ])
}

fn member(label: NvList) -> Zfs {
    Zfs::Member(ZfsLabel { label: Label::new(label, 0), good: [true; 4], tail: None })
}

/// The machine while the last disk is awaited.
fn machine() -> Hardware {
    let device = |leaf: u64| {
        let content = Content { superblock: None, swap: Header::default(), zfs: member(label(leaf)) };
        let device = Device::known(&format!("/dev/sd{leaf}"), Reading::Done(Box::new(content)));
        (device.name.clone(), device)
    };
    Hardware {
        devices: (1..LEAVES).map(device).collect(),
        modules: BTreeMap::from([("zfs".to_owned(), Module::Ready)]),
        settled: true,
        ..Hardware::default()
    }
}

pub(crate) fn table(limits: &Limits) -> Result<()> {
    let (request, mut hardware) = (parse(b"root=ZFS=tank/ROOT/default"), machine());
    let labels = candidates::labels(&hardware, None, None);
    let pools = assemble(&labels);
    let changed = after_a_change(&mut hardware, &labels)?;
    ensure!(
        pools.len() == 1 && pools.iter().all(|pool| pool.missing().count() == 1),
        "expected one pool, a disk short"
    );
    let watched = BTreeMap::from([(7, Watched::default())]);
    let facts = Facts {
        zfs: Some(ZfsModule { version: "2.4.0".to_owned(), ..ZfsModule::default() }),
        imported: Some(Vec::new()),
        disks: Disks { generation: Some(0), labels, candidates: pools, watched },
        begin: Some(Asked::of(&request)),
        ..Facts::default()
    };
    let moment = Moment { request: &request, hardware: &hardware, facts: &facts, now: Duration::from_secs(1) };
    let mut least = Duration::MAX;
    for _ in 0..TURNS {
        let began = Instant::now();
        let said = next(moment);
        least = least.min(began.elapsed());
        ensure!(matches!(said, Next::Wait(_)), "expected a wait for the missing disk, found {said:?}");
    }
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let mut rows = vec![["a pool of 255 disks, one of them missing", "time [ms]", ""].map(str::to_owned).to_vec()];
    let changed = least + changed;
    for (what, time) in [("nothing has changed", least), ("the label of one has changed", changed)] {
        let verdict = limits.verdict(&format!("255 leaves, {what}"), millis(time) <= LIMIT, "limit 5 ms");
        rows.push(vec![format!("one turn in which {what}"), format!("{:.3}", millis(time)), verdict]);
    }
    println!("\n{}", show::table(&rows));
    Ok(())
}

/// What it takes to put the labels together again when one disk after the other has told another one, at least.
fn after_a_change(hardware: &mut Hardware, before: &[Seen]) -> Result<Duration> {
    let mut least = Duration::MAX;
    for (n, device) in (0..CHANGES).zip(1..LEAVES) {
        let name = format!("sd{device}");
        let Some(Device { content: Reading::Done(content), .. }) = hardware.devices.get_mut(&name) else {
            bail!("expected {name} to be read");
        };
        let mut later = label(device);
        later.set("txg", Value::U64(5 + n));
        content.zfs = member(later);
        let began = Instant::now();
        let labels = candidates::labels(hardware, None, None);
        ensure!(labels != before, "expected other labels");
        let pools = assemble(&labels);
        least = least.min(began.elapsed());
        ensure!(pools.iter().all(|pool| pool.txg == 5 + n), "expected the newest label to be found");
    }
    Ok(least)
}
