//! The system in memory: this program as PID 1. Nothing here waits for the disk: what touches it is a thread of its own, and another
//! restarts the machine when the time is over, whatever hangs.

mod rehearsal;

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use taproot_init::sys::consoles::{Answer, Timeout};
use taproot_init::sys::linux::Linux;
use taproot_init::sys::{End, System, Terminals, kmod};

use super::disk;
use super::image;
use super::orders::{IMAGE, ORDERS, Orders};
use super::write::{Around, write};
use rehearsal::{Act, Event, Rehearsal};

/// If there is nothing to read it from.
const MINUTES: u64 = 10;
/// What may hang has so long after the time is over.
const GRACE: Duration = Duration::from_secs(30);
/// How long the disk is waited for.
const DISK_PATIENCE: Duration = Duration::from_secs(90);
/// Between two lines about how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Whether the machine still restarts when the time is over.
static RETURNS: AtomicBool = AtomicBool::new(true);

/// PID 1. Ends with the machine.
pub(crate) fn run() -> ! {
    let system: Arc<dyn System> = Arc::new(Linux::new());
    let minutes = Arc::new(Mutex::new(MINUTES));
    watch(&system, Instant::now(), Arc::clone(&minutes));
    for (source, target, kind) in
        [("devtmpfs", "/dev", "devtmpfs"), ("proc", "/proc", "proc"), ("sysfs", "/sys", "sysfs")]
    {
        let _ = system.mount(source, Path::new(target), kind, 0, "");
    }
    let _ = system.attach_console();
    let orders = fs::read(ORDERS).context(ORDERS).and_then(|text| Ok(serde_json::from_slice::<Orders>(&text)?));
    if let Ok(orders) = &orders {
        *minutes.lock().unwrap_or_else(PoisonError::into_inner) = orders.minutes;
    }
    match orders {
        Err(error) => {
            system.consoles(Terminals::All).print(&format!("\ntaproot: {error:#}; back to the old system\n"));
            system.sleep(Duration::from_secs(5));
            restart(&system);
        }
        Ok(orders) => {
            let desk = Mutex::new(Desk::new(&system, orders));
            loop {
                let talk = || desk.lock().unwrap_or_else(PoisonError::into_inner).talk();
                // PID 1 must not end; a panic leaves what stands in the desk.
                let _ = catch_unwind(AssertUnwindSafe(talk));
                system.sleep(Duration::from_secs(1));
            }
        }
    }
}

/// Restarts the machine some time after it should have done so by itself.
fn watch(system: &Arc<dyn System>, since: Instant, minutes: Arc<Mutex<u64>>) {
    let system = Arc::clone(system);
    std::thread::spawn(move || {
        loop {
            let limit = Duration::from_secs(60 * *minutes.lock().unwrap_or_else(PoisonError::into_inner));
            if RETURNS.load(Ordering::SeqCst) && since.elapsed() > limit + GRACE {
                restart(&system);
            }
            system.sleep(Duration::from_secs(1));
        }
    });
}

fn restart(system: &Arc<dyn System>) -> ! {
    let _ = system.end_now(End::Restart);
    // Which firmware that cannot be asked leaves.
    let _ = system.write(Path::new("/proc/sysrq-trigger"), b"b");
    loop {
        system.sleep(Duration::from_secs(3600));
    }
}

struct Desk {
    system: Arc<dyn System>,
    orders: Orders,
    rehearsal: Rehearsal,
    events: Receiver<Event>,
    tell: Sender<Event>,
    deadline: Instant,
}

impl Desk {
    fn new(system: &Arc<dyn System>, orders: Orders) -> Self {
        let (tell, events) = channel();
        let rehearsal = Rehearsal::new(&orders.nonce, orders.minutes);
        let deadline = Instant::now() + Duration::from_secs(60 * orders.minutes);
        system.consoles(Terminals::All).print(&format!("\n{}\n", rehearsal.greeting()));
        let desk = Self { system: Arc::clone(system), orders, rehearsal, events, tell, deadline };
        desk.work(|orders, _| look(orders).map(Event::Ready), Event::Failed);
        desk
    }

    /// Does something in a thread of its own, whose end is an event.
    fn work(
        &self,
        work: impl FnOnce(&Orders, &Sender<Event>) -> Result<Event> + Send + 'static,
        failed: impl FnOnce(String) -> Event + Send + 'static,
    ) {
        let (orders, tell) = (self.orders.clone(), self.tell.clone());
        std::thread::spawn(move || {
            let done = catch_unwind(AssertUnwindSafe(|| work(&orders, &tell)));
            let event = match done {
                Ok(Ok(event)) => event,
                Ok(Err(error)) => failed(format!("{error:#}")),
                Err(_) => failed("a defect of this program: it panicked".to_owned()),
            };
            let _ = tell.send(event);
        });
    }

