//! The simulated machine: its state, and its clock.

use super::faults::{Effect, Fault, Faults};
use super::files::{Mount, Names, Node, Tree};
use super::machine::{Device, Machine};
use super::scout::Child;
use super::{lost, verity};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Calls in a row that take no time before a run counts as going round in circles.
const SPINNING: usize = 200_000;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The new root's init was executed.
    HandOver {
        /// What was mounted as the root, and its type.
        root: Mount,
        /// The program.
        init: String,
        /// Its arguments.
        args: Vec<String>,
    },
    /// A hibernated system was resumed from the device with this number.
    Resumed(String),
    /// The machine restarts.
    Restart,
    /// The machine is switched off.
    PowerOff,
    /// A person is asked something, and nobody answers.
    Question(String),
    /// The power failed.
    PowerCut,
    /// Time is over, and nothing of the above has happened.
    OutOfTime,
    /// It goes round in circles, and no time passes.
    Spinning,
}

/// Leaves the run, wherever it is; caught where it was begun.
pub(super) struct Over;

/// What happened, and when.
#[derive(Debug, Clone)]
pub struct Event {
    /// Since the kernel started.
    pub at: Duration,
    /// Whether it is a line of the log.
    pub log: bool,
    /// What.
    pub text: String,
}

/// Everything about a machine that runs.
#[derive(Debug)]
pub(super) struct State {
    pub(super) machine: Machine,
    pub(super) now: Duration,
    /// The time that is told while a watched call is shown step by step.
    pub(super) shown: Option<Duration>,
    /// From when to when calls were watched inside of each that is watched now, the innermost last.
    pub(super) shown_inside: Vec<Vec<(Duration, Duration)>>,
    pub(super) names: Names,
    pub(super) dev: usize,
    pub(super) proc: usize,
    pub(super) sys: usize,
    variables: usize,
    /// Trees of what has been mounted, by source.
    mounted: BTreeMap<String, usize>,
    /// Devices that are there.
    pub(super) there: BTreeSet<String>,
    /// When a device or module comes or goes next; 0: to be looked at.
    pub(super) due: Duration,
    /// Modules, and when each is ready.
    pub(super) modules: BTreeMap<String, Duration>,
    /// Imported pools, as /proc shows them.
    pub(super) shown_pools: Vec<String>,
    pub(super) scout: Option<Child>,
    /// How many more of them die as soon as they are started.
    pub(super) scouts_die: usize,
    pub(super) faults: Faults,
    pub(super) events: Vec<Event>,
    pub(super) printed: String,
    pub(super) end: Option<End>,
    /// Loop devices, and what is mapped over them.
    pub(super) images: verity::Images,
    /// Calls since time passed last.
    idle: usize,
    /// Whether a process of its own is at work, and not PID 1.
    pub(super) apart: bool,
}

/// The machine, as the program sees it.
#[derive(Debug, Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
}

fn pseudo(text: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::default();
    for (path, text) in text {
        tree.text(path, text);
    }
    tree
}

