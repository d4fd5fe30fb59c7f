//! Loads the packed modules: concurrently, each once, after what it needs.
//!
//! No lock is held while the kernel runs a module's init, so one that takes seconds (zfs) holds up only what needs it. A module
//! is read and decompressed (prepared) while what it needs is still being inserted.

mod error;
mod graph;
mod names;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use error::LoadError;
use graph::Graph;
pub use names::{ModuleOption, insertion, module_params};

use nix::unistd::{SysconfVar, sysconf};
use procfs::{FromRead as _, KernelModules};

use super::aliases::AliasIndex;
use super::known;
use super::table::{Module, ModuleTable, When, canonical_name};

/// How much a line to the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For those who look for an error in us.
    Debug,
    /// Worth a line in the log.
    Info,
    /// Something is not as it should be; boot goes on.
    Warning,
}

/// What became of one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Name.
    pub name: String,
    /// From the start of the loader to the start of the insertion.
    pub started: Duration,
    /// How long the insertion, with the module's own init, took; zero if it was not tried.
    pub took: Duration,
    /// How it ended.
    pub result: Result<(), LoadError>,
}

/// A packed module that was asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle(usize);

/// Inserts a module that was prepared, with these parameters; returns when its init has ended.
pub type Insertion = Box<dyn FnOnce(&str) -> io::Result<()> + Send>;
type Prepare = dyn Fn(&Module) -> io::Result<Insertion> + Send + Sync;
type Log = dyn Fn(Level, String) + Send + Sync;
type Told = dyn Fn(&str, &known::Module, Option<Duration>) + Send + Sync;

#[derive(Debug)]
enum State {
    Idle,
    /// Asked for; this many modules must end first, its own preparation counted as one.
    Waiting(usize),
    Ready,
    Running(Instant),
    Done(Result<(), LoadError>),
}

#[derive(Default)]
struct Shared {
    states: Vec<State>,
    /// Who to tell when a module has ended.
    dependents: Vec<Vec<usize>>,
    /// To be prepared, in this order.
    unprepared: VecDeque<usize>,
    /// What preparation gave, until it is inserted.
    prepared: Vec<Option<io::Result<Insertion>>>,
    ready: VecDeque<usize>,
    /// Modules asked for and not ended.
    outstanding: usize,
    /// Number of requests that asked for something new.
    requests: u64,
    seen: HashSet<String>,
    unmatched: Vec<String>,
    report: Vec<Loaded>,
    stopping: bool,
    workers: usize,
    /// Threads inside an insertion.
    inside: usize,
}

struct Inner {
    table: ModuleTable,
    params: Vec<String>,
    /// Made by the first question: what is loaded without a device does not wait for it.
    index: OnceLock<AliasIndex>,
    graph: Graph,
    begun: Instant,
    prepare: Box<Prepare>,
    log: Box<Log>,
    /// Who wants to hear of each module.
    told: OnceLock<Box<Told>>,
    shared: Mutex<Shared>,
    /// There is something to prepare, to insert, or to end for.
    work: Condvar,
    /// A module or a worker has ended.
    ended: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The module loader; clones are the same loader.
#[derive(Clone)]
pub struct Loader(Arc<Inner>);

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("modules", &self.0.table.modules.len()).finish_non_exhaustive()
    }
}

/// Names in `/proc/modules` that are loaded and ready, not still initialising; sorted. A table that cannot be read gives
/// none: loading such a module again ends with EEXIST, which is no failure.
pub fn loaded_modules(proc_modules: &Path) -> Vec<String> {
    let Ok(KernelModules(modules)) = KernelModules::from_file(proc_modules) else { return Vec::new() };
    let live = modules.into_values().filter(|module| module.state == "Live");
    let mut names: Vec<String> = live.map(|module| canonical_name(&module.name)).collect();
    names.sort_unstable();
    names
}

/// The standard library would look for limits of control groups too, which nobody has set this early.
fn processors() -> usize {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    online.and_then(|n| usize::try_from(n).ok()).unwrap_or(1)
}

impl Loader {
    /// A loader for the running system: `prepare` makes one module ready for the kernel (see [`crate::sys::kmod::prepare`]);
    /// modules already in `/proc/modules` count as loaded.
    pub fn new(
        table: ModuleTable,
        cmdline_options: &[ModuleOption],
        cmdline_blacklist: &[String],
        prepare: impl Fn(&Module) -> io::Result<Insertion> + Send + Sync + 'static,
        log: impl Fn(Level, String) + Send + Sync + 'static,
    ) -> Self {
        let live = loaded_modules(Path::new("/proc/modules"));
        Self::with_live(table, cmdline_options, cmdline_blacklist, &live, prepare, log)
    }

