//! The scout's own process. The main thread alone decides and tells; whatever can take long has a thread of its own.
//!
//! Threads: this one; one that receives from PID 1 and one that sends to it; the watch over events; those that insert
//! modules; one for each device that is being read. Any of them may sit in the kernel for ever but the first three.

#[cfg(test)]
mod tests;

use super::message::{Command, Message};
use super::reader::{self, Answer, Open};
use super::requests::{self, Write};
use super::state::{Job, State};
use super::survey::Places;
use crate::cmdline::{self, Request};
use crate::devices::coldplug;
use crate::devices::known::Module as ModuleState;
use crate::devices::loader::{self, Insertion, Level as LoadLevel, Loader};
use crate::devices::table::{Module, ModuleTable, TABLE_PATH, When, canonical_name};
use crate::devices::watch::Devices;
use crate::image::{CONFIG_PATH, ImageConfig};
use crate::report::boot::WORDS_PATH;
use crate::report::log::Level;
use crate::sys::linux::Linux;
use crate::sys::scouting::{Socket, leave_session};
use crate::sys::{System as _, device, entry, kmod};
use std::collections::VecDeque;
use std::path::Path;
use std::process::exit;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// The word that keeps the scout from loading modules by itself.
pub const NO_MODULES: &str = "--no-modules";
/// Most readers at a time; further devices wait until one ends.
const READERS_MAX: usize = 4096;
/// Memory for a reader's stack.
const STACK: usize = 256 << 10;
/// Between two looks at modules that are being loaded.
const BUSY_TICK: Duration = Duration::from_millis(20);
/// Between two looks for devices whose event was lost.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// What wakes the main thread.
enum Event {
    /// A message of PID 1.
    Heard(Vec<u8>),
    /// PID 1 is gone: without it there is nothing to do.
    Alone,
    /// Something is to be told.
    Tell(Message),
    /// The watch has something, or has nothing more in hand.
    Watch,
    /// A reader has found something.
    Read(String, u64, Answer),
    /// A reader has ended.
    ReaderEnded,
    /// An image was discarded, or not: the device is to be looked at again.
    Discarded(Message, String),
}

/// Runs as the scout; returns the exit status. `words` stand behind `scout` on the command line.
pub fn run(words: &[String]) -> i32 {
    let socket = match Socket::inherited() {
        Ok(socket) => Arc::new(socket),
        Err(e) => {
            eprintln!("taproot-init scout: expected to be started by taproot-init itself, found no socket to it ({e})");
            return 2;
        }
    };
    leave_session();
    entry::ignore_sigpipe();
    std::panic::set_hook(Box::new(|info| {
        let _ = std::fs::write("/dev/kmsg", format!("<3>taproot: a bug in the scout: {info}\n"));
    }));
    let (events, inbox) = channel();
    let (outbox, to_send) = channel();
    if let Err(e) = attend(&socket, &events, to_send) {
        let _ = socket.send(&Message::Log { level: Level::Error, text: format!("the scout: {e}") }.encode());
        return 1;
    }
    let loads = !words.iter().any(|word| word == NO_MODULES);
    let loader = loader(loads, &events);
    let places = Places { sys: "/sys".into(), dev: "/dev".into() };
    let scout = Main {
        loader: loader.clone(),
        devices: watch(&loader, &events),
        state: State::new(places.clone()),
        places,
        readers: Readers { open: reader::of_this_system(), active: 0, queue: VecDeque::new(), events: events.clone() },
        write: Arc::new(device::write_through),
        events,
        outbox,
        told: (false, false),
    };
    scout.attend(&inbox);
    // With all its threads, wherever they sit.
    exit(0)
}

/// Starts the two threads at the socket.
fn attend(socket: &Arc<Socket>, events: &Sender<Event>, to_send: Receiver<Message>) -> std::io::Result<()> {
    let (ear, heard) = (Arc::clone(socket), events.clone());
    let listen = move || {
        while let Ok(Some(bytes)) = ear.receive() {
            let _ = heard.send(Event::Heard(bytes));
        }
        let _ = heard.send(Event::Alone);
    };
    std::thread::Builder::new().name("listen".into()).spawn(listen)?;
    let (mouth, unheard) = (Arc::clone(socket), events.clone());
    let speak = move || {
        let sent = |message: Message| mouth.send(&message.encode()).is_ok();
        if !to_send.into_iter().all(sent) {
            let _ = unheard.send(Event::Alone);
        }
    };
    std::thread::Builder::new().name("speak".into()).spawn(speak)?;
    Ok(())
}

