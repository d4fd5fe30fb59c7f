//! The story of one boot, from PID 1's first instruction to the hand-over.

mod datasets;
mod failure;
mod find;
mod firmware;
mod hardware;
mod headless;
mod hook;
mod mounting;
mod newroot;
mod otherfs;
pub mod program;
mod rescue;
mod resume;
mod seen;
mod snapshots;
mod start;
mod unlock;

use crate::cmdline::{Decided, OnFailure, Request, Stage};
use crate::devices::table::ModuleTable;
use crate::image::ImageConfig;
use crate::plan::facts::{Dataset, Health};
use crate::plan::select::Choice;
use crate::plan::{from_zfs, select};
use crate::pools::{self, ImportRequest};
use crate::report::boot::{BootReport, REPORT_PATH};
use crate::report::log::{LOG_PATH, Log};
use crate::report::phases::{Phases, seconds};
use crate::rescue as person;
use crate::sys::{System, entry, switch_root};
use crate::unlock::Keyring;
use crate::zfs::ioctl::{ObjsetKind, Zfs};
pub use hook::run as hook;

use failure::Failure;
use find::Found;
use firmware::Note;
use hardware::Hardware;
use rescue::Course;
use snapshots::StandIns;
use std::cell::RefCell;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where PID 1 mounts the new root until it becomes `/`.
const NEW_ROOT: &str = "/newroot";
/// Between two looks at the disks while the zfs module starts.
const MODULE_POLL: Duration = Duration::from_millis(50);

/// One boot: what is asked, what is known, what was done.
struct Boot<'a> {
    system: &'a dyn System,
    hands: RefCell<person::hands::Nothing>,
    log: Arc<Log>,
    phases: &'a Phases,
    image: ImageConfig,
    request: Request,
    hardware: Hardware,
    report: BootReport,
    /// This system's hostid, 0 if it has none.
    hostid: u32,
    /// Whether another tool's init is PID 1.
    hook: bool,
    /// Where the new root is mounted until it becomes `/`.
    new_root: PathBuf,
    /// What was typed or read to unlock this root, until everything is mounted.
    keyring: Keyring,
    /// Whether it is known that no hibernated system waits to be resumed.
    resume_settled: bool,
    /// What the firmware says of a hibernated system.
    note: Note,
    /// Clones or snapshots that are mounted instead of what was named.
    stand_ins: StandIns,
    /// Stops, fallbacks and attempts.
    course: Course,
    /// The kernel's console level as it was, if the booted system is to have it back.
    console_level: Option<String>,
}

/// Boots; as PID 1 this never returns.
pub fn run(system: &Arc<dyn System>) -> ! {
    entry::ignore_sigpipe();
    let log = Arc::new(Log::new(Arc::clone(system)));
    let phases = Phases::new(Arc::clone(system));
    let mut boot = Boot::start(&**system, &log, &phases);
    loop {
        match boot.attempt() {
            Err(failure) => boot.recover(&failure),
            Ok(never) => match never {},
        }
    }
}

impl<'a> Boot<'a> {
    /// PID 1: brings up the pseudo file systems, the log, the modules and the devices; nothing here can fail the boot.
    fn start(system: &'a dyn System, log: &Arc<Log>, phases: &'a Phases) -> Self {
        let began = phases.start("start");
        let problems = start::mount_pseudo(system);
        start::attach_console(log);
        start::attach_log(system, log);
        // Until the command line is read nobody is let in: it could say so.
        person::catch_panics(system, OnFailure::Locked, None);
        for problem in &problems {
            log.error(problem);
        }
        let mut boot = Self::new(system, log, phases, start::module_table(log), Path::new(NEW_ROOT));
        boot.report.problems = problems;
        person::catch_panics(system, boot.request.rescue.on_failure.value, boot.image.rescue_password.clone());
        boot.course = Course::new(&boot.request);
        boot.prepare_variables();
        boot.console_level = start::console_level(&boot.request, log);
        drop(began);
        boot
    }

