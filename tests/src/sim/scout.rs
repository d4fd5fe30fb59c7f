//! The scout's side of the socket: it tells what the machine's devices and modules do, each in its time.

use super::machine::{Device, Holds, Machine};
use super::world::{State, World};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;
use taproot_init::devices::known::{self, Content, Module, Reading, Superblock, Zfs, ZfsLabel};
use taproot_init::devices::swap::Header;
use taproot_init::scout::message::{Command, Message, Refused};
use taproot_init::sys::Heard;
use taproot_init::zfs::label::Label;

/// Until it has looked at what is there.
const STARTS: Duration = Duration::from_millis(20);
/// Until drivers and devices are at rest, where nothing comes late.
const RESTS: Duration = Duration::from_millis(250);
/// A page of swap space.
const PAGE: usize = 4096;

/// How much of a device was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// That it is there, then.
    There(Duration),
    /// What is on it.
    All,
}

/// A scout that was started.
#[derive(Debug)]
pub(super) struct Child {
    /// Whether it loads modules.
    loads: bool,
    started: Duration,
    told: BTreeMap<String, Told>,
    /// Modules that were asked for and not told of since.
    awaited: Vec<String>,
    rested: Option<bool>,
    /// Answers that can be given at once.
    answers: VecDeque<Message>,
    dead: bool,
}

/// The scout dies, if there is one, and those after it: so many in all.
pub(super) fn die(state: &mut State, count: usize) {
    let now = state.scout.as_mut().map(|scout| scout.dead = true);
    state.scouts_die = count.saturating_sub(usize::from(now.is_some()));
}

/// `start_scout`.
pub(super) fn start(world: &World, args: &[String]) {
    let mut state = world.state();
    let started = state.now;
    let loads = !args.iter().any(|arg| arg == "--no-modules");
    let mut child = Child {
        loads,
        started,
        told: BTreeMap::new(),
        awaited: Vec::new(),
        rested: None,
        answers: VecDeque::new(),
        dead: false,
    };
    if loads {
        let at_boot: Vec<String> =
            state.machine.modules.iter().filter(|(_, spec)| spec.at_boot).map(|(name, _)| name.clone()).collect();
        for name in at_boot {
            load(&mut state, &mut child, &name);
        }
    }
    if let Some(left) = state.scouts_die.checked_sub(1) {
        state.scouts_die = left;
        child.dead = true;
    }
    state.scout = Some(child);
}

/// What a module needs first.
fn needs(name: &str) -> Option<&str> {
    (name == "zfs").then_some("spl")
}

fn load(state: &mut State, child: &mut Child, name: &str) {
    let told = |state| Message::Module { name: name.to_owned(), state, took: None };
    if let Some(first) = needs(name) {
        load(state, child, first);
    }
    if state.loaded(name) {
        child.answers.push_back(told(Module::Ready));
        return;
    }
    let Some(spec) = state.machine.modules.get(name).copied().filter(|_| child.loads) else {
        child.answers.push_back(told(Module::NotPacked));
        return;
    };
    if spec.fails {
        child.answers.push_back(told(Module::Failed("Invalid argument".to_owned())));
        return;
    }
    let begin = needs(name).and_then(|first| state.modules.get(first)).map_or(state.now, |at| (*at).max(state.now));
    state.modules.entry(name.to_owned()).or_insert(begin + spec.takes);
    state.due = Duration::ZERO;
    if !child.awaited.iter().any(|other| other == name) {
        child.answers.push_back(told(Module::Starting));
        child.awaited.push(name.to_owned());
    }
}