/// What the command line asks for, packed words first.
fn request() -> Request {
    // What was typed at the prompt.
    if let Ok(words) = std::fs::read(WORDS_PATH) {
        return cmdline::parse(&words);
    }
    let image = ImageConfig::parse(&std::fs::read_to_string(CONFIG_PATH).unwrap_or_default());
    let mut line = image.cmdline.into_bytes();
    line.push(b' ');
    line.extend(std::fs::read("/proc/cmdline").unwrap_or_default());
    cmdline::parse(&line)
}

fn log(events: &Sender<Event>) -> impl Fn(LoadLevel, String) + Send + Sync + 'static {
    let events = events.clone();
    move |level, text| {
        let level = match level {
            LoadLevel::Debug => Level::Debug,
            LoadLevel::Info => Level::Info,
            LoadLevel::Warning => Level::Warn,
        };
        let _ = events.send(Event::Tell(Message::Log { level, text }));
    }
}

/// The packed modules. An image without a table has everything built into the kernel.
fn table(say: &dyn Fn(LoadLevel, String)) -> ModuleTable {
    let Ok(text) = std::fs::read_to_string(TABLE_PATH) else {
        say(LoadLevel::Warning, format!("{TABLE_PATH} is not in the image: no modules will be loaded"));
        return ModuleTable::default();
    };
    ModuleTable::parse(&text).unwrap_or_else(|e| {
        say(LoadLevel::Warning, e.to_string());
        ModuleTable::default()
    })
}

/// The loader, with what is needed in any case on its way. Where modules are not ours to load it takes only those that it is
/// asked for by name.
fn loader(loads: bool, events: &Sender<Event>) -> Loader {
    let say = log(events);
    let mut table = if loads {
        table(&say)
    } else {
        // Not there in another tool's initramfs, which has its own ways.
        ModuleTable::parse(&std::fs::read_to_string(TABLE_PATH).unwrap_or_default()).unwrap_or_default()
    };
    if !loads {
        table.aliases.clear();
    }
    let request = request();
    if !request.names_pools() {
        table.modules.iter_mut().filter(|module| module.name == "zfs").for_each(|module| module.when = When::Device);
    }
    let options = request.options_for_modules();
    let options: Vec<_> = options.into_iter().map(|o| (o.module, o.param, o.value)).collect();
    let prepare = |module: &Module| -> std::io::Result<Insertion> {
        let (prepared, module) = (kmod::prepare(Path::new(&module.path))?, module.clone());
        Ok(Box::new(move |params| prepared.insert(&loader::insertion(&module, params))))
    };
    let loader = Loader::new(table, &options, &request.module_blacklist, prepare, say);
    let told = events.clone();
    loader.tell(move |name, state, took| {
        let (name, state) = (canonical_name(name), state.clone());
        let _ = told.send(Event::Tell(Message::Module { name, state, took }));
    });
    if loads {
        loader.start_boot();
    }
    loader
}

/// `None` where neither events nor /sys can be followed: the main thread then looks by itself.
fn watch(loader: &Loader, events: &Sender<Event>) -> Option<Devices> {
    let wake = events.clone();
    let devices = Devices::start(loader, log(events), move || {
        let _ = wake.send(Event::Watch);
    });
    devices
        .inspect_err(|e| {
            let text = format!("devices cannot be followed: {e}; /sys is looked at every {IDLE_TICK:?} instead");
            let _ = events.send(Event::Tell(Message::Log { level: Level::Error, text }));
        })
        .ok()
}

/// The threads that read devices.
struct Readers {
    open: Arc<Open>,
    active: usize,
    queue: VecDeque<Job>,
    events: Sender<Event>,
}

impl Readers {
    fn start(&mut self, job: Job) {
        self.queue.push_back(job);
        self.next();
    }

    fn next(&mut self) {
        while self.active < READERS_MAX
            && let Some(job) = self.queue.pop_front()
        {
            let (open, events) = (Arc::clone(&self.open), self.events.clone());
            let name = format!("read {}", job.name);
            let copy = job.clone();
            let read = move || {
                let Job { name, serial, look } = job;
                reader::read(&look, &*open, page_size(), &mut |answer| {
                    let _ = events.send(Event::Read(name.clone(), serial, answer));
                });
                let _ = events.send(Event::ReaderEnded);
            };
            if let Err(e) = std::thread::Builder::new().name(name).stack_size(STACK).spawn(read) {
                let answer = Answer::Content(Err(format!("no thread could be started to read it: {e}")));
                let _ = self.events.send(Event::Read(copy.name, copy.serial, answer));
                continue;
            }
            self.active += 1;
        }
    }
}

