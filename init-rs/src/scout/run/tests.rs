use super::*;
use crate::devices::known::{Device, Reading};
use crate::devices::table::When;
use crate::scout::survey::tests::Machine;
use crate::sys::Heard;
use std::sync::Mutex;

const SOON: Duration = Duration::from_secs(20);
const SIZE: u64 = 100 << 20;

/// A scout whose devices hold zeros, but for `sda`, which never answers, and whose modules take until they are let go.
struct Running {
    socket: Option<Socket>,
    ended: Receiver<()>,
    /// Dropping it lets the modules go.
    hold: Option<Sender<()>>,
}

fn start(machine: &Machine, modules: &[&str]) -> Running {
    let (ours, theirs) = Socket::pair().unwrap();
    let (events, inbox) = channel();
    let (outbox, to_send) = channel();
    attend(&Arc::new(theirs), &events, to_send).unwrap();
    let (hold, release) = channel::<()>();
    let release = Mutex::new(release);
    let module = |name: &&str| Module {
        name: (*name).to_owned(),
        path: String::new(),
        when: When::Device,
        deps: vec![],
        soft: vec![],
        params: String::new(),
    };
    let table = ModuleTable { modules: modules.iter().map(module).collect(), ..ModuleTable::default() };
    let insert = move |_: &Module, _: &str| {
        let _ = release.lock().unwrap().recv();
        Ok(())
    };
    let loader = Loader::with_loaded(table, &[], &[], &[], insert, log(&events));
    let told = events.clone();
    loader.tell(move |name, state, took| {
        let _ = told.send(Event::Tell(Message::Module { name: name.to_owned(), state: state.clone(), took }));
    });
    let open: Arc<Open> = Arc::new(|node: &Path| {
        let silent = node.ends_with("sda");
        Ok(Box::new(move |_, buf: &mut [u8]| {
            if silent {
                loop {
                    std::thread::park();
                }
            }
            buf.fill(0);
            Ok(())
        }))
    });
    let scout = Main {
        loader,
        devices: None,
        state: State::new(machine.places()),
        places: machine.places(),
        readers: Readers { open, active: 0, queue: VecDeque::new(), events: events.clone() },
        write: Arc::new(|_: &Path, _: u64, _: &[u8]| panic!("nothing is to be written")),
        events,
        outbox,
        told: (false, false),
    };
    let (end, ended) = channel();
    std::thread::spawn(move || {
        scout.attend(&inbox);
        let _ = end.send(());
    });
    Running { socket: Some(ours), ended, hold: Some(hold) }
}

impl Running {
    fn tell(&self, command: &Command) {
        self.socket.as_ref().unwrap().send(&command.encode()).unwrap();
    }

    /// Hears until a message fits.
    fn until(&self, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            if let Heard::Message(bytes) = self.socket.as_ref().unwrap().receive_within(SOON) {
                let message = Message::decode(&bytes).unwrap();
                if fits(&message) {
                    return message;
                }
            }
        }
        panic!("{what} did not come");
    }

    fn device(&self, name: &str, fits: impl Fn(&Device) -> bool) {
        self.until(name, |message| matches!(message, Message::Device(device) if device.name == name && fits(device)));
    }
}

fn read(device: &Device) -> bool {
    matches!(device.content, Reading::Done(_))
}

#[test]
fn a_device_that_never_answers_holds_up_nobody() {
    let machine = Machine::new();
    for name in ["sda", "sdb", "sdc"] {
        machine.add(&format!("a/{name}"), SIZE, &[]);
    }
    let mut scout = start(&machine, &[]);
    scout.device("sda", |device| device.content == Reading::Waiting);
    scout.device("sdc", read);
    // Questions about it stay unanswered, others do not, and it is no trouble to ask for it again and again.
    let peek = |id: u64, name: &str| {
        let node = machine.places().dev.join(name).display().to_string();
        scout.tell(&Command::Peek { id, node, offset: 0, len: 16 });
    };
    peek(1, "sda");
    peek(2, "sdb");
    let answer = scout.until("the answer", |message| matches!(message, Message::Peeked { .. }));
    assert_eq!(answer, Message::Peeked { id: 2, result: Ok(vec![0; 16]) });
    for _ in 0..20 {
        scout.tell(&Command::Reread("sda".into()));
    }
    machine.add("a/sdd", SIZE, &[]);
    scout.device("sdd", read);
    machine.remove("a/sda");
    scout.until("its end", |message| *message == Message::Gone("sda".into()));
    // Nobody waits for its readers at the end, either.
    scout.socket = None;
    scout.ended.recv_timeout(SOON).unwrap();
}

#[test]
fn modules_are_told_of_and_it_settles_when_they_are_there() {
    let machine = Machine::new();
    let state = machine.places().sys.join("module/ahci");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::create_dir_all(machine.places().sys.join("module/built_in")).unwrap();
    let mut scout = start(&machine, &["ahci"]);
    let module = |name: &str, state: ModuleState| {
        let wanted = (name.to_owned(), state);
        move |message: &Message| matches!(message, Message::Module { name, state, .. } if (name, state) == (&wanted.0, &wanted.1))
    };
    scout.tell(&Command::Load("built-in".into()));
    scout.until("the module that is built in", module("built_in", ModuleState::Ready));
    scout.tell(&Command::Load("other".into()));
    scout.until("the module that is not packed", module("other", ModuleState::NotPacked));
    scout.tell(&Command::Load("ahci".into()));
    scout.until("the driver's start", module("ahci", ModuleState::Starting));
    scout.until("unrest", |message| *message == Message::Settled { settled: false, inserting: true });
    // The kernel calls it live, though its insertion has not returned.
    std::fs::write(state.join("initstate"), "live\n").unwrap();
    scout.until("the driver", module("ahci", ModuleState::Ready));
    scout.until("rest", |message| *message == Message::Settled { settled: true, inserting: true });
    scout.hold = None;
    scout.until("the end of the insertion", |message| *message == Message::Settled { settled: true, inserting: false });
    scout.tell(&Command::Undriven);
    scout.until("devices without a driver", |message| *message == Message::Undriven(vec![]));
}

#[test]
fn what_it_does_not_understand_is_told() {
    let scout = start(&Machine::new(), &[]);
    scout.socket.as_ref().unwrap().send(&[99]).unwrap();
    scout.until(
        "the complaint",
        |message| matches!(message, Message::Log { text, .. } if text.contains("unknown kind 99")),
    );
}
