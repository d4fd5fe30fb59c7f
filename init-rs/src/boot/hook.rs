//! Inside an initramfs that another tool made: its own init owns PID 1, udev brings up the devices and modules are
//! loaded with modprobe. We find, import, unlock and mount, and come back.
//!
//! The words and exit statuses are the contract with `mkinitcpio-hook/hooks/taproot`.

use super::guard::Guard;
use super::{Boot, person, start};
use crate::plan::failure::Failure;
use crate::plan::next::{Next, Recovery, next, recover};
use crate::report::log::{LOG_PATH, Level, Log, log_line};
use crate::report::phases::{Phases, seconds};
use crate::scout::Scout;
use crate::sys::System;
use std::path::Path;
use std::sync::Arc;

/// What `taproot-init hook` answers to.
const USAGE: &str = "\
taproot-init hook wanted      exit status 0 if the kernel command line asks for a root that we mount
taproot-init hook mount DIR   find and import the pool, unlock, mount the root and what belongs to it below DIR
taproot-init hook late        note the hand-over in /run/taproot/boot.log
";

/// Runs one word of the hook; returns the exit status.
pub fn run(system: &Arc<dyn System>, words: &[String]) -> i32 {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["wanted"] => i32::from(!wanted(system.as_ref())),
        ["mount", dir] => mount(system, Path::new(dir)),
        ["late"] => late(system.as_ref()),
        _ => {
            eprint!("taproot-init hook: expected wanted, mount DIR or late\n\n{USAGE}");
            2
        }
    }
}

fn mount(system: &Arc<dyn System>, dir: &Path) -> i32 {
    let log = Log::new(Arc::clone(system));
    start::attach_log(system.as_ref(), &log);
    let phases = Phases::new(Arc::clone(system));
    let guard = Guard::new(system.as_ref());
    // Drivers are not ours to load.
    let scout = Scout::start(&guard, false, &log);
    let mut boot = Boot::new((&guard, system.as_ref()), &log, &phases, dir, scout);
    boot.facts.hook = true;
    let policy = boot.request.rescue.on_failure.value;
    if policy.headless() || boot.locked() {
        // After a bug, too, the other tool's shell is not for everybody.
        person::catch_panics(system.as_ref(), policy, boot.image.rescue_password.clone());
    }
    until_mounted(&mut boot)
}

fn until_mounted(boot: &mut Boot<'_>) -> i32 {
    // Typed in the shell after an attempt that failed.
    if let Some(decision) = person::take_decision(boot.system) {
        boot.obey(decision);
    }
    loop {
        boot.learn(std::time::Duration::ZERO);
        match next(boot.moment()) {
            Next::Do(step) => boot.perform(step),
            Next::Wait(wait) => boot.wait(&wait),
            Next::Mounted => {
                if !boot.request.quiet() {
                    println!(
                        ":: {} is the root ({})",
                        boot.report.root.as_deref().unwrap_or(""),
                        boot.request.root.why
                    );
                }
                return 0;
            }
            Next::Fail(failure) => {
                if let Some(status) = failed(boot, failure) {
                    return status;
                }
            }
            // Another tool's init asks, and hands over.
            Next::Ask(_) | Next::HandOver { .. } => return 1,
        }
    }
}

/// What follows a failure; a status ends the hook.
fn failed(boot: &mut Boot<'_>, failure: Failure) -> Option<i32> {
    // The other tool's shell knows no lock.
    if boot.locked() || recover(&boot.request, &boot.facts, &failure) != Recovery::Ask {
        boot.recover(failure);
        return None;
    }
    boot.report.problems.push(failure.to_string());
    boot.report.failure = Some((failure.code.code(), failure.to_string()));
    let explanation = boot.explain(&failure);
    person::print(boot.system, &explanation.text());
    boot.scout.stop();
    eprintln!("ERROR: taproot: {failure}");
    Some(1)
}

/// Whether the words ask for a root in a pool.
fn wanted(system: &dyn System) -> bool {
    let image = start::image_config(system);
    start::request(&image, &start::words(system, &image)).ours
}

/// The last look: mkinitcpio's init checks and switches the root itself.
fn late(system: &dyn System) -> i32 {
    let now = system.now();
    let text = format!("handing over {} s after the kernel started", seconds(now));
    let _ = system.append(Path::new(LOG_PATH), log_line(now, Level::Info, &text).as_bytes());
    0
}
