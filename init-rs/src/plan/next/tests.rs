//! Whole boots, as rehearsals: a command line and what is known, with what happens meanwhile, and the steps that come of it.

mod again;
mod devices;
mod layouts;
mod live;
mod names;
mod order;
mod plain;
mod resume;
mod rounds;
mod waits;

use super::facts::Watched;
use super::{Next, next};
use crate::cmdline::parse;
use crate::devices::known::{Content, Device, Hardware, Partition, Reading, Superblock, Zfs};
use crate::devices::swap;
use crate::plan::facts::{CanMount, Mountpoint, PoolFact};
use crate::plan::failure::Code;
use crate::plan::rehearsal::{End, Known, KnownRoot, Play, Rehearsal};
use crate::plan::sample::{self, dataset};
use crate::zfs::assemble::{Candidate, Leaf};
use crate::zfs::label::PoolState;
use crate::zfs::nvlist::NvList;
use std::time::Duration;

/// Something that happens at a time, in milliseconds.
type Event<'a> = (u64, &'a dyn Fn(&mut Play<'_>));

/// Goes through a boot in which things happen.
fn run(line: &str, known: &Known, script: &[Event<'_>]) -> Rehearsal {
    let request = parse(line.as_bytes());
    let mut play = Play::new(&request, known);
    // On a machine of which the devices are known, a pool is there when its labels are seen.
    if known.hardware.is_some() {
        play.facts.imported = Some(vec![]);
    }
    let mut script = script.iter().peekable();
    for _ in 0..10_000 {
        while let Some((_, event)) = script.next_if(|(at, _)| Duration::from_millis(*at) <= play.now) {
            event(&mut play);
        }
        if let Next::Wait(wait) = next(play.moment()) {
            let due = play.end_of(&wait);
            if let Some((at, _)) = script.peek()
                && due.is_none_or(|due| Duration::from_millis(*at) <= due)
            {
                play.note_wait(&wait);
                play.now = Duration::from_millis(*at);
                continue;
            }
        }
        if !play.turn() {
            return play.told;
        }
    }
    panic!("{line}: the boot goes in circles: {:?}", play.told.steps.last());
}

/// Goes through a boot in which nothing happens.
fn boot(line: &str, known: &Known) -> Rehearsal {
    run(line, known, &[])
}

impl Rehearsal {
    /// Kinds of steps, in order.
    fn names(&self) -> Vec<&'static str> {
        self.steps.iter().map(|line| line.name).collect()
    }

    /// When the last step of a kind was done, in milliseconds.
    #[track_caller]
    fn at(&self, name: &str) -> u128 {
        let step = self.steps.iter().rev().find(|line| line.name == name);
        step.unwrap_or_else(|| panic!("no {name}: {:?}", self.names())).at.as_millis()
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.names().iter().position(|n| *n == name)
    }

    fn code(&self) -> Option<Code> {
        self.failure.as_ref().map(|failure| failure.code)
    }

    fn booted(&self) -> bool {
        self.end == End::HandOver && self.failure.is_none()
    }
}

/// Pools tank, with root tank/r and one more dataset, and usb, with root usb/r; the fstab of tank/r is empty.
fn tank() -> Known {
    let datasets = vec![
        dataset("tank", CanMount::Off, "none"),
        dataset("tank/r", CanMount::NoAuto, "/"),
        dataset("tank/r/var", CanMount::On, "/var"),
        dataset("usb", CanMount::Off, "none"),
        dataset("usb/r", CanMount::NoAuto, "/"),
    ];
    let root = KnownRoot { fstab: Some(vec![]), ..KnownRoot::default() };
    Known {
        pools: vec![pool("tank", 7), pool("usb", 8)],
        datasets,
        complete: true,
        roots: [("tank/r".to_owned(), root)].into(),
        ..Known::default()
    }
}

fn pool(name: &str, guid: u64) -> PoolFact {
    PoolFact { bootfs: Some(format!("{name}/r")), ..PoolFact::named(name, guid) }
}

/// The same, on a machine of which the devices are known: so far none.
fn machine() -> Known {
    Known { hardware: Some(Hardware { settled: true, ..Hardware::default() }), ..tank() }
}

/// The labels of a pool, on so many devices, of which some are missing.
fn labels(name: &str, guid: u64, devices: u64, missing: u64) -> Candidate {
    let leaf = |n: u64| Leaf {
        guid: guid * 100 + n,
        recorded_path: Some(format!("/dev/{name}{n}")),
        device: (n >= missing).then(|| format!("/dev/{name}{n}")),
        top_id: 0,
        kind: "disk".to_owned(),
    };
    Candidate {
        guid,
        name: name.to_owned(),
        state: PoolState::Exported,
        hostid: None,
        hostname: None,
        txg: 4,
        config: NvList::new(),
        leaves: (0..devices).map(leaf).collect(),
        problems: vec![],
        doubts: vec![],
        started: false,
    }
}

/// Labels are seen, instead of those of this pool that were seen before.
fn seen(play: &mut Play<'_>, candidate: Candidate) {
    let disks = &mut play.facts.disks;
    disks.watched.entry(candidate.guid).or_insert(Watched { since: play.now, opened: None });
    disks.candidates.retain(|c| c.guid != candidate.guid);
    disks.candidates.push(candidate);
    changed(play);
}

fn legacy() -> Mountpoint {
    Mountpoint::Legacy
}

fn changed(play: &mut Play<'_>) {
    play.hardware.last_change = play.now;
    play.hardware.generation += 1;
}

/// A device comes, or changes.
fn comes(play: &mut Play<'_>, name: &str, content: Reading) {
    let mut device = device(name, content);
    device.since = play.now;
    play.hardware.devices.insert(device.name.clone(), device);
    changed(play);
}

fn device(name: &str, content: Reading) -> Device {
    Device {
        partition: Some(Partition { number: 1, start: 0, uuid: "aa-01".into(), label: "system".into() }),
        links: vec!["by-id/ata-disk-part1".to_owned()],
        ..sample::device(name, content)
    }
}

/// A device that was read and holds this; nothing for an empty type.
fn holding(kind: &str) -> Reading {
    let superblock = Superblock { kind: kind.to_owned(), uuid: "0a-1b".into(), label: "root".into() };
    let superblock = Some(superblock).filter(|s| !s.kind.is_empty());
    let swap = swap::Header { image: None, swap: kind == "swap" };
    Reading::Done(Box::new(Content { superblock, swap, zfs: Zfs::Nothing }))
}