impl World {
    /// Switches a machine on; these faults will happen.
    pub fn new(machine: Machine, faults: Vec<Fault>) -> Self {
        let mut root = machine.files.clone();
        root.text("etc/taproot/image.conf", &machine.image.render());
        if machine.hostid != 0 {
            root.put("etc/hostid", Node::File(machine.hostid.to_ne_bytes().to_vec(), 0o644));
        }
        for path in machine.programs.keys() {
            root.put(path, Node::File(b"\x7fELF".to_vec(), 0o755));
        }
        let mut names = Names::new(root);
        let mut dev = Tree::default();
        for name in ["console", "kmsg", "null", "tty1"] {
            dev.put(name, Node::Char);
        }
        let dev = names.add(dev);
        let proc = names.add(pseudo(&[
            ("cmdline", &format!("{}\n", machine.cmdline)),
            ("sys/kernel/osrelease", &format!("{}\n", machine.image.kernel)),
            ("sys/kernel/printk", "7\t4\t1\t7\n"),
            ("sys/kernel/printk_devkmsg", "ratelimit\n"),
            ("filesystems", "nodev\ttmpfs\n"),
            ("meminfo", &format!("MemTotal: {} kB\nMemAvailable: {} kB\n", machine.memory, machine.memory)),
        ]));
        let mut sysfs = pseudo(&[
            ("power/resume", "0:0\n"),
            ("power/resume_offset", "0\n"),
            ("power/state", "mem disk\n"),
            ("class/tty/console/active", "tty1\n"),
        ]);
        if machine.firmware.is_some() {
            sysfs.put("firmware/efi/efivars", Node::Dir);
        }
        let sys = names.add(sysfs);
        let mut variables = Tree::default();
        for (name, data) in machine.firmware.iter().flatten() {
            variables.put(name, Node::File([&[7, 0, 0, 0], data.as_slice()].concat(), 0o644));
        }
        let variables = names.add(variables);
        let modules = machine.built_in.iter().map(|name| (name.clone(), Duration::ZERO)).collect();
        let mut state = State {
            now: machine.started,
            machine,
            shown: None,
            shown_inside: Vec::new(),
            names,
            dev,
            proc,
            sys,
            variables,
            mounted: BTreeMap::new(),
            there: BTreeSet::new(),
            due: Duration::ZERO,
            modules,
            shown_pools: Vec::new(),
            scout: None,
            scouts_die: 0,
            faults: Faults::new(faults),
            events: Vec::new(),
            printed: String::new(),
            end: None,
            idle: 0,
            apart: false,
            images: verity::Images::default(),
        };
        state.devices_come_and_go();
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass; does not come back if that is the end of the run.
    pub(super) fn pass(&self, time: Duration) {
        let over = {
            let mut state = self.state();
            // What is told of a watched call takes none of the time behind it.
            if let Some(at) = state.shown {
                state.shown = Some(at.saturating_add(time));
                return;
            }
            let limit = state.machine.limit;
            if !time.is_zero() {
                state.idle = 0;
            }
            state.now = state.now.saturating_add(time).min(limit);
            state.devices_come_and_go();
            let over = state.now >= limit;
            if over {
                state.end.get_or_insert(End::OutOfTime);
            }
            over
        };
        if over {
            leave();
        }
    }

    /// The call never comes back.
    pub(super) fn never(&self) {
        if self.state().apart {
            super::apart::stick();
        }
        self.pass(Duration::MAX);
    }

    /// Ends the run.
    pub(super) fn finish(&self, end: End) {
        {
            let mut state = self.state();
            // In the middle of a watched call, what was done first has not happened yet.
            if let Some(at) = state.shown.take() {
                state.now = at;
                state.events.retain(|event| event.at <= at);
                state.end = None;
            }
            state.end.get_or_insert(end);
        }
        leave();
    }

    /// Each call begins here: it is counted and told, and what is to happen at it happens. `kind` is what faults go by.
    pub(super) fn enter(&self, kind: &str, about: &str) -> io::Result<()> {
        let (effects, reached, spins) = {
            let mut state = self.state();
            state.idle += 1;
            let text = format!("{kind} {about}");
            state.note(false, text.trim_end());
            let reached = if state.faults.ask_for_reach() { lost::reached(&state, kind, about) } else { None };
            (state.faults.due(kind, reached.is_some()), reached, state.idle > SPINNING)
        };
        if spins {
            self.finish(End::Spinning);
        }
        for effect in effects {
            self.state().note(false, &format!("fault: {effect:?}"));
            match effect {
                Effect::Errno(errno) => return Err(super::files::errno(errno)),
                Effect::Never => self.never(),
                Effect::Late(time) => self.pass(time),
                Effect::Gone(name) => self.state().goes(&name),
                Effect::NoScouts(count) => super::scout::die(&mut self.state(), count),
                Effect::Lost => lost::lose(self, reached),
                Effect::PowerCut => self.finish(End::PowerCut),
            }
        }
        Ok(())
    }

    /// How the run ended, if it has.
    pub fn end(&self) -> Option<End> {
        self.state().end.clone()
    }

    /// The time since the kernel started.
    pub fn time(&self) -> Duration {
        self.state().now
    }

    /// What happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// What the consoles show.
    pub fn printed(&self) -> String {
        self.state().printed.clone()
    }

    /// How often something was called that could fail.
    pub fn calls(&self) -> usize {
        self.state().faults.calls()
    }

    /// Faults that have not happened, because the run ended before.
    pub fn unused(&self) -> Vec<Fault> {
        self.state().faults.left().to_vec()
    }

    /// The machine as it is now: its pools, above all.
    pub fn machine(&self) -> Machine {
        self.state().machine.clone()
    }

    /// What is mounted.
    pub fn mounts(&self) -> Vec<Mount> {
        self.state().names.mounts.clone()
    }

    /// Whether reading this file failed, or it was not there.
    pub fn unread(&self, path: &str) -> bool {
        self.failed(&format!("read {path}"))
    }

    /// Whether writing this file failed.
    pub fn unwritten(&self, path: &str) -> bool {
        self.failed(&format!("write {path} "))
    }

    fn failed(&self, call: &str) -> bool {
        let state = self.state();
        // Something else may have gone wrong at that call, too.
        let aside = |event: &&Event| event.text.starts_with("fault: ") && !event.text.starts_with("fault: Errno");
        let fault = |event: &Event| event.text.starts_with("fault: Errno") || event.text.starts_with("  ");
        let came = |at: usize| state.events.iter().skip(at + 1).find(|event| !aside(event)).is_some_and(fault);
        state.events.iter().enumerate().any(|(at, event)| event.text.starts_with(call) && came(at))
    }

    /// Whether a scout runs.
    pub fn has_scout(&self) -> bool {
        self.state().scout.is_some()
    }

    /// The files below a mount point, as they would be found by the next boot.
    pub fn files(&self, path: &str) -> Tree {
        self.state().names.part(path.trim_start_matches('/'))
    }

    /// Bytes of a file, wherever it lies.
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.state().names.bytes(Path::new(path)).ok().map(<[u8]>::to_vec)
    }