    /// As [`Loader::new`], with the names of the modules that are loaded already, and nothing to prepare.
    #[cfg(test)]
    pub(crate) fn with_loaded(
        table: ModuleTable,
        cmdline_options: &[ModuleOption],
        cmdline_blacklist: &[String],
        live: &[String],
        insert: impl Fn(&Module, &str) -> io::Result<()> + Send + Sync + 'static,
        log: impl Fn(Level, String) + Send + Sync + 'static,
    ) -> Self {
        let insert = Arc::new(insert);
        let prepare = move |module: &Module| -> io::Result<Insertion> {
            let (insert, module) = (Arc::clone(&insert), module.clone());
            Ok(Box::new(move |params| insert(&module, params)))
        };
        Self::with_live(table, cmdline_options, cmdline_blacklist, live, prepare, log)
    }

    fn with_live(
        mut table: ModuleTable,
        cmdline_options: &[ModuleOption],
        cmdline_blacklist: &[String],
        live: &[String],
        prepare: impl Fn(&Module) -> io::Result<Insertion> + Send + Sync + 'static,
        log: impl Fn(Level, String) + Send + Sync + 'static,
    ) -> Self {
        table.blacklist.extend_from_slice(cmdline_blacklist);
        let graph = Graph::new(&table);
        for (module, dependency) in &graph.cut {
            let name = |i: &usize| table.modules.get(*i).map_or("?", |m| m.name.as_str());
            let (module, dependency) = (name(module), name(dependency));
            log(
                Level::Warning,
                format!("module table: {module} and {dependency} need each other; {module} is not made to wait"),
            );
        }
        let mut shared = Shared::default();
        shared.states.resize_with(table.modules.len(), || State::Idle);
        shared.dependents.resize_with(table.modules.len(), Vec::new);
        shared.prepared.resize_with(table.modules.len(), || None);
        for index in live.iter().filter_map(|name| graph.find(name)) {
            if let Some(state) = shared.states.get_mut(index) {
                *state = State::Done(Ok(()));
            }
        }
        let loader = Self(Arc::new(Inner {
            params: table.modules.iter().map(|m| module_params(m, cmdline_options)).collect(),
            index: OnceLock::new(),
            graph,
            begun: Instant::now(),
            prepare: Box::new(prepare),
            log: Box::new(log),
            told: OnceLock::new(),
            shared: Mutex::new(shared),
            work: Condvar::new(),
            ended: Condvar::new(),
            threads: Mutex::new(Vec::new()),
            table,
        }));
        loader.spawn_workers();
        loader
    }

    /// One thread more than processors, at least three: one inside zfs's init, one inside a driver that sleeps while it
    /// probes, one that goes on.
    fn spawn_workers(&self) {
        let count = processors().saturating_add(1).clamp(3, 16);
        for _ in 0..count {
            self.spawn_worker();
        }
    }

    /// Has `told` hear of each module that is asked for, and of its end with the time that its insertion took; now of those
    /// that are there already. It must not ask the loader anything.
    pub fn tell(&self, told: impl Fn(&str, &known::Module, Option<Duration>) + Send + Sync + 'static) {
        let shared = self.0.lock();
        for (index, state) in shared.states.iter().enumerate() {
            if matches!(state, State::Done(Ok(()))) {
                told(self.0.name(index), &known::Module::Ready, None);
            }
        }
        let _ = self.0.told.set(Box::new(told));
    }

    /// Asks for every module that is to be loaded without a device.
    pub fn start_boot(&self) {
        let boot = self.0.table.modules.iter().enumerate().filter(|(_, m)| m.when == When::Boot).map(|(i, _)| i);
        self.0.request(boot);
    }

    /// Asks for the modules a device wants; asking again costs nothing.
    pub fn request_modalias(&self, modalias: &str) {
        let modalias = modalias.trim_end();
        if modalias.is_empty() || !self.0.lock().seen.insert(modalias.to_owned()) {
            return;
        }
        let modules = self.0.index.get_or_init(|| AliasIndex::new(&self.0.table)).matches(modalias);
        if modules.is_empty() {
            self.0.lock().unmatched.push(modalias.to_owned());
        } else {
            self.0.request(modules.into_iter());
        }
    }

