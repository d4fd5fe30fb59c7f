//! One boot, carried out: [`crate::plan::next`] says what is next, the executor here does it and adds what it learnt to the
//! facts. No decision is made here.

mod datasets;
mod guard;
mod hibernation;
mod hook;
mod hope;
mod init;
mod integrity;
mod kept;
mod keys;
mod layer_state;
mod layers;
mod live;
mod look;
mod lost;
mod mounts;
mod parts;
mod people;
mod pools;
pub mod program;
mod ready;
mod release;
mod root;
mod snapshots;
mod start;
mod to_ram;
mod typed;

use crate::cmdline::{OnFailure, Request};
use crate::devices::known::{Device, Zfs};
use crate::image::ImageConfig;
use crate::plan::declared::declared;
use crate::plan::failure::{Code, Failure};
use crate::plan::next::facts::{Asked, Attempt, Facts, Watched};
use crate::plan::next::{Moment, Next, Step, Wait, next};
use crate::report::boot::BootReport;
use crate::report::log::Log;
use crate::report::phases::{Phases, Running, seconds};
use crate::report::slow;
use crate::rescue as person;
use crate::scout::Scout;
use crate::sys::System;
use crate::unlock::Keyring;
pub use hook::run as hook;
pub use look::{LOOK, look};

use guard::Guard;
use people::Headless;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use typed::Typed;

/// Where PID 1 mounts the new root until it becomes `/`.
pub const NEW_ROOT: &str = "/newroot";
/// Until the first line that says what is awaited, and between two of them.
const FIRST_STATUS: Duration = Duration::from_secs(2);
const STATUS_EVERY: Duration = Duration::from_millis(4900);
/// Longest sleep: an event can be missed.
const POLL: Duration = Duration::from_secs(1);
/// More steps than any boot takes: beyond, the boot goes in circles.
const STEPS_MAX: u32 = 200_000;

/// What is left to do about a bug.
const REPORT: [&str; 2] = ["reboot", "report this with the log (save-log)"];

/// How a boot ended. On a real machine it does not: PID 1 becomes another program, or the machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The new root's init runs.
    HandedOver,
    /// The machine was restarted.
    Restarted,
    /// The machine was switched off.
    PoweredOff,
}

/// One boot: what is asked, what is known, what was done.
struct Boot<'a> {
    /// The seam, guarded: what is not declared is refused.
    system: &'a dyn System,
    guard: &'a Guard<'a>,
    /// The seam as people at the prompt have it: they may do what they say.
    outside: &'a dyn System,
    log: &'a Log,
    phases: &'a Phases,
    image: ImageConfig,
    request: Request,
    /// What the words are, and what people have changed about them.
    typed: Typed,
    facts: Facts,
    scout: Scout<'a>,
    report: BootReport,
    /// Where the new root is mounted until it becomes `/`.
    new_root: PathBuf,
    /// What was typed or read to unlock this root, until everything is mounted.
    keyring: Keyring,
    /// Failures that nobody watches.
    headless: Headless,
    /// The kernel's console level as it was, if the booted system is to have it back.
    console_level: Option<String>,
    /// A parameter of the zfs module as it was.
    patience: Option<String>,
    /// The wait under way: since when, and when it was last told of.
    waiting: Option<(Duration, Duration)>,
    steps: u32,
    /// The phase from the root's mount to the last one.
    mounting: Option<Running<'a>>,
    /// Whether something lies in `/run` for the end of the root.
    end_prepared: bool,
    /// Arguments for the new root's init.
    args: Vec<OsString>,
}

/// Boots as PID 1.
pub fn run(system: &Arc<dyn System>, args: Vec<OsString>) -> End {
    let log = Log::new(Arc::clone(system));
    let phases = Phases::new(Arc::clone(system));
    let guard = Guard::new(system.as_ref());
    let mut boot = Boot::start((&guard, system.as_ref()), &log, &phases, args);
    loop {
        if let Some(end) = boot.turn() {
            return end;
        }
    }
}

