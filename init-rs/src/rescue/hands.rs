//! Devices and drivers, as whoever hears the scout gives them: no word of the rescue reads a device itself.

use crate::devices::known::{Ambiguous, Device, Hardware, Reading};
use crate::devices::probe::Wanted;
use crate::report::log::Log;
use crate::scout::Scout;
use crate::sys::System;
use crate::unlock::KeyDevice;
use std::cell::RefCell;
use std::time::Duration;

/// How long a device may take to answer: some have to spin up first.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long the devices may take to appear that are there already.
const SETTLING: Duration = Duration::from_secs(3);
/// Longest wait for a module.
const MODULE_PATIENCE: Duration = Duration::from_secs(10);
/// Between two lines that say what is awaited.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// A wait shorter than this was none.
const IDLE: Duration = Duration::from_millis(1);
/// Between two looks where waiting does not work.
const TURN: Duration = Duration::from_millis(100);
/// Pieces of news taken in at once.
const BURST: usize = 10_000;

/// The scout, or what stands for it.
pub trait Hands {
    /// What is known now.
    fn hardware(&self) -> &Hardware;
    /// The device that is meant.
    fn find(&self, wanted: &Wanted) -> Result<Option<&Device>, Ambiguous> {
        self.hardware().find(wanted)
    }
    /// Waits at most this long for news; whether there were any.
    fn hear(&mut self, patience: Duration) -> bool;
    /// Loads a module that is packed, with what it needs, and waits at most this long. Others may be built in: use tells.
    fn load(&mut self, module: &str, patience: Duration);
}

impl Hands for Scout<'_> {
    fn hardware(&self) -> &Hardware {
        &self.hardware
    }
    fn find(&self, wanted: &Wanted) -> Result<Option<&Device>, Ambiguous> {
        Scout::find(self, wanted)
    }
    fn hear(&mut self, patience: Duration) -> bool {
        Scout::hear(self, patience)
    }
    fn load(&mut self, module: &str, patience: Duration) {
        let _ = self.wait_module(module, patience);
    }
}

impl<T: Hands> Hands for &mut T {
    fn hardware(&self) -> &Hardware {
        (**self).hardware()
    }
    fn find(&self, wanted: &Wanted) -> Result<Option<&Device>, Ambiguous> {
        (**self).find(wanted)
    }
    fn hear(&mut self, patience: Duration) -> bool {
        (**self).hear(patience)
    }
    fn load(&mut self, module: &str, patience: Duration) {
        (**self).load(module, patience);
    }
}

/// A scout of one's own, started when a word first needs it: it reads every disk that is there. It loads nothing but what is
/// asked for.
pub(super) struct Own<'a> {
    system: &'a dyn System,
    log: &'a Log,
    scout: Option<Scout<'a>>,
    nothing: Hardware,
}

impl<'a> Own<'a> {
    pub(super) fn new(system: &'a dyn System, log: &'a Log) -> Self {
        Self { system, log, scout: None, nothing: Hardware::default() }
    }

    fn scout(&mut self) -> &mut Scout<'a> {
        self.scout.get_or_insert_with(|| Scout::start(self.system, false, self.log))
    }
}

impl Hands for Own<'_> {
    fn hardware(&self) -> &Hardware {
        self.scout.as_ref().map_or(&self.nothing, |scout| &scout.hardware)
    }
    fn find(&self, wanted: &Wanted) -> Result<Option<&Device>, Ambiguous> {
        self.scout.as_ref().map_or(Ok(None), |scout| scout.find(wanted))
    }
    fn hear(&mut self, patience: Duration) -> bool {
        self.scout().hear(patience)
    }
    fn load(&mut self, module: &str, patience: Duration) {
        let _ = self.scout().wait_module(module, patience);
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        if let Some(scout) = &mut self.scout {
            scout.stop();
        }
    }
}

/// Loads those of these modules that are packed.
pub(crate) fn load(hands: &RefCell<dyn Hands + '_>, modules: &[&str]) {
    let mut hands = hands.borrow_mut();
    for module in modules {
        hands.load(module, MODULE_PATIENCE);
    }
}