    /// Asks for a module by name (`-` and `_` are equal); `None` if it is not packed.
    pub fn request_name(&self, name: &str) -> Option<Handle> {
        let index = self.0.graph.find(name)?;
        self.0.request(std::iter::once(index));
        Some(Handle(index))
    }

    /// Asks for the module and waits until it has ended. One that is not packed is fine if the kernel has it.
    pub fn wait(&self, name: &str, deadline: Instant) -> Result<(), LoadError> {
        match self.request_name(name) {
            Some(handle) => self.wait_handle(handle, deadline),
            // A module that is built in has no initstate there; one that is loaded says "live".
            None if Path::new("/sys/module").join(canonical_name(name)).exists() => Ok(()),
            None => Err(LoadError::NotPacked { module: name.to_owned() }),
        }
    }

    /// As [`Loader::wait`], for a module that was asked for.
    pub fn wait_handle(&self, handle: Handle, deadline: Instant) -> Result<(), LoadError> {
        let begun = Instant::now();
        let name = self.0.name(handle.0);
        let mut shared = self.0.lock();
        loop {
            if let Some(State::Done(result)) = shared.states.get(handle.0) {
                return result.clone();
            }
            if shared.stopping {
                return Err(LoadError::Stopped { module: name.to_owned() });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let state = self.0.describe(&shared, handle.0);
                return Err(LoadError::Deadline { module: name.to_owned(), waited: begun.elapsed(), state });
            }
            shared = wait_on(&self.0.ended, shared, left);
        }
    }

    /// Whether everything asked for has ended. Devices may still be appearing.
    pub fn settled(&self) -> bool {
        self.0.lock().outstanding == 0
    }

    /// Waits until everything asked for has ended; false at the deadline.
    #[cfg(test)]
    pub(in crate::devices) fn wait_settled(&self, deadline: Instant) -> bool {
        let mut shared = self.0.lock();
        while shared.outstanding > 0 && !shared.stopping {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            shared = wait_on(&self.0.ended, shared, left);
        }
        shared.outstanding == 0
    }

    /// Grows with each request for a module not asked for before; with [`Loader::settled`] it tells "nothing has
    /// happened since" from "it is over again".
    pub fn requests(&self) -> u64 {
        self.0.lock().requests
    }

    /// Number of modules that have ended, loaded or not.
    pub fn ended(&self) -> usize {
        self.0.lock().report.len()
    }

    /// What became of each module, in the order they ended.
    pub fn report(&self) -> Vec<Loaded> {
        self.0.lock().report.clone()
    }

    /// Modules that were asked for and have not ended, with what they are doing.
    #[cfg(test)]
    pub(in crate::devices) fn pending(&self) -> Vec<(String, String)> {
        let shared = self.0.lock();
        let open =
            |i: &usize| matches!(shared.states.get(*i), Some(State::Waiting(_) | State::Ready | State::Running(_)));
        (0..shared.states.len())
            .filter(open)
            .map(|i| (self.0.name(i).to_owned(), self.0.describe(&shared, i)))
            .collect()
    }

    /// Modaliases seen that no packed module answers to, in the order seen. Most devices need no driver to boot.
    pub fn unmatched(&self) -> Vec<String> {
        self.0.lock().unmatched.clone()
    }

    /// Ends loading: what has not begun is dropped, what is inside the kernel gets until `limit`. Returns the names of
    /// modules that were still inside; their threads are left alone, they end with the process.
    ///
    /// A thread that sleeps inside a driver's init in a way that signals cannot break holds up `execve(2)` of the whole
    /// process, so a caller that is about to exec should name the modules returned.
    pub fn shutdown(&self, limit: Duration) -> Vec<String> {
        let deadline = Instant::now() + limit;
        let mut shared = self.0.lock();
        shared.stopping = true;
        shared.ready.clear();
        shared.unprepared.clear();
        self.0.work.notify_all();
        self.0.ended.notify_all();
        while shared.workers > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            shared = wait_on(&self.0.ended, shared, left);
        }
        let stuck = shared.states.iter().enumerate().filter(|(_, s)| matches!(s, State::Running(_)));
        let stuck: Vec<String> = stuck.map(|(i, _)| self.0.name(i).to_owned()).collect();
        let all_ended = shared.workers == 0;
        drop(shared);
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if all_ended || thread.is_finished() {
                let _ = thread.join();
            }
        }
        stuck
    }
}

fn wait_on<'a>(condvar: &Condvar, guard: MutexGuard<'a, Shared>, timeout: Duration) -> MutexGuard<'a, Shared> {
    condvar.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0
}