impl<'a> Boot<'a> {
    /// PID 1: brings up the pseudo file systems, the log, the scout; nothing here can fail the boot.
    fn start(seam: (&'a Guard<'a>, &'a dyn System), log: &'a Log, phases: &'a Phases, args: Vec<OsString>) -> Self {
        let (guard, outside) = seam;
        let system: &dyn System = guard;
        let began = phases.start("start");
        let problems = start::mount_pseudo(system);
        start::attach_console(system, log);
        // As early as there are standard streams: it has the longest way, to the end of zfs's initialisation.
        let scout = Scout::start(system, true, log);
        start::attach_log(system, log);
        // Until the command line is read nobody is let in: it could say so.
        person::catch_panics(outside, OnFailure::Locked, None);
        for problem in &problems {
            log.error(problem);
        }
        let mut boot = Self::new(seam, log, phases, Path::new(NEW_ROOT), scout);
        boot.report.problems = problems;
        boot.args = args;
        person::catch_panics(outside, boot.request.rescue.on_failure.value, boot.image.rescue_password.clone());
        boot.prepare_variables();
        boot.console_level = start::console_level(system, &boot.request, log);
        drop(began);
        boot
    }

    /// What is asked, and the devices as the scout tells of them.
    fn new(
        seam: (&'a Guard<'a>, &'a dyn System),
        log: &'a Log,
        phases: &'a Phases,
        new_root: &Path,
        scout: Scout<'a>,
    ) -> Self {
        let (guard, outside) = seam;
        let system: &dyn System = guard;
        let image = start::image_config(system);
        let words = start::words(system, &image);
        let mut request = start::request(&image, &words);
        let typed = Typed::new(system, words.ok());
        let kernel = start::kernel(system);
        log.info(format!("taproot-init {}, kernel {}", env!("CARGO_PKG_VERSION"), kernel.release));
        for note in request.problems.iter().chain(&request.notes) {
            log.warn(format!("{}: {}", note.word, note.message));
        }
        start::hostid(system, &mut request, log);
        guard.declare(declared(&request));
        let report = BootReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: kernel.release.clone(),
            image: image.id.clone(),
            request: Some(request.clone()),
            expected: image.pools.clone(),
            expected_root: image.root.clone(),
            ..BootReport::default()
        };
        let facts = Facts {
            kernel,
            expected: image.pools.clone(),
            hook: !system.is_init(),
            begin: Some(Asked::of(&request)),
            attempt: Attempt { began: system.now(), last_step: system.now(), ..Attempt::default() },
            ..Facts::default()
        };
        Self {
            system,
            guard,
            outside,
            log,
            phases,
            image,
            request,
            typed,
            facts,
            scout,
            report,
            new_root: new_root.to_owned(),
            keyring: Keyring::default(),
            headless: Headless::default(),
            console_level: None,
            patience: None,
            waiting: None,
            steps: 0,
            mounting: None,
            end_prepared: false,
            args: Vec::new(),
        }
    }

    /// Asks what is next and does it. Comes back with the end of the machine, if this was it.
    fn turn(&mut self) -> Option<End> {
        self.learn(Duration::ZERO);
        match next(self.moment()) {
            Next::Do(step) => self.perform(step),
            Next::Wait(wait) => self.wait(&wait),
            Next::Ask(question) => return self.ask(&question),
            Next::Fail(failure) => return self.recover(failure),
            Next::HandOver { init } => return self.hand_over(&init),
            // Only in another tool's initramfs.
            Next::Mounted => self.fail(Failure::module("the boot ended in the middle", "")),
        }
        None
    }

    /// What [`next`] decides from.
    fn moment(&self) -> Moment<'_> {
        Moment { request: &self.request, hardware: &self.scout.hardware, facts: &self.facts, now: self.system.now() }
    }

    /// Hears the scout, at most for this time, and makes of the labels what they amount to.
    fn learn(&mut self, patience: Duration) {
        self.scout.hear(patience);
        self.look_at_labels();
    }

