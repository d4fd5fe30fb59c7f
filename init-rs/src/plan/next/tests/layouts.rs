//! Layouts of pools, as data: `layouts/*.txt`, whose form the first lines of each file name and `docs/testing.md` describes. Each
//! goes through a whole boot by the functions that boot.

mod examples;
mod read;

use super::super::facts::Watched;
use super::super::{Next, Step, next};
use crate::cmdline::parse;
use crate::devices::known::{Content, Device, Hardware, Partition, Reading, Superblock, Zfs, ZfsLabel};
use crate::devices::swap;
use crate::plan::candidates::{self, Opened};
use crate::plan::facts::{CanMount, Dataset, Health, PoolFact};
use crate::plan::failure::Failure;
use crate::plan::fstab;
use crate::plan::rehearsal::{End, Known, KnownRoot, Play};
use crate::plan::sample::dataset;
use crate::plan::select::Choice;
use crate::zfs::assemble::{Candidate, assemble};
use crate::zfs::judge::Judgement;
use crate::zfs::label::Label;
use crate::zfs::nvlist::{NvList, Value};
use read::{Disk, Layout, Pool};
use std::collections::BTreeSet;
use std::time::Duration;

/// What came of a boot.
struct Outcome {
    choice: Option<Choice>,
    root: Option<String>,
    taken: Option<Duration>,
    failure: Option<Failure>,
    /// Everything that was told as a warning.
    warnings: Vec<String>,
    /// Guids of pools that the kernel was asked to open or to import.
    touched: BTreeSet<u64>,
    /// Guids of pools that are imported in the end, besides the root's.
    beside: Vec<u64>,
    end: End,
}

impl Layout {
    fn pool(&self, guid: u64) -> &Pool {
        self.pools.iter().find(|pool| pool.guid == guid).unwrap_or_else(|| panic!("{}: no pool {guid}", self.at))
    }

    /// The label of a vdev.
    fn label(&self, guid: u64, vdev: u64) -> NvList {
        let pool = self.pool(guid);
        let number = Value::U64;
        let mut config: NvList = [
            ("name", Value::text(&pool.name)),
            ("state", number(pool.state)),
            ("txg", number(4)),
            ("pool_guid", number(guid)),
            ("hostid", number(pool.host)),
            ("hostname", Value::text("elsewhere")),
            ("guid", number(vdev)),
        ]
        .into_iter()
        .collect();
        let leaf = |(id, guid): (u64, &u64)| -> NvList {
            let path = format!("/dev/{}", pool.paths.get(usize::try_from(id).unwrap()).map_or("none", String::as_str));
            let pairs = [
                ("type", Value::text("disk")),
                ("id", number(id)),
                ("guid", number(*guid)),
                ("path", Value::text(&path)),
            ];
            pairs.into_iter().collect()
        };
        let leaves: Vec<NvList> = (0..).zip(&pool.vdevs).map(leaf).collect();
        let top = if let [only] = leaves.as_slice() {
            only.clone()
        } else {
            let pairs = [("type", Value::text(&pool.kind)), ("id", number(0)), ("guid", number(guid + 1))];
            pairs.into_iter().chain([("children", Value::ListArray(leaves))]).collect()
        };
        config.set("top_guid", number(top.u64("guid").unwrap_or_default()));
        config.set("vdev_children", number(1));
        config.set("vdev_tree", Value::List(top));
        config
    }

    fn device(&self, disk: &Disk) -> Device {
        let zfs = disk.vdev.map_or(Zfs::Nothing, |(pool, vdev)| {
            let label = Label::new(self.label(pool, vdev), 0);
            Zfs::Member(ZfsLabel { label, good: disk.good, tail: disk.tail.clone() })
        });
        let held = disk.holds.as_ref();
        let superblock = held.map(|kind| Superblock { kind: kind.clone(), uuid: String::new(), label: String::new() });
        let content = Content { superblock, swap: swap::Header::default(), zfs };
        let partition = disk.of.as_ref().map(|_| Partition { number: disk.number, ..Partition::default() });
        let content = if disk.silent { Reading::Waiting } else { Reading::Done(Box::new(content)) };
        Device {
            size: disk.size,
            disk: disk.of.clone(),
            partition,
            wwid: disk.wwid.clone(),
            since: disk.comes,
            ..Device::known(&format!("/dev/{}", disk.name), content)
        }
    }