    /// What is asked, and the devices as they come; `table`: the modules that are ours to load.
    fn new(system: &'a dyn System, log: &Arc<Log>, phases: &'a Phases, table: ModuleTable, new_root: &Path) -> Self {
        let image = start::image_config();
        let mut request = start::request(&image);
        let kernel = start::kernel_release();
        log.info(format!("taproot-init {}, kernel {kernel}", env!("CARGO_PKG_VERSION")));
        for note in request.problems.iter().chain(&request.notes) {
            log.warn(format!("{}: {}", note.word, note.message));
        }
        start::hostid(system, &mut request, log);
        let hardware = Hardware::start(table, &request, log);
        let report = BootReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel,
            request: Some(request.clone()),
            expected: image.pools.clone(),
            ..BootReport::default()
        };
        let log = Arc::clone(log);
        Self {
            system,
            hands: RefCell::new(person::hands::Nothing::default()),
            log,
            phases,
            image,
            request,
            hardware,
            report,
            hostid: 0,
            hook: std::process::id() != 1,
            new_root: new_root.to_owned(),
            keyring: Keyring::default(),
            resume_settled: false,
            note: Note::default(),
            stand_ins: StandIns::default(),
            course: Course::default(),
            console_level: None,
        }
    }

    /// From devices to the hand-over; comes back only with what went wrong.
    fn attempt(&mut self) -> Result<Infallible, Failure> {
        self.stop_at(Stage::Start)?;
        let root = self.bring_up_root()?;
        let wanted = self.request.init.as_ref().map(|i| i.value.as_str());
        let init = newroot::find_init(&self.new_root, &root.name, wanted)?;
        self.report.init = Some(init.display().to_string());
        self.log.info(format!(
            "handing over to {} {} s after the kernel started",
            init.display(),
            seconds(self.system.now())
        ));
        self.stop_at(Stage::HandOver)?;
        self.forget_failures();
        self.hardware.stop(&self.log);
        self.keyring.wipe_image_files(self.system);
        self.save_report();
        start::restore_console_level(self.console_level.as_deref());
        let args: Vec<_> = std::env::args_os().skip(1).collect();
        Err(switch_root::hand_over(&self.new_root, &init, &args).into())
    }

    /// Everything up to a root that is mounted with all that belongs to it.
    fn bring_up_root(&mut self) -> Result<Dataset, Failure> {
        self.settle_resume()?;
        let found = self.find_pool()?;
        self.log.info(format!("pool {}: {}", found.choice.pool, found.choice.why));
        for warning in &found.choice.warnings {
            self.log.warn(warning);
        }
        self.report.choice = Some(found.choice.clone());
        self.stop_at(Stage::Import)?;
        self.discard_image()?;
        self.import(&found)?;
        let (root, snapshot) = self.root_dataset(&found)?;
        self.offer_roots(&root)?;
        self.stop_at(Stage::Mount)?;
        let root = self.unlock_root(root)?;
        let root = self.settle_snapshots(root, snapshot)?;
        self.report.root = Some(root.name.clone());
        self.mount_everything(&root)?;
        self.keyring.forget();
        Ok(root)
    }

    /// Imports what was found, under its own name and with the paths its labels record.
    fn import(&self, found: &Found) -> Result<(), Failure> {
        let Some(config) = &found.config else { return Ok(()) };
        let Choice { pool, guid, .. } = &found.choice;
        if found.choice.health == Health::Degraded {
            self.log.warn(format!("importing pool {pool} degraded: not all of its disks are there"));
        }
        self.pools().import(&ImportRequest {
            pool,
            guid: *guid,
            config,
            read_only: self.request.import.read_only.value,
            missing_log: self.request.import.missing_log.value,
            rewind: false,
        })?;
        Ok(())
    }

    /// The dataset to mount as root: the one named, or the pool's bootfs; and the snapshot of it that is meant.
    fn root_dataset(&self, found: &Found) -> Result<(Dataset, Option<Decided<String>>), Failure> {
        let zfs = Zfs::new(self.system);
        let name = match found.choice.dataset.clone().or_else(|| found.bootfs.clone()) {
            Some(name) => name,
            None => zfs
                .bootfs(&found.choice.pool)?
                .ok_or_else(|| Failure::NoRoot { message: select::no_bootfs(&found.choice.pool), seen: vec![] })?,
        };
        let mut snapshot = self.request.snapshot.clone();
        let name = match name.split_once('@') {
            None => name,
            Some((dataset, of_bootfs)) => {
                let why = format!("bootfs of pool {}", found.choice.pool);
                snapshot = snapshot.or_else(|| Some(Decided::new(of_bootfs.to_owned(), why)));
                dataset.to_owned()
            }
        };
        match zfs.objset(&name) {
            Ok(objset) if objset.kind != ObjsetKind::Filesystem => Err(failure::not_mountable(&name, objset.kind)),
            Ok(objset) => Ok((from_zfs::dataset(&objset, self.relatime_default()), snapshot)),
            Err(e) if e.errno == libc::ENOENT => {
                let all = zfs.walk(&found.choice.pool, 500, &|_| true).map(|walk| walk.found).unwrap_or_default();
                let roots = all.iter().filter(|o| o.kind == ObjsetKind::Filesystem).map(|o| o.name.clone());
                Err(Failure::NoDataset { dataset: name, others: roots.take(40).collect() })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Whether the zfs module is ready; with it come this system's hostid and the check that we speak its language.
    fn zfs_ready(&mut self) -> Result<bool, Failure> {
        match self.hardware.module("zfs", MODULE_POLL) {
            None => return Ok(false),
            Some(Err(e)) => return Err(Failure::Module(e.to_string())),
            Some(Ok(())) => {}
        }
        self.hostid = pools::own_hostid(self.system);
        let version = fs::read_to_string("/sys/module/zfs/version").unwrap_or_default().trim().to_owned();
        self.log.info(format!("OpenZFS {version}, hostid {:08x}", self.hostid));
        self.report.zfs = Some(version);
        Zfs::new(self.system).imported_pools().map_err(|e| Failure::Module(e.to_string()))?;
        Ok(true)
    }

    /// Leaves the record for the booted system, or for the rescue.
    fn save_report(&mut self) {
        self.report.phases = self.phases.list();
        self.report.modules = self.hardware.modules();
        let files = [(REPORT_PATH, self.report.to_json()), (LOG_PATH, self.log.text())];
        for (path, text) in files {
            if let Err(e) = fs::write(path, text) {
                self.log.warn(format!("{path}: {e}"));
            }
        }
    }
}
