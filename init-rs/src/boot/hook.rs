//! Inside an initramfs that another tool made: its own init owns PID 1, udev brings up the devices and modules are
//! loaded with modprobe. We find, import, unlock and mount, and come back.
//!
//! The words and exit statuses are the contract with `mkinitcpio-hook/hooks/taproot`.

use super::rescue::Course;
use super::{Boot, person, start};
use crate::devices::table::ModuleTable;
use crate::report::log::{LOG_PATH, Level, Log, log_line};
use crate::report::phases::{Phases, seconds};
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
        ["wanted"] => i32::from(!start::request(&start::image_config()).ours),
        ["mount", dir] => mount(system, Path::new(dir)),
        ["late"] => late(&**system),
        _ => {
            eprint!("taproot-init hook: expected wanted, mount DIR or late\n\n{USAGE}");
            2
        }
    }
}

fn mount(system: &Arc<dyn System>, dir: &Path) -> i32 {
    let log = Arc::new(Log::new(Arc::clone(system)));
    start::attach_log(&**system, &log);
    let phases = Phases::new(Arc::clone(system));
    let mut boot = Boot::new(&**system, &log, &phases, ModuleTable::default(), dir);
    boot.course = Course::without_stops(&boot.request);
    let policy = boot.request.rescue.on_failure.value;
    if policy.headless() || boot.locked() {
        // After a bug, too, the other tool's shell is not for everybody.
        person::catch_panics(&**system, policy, boot.image.rescue_password.clone());
    }
    let status = until_mounted(&mut boot);
    boot.hardware.stop(&log);
    boot.save_report();
    status
}

fn until_mounted(boot: &mut Boot<'_>) -> i32 {
    // Typed in the shell after an attempt that failed.
    if let Some(decision) = person::take_decision(boot.system) {
        boot.obey(decision);
    }
    loop {
        match boot.bring_up_root() {
            Ok(root) => {
                boot.keyring.wipe_image_files(boot.system);
                boot.forget_failures();
                if !boot.request.quiet() {
                    println!(":: {} is the root ({})", root.name, boot.request.root.why);
                }
                return 0;
            }
            // The other tool's shell knows no lock.
            Err(failure) if boot.locked() => boot.recover(&failure),
            Err(failure) if boot.recover_alone(&failure) => {}
            Err(failure) => {
                eprintln!("ERROR: taproot: {failure}");
                return 1;
            }
        }
    }
}

/// The last look: mkinitcpio's init checks and switches the root itself.
fn late(system: &dyn System) -> i32 {
    let now = system.now();
    let text = format!("handing over {} s after the kernel started", seconds(now));
    let line = log_line(now, Level::Info, &text);
    let log = Path::new(LOG_PATH);
    if system.exists(log) {
        let _ = system.append(log, line.as_bytes());
    }
    0
}