    fn known(&self) -> Known {
        let fact = |pool: &Pool| PoolFact { bootfs: pool.bootfs.clone(), ..PoolFact::named(&pool.name, pool.guid) };
        let roots = self.pools.iter().filter_map(|pool| pool.bootfs.clone()).chain(self.boots.clone());
        let roots: BTreeSet<String> = roots.collect();
        let fstab = fstab::parse(self.fstab.as_bytes());
        let others: Vec<Dataset> = fstab.iter().map(|line| dataset(&line.source, CanMount::NoAuto, "legacy")).collect();
        let looked_into =
            |name: &String| (name.clone(), KnownRoot { fstab: Some(fstab.clone()), ..KnownRoot::default() });
        Known {
            expected: self.expected.clone(),
            pools: self.pools.iter().map(fact).collect(),
            roots: roots.iter().map(looked_into).collect(),
            datasets: roots.iter().map(|name| dataset(name, CanMount::NoAuto, "/")).chain(others).collect(),
            complete: true,
            hardware: Some(Hardware { settled: true, ..Hardware::default() }),
            ..Known::default()
        }
    }

    /// What the kernel says when it opens a pool with these devices.
    fn judge(&self, candidate: &Candidate) -> Judgement {
        let pool = self.pool(candidate.guid);
        let missing = candidate.missing().count();
        let spare = match pool.kind.as_str() {
            "mirror" => pool.vdevs.len() - 1,
            "raidz1" => 1,
            _ => 0,
        };
        let (health, reason, wait_helps) = match &pool.refused {
            Some(why) => (Health::Unavailable, why.clone(), false),
            None if pool.damaged => (Health::Unavailable, "its data cannot be read".to_owned(), true),
            None if missing > spare => (Health::Unavailable, "too many vdevs are missing".to_owned(), true),
            None if missing > 0 || pool.log.is_some() => (Health::Degraded, "some vdevs are missing".to_owned(), true),
            None => (Health::Online, String::new(), false),
        };
        let bootfs_unknown = health == Health::Unavailable || pool.unwritable.is_some() || pool.untold;
        let bootfs = pool.bootfs.clone().filter(|_| !bootfs_unknown);
        let unwritable = pool.unwritable.clone();
        Judgement {
            health,
            reason,
            bootfs,
            bootfs_unknown,
            damaged: pool.damaged,
            bad: vec![],
            missing_logs: pool.log.iter().cloned().collect(),
            unwritable,
            wait_helps,
        }
    }

    /// Devices that have come or gone by now.
    fn catch_up(&self, play: &mut Play<'_>) {
        let there = |disk: &&Disk| disk.comes <= play.now && disk.goes.is_none_or(|goes| goes > play.now);
        let devices: Vec<&Disk> = self.disks.iter().filter(there).collect();
        if devices.iter().map(|disk| &disk.name).eq(play.hardware.devices.keys())
            && play.facts.disks.generation.is_some()
        {
            return;
        }
        let changes = self.disks.iter().flat_map(|disk| [Some(disk.comes), disk.goes]).flatten();
        play.hardware.last_change = changes.filter(|at| *at <= play.now).max().unwrap_or_default();
        play.hardware.generation += 1;
        play.hardware.devices = devices.iter().map(|disk| (disk.name.clone(), self.device(disk))).collect();
        let disks = &mut play.facts.disks;
        disks.generation = Some(play.hardware.generation);
        disks.labels = candidates::labels(&play.hardware, None, None);
        disks.candidates = assemble(&disks.labels);
        for candidate in &disks.candidates {
            disks.watched.entry(candidate.guid).or_insert(Watched { since: play.now, opened: None });
        }
    }

    /// When something next comes or goes.
    fn next_change(&self, now: Duration) -> Option<Duration> {
        let changes = self.disks.iter().flat_map(|disk| [Some(disk.comes), disk.goes]).flatten();
        changes.filter(|at| *at > now).min()
    }