    /// Everything that happened, a line each.
    pub fn story(&self) -> String {
        let mut text = String::new();
        for Event { at, log, text: line } in &self.state().events {
            let mark = if *log { '#' } else { ' ' };
            let _ = writeln!(text, "{:>12.6} {mark} {line}", at.as_secs_f64());
        }
        text
    }
}

/// Leaves the run. While it is being left already, calls just come back.
fn leave() {
    if !std::thread::panicking() {
        resume_unwind(Box::new(Over));
    }
}

impl State {
    pub(super) fn note(&mut self, log: bool, text: &str) {
        let at = self.shown.unwrap_or(self.now);
        self.events.push(Event { at, log, text: text.to_owned() });
    }

    /// Brings `/dev` and `/sys` up to the present.
    pub(super) fn devices_come_and_go(&mut self) {
        let now = self.now;
        if now < self.due {
            return;
        }
        let here = |device: &Device| device.arrives <= now && device.leaves.is_none_or(|leaves| now < leaves);
        let come: Vec<Device> =
            self.machine.devices.iter().filter(|d| here(d) && !self.there.contains(&d.name)).cloned().collect();
        let gone = self.machine.devices.iter().filter(|d| !here(d) && self.there.contains(&d.name));
        let gone: Vec<String> = gone.map(|d| d.name.clone()).collect();
        for name in gone {
            self.goes(&name);
        }
        for device in come {
            let (major, minor) = device.number;
            if let Some(dev) = self.names.tree(self.dev) {
                dev.put(&device.name, Node::Block(major, minor));
            }
            if let Some(sys) = self.names.tree(self.sys) {
                sys.put(&format!("dev/block/{major}:{minor}"), Node::Dir);
                sys.text(&format!("class/block/{}/dev", device.name), &format!("{major}:{minor}\n"));
                sys.text(&format!("class/block/{}/size", device.name), &format!("{}\n", device.size / 512));
            }
            self.there.insert(device.name);
        }
        let ready: Vec<String> =
            self.modules.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for name in ready {
            self.module_is_ready(&name);
        }
        let times = self.machine.devices.iter().flat_map(|device| [Some(device.arrives), device.leaves]);
        let times = times.flatten().chain(self.modules.values().copied());
        self.due = times.filter(|at| *at > now).min().unwrap_or(Duration::MAX);
    }