    fn perform(&mut self, step: Step) {
        self.waiting = None;
        self.steps += 1;
        self.guard.mind(self.lost());
        self.guard.begin(Some(&step));
        let refused = self.guard.refused().len();
        let result = if self.steps > STEPS_MAX { Err(circles(&step)) } else { self.cared_for(step) };
        self.guard.begin(None);
        // Whatever the step made of it.
        let result = self.guard.refused().get(refused).map_or(result, |line| Err(undeclared(line)));
        if let Err(failure) = result {
            self.fail(failure);
        }
        self.facts.attempt.last_step = self.system.now();
    }

    fn step(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::LoadModule(name) => self.scout.load(&name),
            Step::ReadNote => self.read_note(),
            Step::ReadOrigin => self.read_origin(),
            Step::LookForImage { device, node, offset } => self.look_for_image(device, &node, offset),
            Step::ResumeImage { device, node, number, offset, pages, text } => {
                self.log.info(&text);
                self.resume_image(&device, &node, number, offset, pages);
            }
            Step::ResumeSettled { text, warn, left } => self.resume_settled(&text, warn, left),
            Step::DiscardImage { word, place } => self.discard_image(&word, place)?,
            Step::AskZfs => self.ask_zfs()?,
            Step::AskImported => self.ask_imported(),
            Step::Open { guid } => self.open(guid),
            Step::Take(found) => self.take(*found),
            Step::Export { pool, guid } => self.export(&pool, guid)?,
            Step::Import(choice) => self.import(&choice)?,
            Step::ImportOther { wanted, found } => self.import_other(wanted, *found),
            Step::DoWithout { wanted, why, warn } => self.do_without(wanted, why, warn),
            Step::AskBootfs { pool } => self.ask_bootfs(&pool)?,
            Step::AskRoot { dataset } => self.ask_root(&dataset)?,
            Step::LoadKey { dataset, key, ask } => self.load_key(&dataset, &key, ask)?,
            Step::Snapshots(asked) => self.settle_snapshots(*asked)?,
            Step::Check { node, fstype, program, args, repairs } => {
                self.check(node, &fstype, (&program, args), repairs);
            }
            Step::Layer(step) => self.layer_step(step)?,
            Step::MountRoot(mount) => self.mount_root(&mount)?,
            Step::ReadFstab { below } => self.read_fstab(below),
            Step::AskDatasets { root, all } => self.ask_datasets(&root, all),
            Step::LoadKeys { keys } => self.load_keys(keys),
            Step::PlanMounts { root, .. } => self.plan_mounts(&root),
            Step::TellLeftOut => self.tell_left_out(),
            Step::Remount { root, how } => self.remount(&root, &how),
            Step::Mount(mount) => self.mount(*mount),
            Step::PassOver { step, why } => self.pass_over(*step, &why),
            Step::FindInit { root } => self.find_init(&root),
            Step::Uncover { covers } => self.uncover(&covers),
            Step::GetReady => self.get_ready(),
        }
        Ok(())
    }

    /// Waits for the facts to change, and says from time to time for what.
    fn wait(&mut self, wait: &Wait) {
        let now = self.system.now();
        let (since, told) = *self.waiting.get_or_insert((now, now));
        let due = if told == since { since + FIRST_STATUS } else { told + STATUS_EVERY };
        // Short waits in a row, each without a line, are a long one.
        let due = due.min(self.log.last() + STATUS_EVERY);
        if now >= due {
            let left = wait
                .until
                .map_or("no limit".to_owned(), |until| format!("{} s left", until.saturating_sub(now).as_secs()));
            let line = format!("waiting for {} ({left})", wait.what);
            if now.saturating_sub(since) < STATUS_EVERY {
                self.log.info(line);
            } else {
                self.log.warn(line);
            }
            self.waiting = Some((since, now));
            return;
        }
        let ends = [wait.until, wait.again, Some(due), Some(now + POLL)];
        let end = ends.into_iter().flatten().filter(|end| *end > now).min().unwrap_or(now + POLL);
        self.learn(end.saturating_sub(now));
    }

    /// The attempt is over.
    fn fail(&mut self, failure: Failure) {
        self.facts.attempt.failure = Some(failure);
    }

    /// Begins another attempt.
    fn begin_anew(&mut self) {
        let (system, log) = (self.system, self.log);
        self.clear_run();
        slow::working(system, log, "taking away what this attempt has mounted", || {
            self.clear_plain_root();
            self.clear_layers();
        });
        let now = self.system.now();
        self.guard.declare(declared(&self.request));
        self.keyring.forget();
        self.waiting = None;
        self.steps = 0;
        self.mounting = None;
        self.facts.begin_anew(now);
        self.scout.revive();
        self.report.begin_anew();
        self.forget_verdicts(now);
    }

    /// Another system may have let go of a pool meanwhile, which changes its labels without any event.
    fn forget_verdicts(&mut self, now: Duration) {
        for watched in self.facts.disks.watched.values_mut() {
            *watched = Watched { since: now, opened: None };
        }
        let member = |device: &&Device| device.content().is_some_and(|content| content.zfs != Zfs::Nothing);
        let members = self.scout.hardware.devices.values().filter(member).map(|device| device.name.clone());
        for name in members.collect::<Vec<_>>() {
            self.scout.reread(&name);
        }
    }

    /// Tells of something that does not stop the boot.
    fn trouble(&mut self, text: String) {
        self.log.warn(&text);
        self.report.problems.push(text);
    }

    fn hand_over(&mut self, init: &str) -> Option<End> {
        match self.system.hand_over(&self.new_root, Path::new(init), &self.args) {
            Ok(()) => Some(End::HandedOver),
            Err(error) => {
                self.fail(root::not_handed_over(&error));
                None
            }
        }
    }

    /// What is still written before the hand-over, with its time.
    fn told_hand_over(&self, init: &str) {
        self.log.info(format!("handing over to {init} {} s after the kernel started", seconds(self.system.now())));
    }
}