/// `tell_scout`.
pub(super) fn tell(world: &World, bytes: &[u8]) -> io::Result<()> {
    let command = Command::decode(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
    let mut state = world.state();
    state.note(false, &format!("scout is told {command:?}"));
    let Some(mut child) = state.scout.take() else { return Err(io::ErrorKind::NotConnected.into()) };
    if child.dead {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    match command {
        Command::Load(name) => load(&mut state, &mut child, &name),
        Command::Reread(name) => drop(child.told.remove(&name)),
        Command::Undriven => child.answers.push_back(Message::Undriven(Vec::new())),
        Command::Peek { id, node, offset, len } => match find(&mut state.machine, &node) {
            Some(device) if device.answers.is_none() => {}
            found => {
                let result = found.map(|device| page(device, offset, len)).ok_or_else(no_device);
                child.answers.push_back(Message::Peeked { id, result });
            }
        },
        Command::DiscardImage { id, node, .. } => match find(&mut state.machine, &node) {
            Some(device) if device.answers.is_none() => {}
            found => {
                let discard = |device: &mut Device| match &mut device.holds {
                    Holds::Swap { image, .. } => image.take().is_some(),
                    _ => false,
                };
                let result = found.map(discard).ok_or_else(no_device);
                child.answers.push_back(Message::Discarded { id, result });
            }
        },
    }
    state.scout = Some(child);
    Ok(())
}

fn no_device() -> Refused {
    io::Error::from_raw_os_error(libc::ENOENT).into()
}

fn find<'a>(machine: &'a mut Machine, node: &str) -> Option<&'a mut Device> {
    machine.device(node.strip_prefix("/dev/")?)
}

/// Bytes of a device: all that is modelled is the first page of swap space.
/// Where an ext4 says that it is one.
const EXT_MAGIC: usize = 1080;

fn page(device: &Device, offset: u64, len: u32) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    if let Holds::Swap { image, .. } = &device.holds {
        let signature = image.as_deref().unwrap_or("SWAPSPACE2");
        for (slot, byte) in page.iter_mut().skip(PAGE - 10).zip(signature.bytes()) {
            *slot = byte;
        }
    }
    if matches!(&device.holds, Holds::Filesystem { kind, .. } if kind == "ext4") {
        for (slot, byte) in page.iter_mut().skip(EXT_MAGIC).zip([0x53, 0xef]) {
            *slot = byte;
        }
    }
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut bytes: Vec<u8> = page.into_iter().skip(from).collect();
    bytes.resize(usize::try_from(len).unwrap_or(0), 0);
    bytes
}

/// `hear_scout`.
pub(super) fn hear(world: &World, patience: Duration) -> Heard {
    let (now, due) = {
        let mut state = world.state();
        let now = state.now;
        let Some(mut child) = state.scout.take() else { return Heard::Ended("it was not started".to_owned()) };
        if child.dead {
            return Heard::Ended("it was ended by SIGKILL".to_owned());
        }
        let due = child.next(&state, now.saturating_add(patience));
        if let Some((_, message)) = &due {
            child.was_told(message);
        }
        state.scout = Some(child);
        (now, due)
    };
    let Some((at, message)) = due else {
        world.pass(patience);
        return Heard::Nothing;
    };
    world.pass(at.saturating_sub(now));
    world.state().note(false, &format!("scout tells {}", shown(&message)));
    Heard::Message(message.encode())
}

/// A message in short.
fn shown(message: &Message) -> String {
    match message {
        Message::Device(device) => {
            let content = match &device.content {
                Reading::Waiting => "waiting".to_owned(),
                Reading::Done(content) => match (&content.zfs, &content.superblock) {
                    (Zfs::Member(label), _) => format!("vdev {}", label.label.guid().unwrap_or(0)),
                    (Zfs::Damaged(why), _) => why.clone(),
                    (Zfs::Nothing, Some(superblock)) => superblock.kind.clone(),
                    (Zfs::Nothing, None) => "nothing".to_owned(),
                },
                other => format!("{other:?}"),
            };
            format!("device {} ({content})", device.name)
        }
        other => format!("{other:?}"),
    }
}

