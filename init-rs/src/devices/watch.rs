//! Follows the devices as they come and go: feeds the module loader, and wakes whoever reads disks when they change.

use std::collections::BTreeSet;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::loader::{Level, Loader};
use super::uevent::Uevent;
use super::{block, coldplug};
use crate::sys::netlink::{Received, UeventSocket, wait_readable};

/// How often `/sys` is looked at where there are no events.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// An event that never comes must not keep the thread asleep for ever.
const IDLE: Duration = Duration::from_secs(60);
/// More names than this are not kept; the reader is told to look at everything.
const NAMES_MAX: usize = 4096;

/// What happened to block devices since the last question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Kernel names of devices that appeared.
    pub added: BTreeSet<String>,
    /// Kernel names of devices of which something else is the case now: size, medium, partitions.
    pub changed: BTreeSet<String>,
    /// Kernel names of devices that went; one that is among the added, too, came again.
    pub removed: BTreeSet<String>,
    /// Look at all devices: the first look, or events were lost.
    pub rescan: bool,
}

impl Changes {
    /// Whether anything happened at all.
    pub fn any(&self) -> bool {
        self.rescan || !self.added.is_empty() || !self.changed.is_empty() || !self.removed.is_empty()
    }

    fn add(&mut self, name: &str) {
        self.added.insert(name.to_owned());
        self.bound();
    }

    fn change(&mut self, name: &str) {
        self.changed.insert(name.to_owned());
        self.bound();
    }

    fn remove(&mut self, name: &str) {
        self.added.remove(name);
        self.changed.remove(name);
        self.removed.insert(name.to_owned());
        self.bound();
    }

    fn bound(&mut self) {
        if self.added.len() + self.changed.len() + self.removed.len() > NAMES_MAX {
            *self = Self { rescan: true, ..Self::default() };
        }
    }
}

type Log = dyn Fn(Level, String) + Send + Sync;

struct Watch {
    loader: Loader,
    socket: Option<UeventSocket>,
    sys: PathBuf,
    log: Box<Log>,
    /// Called when something changed, or when there is nothing more to do for now.
    wake: Box<dyn Fn() + Send + Sync>,
    changes: Mutex<Changes>,
    changed: Condvar,
    /// The thread has something in hand that is not in `changes` or the loader yet.
    busy: AtomicBool,
    stop: AtomicBool,
}

/// The watching thread and what it saw.
pub struct Devices {
    watch: Arc<Watch>,
    /// Closing it wakes the thread.
    wake: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").field("events", &self.watch.socket.is_some()).finish_non_exhaustive()
    }
}

