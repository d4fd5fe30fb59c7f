use super::*;
use crate::devices::known::{Content, Zfs, ZfsLabel};
use crate::devices::swap::Header;
use crate::report::log::Level;
use crate::sys::linux::Linux;
use crate::sys::{ZfsCall, ZfsReply};
use crate::zfs::label::Label;
use crate::zfs::nvlist::NvList;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

/// A system whose scout says what stands in a script, and whose time goes on while it is waited.
#[derive(Default)]
struct Script {
    linux: Linux,
    now: Mutex<Duration>,
    says: Mutex<VecDeque<Heard>>,
    heard: Mutex<Vec<Command>>,
    starts: Mutex<Vec<Vec<String>>>,
    /// Answers a command with messages.
    reply: Option<fn(&Command) -> Vec<Message>>,
    cannot_start: bool,
    /// How many more commands it gets; what comes after those is lost.
    hears: Mutex<Option<usize>>,
}

impl Script {
    fn say(&self, message: &Message) {
        self.says.lock().unwrap().push_back(Heard::Message(message.encode()));
    }
}

impl System for Script {
    fn zfs(&self, _: &ZfsCall<'_>) -> io::Result<ZfsReply> {
        panic!()
    }
    fn mount(&self, _: &str, _: &Path, _: &str, _: u64, _: &str) -> io::Result<()> {
        panic!()
    }
    fn unmount(&self, _: &Path, _: bool) -> io::Result<()> {
        panic!()
    }
    fn now(&self) -> Duration {
        *self.now.lock().unwrap()
    }
    fn sleep(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }
    fn start_scout(&self, args: &[String]) -> io::Result<()> {
        self.starts.lock().unwrap().push(args.to_vec());
        if self.cannot_start { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }
    fn tell_scout(&self, message: &[u8]) -> io::Result<()> {
        let command = Command::decode(message).unwrap();
        if let Some(left) = &mut *self.hears.lock().unwrap() {
            *left = left.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        }
        if let Some(reply) = self.reply {
            for message in reply(&command) {
                self.say(&message);
            }
        }
        self.heard.lock().unwrap().push(command);
        Ok(())
    }
    fn hear_scout(&self, patience: Duration) -> Heard {
        let next = self.says.lock().unwrap().pop_front();
        next.unwrap_or_else(|| {
            self.sleep(patience);
            Heard::Nothing
        })
    }
    fn end_scout(&self) {}
    crate::delegate_files!(linux);
    crate::delegate_writes!(linux);
    crate::delegate_log!(linux);
    crate::delegate_layers!(linux);
    crate::delegate_kept!(linux);
    crate::delegate_others!(linux);
    crate::delegate_watched!(linux);
}

fn device(name: &str, content: Reading) -> Message {
    Message::Device(Box::new(Device {
        name: name.into(),
        node: format!("/dev/{name}"),
        number: (8, 0),
        size: 1 << 30,
        disk: None,
        partition: None,
        wwid: None,
        identity: String::new(),
        links: vec!["by-id/x".into()],
        left_out: None,
        read_only: false,
        since: Duration::ZERO,
        content,
    }))
}

fn module(name: &str, state: Module, took: Option<Duration>) -> Message {
    Message::Module { name: name.into(), state, took }
}

fn read() -> Reading {
    Reading::Done(Box::new(Content { superblock: None, swap: Header::default(), zfs: Zfs::Nothing }))
}

#[test]
fn what_is_told_becomes_facts() {
    let mut hardware = Hardware::default();
    let at = Duration::from_secs;
    assert!(apply(&mut hardware, device("sda", Reading::Waiting), at(1)));
    assert!(apply(&mut hardware, device("sda", read()), at(2)));
    assert_eq!((hardware.devices.len(), hardware.generation), (1, 2));
    assert_eq!(hardware.last_change, at(1), "an answer is no device that comes");
    assert!(apply(&mut hardware, module("zfs", Module::Starting, None), at(3)));
    assert!(!apply(&mut hardware, module("zfs", Module::Starting, None), at(3)), "nothing new");
    assert!(apply(&mut hardware, Message::Settled { settled: true, inserting: false }, at(3)));
    assert!(!apply(&mut hardware, Message::Log { level: Level::Info, text: "x".into() }, at(3)));
    assert_eq!((hardware.generation, hardware.last_change), (2, at(1)), "modules change no device");
    assert!(!apply(&mut hardware, Message::Gone("sdb".into()), at(4)));
    assert!(apply(&mut hardware, Message::Gone("sda".into()), at(4)));
    assert_eq!((hardware.devices.len(), hardware.generation, hardware.last_change), (0, 3, at(4)));
}

/// However many other devices there are, the labels of pools are put together once.
#[test]
fn only_members_of_pools_count_for_labels() {
    let mut hardware = Hardware::default();
    for n in 0..1000 {
        for content in [Reading::Waiting, read()] {
            apply(&mut hardware, device(&format!("sd{n}"), content), Duration::ZERO);
        }
    }
    assert_eq!((hardware.generation, hardware.label_generation), (2000, 0));
    let member = || {
        let Reading::Done(mut content) = read() else { panic!() };
        let label = Label::new(NvList::new(), 0);
        content.zfs = Zfs::Member(ZfsLabel { label, good: [true; 4], tail: None });
        Reading::Done(content)
    };
    for (content, labels) in [(Reading::Waiting, 0), (member(), 1), (member(), 2), (read(), 3), (read(), 3)] {
        apply(&mut hardware, device("vda", content), Duration::ZERO);
        assert_eq!(hardware.label_generation, labels);
    }
    // What a label on a whole disk is worth depends on the disk's partitions.
    apply(&mut hardware, device("vda", member()), Duration::ZERO);
    let before = hardware.label_generation;
    let Message::Device(mut part) = device("vda1", Reading::Waiting) else { panic!() };
    part.disk = Some("vda".to_owned());
    apply(&mut hardware, Message::Device(part), Duration::ZERO);
    apply(&mut hardware, Message::Gone("vda1".to_owned()), Duration::ZERO);
    assert_eq!(hardware.label_generation, before + 2);
}

#[test]
fn all_that_is_there_is_taken_at_once() {
    let script = Script::default();
    let log = Log::new(std::sync::Arc::new(Linux::new()));
    let mut scout = Scout::start(&script, true, &log);
    assert_eq!(*script.starts.lock().unwrap(), [Vec::<String>::new()]);
    for message in [device("sda", read()), device("sdb", Reading::Waiting)] {
        script.say(&message);
    }
    script.say(&Message::Log { level: Level::Warn, text: "the scout's line".into() });
    assert!(scout.hear(Duration::from_secs(5)));
    assert_eq!(script.now(), Duration::ZERO, "nobody waits when there is something");
    assert_eq!(scout.hardware.devices.len(), 2);
    assert!(log.text().contains("warn  the scout's line"));
    assert!(!scout.hear(Duration::from_secs(5)));
    assert_eq!(script.now(), Duration::from_secs(5));
    assert!(scout.find(&Wanted::Node("/dev/disk/by-id/x".into())).is_err(), "both have this name");
    scout.hardware.devices.get_mut("sdb").unwrap().links.clear();
    assert_eq!(scout.find(&Wanted::Node("/dev/disk/by-id/x".into())).unwrap().unwrap().name, "sda");
    scout.reread("sda");
    assert_eq!(scout.hardware.devices["sda"].content, Reading::Waiting);
    assert_eq!(*script.heard.lock().unwrap(), [Command::Reread("sda".into())]);
}

#[test]
fn modules_are_asked_for_once_and_waited_for() {
    let script = Script {
        reply: Some(|command| match command {
            Command::Load(name) if name == "ext4" => {
                vec![
                    module("ext4", Module::Starting, None),
                    module("ext4", Module::Ready, Some(Duration::from_millis(3))),
                ]
            }
            Command::Load(name) if name == "vfat" => {
                vec![module("vfat", Module::Failed("bad".into()), Some(Duration::ZERO))]
            }
            Command::Load(name) if name == "btrfs" => vec![module("btrfs", Module::NotPacked, None)],
            _ => vec![],
        }),
        ..Script::default()
    };
    let log = Log::new(std::sync::Arc::new(Linux::new()));
    let mut scout = Scout::start(&script, false, &log);
    assert_eq!(*script.starts.lock().unwrap(), [["--no-modules"]]);
    let mut wait = |name: &str| scout.wait_module(name, Duration::from_secs(2));
    assert_eq!(wait("ext4"), Some(Ok(())));
    assert_eq!(wait("ext4"), Some(Ok(())));
    assert_eq!(wait("vfat"), Some(Err("bad".into())));
    assert!(wait("btrfs").unwrap().unwrap_err().contains("neither in this image nor loaded nor built into"));
    assert_eq!(script.now(), Duration::ZERO);
    assert_eq!(wait("zfs"), None);
    assert_eq!(script.now(), Duration::from_secs(2));
    assert_eq!(script.heard.lock().unwrap().len(), 4);
    let done: Vec<_> = scout.modules_done().into_iter().map(|m| (m.name, m.error)).collect();
    assert_eq!(done, [("ext4".to_owned(), None), ("vfat".to_owned(), Some("bad".to_owned()))]);
}

#[test]
fn questions_get_their_own_answers() {
    let script = std::sync::Arc::new(Script {
        reply: Some(|command| match command {
            Command::Peek { id, offset: 0, len, .. } => {
                let late = Message::Peeked { id: id - 1, result: Ok(vec![9]) };
                vec![late, Message::Peeked { id: *id, result: Ok(vec![1; *len as usize]) }]
            }
            Command::DiscardImage { id, offset: 0, .. } => vec![Message::Discarded { id: *id, result: Ok(true) }],
            Command::Undriven => vec![Message::Undriven(vec!["pci:x".into()])],
            Command::Peek { id, offset: 1, .. } => {
                vec![Message::Peeked { id: *id, result: Err(Refused { errno: libc::EIO, text: "x".into() }) }]
            }
            _ => vec![],
        }),
        ..Script::default()
    });
    let log = Log::new(script.clone());
    let mut scout = Scout::start(script.as_ref(), true, &log);
    let patience = Duration::from_secs(9);
    assert_eq!(scout.peek("/dev/sda", 0, 3, patience).unwrap(), [1, 1, 1]);
    assert_eq!(scout.peek("/dev/sda", 1, 3, patience).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert!(scout.discard_image("/dev/sda", 0, 4096, patience).unwrap());
    assert_eq!(scout.undriven(patience), ["pci:x"]);
    assert_eq!(script.now(), Duration::ZERO);
    assert_eq!(scout.peek("/dev/sda", 2, 3, patience).unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(script.now(), patience);
    // What takes long is told of, however late the last line was.
    assert_eq!(log.text().matches("waiting for /dev/sda to be read").count(), 2, "{}", log.text());
    assert!(scout.discard_image("/dev/sdb", 1, 4096, Duration::from_secs(12)).is_err());
    assert!(log.text().matches("waiting for the image on /dev/sdb to be discarded").count() >= 2, "{}", log.text());
}

#[test]
fn one_that_dies_is_started_again_a_few_times() {
    let script = Script::default();
    let log = Log::new(std::sync::Arc::new(Linux::new()));
    let mut scout = Scout::start(&script, true, &log);
    script.say(&device("sda", Reading::Waiting));
    scout.load("zfs");
    scout.hear(Duration::ZERO);
    let ended = || script.says.lock().unwrap().push_back(Heard::Ended("it was ended by SIGSEGV".into()));
    ended();
    assert!(scout.hear(Duration::ZERO));
    // Which disks do not answer is not forgotten.
    let waits = |device: &Device| device.content == Reading::Waiting;
    assert!(scout.hardware.devices.values().all(waits) && !scout.hardware.settled);
    assert_eq!(script.starts.lock().unwrap().len(), 2);
    assert!(log.text().contains("is gone (it was ended by SIGSEGV); it is started again"));
    assert_eq!(
        *script.heard.lock().unwrap(),
        vec![Command::Load("zfs".into()); 2],
        "what was on its way is asked for anew"
    );
    // One that says what cannot be understood is as good as dead.
    script.says.lock().unwrap().push_back(Heard::Message(vec![99]));
    scout.hear(Duration::ZERO);
    assert_eq!(script.starts.lock().unwrap().len(), 3);
    // One that lived for a while begins anew.
    script.sleep(LIVED);
    for _ in 0..RESTARTS {
        ended();
        scout.hear(Duration::ZERO);
    }
    assert_eq!(script.starts.lock().unwrap().len(), 8);
    ended();
    scout.hear(Duration::ZERO);
    assert_eq!(script.starts.lock().unwrap().len(), 8);
    assert!(scout.hardware.settled, "nothing more will come");
    assert!(scout.wait_module("zfs", Duration::from_secs(60)).unwrap().is_err());
    // Whoever waits in turns does not spin.
    let before = script.now();
    scout.hear(Duration::from_millis(500));
    assert_eq!(script.now(), before + Duration::from_millis(500));
    // After a while another one is tried, once: a boot may wait for ever.
    script.sleep(LIVED);
    scout.hear(Duration::from_millis(500));
    assert_eq!((script.starts.lock().unwrap().len(), scout.hardware.settled), (9, false));
    assert_eq!(scout.hardware.modules["zfs"], Module::Starting, "it is asked for anew");
    ended();
    scout.hear(Duration::ZERO);
    scout.hear(Duration::from_millis(500));
    assert_eq!(script.starts.lock().unwrap().len(), 9);
    // One that was ended stays so.
    scout.revive();
    scout.stop();
    script.sleep(LIVED);
    scout.hear(Duration::from_millis(500));
    assert_eq!(script.starts.lock().unwrap().len(), 10);
}

/// Whoever waits for an answer gets it from another one, or is told that there is none.
#[test]
fn a_question_survives_who_was_asked() {
    let script = std::sync::Arc::new(Script::default());
    let log = Log::new(script.clone());
    let mut scout = Scout::start(script.as_ref(), true, &log);
    let ended = || script.says.lock().unwrap().push_back(Heard::Ended("it was ended by SIGSEGV".into()));
    ended();
    script.say(&Message::Peeked { id: 1, result: Ok(vec![1]) });
    assert_eq!(scout.peek("/dev/sda", 0, 1, Duration::from_secs(9)).unwrap(), [1]);
    let asked = Command::Peek { id: 1, node: "/dev/sda".into(), offset: 0, len: 1 };
    assert_eq!(*script.heard.lock().unwrap(), vec![asked; 2]);
    (0..=RESTARTS).for_each(|_| ended());
    let error = scout.discard_image("/dev/sda", 0, 4096, Duration::from_secs(9)).unwrap_err();
    assert_eq!(error.to_string(), NO_READER);
    assert_eq!(script.now(), Duration::ZERO, "nobody is waited for");
    assert!(scout.hardware.unwatched);
}

/// A disk that did not answer and was pulled out while nobody looked is not waited for.
#[test]
fn silent_disks_that_another_one_does_not_find_are_gone() {
    let script = Script::default();
    let log = Log::new(std::sync::Arc::new(Linux::new()));
    let mut scout = Scout::start(&script, true, &log);
    script.say(&device("sda", Reading::Waiting));
    script.say(&device("sdb", Reading::Waiting));
    scout.hear(Duration::ZERO);
    script.says.lock().unwrap().push_back(Heard::Ended("it was ended by SIGSEGV".into()));
    script.say(&Message::Settled { settled: false, inserting: true });
    script.say(&device("sdb", Reading::Waiting));
    scout.hear(Duration::ZERO);
    assert_eq!(scout.hardware.devices.len(), 2, "it may still be found");
    script.say(&Message::Settled { settled: true, inserting: false });
    assert!(scout.hear(Duration::ZERO));
    assert_eq!(scout.hardware.devices.keys().collect::<Vec<_>>(), ["sdb"]);
}

#[test]
fn a_machine_where_none_can_be_started_goes_on() {
    let script = Script { cannot_start: true, ..Script::default() };
    let log = Log::new(std::sync::Arc::new(Linux::new()));
    let mut scout = Scout::start(&script, true, &log);
    assert!(log.text().contains("could not be started"));
    assert!(scout.hardware.settled && !scout.hear(Duration::from_secs(1)));
    assert!(scout.peek("/dev/sda", 0, 3, Duration::from_secs(9)).is_err());
    // No module is on its way that nobody loads.
    scout.load("zfs");
    assert_eq!(scout.hardware.modules["zfs"], Module::Failed(NOBODY.to_owned()));
    assert_eq!(script.now(), Duration::from_secs(1));
    // Another attempt asks anew, in vain.
    scout.revive();
    assert_eq!(scout.hardware.modules["zfs"], Module::Failed(NOBODY.to_owned()));
}

/// Whoever does not get what it is told loads nothing, and nobody would know.
#[test]
fn one_that_cannot_be_told_anything_is_started_again() {
    let script = Script { hears: Mutex::new(Some(1)), ..Script::default() };
    let log = Log::new(std::sync::Arc::new(Linux::new()));
    let mut scout = Scout::start(&script, true, &log);
    scout.load("ext4");
    scout.load("zfs");
    script.say(&module("ext4", Module::Ready, None));
    *script.hears.lock().unwrap() = None;
    assert!(scout.hear(Duration::from_secs(300)), "there is another one");
    assert_eq!(scout.hardware.modules["ext4"], Module::Ready, "what it had said before counts");
    assert_eq!(script.now(), Duration::ZERO, "it is seen at once");
    assert!(log.text().contains("is gone (it could not be told what is wanted: "), "{}", log.text());
    assert_eq!(script.starts.lock().unwrap().len(), 2);
    let load = |name: &str| Command::Load(name.into());
    assert_eq!(*script.heard.lock().unwrap(), [load("ext4"), load("zfs")]);
    // Where that goes on, it ends.
    *script.hears.lock().unwrap() = Some(0);
    assert_eq!(scout.wait_module("xfs", Duration::from_secs(300)), Some(Err(NOBODY.to_owned())));
    assert_eq!(scout.hardware.modules["zfs"], Module::Failed(NOBODY.to_owned()));
    assert_eq!(script.now(), Duration::ZERO);
}