    /// Goes through a boot with this command line.
    fn boot(&self, line: &str) -> Outcome {
        let (request, known) = (parse(line.as_bytes()), self.known());
        let mut play = Play::new(&request, &known);
        let mut outcome = Outcome {
            choice: None,
            root: None,
            taken: None,
            failure: None,
            warnings: vec![],
            touched: BTreeSet::new(),
            beside: vec![],
            end: End::NotKnown,
        };
        for _ in 0..10_000 {
            self.catch_up(&mut play);
            match next(play.moment()) {
                Next::Do(Step::AskImported) => {
                    let ours = known.pools.iter().filter(|pool| play.facts.ours.contains_key(&pool.guid));
                    play.facts.imported = Some(ours.cloned().collect());
                    continue;
                }
                Next::Do(Step::Open { guid }) => {
                    let candidate = play.facts.disks.candidates.iter().find(|c| c.guid == guid).cloned().unwrap();
                    let judgement = self.judge(&candidate);
                    let devices = candidates::devices(&candidate);
                    let opened = Opened { devices, judgement, reply: Some(NvList::new()) };
                    play.facts.disks.watched.entry(guid).or_default().opened = Some(opened);
                    outcome.touched.insert(guid);
                    continue;
                }
                Next::Do(Step::Take(found)) => {
                    outcome.taken = Some(play.now);
                    outcome.warnings.extend(found.choice.warnings.clone());
                }
                Next::Do(Step::ImportOther { found, .. }) => {
                    outcome.warnings.extend(found.choice.warnings.clone());
                    outcome.touched.insert(found.choice.guid);
                }
                Next::Do(Step::DoWithout { why, warn: true, .. }) => outcome.warnings.push(why),
                Next::Do(Step::Import(choice)) => drop(outcome.touched.insert(choice.guid)),
                Next::Wait(wait) => {
                    let due = play.end_of(&wait);
                    if let Some(at) = self.next_change(play.now).filter(|at| due.is_none_or(|due| *at <= due)) {
                        play.now = at;
                        continue;
                    }
                }
                _ => {}
            }
            if !play.turn() {
                let root = play.told.choice.as_ref().map(|choice| choice.guid);
                outcome.beside = play.facts.ours.keys().copied().filter(|guid| Some(*guid) != root).collect();
                outcome.choice = play.told.choice;
                outcome.root = play.told.root;
                outcome.failure = play.told.failure;
                outcome.end = play.told.end;
                return outcome;
            }
        }
        panic!("{}: the boot goes in circles: {:?}", self.at, play.told.steps.last());
    }

    /// What is not as the layout says, a line each.
    fn wrong(&self, outcome: &Outcome) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |what: &str, expected: String, found: String| {
            if expected != found {
                wrong.push(format!("{what}: expected {expected}, found {found}"));
            }
        };
        let code = outcome.failure.as_ref().map(|failure| failure.code.code().to_owned());
        check("fails", format!("{:?}", self.fails), format!("{code:?}"));
        let root = outcome.root.clone().filter(|_| outcome.end == End::HandOver);
        check("boots", format!("{:?}", self.boots), format!("{root:?}"));
        if let Some(pool) = self.from {
            check("pool", format!("{pool}"), format!("{}", outcome.choice.as_ref().map_or(0, |choice| choice.guid)));
        }
        if let Some(after) = self.after {
            check("after", format!("{after:?}"), format!("{:?}", outcome.taken.unwrap_or_default()));
        }
        check("beside", format!("{:?}", self.beside), format!("{:?}", outcome.beside));
        if self.warns.len() != outcome.warnings.len() {
            wrong.push(format!("expected {} warnings, found {:#?}", self.warns.len(), outcome.warnings));
        }
        for part in &self.warns {
            if !outcome.warnings.iter().any(|warning| warning.contains(part)) {
                wrong.push(format!("no warning says {part:?}: {:#?}", outcome.warnings));
            }
        }
        let said = outcome
            .failure
            .as_ref()
            .map(|f| format!("{f}\n{}\n{}", f.refusal.found.join("\n"), f.refusal.advice.join("\n")));
        for part in &self.says {
            if !said.as_ref().is_some_and(|said| said.contains(part)) {
                wrong.push(format!("the failure does not say {part:?}: {said:#?}"));
            }
        }
        for part in &self.never {
            if said.as_ref().is_some_and(|said| said.contains(part)) {
                wrong.push(format!("the failure says {part:?}: {said:#?}"));
            }
        }
        for guid in self.leaves.iter().filter(|guid| outcome.touched.contains(guid)) {
            wrong.push(format!("pool {guid} was to be left alone, but the kernel opened it"));
        }
        wrong
    }
}

/// Every layout of every file.
fn all() -> Vec<Layout> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/plan/next/tests/layouts");
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "txt")).collect();
    files.sort();
    let text = |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    files.iter().flat_map(|path| read::layouts(&path.file_name().unwrap().to_string_lossy(), &text(path))).collect()
}

#[test]
fn every_layout_boots_as_it_says() {
    let layouts = all();
    assert!(layouts.len() >= 40, "only {} layouts", layouts.len());
    let wrong = |layout: &Layout| {
        let lines = layout.wrong(&layout.boot(&layout.line));
        (!lines.is_empty()).then(|| format!("{} ({}):\n  {}", layout.name, layout.at, lines.join("\n  ")))
    };
    let wrong: Vec<String> = layouts.iter().filter_map(wrong).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} layouts are not as they say:\n{}",
        wrong.len(),
        layouts.len(),
        wrong.join("\n")
    );
}