/// What there is to tell.
enum News<'a> {
    Gone(&'a String),
    There(&'a Device),
    Read(&'a Device, Duration),
    Module(&'a String),
    Settled,
}

impl Child {
    /// The next thing to tell, and when, if that is before `until`.
    fn next(&mut self, state: &State, until: Duration) -> Option<(Duration, Message)> {
        if let Some(message) = self.answers.pop_front() {
            return Some((state.now, message));
        }
        // The message is made of the earliest alone.
        let gone =
            self.told.keys().filter(|name| !state.there.contains(*name)).map(|name| (state.now, News::Gone(name)));
        let devices = state.machine.devices.iter().filter_map(|device| self.of_device(device));
        let modules = self.awaited.iter().filter_map(|name| Some((*state.modules.get(name)?, News::Module(name))));
        let inserting = !self.awaited.is_empty();
        let at = if inserting { self.started + STARTS } else { self.started + RESTS };
        let rest = (self.rested != Some(!inserting)).then_some((at, News::Settled));
        let all = gone.chain(devices).chain(modules).chain(rest);
        let (at, news) = all.map(|(at, news)| (at.max(state.now), news)).min_by_key(|(at, _)| *at)?;
        let message = match news {
            _ if at > until => return None,
            News::Gone(name) => Message::Gone(name.clone()),
            News::There(device) => Message::Device(Box::new(facts(device, state, at, false))),
            News::Read(device, since) => Message::Device(Box::new(facts(device, state, since, true))),
            News::Settled => Message::Settled { settled: !inserting, inserting },
            News::Module(name) => {
                let took = state.machine.modules.get(name).map(|spec| spec.takes);
                Message::Module { name: name.clone(), state: Module::Ready, took }
            }
        };
        Some((at, message))
    }

    /// What is next to be told of a device.
    fn of_device<'a>(&self, device: &'a Device) -> Option<(Duration, News<'a>)> {
        let leaves = device.leaves.unwrap_or(Duration::MAX);
        let (at, news) = match self.told.get(&device.name) {
            None => (device.arrives.max(self.started + STARTS), News::There(device)),
            Some(Told::There(since)) => (since.saturating_add(device.answers?), News::Read(device, *since)),
            Some(Told::All) => (Duration::MAX, News::Gone(&device.name)),
        };
        if at >= leaves {
            // It goes before it is read, or it has gone.
            return self.told.contains_key(&device.name).then_some((leaves, News::Gone(&device.name)));
        }
        (at < Duration::MAX).then_some((at, news))
    }

    /// Remembers what was told.
    fn was_told(&mut self, message: &Message) {
        match message {
            Message::Device(device) => {
                let told = match device.content {
                    Reading::Waiting => Told::There(device.since),
                    _ => Told::All,
                };
                self.told.insert(device.name.clone(), told);
            }
            Message::Gone(name) => drop(self.told.remove(name)),
            Message::Module { name, state: Module::Ready, .. } => self.awaited.retain(|other| other != name),
            Message::Settled { settled, .. } => self.rested = Some(*settled),
            _ => {}
        }
    }
}

/// A device as it is told.
fn facts(device: &Device, state: &State, since: Duration, read: bool) -> known::Device {
    known::Device {
        name: device.name.clone(),
        node: format!("/dev/{}", device.name),
        number: device.number,
        size: device.size,
        disk: device.disk.clone(),
        partition: device.partition.clone(),
        wwid: device.wwid.clone(),
        identity: "QEMU HARDDISK".to_owned(),
        links: device.links.clone(),
        left_out: None,
        read_only: false,
        since,
        content: if read { Reading::Done(Box::new(content(device, state))) } else { Reading::Waiting },
    }
}

/// What is on it.
fn content(device: &Device, state: &State) -> Content {
    let mut content = Content { superblock: None, swap: Header::default(), zfs: Zfs::Nothing };
    let superblock = |kind: &str, uuid: &str, label: &str| {
        Some(Superblock { kind: kind.to_owned(), uuid: uuid.to_owned(), label: label.to_owned() })
    };
    let member = |config| Zfs::Member(ZfsLabel { label: Label::new(config, 0), good: [true; 4], tail: None });
    match &device.holds {
        Holds::Nothing => {}
        Holds::Filesystem { kind, uuid, label, .. } => content.superblock = superblock(kind, uuid, label),
        Holds::Swap { uuid, image } => {
            content.superblock = superblock(if image.is_some() { "swsuspend" } else { "swap" }, uuid, "");
            content.swap = Header { image: image.clone(), swap: true };
        }
        Holds::Vdev(guid) => {
            let label = state.machine.pools.iter().find_map(|pool| pool.label(*guid, state.machine.zfs));
            content.zfs = label.map_or(Zfs::Nothing, member);
        }
        Holds::Label(label) => content.zfs = member(label.clone()),
        Holds::Damaged(why) => content.zfs = Zfs::Damaged(why.clone()),
    }
    content
}