/// A boot that never comes to an end without waiting for anything.
fn circles(step: &Step) -> Failure {
    let step = format!("{step:?}").chars().take(200).collect();
    Failure::new(Code::Bug, "the boot goes in circles, which is a bug", "an end", vec![step], &REPORT)
}

/// The seam did not do this.
fn undeclared(line: &str) -> Failure {
    Failure::new(Code::Undeclared, line, "only what the words of this boot ask for", vec![], &REPORT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Tree;

    #[test]
    fn a_boot_in_circles_ends_in_a_failure_that_no_other_root_is_tried_for() {
        let tree = Arc::new(Tree::new());
        let guard = Guard::new(&*tree);
        let (log, phases) = (Log::new(Arc::<Tree>::clone(&tree)), Phases::new(Arc::<Tree>::clone(&tree)));
        let mut boot =
            Boot::new((&guard, &*tree), &log, &phases, Path::new(NEW_ROOT), Scout::start(&guard, false, &log));
        boot.steps = STEPS_MAX;
        boot.perform(Step::AskImported);
        let failure = boot.facts.attempt.failure.clone().unwrap();
        assert_eq!((failure.code.code(), failure.code.another_root_may_help()), ("bug", false));
        assert_eq!(boot.facts.imported, None, "the step is not done");
    }

    #[test]
    fn a_step_that_is_refused_something_fails_as_that_whatever_it_makes_of_it() {
        let tree = Arc::new(Tree::answering(|_, _| crate::sys::ZfsReply::default()));
        let guard = Guard::new(&*tree);
        let (log, phases) = (Log::new(Arc::<Tree>::clone(&tree)), Phases::new(Arc::<Tree>::clone(&tree)));
        let mut boot =
            Boot::new((&guard, &*tree), &log, &phases, Path::new(NEW_ROOT), Scout::start(&guard, false, &log));
        boot.facts.attempt.mounted = true;
        let is_undeclared = |boot: &Boot<'_>| {
            let failure = boot.facts.attempt.failure.as_ref();
            failure.is_some_and(|f| f.code == Code::Undeclared && f.to_string().contains("a bug"))
        };
        // A failure of it would stand for another one, and this is only told of.
        boot.perform(Step::Export { pool: "foreign".to_owned(), guid: 7 });
        assert!(is_undeclared(&boot), "{:?}", boot.facts.attempt.failure);
        boot.facts.attempt.failure = None;
        boot.perform(Step::AskImported);
        assert_eq!(boot.facts.attempt.failure, None, "what was refused to an earlier step");
    }
}
