//! What the scout knows of the devices, and what follows from each event: what to tell, what to read.

use super::message::Message;
use super::reader::{Answer, Look};
use super::survey::{Places, Surveyed};
use crate::devices::known::{Device, Partition, Reading};
use crate::devices::probe::PartitionTable;
use crate::devices::watch::Changes;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::time::Duration;

/// A device that is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) name: String,
    /// Which reading of the device it is: the answer of an earlier one does not count.
    pub(super) serial: u64,
    pub(super) look: Look,
}

#[derive(Debug)]
struct Tracked {
    surveyed: Surveyed,
    serial: u64,
    /// Whether the reading with this serial has not ended.
    reading: bool,
    /// Of a whole disk, once it was read.
    table: Option<PartitionTable>,
}

/// The devices.
#[derive(Debug)]
pub(super) struct State {
    places: Places,
    tracked: BTreeMap<String, Tracked>,
    serial: u64,
    messages: Vec<Message>,
    jobs: Vec<Job>,
}

impl State {
    pub(super) fn new(places: Places) -> Self {
        Self { places, tracked: BTreeMap::new(), serial: 0, messages: Vec::new(), jobs: Vec::new() }
    }

    /// What is to be told since the last call, and what is to be read.
    pub(super) fn take(&mut self) -> (Vec<Message>, Vec<Job>) {
        (take(&mut self.messages), take(&mut self.jobs))
    }

    /// Events have come.
    pub(super) fn follow(&mut self, changes: &Changes, now: Duration) {
        let mut legs = BTreeSet::new();
        for name in &changes.removed {
            legs.extend(self.forget(name));
        }
        if changes.rescan {
            legs.extend(self.look_for_missed(now));
            for name in self.places.names() {
                legs.extend(self.look(&name, false, now));
            }
        }
        for name in &changes.added {
            legs.extend(self.look(name, false, now));
        }
        for name in &changes.changed {
            legs.extend(self.look(name, true, now));
        }
        // What is used by another device now, or no longer, has no event of its own.
        for leg in legs {
            self.look(&leg, false, now);
        }
    }

    /// Devices that came or went without an event; returns what they are made of.
    pub(super) fn look_for_missed(&mut self, now: Duration) -> Vec<String> {
        let names: BTreeSet<String> = self.places.names().into_iter().collect();
        let gone: Vec<String> = self.tracked.keys().filter(|name| !names.contains(*name)).cloned().collect();
        let new: Vec<String> = names.into_iter().filter(|name| !self.tracked.contains_key(name)).collect();
        let mut legs: Vec<String> = gone.iter().flat_map(|name| self.forget(name)).collect();
        legs.extend(new.iter().flat_map(|name| self.look(name, false, now)));
        legs
    }

    fn forget(&mut self, name: &str) -> Vec<String> {
        let Some(gone) = self.tracked.remove(name) else { return Vec::new() };
        self.messages.push(Message::Gone(name.to_owned()));
        gone.surveyed.legs
    }

    /// Looks at a device; `changed`: it says that something about it is different. Returns what it is made of.
    fn look(&mut self, name: &str, changed: bool, now: Duration) -> Vec<String> {
        let Some(mut new) = self.places.survey(name, now) else { return self.forget(name) };
        let legs = new.legs.clone();
        if let Some(old) = self.tracked.get_mut(name)
            && old.surveyed.same_medium(&new)
        {
            let failed = matches!(old.surveyed.device.content, Reading::Failed(_));
            let again = (changed || failed) && !old.reading;
            let (device, was) = (&mut new.device, &old.surveyed.device);
            (device.since, device.content) = (was.since, was.content.clone());
            if let (Some(partition), Some(known)) = (&mut device.partition, &was.partition) {
                keep_names(partition, known);
            }
            let told = *device == *was;
            old.surveyed = new;
            if !told {
                self.tell(name);
            }
            // What was known stays known until it was read again.
            if again {
                self.read(name);
            }
            return legs;
        }
        let entry = Tracked { surveyed: new, serial: 0, reading: false, table: None };
        self.tracked.insert(name.to_owned(), entry);
        let known = self.place_partition(name);
        self.tell(name);
        self.read(name);
        // A table that does not know the partition is older than it.
        if let (false, Some(disk)) = (known, self.tracked.get(name).and_then(|t| t.surveyed.device.disk.clone()))
            && self.tracked.get(&disk).is_some_and(|disk| disk.table.is_some() && !disk.reading)
        {
            self.read(&disk);
        }
        legs
    }