    /// A device goes, for ever.
    pub(super) fn goes(&mut self, name: &str) {
        let mut number = (0, 0);
        if let Some(device) = self.machine.device(name) {
            device.leaves = Some(device.leaves.unwrap_or_default());
            device.arrives = Duration::MAX;
            number = device.number;
        }
        self.there.remove(name);
        if let Some(dev) = self.names.tree(self.dev) {
            dev.take(name);
        }
        if let Some(sys) = self.names.tree(self.sys) {
            sys.take(&format!("class/block/{name}"));
            sys.take(&format!("dev/block/{}:{}", number.0, number.1));
        }
    }

    fn module_is_ready(&mut self, name: &str) {
        let version = self.machine.zfs.text();
        let Some(sys) = self.names.tree(self.sys) else { return };
        let state = format!("module/{name}/initstate");
        if sys.get(&state).is_some() || self.machine.built_in.iter().any(|built_in| built_in == name) {
            return;
        }
        sys.text(&state, "live\n");
        match name {
            "spl" => sys.text("module/spl/parameters/spl_hostid", "0\n"),
            "zfs" => {
                sys.text("module/zfs/version", &format!("{version}\n"));
                sys.text("module/zfs/parameters/zfs_vdev_open_timeout_ms", "1000\n");
                if let Some(dev) = self.names.tree(self.dev) {
                    dev.put("zfs", Node::Char);
                }
                if let Some(proc) = self.names.tree(self.proc) {
                    proc.text(
                        "spl/kstat/zfs/import_progress",
                        "pool_guid load_state multihost_secs max_txg pool_name\n",
                    );
                }
            }
            _ => {}
        }
    }

    /// Whether a module is there.
    pub(super) fn loaded(&self, name: &str) -> bool {
        self.modules.get(name).is_some_and(|at| *at <= self.now)
    }

    /// A small file of /proc or /sys as a number.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        let bytes = self.names.bytes(Path::new(path)).ok()?;
        String::from_utf8_lossy(bytes).trim().parse().ok()
    }

    /// The hostid as the module sees it.
    pub(super) fn hostid(&self) -> u32 {
        match self.number("/sys/module/spl/parameters/spl_hostid").and_then(|id| u32::try_from(id).ok()) {
            Some(id) if id != 0 => id,
            _ => {
                let bytes = self.names.bytes(Path::new("/etc/hostid")).ok();
                bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
            }
        }
    }

    /// The device that a path leads to now.
    pub(super) fn device_at(&self, path: &Path) -> Option<&Device> {
        let Ok(Node::Block(major, minor)) = self.names.node(path) else { return None };
        let number = (*major, *minor);
        self.machine.devices.iter().find(|device| device.number == number && self.there.contains(&device.name))
    }

    /// The tree that a pseudo file system shows.
    pub(super) fn pseudo_tree(&mut self, fstype: &str) -> Option<usize> {
        match fstype {
            "devtmpfs" => Some(self.dev),
            "proc" => Some(self.proc),
            "sysfs" => Some(self.sys),
            "efivarfs" => Some(self.variables),
            "tmpfs" | "ramfs" => Some(self.names.add(Tree::default())),
            _ => None,
        }
    }

    /// The tree of a file system on a disk, the same however often it is mounted.
    pub(super) fn disk_tree(&mut self, source: &str, files: &Tree) -> usize {
        if let Some(tree) = self.mounted.get(source) {
            return *tree;
        }
        let tree = self.names.add(files.clone());
        self.mounted.insert(source.to_owned(), tree);
        tree
    }

    /// What is mounted there last, with its place in the table.
    pub(super) fn mount_at(&self, target: &str) -> Option<(usize, &Mount)> {
        self.names.mounts.iter().enumerate().rfind(|(_, mount)| mount.target == target)
    }
}