fn page_size() -> usize {
    usize::try_from(procfs::page_size()).unwrap_or(4096)
}

struct Main {
    loader: Loader,
    devices: Option<Devices>,
    places: Places,
    state: State,
    readers: Readers,
    write: Arc<Write>,
    events: Sender<Event>,
    outbox: Sender<Message>,
    /// Whether things are settled, and whether the kernel is inserting: as last told.
    told: (bool, bool),
}

impl Main {
    /// Until PID 1 is gone.
    fn attend(mut self, inbox: &Receiver<Event>) {
        let clock = Linux::new();
        // Where no watch tells what is there, before anything is said to be settled.
        let mut looked = self.devices.is_some().then(Instant::now);
        loop {
            let busy = self.told != (true, false);
            let first = match inbox.recv_timeout(if busy { BUSY_TICK } else { IDLE_TICK }) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if !self.loader.settled() {
                self.loader.look_for_live(&self.places.sys);
            }
            if looked.is_none_or(|at| at.elapsed() >= IDLE_TICK) {
                looked = Some(Instant::now());
                self.state.look_for_missed(clock.now());
            }
            let settled = self.devices.as_ref().is_none_or(Devices::settled) && self.loader.settled();
            let inserting = self.loader.inserting();
            // Behind these questions: what happened before is told before their answers.
            for event in first.into_iter().chain(inbox.try_iter()) {
                if matches!(event, Event::Alone) {
                    return;
                }
                self.event(event, clock.now());
            }
            let changes = self.devices.as_ref().map(|devices| devices.wait_change(Duration::ZERO)).unwrap_or_default();
            self.state.follow(&changes, clock.now());
            self.flush();
            let now = (settled && !changes.any(), inserting);
            if std::mem::replace(&mut self.told, now) != now {
                self.tell(Message::Settled { settled: now.0, inserting: now.1 });
            }
        }
    }

    fn flush(&mut self) {
        let (messages, jobs) = self.state.take();
        for message in messages {
            self.tell(message);
        }
        for job in jobs {
            self.readers.start(job);
        }
    }

    fn tell(&self, message: Message) {
        let _ = self.outbox.send(message);
    }

    fn event(&mut self, event: Event, now: Duration) {
        match event {
            Event::Heard(bytes) => match Command::decode(&bytes) {
                Ok(command) => self.obey(command, now),
                Err(e) => self.tell(Message::Log { level: Level::Error, text: format!("the scout was sent {e}") }),
            },
            Event::Tell(message) => self.tell(message),
            Event::Watch | Event::Alone => {}
            Event::Read(name, serial, answer) => self.state.answer(&name, serial, answer),
            Event::ReaderEnded => {
                self.readers.active -= 1;
                self.readers.next();
            }
            Event::Discarded(message, node) => {
                if let Some(name) = self.state.by_node(&node) {
                    self.state.reread(&name, now);
                }
                self.flush();
                self.tell(message);
            }
        }
    }

    fn obey(&mut self, command: Command, now: Duration) {
        let (open, events) = (Arc::clone(&self.readers.open), self.events.clone());
        let work: Box<dyn FnOnce() + Send> = match command {
            Command::Load(name) => return self.load(&name),
            Command::Reread(name) => return self.state.reread(&name, now),
            Command::Undriven => {
                let (loader, sys) = (self.loader.clone(), self.places.sys.clone());
                Box::new(move || {
                    let found = coldplug::undriven(&sys, loader.unmatched());
                    let _ = events.send(Event::Tell(Message::Undriven(found)));
                })
            }
            Command::Peek { id, node, offset, len } => Box::new(move || {
                let _ = events.send(Event::Tell(requests::peek(&*open, id, Path::new(&node), offset, len)));
            }),
            Command::DiscardImage { id, node, offset, page } => {
                let write = Arc::clone(&self.write);
                Box::new(move || {
                    let message = requests::discard(&*open, &*write, id, Path::new(&node), offset, page);
                    let _ = events.send(Event::Discarded(message, node));
                })
            }
        };
        // Without a thread it is not answered, and whoever asked waits no longer than they want to.
        let _ = std::thread::Builder::new().name("answer".into()).stack_size(STACK).spawn(work);
    }

    fn load(&self, name: &str) {
        let name = canonical_name(name);
        if self.loader.request_name(&name).is_some() {
            return;
        }
        // One that is built in has a directory if it has parameters; one that somebody else has loaded always has.
        let there = self.places.sys.join("module").join(&name).exists();
        let state = if there { ModuleState::Ready } else { ModuleState::NotPacked };
        self.tell(Message::Module { name, state, took: None });
    }
}
