//! What the loader's threads do, and how one module's end is another one's beginning.

use super::{Inner, Insertion, LoadError, Loaded, Loader, Shared, State, When, names};
use crate::devices::known;
use crate::devices::loader::Level;
use crate::devices::table::Module;
use crate::sys::entry;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most threads: one is started for each driver whose probing holds up its thread, so that others go on.
const WORKERS_MAX: usize = 64;

/// How often a module is tried again that the kernel calls busy, and how far apart.
const BUSY_TRIES: u32 = 6;
const BUSY_PAUSE: Duration = Duration::from_millis(40);

impl Loader {
    /// Starts a thread that loads modules, unless there are enough.
    pub(super) fn spawn_worker(&self) {
        let mut shared = self.0.lock();
        if shared.workers >= WORKERS_MAX || shared.stopping {
            return;
        }
        shared.workers += 1;
        drop(shared);
        let inner = Arc::clone(&self.0);
        match std::thread::Builder::new().name("modules".into()).spawn(move || {
            entry::hurry();
            inner.worker();
        }) {
            Ok(thread) => self.0.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread),
            Err(err) => {
                self.0.lock().workers -= 1;
                (self.0.log)(Level::Warning, format!("cannot start a thread that loads modules: {err}"));
            }
        }
    }

    /// Takes a module for loaded whose insertion has not returned, if the kernel calls it live: its initialisation is over
    /// then, and the kernel waits only for what others, perhaps behind a disk that does not answer, have begun in the
    /// background. To be called a few times a second while modules are being loaded; true if there was one.
    pub fn look_for_live(&self, sys: &Path) -> bool {
        let running = |state: &State| matches!(state, State::Running(_));
        let shared = self.0.lock();
        let open: Vec<usize> =
            (0..shared.states.len()).filter(|i| shared.states.get(*i).is_some_and(running)).collect();
        let crowded = !shared.ready.is_empty() || !shared.unprepared.is_empty();
        drop(shared);
        let live = |i: &usize| {
            let file = sys.join("module").join(super::canonical_name(self.0.name(*i))).join("initstate");
            std::fs::read_to_string(file).is_ok_and(|state| state.trim() == "live")
        };
        let live: Vec<usize> = open.into_iter().filter(live).collect();
        let mut shared = self.0.lock();
        for &index in &live {
            if let Some(State::Running(begun)) = shared.states.get(index) {
                let begun = *begun;
                self.0.end(&mut shared, index, Some(begun), Ok(()));
            }
        }
        drop(shared);
        // Its thread is not free, and others may be as stuck before that.
        for _ in 0..live.len().max(usize::from(crowded)) {
            self.spawn_worker();
        }
        if !live.is_empty() {
            self.0.work.notify_all();
            self.0.ended.notify_all();
        }
        !live.is_empty()
    }

    /// Whether the kernel is inside an insertion, also one of a module that counts as loaded.
    pub fn inserting(&self) -> bool {
        self.0.lock().inside > 0
    }
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, index: usize, state: &known::Module, took: Option<Duration>) {
        if let Some(told) = self.told.get() {
            told(self.name(index), state, took);
        }
    }

    pub(super) fn name(&self, index: usize) -> &str {
        self.table.modules.get(index).map_or("?", |m| m.name.as_str())
    }

    /// Asks for modules and all they need that was not asked for before.
    pub(super) fn request(&self, modules: impl Iterator<Item = usize>) {
        let mut guard = self.lock();
        let shared = &mut *guard;
        if shared.stopping {
            return;
        }
        let mut todo: Vec<usize> = modules.collect();
        let mut fresh = Vec::new();
        while let Some(index) = todo.pop() {
            if let Some(state @ State::Idle) = shared.states.get_mut(index) {
                *state = State::Waiting(0);
                fresh.push(index);
                todo.extend(self.graph.before.get(index).into_iter().flatten().map(|e| e.to));
            }
        }
        if fresh.is_empty() {
            return;
        }
        shared.requests += 1;
        shared.outstanding += fresh.len();
        // The packed order, so that what the packer put first (the long ones' dependencies) is begun first.
        fresh.sort_unstable();
        let mut done = Vec::new();
        for &index in &fresh {
            // Its preparation.
            let mut open = 1;
            let mut failed = None;
            for edge in self.graph.before.get(index).into_iter().flatten() {
                match shared.states.get(edge.to) {
                    Some(State::Done(Err(err))) if edge.hard && failed.is_none() => failed = Some(err.clone()),
                    Some(State::Done(_)) | None => {}
                    Some(_) => {
                        open += 1;
                        if let Some(list) = shared.dependents.get_mut(edge.to) {
                            list.push(index);
                        }
                    }
                }
            }
            if let Some(err) = failed {
                done.push((index, LoadError::dependency(self.name(index), &err)));
            } else if let Some(state) = shared.states.get_mut(index) {
                *state = State::Waiting(open);
                shared.unprepared.push_back(index);
            }
        }
        for index in fresh {
            self.tell(index, &known::Module::Starting, None);
        }
        for (index, err) in done {
            self.end(shared, index, None, Err(err));
        }
        drop(guard);
        self.work.notify_all();
        self.ended.notify_all();
    }

    fn worker(&self) {
        let mut shared = self.lock();
        while !shared.stopping {
            let Some(index) = shared.ready.pop_front() else {
                shared = match shared.unprepared.pop_front() {
                    Some(index) => {
                        drop(shared);
                        self.prepare(index)
                    }
                    None => self.work.wait(shared).unwrap_or_else(PoisonError::into_inner),
                };
                continue;
            };
            let insertion = shared.prepared.get_mut(index).and_then(Option::take);
            let begun = Instant::now();
            if let Some(state) = shared.states.get_mut(index) {
                *state = State::Running(begun);
            }
            shared.inside += 1;
            drop(shared);
            let result = self.insert(index, insertion);
            shared = self.lock();
            shared.inside -= 1;
            self.end(&mut shared, index, Some(begun), result);
            self.work.notify_all();
            self.ended.notify_all();
        }
        shared.workers -= 1;
        drop(shared);
        self.ended.notify_all();
    }

    /// Reads and decompresses a module, whether or not what it needs is there yet.
    fn prepare(&self, index: usize) -> MutexGuard<'_, Shared> {
        let insertion = self.table.modules.get(index).map(|module| (self.prepare)(module));
        let mut guard = self.lock();
        let shared = &mut *guard;
        // One that failed with what it needs is wanted no more.
        if let (Some(State::Waiting(_)), Some(slot)) = (shared.states.get(index), shared.prepared.get_mut(index)) {
            *slot = insertion;
            Self::one_less(shared, index);
        }
        guard
    }

    /// What a module waited for has ended.
    fn one_less(shared: &mut Shared, index: usize) {
        let Some(state) = shared.states.get_mut(index) else { return };
        match state {
            State::Waiting(open) if *open > 1 => *open -= 1,
            State::Waiting(_) => {
                *state = State::Ready;
                if !shared.stopping {
                    shared.ready.push_back(index);
                }
            }
            _ => {}
        }
    }

    /// Tries again what ended with EBUSY or EINTR. Linux says EBUSY at once (since 6.2) where another load of the same module was
    /// under way and failed, and hands on that load's own EINTR (since 6.5, for the same file): a scout that is killed in the
    /// midst of a module's initialisation leaves such a load behind (`kernel/module/main.c`).
    fn while_busy(&self, module: &Module, params: &str, first: io::Result<()>) -> io::Result<()> {
        let passing = [Some(Errno::EBUSY as i32), Some(Errno::EINTR as i32)];
        let busy = |result: &io::Result<()>| matches!(result, Err(e) if passing.contains(&e.raw_os_error()));
        let mut result = first;
        for _ in 0..BUSY_TRIES {
            if !busy(&result) || self.lock().stopping {
                break;
            }
            std::thread::sleep(BUSY_PAUSE);
            result = (self.prepare)(module).and_then(|insert| insert(params));
        }
        result
    }

    fn insert(&self, index: usize, insertion: Option<io::Result<Insertion>>) -> Result<(), LoadError> {
        let (Some(module), Some(insertion)) = (self.table.modules.get(index), insertion) else { return Ok(()) };
        let params = self.params.get(index).map_or("", String::as_str);
        let begun = Instant::now();
        let mut result = self.while_busy(module, params, insertion.and_then(|insert| insert(params)));
        let kept = names::needed(params);
        if matches!(&result, Err(e) if e.raw_os_error() == Some(Errno::EINVAL as i32)) && kept != params {
            // A root must not stay away for a tunable. The kernel does not say which one it means.
            let origins = names::origins(params, &module.params);
            let again = self.while_busy(module, &kept, (self.prepare)(module).and_then(|insert| insert(&kept)));
            if again.is_ok() {
                let text = "does not take its parameters, and is loaded without them; numbers have no unit here (4294967296, not 4G)";
                (self.log)(Level::Warning, format!("module {} {text}: {origins}", module.name));
                result = again;
            }
        }
        let result = result.map_err(|err| {
            LoadError::insert(&module.name, &err, self.graph.unpacked.get(index).map_or(&[], Vec::as_slice))
        });
        match &result {
            Ok(()) => (self.log)(Level::Debug, format!("module {} loaded in {:.1?}", module.name, begun.elapsed())),
            Err(err) => {
                // A driver that finds no device of its own is no fault.
                let absent = matches!(err.errno(), Some(Errno::ENODEV)) && module.when == When::Device;
                (self.log)(if absent { Level::Debug } else { Level::Warning }, err.to_string());
            }
        }
        result
    }

    /// Notes the end of `index` and of all that fail with it, and makes ready what waited for it.
    fn end(&self, shared: &mut Shared, index: usize, begun: Option<Instant>, result: Result<(), LoadError>) {
        let mut ends = VecDeque::from([(index, begun, result)]);
        while let Some((index, begun, result)) = ends.pop_front() {
            let Some(state) = shared.states.get_mut(index) else { continue };
            if matches!(state, State::Done(_)) {
                continue;
            }
            *state = State::Done(result.clone());
            if let Some(slot) = shared.prepared.get_mut(index) {
                *slot = None;
            }
            let told = result.as_ref().map_or_else(|e| known::Module::Failed(e.to_string()), |()| known::Module::Ready);
            self.tell(index, &told, Some(begun.map_or(Duration::ZERO, |b| b.elapsed())));
            shared.outstanding = shared.outstanding.saturating_sub(1);
            shared.report.push(Loaded {
                name: self.name(index).to_owned(),
                started: begun.map_or_else(|| self.begun.elapsed(), |b| b.saturating_duration_since(self.begun)),
                took: begun.map_or(Duration::ZERO, |b| b.elapsed()),
                result: result.clone(),
            });
            for waiter in shared.dependents.get_mut(index).map(std::mem::take).unwrap_or_default() {
                let hard = self.graph.before.get(waiter).is_some_and(|e| e.iter().any(|e| e.to == index && e.hard));
                match &result {
                    Err(err) if hard && matches!(shared.states.get(waiter), Some(State::Waiting(_))) => {
                        ends.push_back((waiter, None, Err(LoadError::dependency(self.name(waiter), err))));
                    }
                    _ => Self::one_less(shared, waiter),
                }
            }
        }
    }

    /// What a module that has not ended is doing, in words.
    pub(super) fn describe(&self, shared: &Shared, index: usize) -> String {
        match shared.states.get(index) {
            Some(State::Running(since)) => {
                format!("the kernel has been running its initialisation for {:.1?}", since.elapsed())
            }
            Some(State::Waiting(_)) => {
                let open = self.graph.before.get(index).into_iter().flatten().map(|e| e.to);
                let open = open.filter(|i| !matches!(shared.states.get(*i), Some(State::Done(_)) | None));
                let open: Vec<&str> = open.map(|i| self.name(i)).collect();
                if open.is_empty() {
                    "it is being read and decompressed".to_owned()
                } else {
                    format!("it waits for {}", open.join(", "))
                }
            }
            Some(State::Ready) => "it is next in the queue".to_owned(),
            Some(State::Idle | State::Done(_)) | None => "it was not asked for".to_owned(),
        }
    }
}