    fn tell(&mut self, name: &str) {
        if let Some(tracked) = self.tracked.get(name) {
            self.messages.push(Message::Device(Box::new(tracked.surveyed.device.clone())));
        }
    }

    fn read(&mut self, name: &str) {
        let Some(tracked) = self.tracked.get_mut(name) else { return };
        let Some(look) = tracked.surveyed.look.clone() else { return };
        self.serial += 1;
        (tracked.serial, tracked.reading) = (self.serial, true);
        self.jobs.push(Job { name: name.to_owned(), serial: self.serial, look });
    }

    /// PID 1 wants a device to be read again, and not to hear of what was there before.
    pub(super) fn reread(&mut self, name: &str, now: Duration) {
        self.look(name, false, now);
        if let Some(tracked) = self.tracked.get_mut(name).filter(|tracked| tracked.surveyed.look.is_some()) {
            tracked.surveyed.device.content = Reading::Waiting;
            tracked.surveyed.device.since = now;
            self.tell(name);
            self.read(name);
        }
    }

    /// The kernel's name of the device with this node.
    pub(super) fn by_node(&self, node: &str) -> Option<String> {
        self.tracked.values().map(|t| &t.surveyed.device).find(|device| device.node == node).map(|d| d.name.clone())
    }

    /// A reader has brought something.
    pub(super) fn answer(&mut self, name: &str, serial: u64, answer: Answer) {
        let Some(tracked) = self.tracked.get_mut(name).filter(|tracked| tracked.serial == serial) else { return };
        match answer {
            Answer::Table(table) => {
                tracked.table = table;
                let of_disk = |t: &&Tracked| t.surveyed.device.disk.as_deref() == Some(name);
                let parts = self.tracked.values().filter(of_disk).map(|t| t.surveyed.device.name.clone());
                for part in parts.collect::<Vec<_>>() {
                    let before = self.tracked.get(&part).map(|t| t.surveyed.device.partition.clone());
                    self.place_partition(&part);
                    if before != self.tracked.get(&part).map(|t| t.surveyed.device.partition.clone()) {
                        self.tell(&part);
                    }
                }
            }
            Answer::Content(content) => {
                tracked.reading = false;
                let content = content.map_or_else(Reading::Failed, |content| Reading::Done(Box::new(content)));
                // Told also if it is the same: somebody may wait for it.
                tracked.surveyed.device.content = content;
                self.tell(name);
            }
        }
    }

    /// Takes UUID and name of a partition from the table of its disk; false if that has been read and does not know it.
    fn place_partition(&mut self, name: &str) -> bool {
        let device = |name: &str| self.tracked.get(name).map(|tracked| &tracked.surveyed.device);
        let Some(Device { disk: Some(disk), partition: Some(partition), .. }) = device(name) else { return true };
        let Some(table) = self.tracked.get(disk).and_then(|disk| disk.table.as_ref()) else { return true };
        let Some((uuid, label)) = table.partition(partition.number, partition.start) else { return false };
        let found = Partition { uuid, label, ..Partition::default() };
        if let Some(partition) = self.tracked.get_mut(name).and_then(|t| t.surveyed.device.partition.as_mut()) {
            keep_names(partition, &found);
        }
        true
    }
}

/// The kernel tells no UUID, and of a name only what is ASCII: the table knows better.
fn keep_names(partition: &mut Partition, known: &Partition) {
    if !known.uuid.is_empty() {
        partition.uuid.clone_from(&known.uuid);
    }
    if !known.label.is_empty() {
        partition.label.clone_from(&known.label);
    }
}