/// Takes in what has happened meanwhile.
pub(super) fn catch_up(hands: &RefCell<dyn Hands + '_>) {
    let mut hands = hands.borrow_mut();
    // Not for ever, should there always be more.
    for _ in 0..BURST {
        if !hands.hear(Duration::ZERO) {
            return;
        }
    }
}

/// Waits for news. Where nobody can bring any, time must pass all the same.
fn listen(system: &dyn System, hands: &mut (dyn Hands + '_), patience: Duration) {
    let before = system.now();
    if !hands.hear(patience) && system.now().saturating_sub(before) < IDLE {
        system.sleep(patience.min(TURN));
    }
}

/// Hears until each device has answered, or has had its time: one that is silent for long is not waited for again.
pub(super) fn read_all(system: &dyn System, hands: &RefCell<dyn Hands + '_>) {
    catch_up(hands);
    let began = system.now();
    let mut hands = hands.borrow_mut();
    loop {
        let now = system.now();
        let fresh = |device: &Device| {
            let answers_by = device.since.saturating_add(PATIENCE);
            (device.content == Reading::Waiting).then(|| answers_by.saturating_sub(now)).filter(|left| !left.is_zero())
        };
        let hardware = hands.hardware();
        let reading = hardware.devices.values().filter_map(fresh).max();
        let settling = began.saturating_add(SETTLING).saturating_sub(now);
        let settling = Some(settling).filter(|left| !hardware.settled && !left.is_zero());
        let Some(left) = reading.max(settling) else { return };
        listen(system, &mut *hands, left);
    }
}

/// Nodes of the devices that have had their time to answer and did not.
pub(super) fn silent(system: &dyn System, hardware: &Hardware) -> Vec<String> {
    let now = system.now();
    let silent = |device: &&Device| device.content == Reading::Waiting && now.saturating_sub(device.since) >= PATIENCE;
    hardware.devices.values().filter(silent).map(|device| device.node.clone()).collect()
}

/// The device that a key file is on, waited for at most this long. What is awaited is told.
pub(crate) fn find(
    system: &dyn System,
    log: &Log,
    hands: &RefCell<dyn Hands + '_>,
    wanted: &Wanted,
    wait: Duration,
) -> Result<Option<KeyDevice>, Ambiguous> {
    catch_up(hands);
    let began = system.now();
    let mut told: Option<Duration> = None;
    let mut hands = hands.borrow_mut();
    loop {
        // A mount of one that does not answer would never come back.
        if let Some(device) = hands.find(wanted)?.filter(|device| device.content != Reading::Waiting) {
            let kind = device.superblock().map(|superblock| superblock.kind.clone());
            return Ok(Some(KeyDevice { node: device.node.clone(), kind }));
        }
        let now = system.now();
        let left = wait.saturating_sub(now.saturating_sub(began));
        if left.is_zero() {
            return Ok(None);
        }
        if told.is_none_or(|told| now.saturating_sub(told) >= STATUS_EVERY) {
            told = Some(now);
            let left = if wait == Duration::MAX { "no limit".to_owned() } else { format!("{} s left", left.as_secs()) };
            log.warn(format!("waiting for {wanted} with the key file ({left})"));
        }
        listen(system, &mut *hands, left.min(STATUS_EVERY));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::devices::known::{Content, Superblock, Zfs};
    use crate::devices::swap;
    use crate::sys::fake::{Machine, Tree};
    use crate::sys::linux::Linux;
    use std::sync::Arc;

    /// A device that has answered.
    pub(crate) fn device(name: &str, kind: &str, label: &str) -> Device {
        let superblock = Superblock { kind: kind.into(), uuid: "1-2".into(), label: label.into() };
        let superblock = Some(superblock).filter(|superblock| !superblock.kind.is_empty());
        let content = Content { superblock, swap: swap::Header::default(), zfs: Zfs::Nothing };
        Device {
            number: (8, 0),
            size: 8 << 30,
            identity: "QEMU DISK, serial 7".into(),
            ..Device::known(&format!("/dev/{name}"), Reading::Done(Box::new(content)))
        }
    }

    /// Devices that come one by one, each time somebody listens.
    #[derive(Default)]
    pub(crate) struct Scripted {
        pub(crate) hardware: Hardware,
        pub(crate) coming: Vec<Device>,
        pub(crate) loaded: Vec<String>,
    }

    impl Hands for Scripted {
        fn hardware(&self) -> &Hardware {
            &self.hardware
        }
        fn hear(&mut self, patience: Duration) -> bool {
            if patience.is_zero() {
                return false;
            }
            let Some(device) = self.coming.pop() else {
                self.hardware.settled = true;
                return false;
            };
            self.hardware.devices.insert(device.name.clone(), device);
            true
        }
        fn load(&mut self, module: &str, _: Duration) {
            self.loaded.push(module.to_owned());
        }
    }

    #[test]
    fn a_device_is_waited_for_and_only_so_long() {
        let system = Linux::new();
        let log = Log::new(Arc::new(Linux::new()));
        let hands = RefCell::new(Scripted { coming: vec![device("sdb1", "vfat", "STICK")], ..Scripted::default() });
        let wanted = Wanted::Label("STICK".into());
        let find = |wait| find(&system, &log, &hands, &wanted, wait);
        assert_eq!(find(Duration::ZERO), Ok(None));
        let found = find(Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!((found.node.as_str(), found.kind.as_deref()), ("/dev/sdb1", Some("vfat")));
        assert!(log.text().contains("waiting for LABEL=STICK with the key file ("), "{}", log.text());
        hands.borrow_mut().hardware.devices.clear();
        assert_eq!(find(Duration::from_millis(5)), Ok(None));
    }

    #[test]
    fn where_nobody_tells_anything_time_passes_all_the_same() {
        struct Deaf(Hardware);
        impl Hands for Deaf {
            fn hardware(&self) -> &Hardware {
                &self.0
            }
            fn hear(&mut self, _: Duration) -> bool {
                false
            }
            fn load(&mut self, _: &str, _: Duration) {}
        }
        let machine = Machine::new(Tree::new());
        let hands = RefCell::new(Deaf(Hardware::default()));
        read_all(&machine, &hands);
        assert_eq!(machine.now(), SETTLING);
        let log = Log::new(Arc::new(Linux::new()));
        assert_eq!(find(&machine, &log, &hands, &Wanted::Label("x".into()), Duration::from_secs(11)), Ok(None));
        assert_eq!(machine.now(), SETTLING + Duration::from_secs(11));
        assert_eq!(log.text().matches("waiting for LABEL=x").count(), 3);
    }

    #[test]
    fn a_scout_of_ones_own_is_started_when_a_word_needs_it() {
        let machine = Machine::new(Tree::new());
        let log = Log::new(Arc::new(Linux::new()));
        drop(Own::new(&machine, &log));
        assert!(machine.calls().is_empty());
        let own = RefCell::new(Own::new(&machine, &log));
        read_all(&machine, &own);
        load(&own, &["vfat"]);
        assert_eq!(machine.calls(), ["scout --no-modules"]);
        assert!(own.borrow().hardware().devices.is_empty() && machine.now() < SETTLING);
        assert!(log.text().contains("could not be started"), "{}", log.text());
    }

    #[test]
    fn only_devices_that_are_new_are_waited_for() {
        let system = Linux::new();
        let silent = Device { content: Reading::Waiting, ..device("sda", "", "") };
        let fresh = Device { since: system.now(), ..silent.clone() };
        let hardware = Hardware { devices: [("sda".to_owned(), fresh)].into(), settled: true, ..Hardware::default() };
        let coming = vec![device("sda", "ext4", "")];
        let hands = RefCell::new(Scripted { hardware, coming, ..Scripted::default() });
        read_all(&system, &hands);
        assert!(hands.borrow().hardware.devices["sda"].superblock().is_some());
        hands.borrow_mut().hardware.devices.insert("sda".into(), silent);
        hands.borrow_mut().coming = vec![device("sda", "ext4", "")];
        read_all(&system, &hands);
        assert_eq!(hands.borrow().coming.len(), 1, "it has been silent since the start");
        assert_eq!(super::silent(&system, hands.borrow().hardware()), ["/dev/sda"]);
    }
}