impl Devices {
    /// Follows the running system. Returns at once: coldplug goes on in the thread.
    pub fn start(
        loader: &Loader,
        log: impl Fn(Level, String) + Send + Sync + 'static,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let socket = UeventSocket::open().inspect_err(|err| {
            let text = format!("cannot hear device events ({err}); looking at /sys every {POLL_INTERVAL:?} instead");
            log(Level::Warning, text);
        });
        Self::start_with(loader, socket.ok(), Path::new("/sys"), log, wake)
    }

    /// As [`Devices::start`], with the socket (`None`: poll) and the mount point of sysfs. The socket is open before
    /// `/sys` is walked, so a device that appears meanwhile is seen by one or both.
    pub fn start_with(
        loader: &Loader,
        socket: Option<UeventSocket>,
        sys: &Path,
        log: impl Fn(Level, String) + Send + Sync + 'static,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let watch = Arc::new(Watch {
            loader: loader.clone(),
            socket,
            sys: sys.to_owned(),
            log: Box::new(log),
            wake: Box::new(wake),
            changes: Mutex::new(Changes { rescan: true, ..Changes::default() }),
            changed: Condvar::new(),
            busy: AtomicBool::new(true),
            stop: AtomicBool::new(false),
        });
        let (reader, writer) = io::pipe()?;
        let run = Arc::clone(&watch);
        let thread = std::thread::Builder::new().name("devices".into()).spawn(move || run.run(&reader))?;
        Ok(Self { watch, wake: Some(writer), thread: Some(thread) })
    }

    /// Waits until block devices changed, at most `timeout`, and takes what changed; the first call returns at once with
    /// `rescan`, because nobody has looked yet.
    pub fn wait_change(&self, timeout: Duration) -> Changes {
        let deadline = Instant::now() + timeout;
        let mut changes = self.watch.lock();
        while !changes.any() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            changes = self.watch.changed.wait_timeout(changes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut changes)
    }

    /// Whether all known devices have been handed to the loader and all modules asked for have ended. Drivers that probe
    /// in the background (NVMe, SATA, USB) may still bring disks after that: a reason to say more in a message, never a
    /// reason to stop waiting.
    pub fn settled(&self) -> bool {
        let before = self.watch.loader.requests();
        let quiet = || {
            !self.watch.socket.as_ref().is_some_and(UeventSocket::readable) && !self.watch.busy.load(Ordering::SeqCst)
        };
        // A module that ends may have made events, and an event may ask for a module: both must be still, twice over.
        quiet() && self.watch.loader.settled() && quiet() && self.watch.loader.requests() == before
    }

    /// Ends the thread. Done by dropping, too.
    pub fn stop(&mut self) {
        self.watch.stop.store(true, Ordering::SeqCst);
        if let Some(mut wake) = self.wake.take() {
            let _ = wake.write_all(b".");
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, edit: impl FnOnce(&mut Changes)) {
        edit(&mut self.lock());
        self.changed.notify_all();
        (self.wake)();
    }

    /// Notes that nothing is in hand (any more).
    fn idle(&self) {
        if self.busy.swap(false, Ordering::SeqCst) {
            (self.wake)();
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn coldplug(&self) {
        coldplug::walk(&self.sys, |modalias| {
            if !self.stopped() {
                self.loader.request_modalias(modalias);
            }
        });
    }

    fn run(&self, wake: &PipeReader) {
        self.coldplug();
        match &self.socket {
            Some(socket) => {
                if let Err(err) = self.listen(socket, wake) {
                    let text = format!("device events ended ({err}); looking at /sys every {POLL_INTERVAL:?} instead");
                    (self.log)(Level::Warning, text);
                    self.change(|c| c.rescan = true);
                    self.poll(wake);
                }
            }
            None => self.poll(wake),
        }
        // Stopped: nobody brings anything any more, and whoever asks must not wait for it.
        self.idle();
    }

    fn listen(&self, socket: &UeventSocket, wake: &PipeReader) -> io::Result<()> {
        while !self.stopped() {
            match socket.recv(Duration::ZERO)? {
                Received::Event(datagram) => {
                    if let Some(event) = Uevent::parse(&datagram) {
                        self.event(&event);
                    }
                }
                Received::Overrun => {
                    (self.log)(
                        Level::Info,
                        "the kernel dropped device events; looking at all devices again".to_owned(),
                    );
                    self.coldplug();
                    self.change(|c| c.rescan = true);
                }
                Received::Nothing => {
                    self.idle();
                    wait_readable(&[socket.as_fd(), wake.as_fd()], IDLE)?;
                    // Before the event is taken off the socket, so that `settled` sees one or the other.
                    self.busy.store(true, Ordering::SeqCst);
                }
            }
        }
        Ok(())
    }

    fn event(&self, event: &Uevent<'_>) {
        let gone = event.action == "remove";
        if !event.modalias.is_empty() && !gone {
            self.loader.request_modalias(&event.modalias);
        }
        if event.is_block() {
            let name = event.sysname();
            self.change(|c| match &*event.action {
                "remove" => c.remove(name),
                "add" => c.add(name),
                _ => c.change(name),
            });
        }
        // The kernel tells of a module when it is live, which can be long before its insertion returns.
        if event.subsystem == "module" && self.loader.look_for_live(&self.sys) {
            (self.wake)();
        }
    }

    /// Without events: compares the list of block devices, and looks for devices again when modules have ended, because
    /// that is what makes new ones.
    fn poll(&self, wake: &PipeReader) {
        let mut known: BTreeSet<String> = BTreeSet::new();
        let mut walked_at = 0;
        while !self.stopped() {
            let ended = self.loader.ended();
            if ended != walked_at {
                walked_at = ended;
                self.coldplug();
            }
            let now: BTreeSet<String> = block::names(&self.sys).into_iter().collect();
            if now != known {
                self.change(|c| {
                    now.difference(&known).for_each(|name| c.add(name));
                    known.difference(&now).for_each(|name| c.remove(name));
                });
                known = now;
            }
            if self.loader.ended() == walked_at {
                self.idle();
            } else {
                self.busy.store(true, Ordering::SeqCst);
            }
            if wait_readable(&[wake.as_fd()], POLL_INTERVAL).is_err() {
                std::thread::sleep(POLL_INTERVAL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::table::{Module, ModuleTable, When};
    use std::fs;

    fn loader() -> Loader {
        let module = |name: &str| Module {
            name: name.into(),
            path: format!("/lib/modules/{name}.ko"),
            when: When::Device,
            deps: vec![],
            soft: vec![],
            params: String::new(),
        };
        let table = ModuleTable {
            modules: vec![module("virtio_blk"), module("late")],
            aliases: vec![("virtio:d2v*".into(), "virtio_blk".into()), ("late:*".into(), "late".into())],
            blacklist: vec![],
        };
        Loader::with_loaded(table, &[], &[], &[], |_, _| Ok(()), |_, _| ())
    }

    fn device(sys: &Path, name: &str, modalias: &str) {
        fs::create_dir_all(sys.join("bus/virtio/devices").join(name)).unwrap();
        fs::write(sys.join("bus/virtio/devices").join(name).join("modalias"), modalias).unwrap();
    }

    fn until(what: &str, check: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !check() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn polls_without_events() {
        let sys = tempfile::tempdir().unwrap();
        device(sys.path(), "a", "virtio:d2v1\n");
        fs::create_dir_all(sys.path().join("class/block/vda")).unwrap();
        let loader = loader();
        let mut devices = Devices::start_with(&loader, None, sys.path(), |_, _| (), || ()).unwrap();
        assert!(devices.wait_change(Duration::from_secs(10)).rescan);
        loader.wait("virtio_blk", Instant::now() + Duration::from_secs(10)).unwrap();
        until("settles", || devices.settled());
        let _ = devices.wait_change(Duration::ZERO);
        assert!(!devices.wait_change(Duration::from_millis(30)).any());

        fs::create_dir_all(sys.path().join("class/block/vdb")).unwrap();
        let changes = devices.wait_change(Duration::from_secs(10));
        assert!(changes.added.contains("vdb") && !changes.rescan, "{changes:?}");
        fs::remove_dir(sys.path().join("class/block/vdb")).unwrap();
        assert!(devices.wait_change(Duration::from_secs(10)).removed.contains("vdb"));
        devices.stop();
        assert!(devices.settled(), "a thread that has ended has nothing in hand");
        loader.shutdown(Duration::from_secs(5));
    }

    #[test]
    fn events_feed_the_loader_and_wake_the_boot() {
        let loader = loader();
        let watch = Watch {
            loader: loader.clone(),
            socket: None,
            sys: PathBuf::new(),
            log: Box::new(|_, _| ()),
            wake: Box::new(|| ()),
            changes: Mutex::default(),
            changed: Condvar::new(),
            busy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        };
        for datagram in [
            &b"add@/devices/virtio0\0SUBSYSTEM=virtio\0MODALIAS=late:x\0"[..],
            b"add@/devices/virtio0/block/vda\0SUBSYSTEM=block\0",
            b"add@/devices/virtio0/block/vdb\0SUBSYSTEM=block\0",
            b"remove@/devices/virtio0/block/vdb\0SUBSYSTEM=block\0",
            b"change@/devices/virtio0/block/vdc\0SUBSYSTEM=block\0",
            b"remove@/devices/virtio0/block/vdd\0SUBSYSTEM=block\0",
            b"add@/devices/virtio0/block/vdd\0SUBSYSTEM=block\0",
            b"remove@/devices/virtio1\0SUBSYSTEM=virtio\0MODALIAS=virtio:d2v1\0",
        ] {
            watch.event(&Uevent::parse(datagram).unwrap());
        }
        assert!(loader.wait_settled(Instant::now() + Duration::from_secs(10)));
        let names: Vec<String> = loader.report().into_iter().map(|l| l.name).collect();
        assert_eq!(names, ["late"]);
        let changes = watch.lock().clone();
        assert_eq!(changes.added.into_iter().collect::<Vec<_>>(), ["vda", "vdd"]);
        assert_eq!(changes.changed.into_iter().collect::<Vec<_>>(), ["vdc"]);
        assert_eq!(changes.removed.into_iter().collect::<Vec<_>>(), ["vdb", "vdd"]);
    }

    #[test]
    fn names_are_bounded() {
        let mut changes = Changes::default();
        for i in 0..=NAMES_MAX {
            changes.add(&i.to_string());
        }
        assert_eq!(changes, Changes { rescan: true, ..Changes::default() });
    }

    /// With the real kernel: a block event by request; needs root and a loop device.
    #[test]
    fn real_block_event() {
        let Ok(socket) = UeventSocket::open() else { return eprintln!("skipped: no uevent socket here") };
        let loader = loader();
        let devices = Devices::start_with(&loader, Some(socket), Path::new("/sys"), |_, _| (), || ()).unwrap();
        assert!(devices.wait_change(Duration::from_secs(10)).rescan);
        until("settles", || devices.settled());
        let Some(name) = block::names(Path::new("/sys")).pop() else { return eprintln!("skipped: no block device") };
        if let Err(err) = fs::write(format!("/sys/class/block/{name}/uevent"), "change") {
            return eprintln!("skipped: cannot ask for an event: {err}");
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if devices.wait_change(Duration::from_millis(500)).changed.contains(&name) {
                return;
            }
        }
        eprintln!("skipped: events do not reach this network namespace");
    }
}
