//! Drivers and devices of one boot: the module loader and the watch over uevents, wired to the log.

use crate::cmdline::Request;
use crate::devices::loader::{Level as LoadLevel, LoadError, Loader};
use crate::devices::table::{Module, ModuleTable};
use crate::devices::watch::{Changes, Devices};
use crate::report::log::{Level, Log};
use crate::report::modules::ModuleDone;
use crate::sys::kmod;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a driver that is still probing at the hand-over is waited for: execve(2) would wait for it anyway.
const LAST_MODULES: Duration = Duration::from_secs(2);

/// How long a file system's driver may take to start.
const MODULE_FOR_MOUNT: Duration = Duration::from_secs(10);

/// The loader and the watch.
#[derive(Debug)]
pub(super) struct Hardware {
    loader: Loader,
    /// `None` where neither uevents nor /sys can be followed; [`Hardware::wait_change`] then only waits.
    devices: Option<Devices>,
}

impl Hardware {
    /// Starts the modules that are needed in any case, and follows devices from here on.
    pub(super) fn start(table: ModuleTable, request: &Request, log: &Arc<Log>) -> Self {
        let options: Vec<_> =
            request.module_options.iter().map(|o| (o.module.clone(), o.param.clone(), o.value.clone())).collect();
        let writer = |log: &Arc<Log>| {
            let log = Arc::clone(log);
            move |level, text: String| log.line(to_log(level), &text)
        };
        let insert = |module: &Module, params: &str| kmod::load(Path::new(&module.path), params);
        let loader = Loader::new(table, &options, &request.module_blacklist, insert, writer(log));
        loader.start_boot();
        let devices = Devices::start(&loader, writer(log));
        if let Err(e) = &devices {
            log.error(format!("devices cannot be followed: {e}; only what is there now is used"));
        }
        Self { loader, devices: devices.ok() }
    }

    /// Whether a module is there: `None` while it is still starting. Waits up to `patience`.
    pub(super) fn module(&self, name: &str, patience: Duration) -> Option<Result<(), LoadError>> {
        match self.loader.wait(name, Instant::now() + patience) {
            Err(LoadError::Deadline { .. }) => None,
            result => Some(result),
        }
    }

    /// Loads a module that a mount needs, if it is packed and not there yet; the mount itself tells whether it was enough.
    pub(super) fn load(&self, name: &str) {
        if self.loader.request_name(name).is_some() {
            let _ = self.loader.wait(name, Instant::now() + MODULE_FOR_MOUNT);
        }
    }

    /// Waits for block devices to change, at most `timeout`.
    pub(super) fn wait_change(&self, timeout: Duration) -> Changes {
        if let Some(devices) = &self.devices {
            return devices.wait_change(timeout);
        }
        std::thread::sleep(timeout);
        Changes { rescan: true, ..Changes::default() }
    }

    /// No driver is being loaded and no event waits.
    pub(super) fn settled(&self) -> bool {
        self.devices.as_ref().is_none_or(Devices::settled)
    }

    /// Modaliases of devices that no packed module drives.
    pub(super) fn unmatched(&self) -> Vec<String> {
        self.loader.unmatched()
    }

    /// What became of each module, for the record.
    pub(super) fn modules(&self) -> Vec<ModuleDone> {
        let done = |m: crate::devices::loader::Loaded| ModuleDone {
            name: m.name,
            took: m.took,
            error: m.result.err().map(|e| e.to_string()),
        };
        self.loader.report().into_iter().map(done).collect()
    }

    /// Ends the threads before the hand-over.
    pub(super) fn stop(&mut self, log: &Log) {
        if let Some(devices) = &mut self.devices {
            devices.stop();
        }
        let stuck = self.loader.shutdown(LAST_MODULES);
        if !stuck.is_empty() {
            log.warn(format!("still starting at the hand-over: {}", stuck.join(", ")));
        }
    }
}

fn to_log(level: LoadLevel) -> Level {
    match level {
        LoadLevel::Debug => Level::Debug,
        LoadLevel::Info => Level::Info,
        LoadLevel::Warning => Level::Warn,
    }
}