    /// Asks, and does what follows; comes back when a console may be new.
    fn talk(&mut self) {
        // Drivers of consoles come with those of disks.
        let mut consoles = self.system.consoles(Terminals::All);
        loop {
            let mut event = None;
            let late = |returns: bool, deadline: Instant| returns && Instant::now() >= deadline;
            let (returns, deadline, events) = (self.rehearsal.returns(), self.deadline, &self.events);
            let mut stop = || {
                event = events.try_recv().ok();
                event.is_some() || late(returns, deadline)
            };
            let answer = consoles.ask(self.rehearsal.question(), true, Timeout::Never, &mut stop);
            let event = match answer {
                Answer::Line { text, .. } => Event::Typed(String::from_utf8_lossy(&text).into_owned()),
                Answer::NoConsole => {
                    self.system.sleep(Duration::from_millis(500));
                    match self.events.try_recv() {
                        Ok(event) => event,
                        Err(_) if late(returns, deadline) => Event::Late,
                        Err(_) => return,
                    }
                }
                Answer::Stopped | Answer::TimedOut => event.unwrap_or(Event::Late),
            };
            let reopen = matches!(event, Event::Ready(_) | Event::Failed(_));
            if reopen {
                consoles = self.system.consoles(Terminals::All);
            }
            for act in self.rehearsal.answer(event) {
                match act {
                    Act::Say(text) => consoles.print(&format!("{text}\n")),
                    Act::Restart => restart(&self.system),
                    Act::Write => {
                        RETURNS.store(false, Ordering::SeqCst);
                        self.work(|orders, tell| replace(orders, tell).map(|()| Event::Done), Event::Torn);
                    }
                }
            }
        }
    }
}

/// Loads drivers, waits for the disk, and reads the image through: what was found.
fn look(orders: &Orders) -> Result<String> {
    let mut failed = Vec::new();
    for (path, params) in &orders.modules {
        if let Err(error) = kmod::prepare(Path::new(path)).and_then(|module| module.insert(params)) {
            failed.push(format!("{path}: {error}"));
        }
    }
    let name = found(orders).with_context(|| match failed.as_slice() {
        [] => "the disk".to_owned(),
        list => format!("the disk (drivers that did not load: {})", list.join("; ")),
    })?;
    image::check(Path::new(IMAGE), &orders.image).context("the image in memory")?;
    Ok(format!(
        "{name} is the disk ({}), and the image of {} bytes is whole in memory",
        orders.disk, orders.image.bytes
    ))
}

/// The name of the disk, which is waited for.
fn found(orders: &Orders) -> Result<String> {
    let begin = Instant::now();
    loop {
        let seen = disk::all(Path::new("/sys"), Path::new("/dev"));
        match disk::find(&orders.disk, &seen) {
            Ok(name) => return Ok(name.to_owned()),
            Err(error) if begin.elapsed() > DISK_PATIENCE => return Err(anyhow::Error::msg(error)),
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}

/// The disk once its table may be gone: it is known by the rest, as it was before a first try.
fn node(orders: &Orders) -> Result<PathBuf> {
    let known = |identity: &disk::Identity| disk::Identity { table: None, ..identity.clone() };
    let wanted = known(&orders.disk);
    let seen: Vec<_> = disk::all(Path::new("/sys"), Path::new("/dev"))
        .into_iter()
        .map(|(name, identity)| (name, known(&identity)))
        .collect();
    let name = disk::find(&wanted, &seen).map_err(anyhow::Error::msg)?;
    Ok(Path::new("/dev").join(name))
}

/// Writes the image to the disk.
fn replace(orders: &Orders, tell: &Sender<Event>) -> Result<()> {
    let node = match found_now(orders) {
        Some(name) => Path::new("/dev").join(name),
        None => node(orders)?,
    };
    // O_EXCL: nothing of it is mounted, or held by another device.
    let flags = nix::libc::O_EXCL;
    let disk = File::options().read(true).write(true).custom_flags(flags).open(&node);
    let disk = disk.with_context(|| format!("opening {}", node.display()))?;
    let mut image = zstd::Decoder::new(File::open(IMAGE).context(IMAGE)?)?;
    let mut last = Instant::now();
    let mut progress = |what: &str, done: u64, of: u64| {
        if last.elapsed() >= TELL_EVERY {
            last = Instant::now();
            let _ = tell.send(Event::Written(format!("{done} of {of} bytes {what}")));
        }
    };
    let forget = || fs::write("/proc/sys/vm/drop_caches", "3\n");
    let mut around = Around { forget: &forget, tell: &mut progress };
    write(&mut image, &orders.image, &disk, orders.disk.bytes, &mut around).map_err(anyhow::Error::msg)
}

fn found_now(orders: &Orders) -> Option<String> {
    let seen = disk::all(Path::new("/sys"), Path::new("/dev"));
    disk::find(&orders.disk, &seen).ok().map(str::to_owned)
}