impl Surveyed {
    /// Whether what was read of the one holds for the other.
    fn same_medium(&self, other: &Self) -> bool {
        let key = |s: &Self| (s.device.number, s.device.size, s.medium, s.look.clone());
        let place = |s: &Self| s.device.partition.as_ref().map(|p| (p.number, p.start));
        key(self) == key(other) && place(self) == place(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::known::{Content, Zfs};
    use crate::devices::swap::Header;
    use crate::scout::survey::tests::Machine;

    const GIB: u64 = 1 << 30;
    const NOW: Duration = Duration::from_secs(1);

    fn nothing() -> Answer {
        Answer::Content(Ok(Content { superblock: None, swap: Header::default(), zfs: Zfs::Nothing }))
    }

    fn changes(added: &[&str], changed: &[&str], removed: &[&str]) -> Changes {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Changes { added: set(added), changed: set(changed), removed: set(removed), rescan: false }
    }

    /// What was told, in short.
    fn told(messages: &[Message]) -> Vec<String> {
        let short = |message: &Message| match message {
            Message::Device(device) => {
                let uuid = device.partition.as_ref().map_or(String::new(), |p| format!(" {}", p.uuid));
                let content = match &device.content {
                    Reading::Waiting => "waiting",
                    Reading::Done(_) => "read",
                    Reading::Failed(_) => "failed",
                    Reading::Never => "never",
                };
                format!("{} {content}{uuid}", device.name)
            }
            Message::Gone(name) => format!("{name} gone"),
            other => panic!("{other:?}"),
        };
        messages.iter().map(short).collect()
    }

    fn serial(jobs: &[Job], name: &str) -> u64 {
        jobs.iter().find(|job| job.name == name).unwrap().serial
    }

    #[test]
    fn a_device_is_told_when_it_appears_and_when_it_was_read() {
        let machine = Machine::new();
        machine.add("a/sda", GIB, &[]);
        machine.add("a/sdb", GIB, &[]);
        let mut state = State::new(machine.places());
        state.follow(&Changes { rescan: true, ..Changes::default() }, NOW);
        let (messages, jobs) = state.take();
        assert_eq!(told(&messages), ["sda waiting", "sdb waiting"]);
        assert_eq!(jobs.len(), 2);
        // Its event comes behind the first look, and tells nothing new.
        state.follow(&changes(&["sda"], &[], &[]), NOW);
        assert_eq!(state.take(), (vec![], vec![]));
        state.answer("sda", serial(&jobs, "sda"), nothing());
        assert_eq!(told(&state.take().0), ["sda read"], "whatever becomes of the other");
        // Another look keeps what is known until the answer is there, and starts one reader, not more.
        state.follow(&changes(&[], &["sda", "sdb"], &[]), NOW);
        let (messages, again) = state.take();
        assert_eq!((messages.len(), again.len()), (0, 1));
        state.follow(&changes(&[], &["sda"], &[]), NOW);
        assert_eq!(state.take().1, []);
        state.answer("sda", serial(&jobs, "sda"), nothing());
        assert_eq!(state.take().0, [], "the answer of an earlier reader");
        state.answer("sda", serial(&again, "sda"), Answer::Content(Err("bad".into())));
        assert_eq!(told(&state.take().0), ["sda failed"]);
        // One that failed is tried again when its event says that it is complete.
        state.follow(&changes(&["sda"], &[], &[]), NOW);
        assert_eq!(state.take().1.len(), 1);
    }

    #[test]
    fn another_medium_is_another_device() {
        let machine = Machine::new();
        machine.add("a/sda", GIB, &[("uevent", "DISKSEQ=1\n")]);
        let mut state = State::new(machine.places());
        state.follow(&changes(&["sda"], &[], &[]), NOW);
        let jobs = state.take().1;
        machine.add("a/sda", GIB, &[("uevent", "DISKSEQ=2\n")]);
        state.follow(&changes(&[], &["sda"], &[]), NOW);
        let (messages, again) = state.take();
        assert_eq!((told(&messages), again.len()), (vec!["sda waiting".to_owned()], 1));
        state.answer("sda", serial(&jobs, "sda"), nothing());
        assert_eq!(state.take().0, []);
        state.answer("sda", serial(&again, "sda"), nothing());
        machine.add("a/sda", 2 * GIB, &[]);
        state.follow(&changes(&[], &["sda"], &[]), NOW);
        assert_eq!(told(&state.take().0), ["sda read", "sda waiting"]);
        // Gone and there again before anybody looked.
        state.follow(&changes(&["sda"], &[], &["sda"]), NOW);
        assert_eq!(told(&state.take().0), ["sda gone", "sda waiting"]);
        machine.remove("a/sda");
        state.follow(&changes(&[], &["sda"], &[]), NOW);
        assert_eq!(told(&state.take().0), ["sda gone"]);
        state.follow(&changes(&[], &[], &["sda"]), NOW);
        assert_eq!(state.take(), (vec![], vec![]));
    }

    #[test]
    fn a_partition_does_not_wait_for_its_disk() {
        let machine = Machine::new();
        machine.add("a/sda", GIB, &[]);
        let part = |n: u32| {
            let files = [("partition", n.to_string()), ("start", (n * 2048).to_string())];
            machine.add(&format!("a/sda/sda{n}"), GIB / 2, &[(files[0].0, &files[0].1), (files[1].0, &files[1].1)]);
        };
        part(1);
        let mut state = State::new(machine.places());
        state.follow(&changes(&["sda", "sda1"], &[], &[]), NOW);
        let jobs = state.take().1;
        state.answer("sda1", serial(&jobs, "sda1"), nothing());
        assert_eq!(told(&state.take().0), ["sda1 read "]);
        let entries = |n: &[u64]| n.iter().map(|n| (n << 20, (format!("uuid-{n}"), String::new()))).collect();
        state.answer("sda", serial(&jobs, "sda"), Answer::Table(Some(PartitionTable::Gpt(entries(&[1])))));
        assert_eq!(told(&state.take().0), ["sda1 read uuid-1"]);
        state.answer("sda", serial(&jobs, "sda"), nothing());
        state.take();
        // A look at it does not forget the UUID.
        state.follow(&changes(&["sda1"], &[], &[]), NOW);
        assert_eq!(state.take(), (vec![], vec![]));
        // One that is newer than the table: the disk is read again.
        part(2);
        state.follow(&changes(&["sda2"], &[], &[]), NOW);
        let (messages, jobs) = state.take();
        assert_eq!(told(&messages), ["sda2 waiting "]);
        state.answer("sda", serial(&jobs, "sda"), Answer::Table(Some(PartitionTable::Gpt(entries(&[1, 2])))));
        assert_eq!(told(&state.take().0), ["sda2 waiting uuid-2"]);
        // And one that is there later than the table, but known to it.
        state.follow(&changes(&["sda2"], &[], &["sda2"]), NOW);
        assert_eq!(told(&state.take().0), ["sda2 gone", "sda2 waiting uuid-2"]);
    }

    #[test]
    fn what_becomes_part_of_another_device_is_left_alone() {
        let machine = Machine::new();
        machine.add("a/sda", GIB, &[]);
        let mut state = State::new(machine.places());
        state.follow(&changes(&["sda"], &[], &[]), NOW);
        let jobs = state.take().1;
        machine.add("a/sda", GIB, &[("holders/dm-0/", "")]);
        machine.add("a/dm-0", GIB, &[("slaves/sda/", "")]);
        state.follow(&changes(&["dm-0"], &[], &[]), NOW);
        assert_eq!(told(&state.take().0), ["dm-0 waiting", "sda never"]);
        state.answer("sda", serial(&jobs, "sda"), nothing());
        assert_eq!(state.take().0, [], "what the reader brings now is not wanted");
        machine.remove("a/dm-0");
        machine.remove("a/sda");
        machine.add("a/sda", GIB, &[]);
        state.follow(&changes(&[], &[], &["dm-0"]), NOW);
        assert_eq!(told(&state.take().0), ["dm-0 gone", "sda waiting"]);
    }

    #[test]
    fn asked_to_read_again_and_events_that_were_missed() {
        let machine = Machine::new();
        machine.add("a/sda", GIB, &[]);
        machine.add("a/zd0", GIB, &[]);
        let mut state = State::new(machine.places());
        state.look_for_missed(NOW);
        let (messages, jobs) = state.take();
        assert_eq!(told(&messages), ["sda waiting", "zd0 never"]);
        state.answer("sda", serial(&jobs, "sda"), nothing());
        state.take();
        assert_eq!(state.by_node(&machine.places().dev.join("sda").display().to_string()).as_deref(), Some("sda"));
        for name in ["sda", "zd0", "sdx"] {
            state.reread(name, NOW);
        }
        let (messages, jobs) = state.take();
        assert_eq!((told(&messages), jobs.len()), (vec!["sda waiting".to_owned()], 1));
        machine.remove("a/sda");
        state.look_for_missed(NOW);
        assert_eq!(told(&state.take().0), ["sda gone"]);
    }
}
