//! What the scenarios share.

use std::cell::{Cell, RefCell};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use anyhow::{Result, ensure};

use crate::kit::System;
use crate::vm::{Accel, Report, Running, Vm, accel};
use crate::{account, checkout, image, words};

/// Makes a test of each function for each kit system: `zfs2_4::name`, `zfs2_1::name` and, ignored until it is asked for,
/// `zfs2_3::name`.
#[macro_export]
macro_rules! scenarios {
    ($($(#[$attribute:meta])* fn $name:ident($system:ident) $body:block)*) => {
        $($(#[$attribute])* fn $name($system: &$crate::kit::System) $body)*
        mod zfs2_4 {
            $(#[test] fn $name() { $crate::scenario::run($crate::kit::SYSTEMS[0], super::$name); })*
        }
        mod zfs2_1 {
            $(#[test] fn $name() { $crate::scenario::run($crate::kit::SYSTEMS[1], super::$name); })*
        }
        $crate::scenarios_on_demand!(zfs2_3, $crate::kit::ON_DEMAND, $($name)*);
    };
}

/// The same for what our own code decides, whatever the kernel: on the newest kit system, on the others when it is asked for. Machines
/// take nearly all of the time that the tests take.
#[macro_export]
macro_rules! scenarios_on_newest {
    ($($(#[$attribute:meta])* fn $name:ident($system:ident) $body:block)*) => {
        $($(#[$attribute])* fn $name($system: &$crate::kit::System) $body)*
        mod zfs2_4 {
            $(#[test] fn $name() { $crate::scenario::run($crate::kit::SYSTEMS[0], super::$name); })*
        }
        $crate::scenarios_on_demand!(zfs2_1, $crate::kit::SYSTEMS[1], $($name)*);
        $crate::scenarios_on_demand!(zfs2_3, $crate::kit::ON_DEMAND, $($name)*);
    };
}

/// Tests that `make test-all` runs.
#[doc(hidden)]
#[macro_export]
macro_rules! scenarios_on_demand {
    ($module:ident, $system:expr, $($name:ident)*) => {
        mod $module {
            $(#[test] #[ignore = "on demand: make test-all"] fn $name() { $crate::scenario::run($system, super::$name); })*
        }
    };
}

/// Runs a scenario on a kit system.
///
/// # Panics
/// When the scenario fails, as a test does.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub fn run(system: &str, scenario: fn(&System)) {
    let system = System::open(system).unwrap();
    retried(|| scenario(&system));
}

thread_local! {
    /// Whether QEMU itself crashed in the test that this thread runs.
    static CRASHED: Cell<bool> = const { Cell::new(false) };
    /// Names of the machines that this test started.
    static STARTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Notes that QEMU crashed, which is why the test that is failing fails.
pub(crate) fn blame_emulator() {
    CRASHED.set(true);
}

/// Notes that the running test starts a machine.
pub(crate) fn starts(machine: &str) {
    STARTED.with_borrow_mut(|list| list.push(machine.to_owned()));
}

/// Runs a test with virtual machines; a second time if the emulator, and nothing else, made the first one fail. That is
/// noted, because an emulator that fails often is a reason not to believe what passes, and the first run's logs are kept
/// in `out/vm-logs/first-run`. A processor does not have such faults: under KVM nothing is run again.
///
/// # Panics
/// When the test does.
pub fn retried(test: impl Fn()) {
    retried_on(|| accel().is_ok_and(|accel| accel == Accel::Tcg), account::again, test);
}

fn retried_on(emulated: impl Fn() -> bool, note: impl Fn(&str), test: impl Fn()) {
    CRASHED.set(false);
    STARTED.take();
    let Err(payload) = catch_unwind(AssertUnwindSafe(&test)) else { return };
    let message = payload.downcast_ref::<String>().map_or("", String::as_str);
    if !(CRASHED.get() || message.contains(words::EMULATOR_FAULT)) || !emulated() {
        resume_unwind(payload);
    }
    let why = if CRASHED.get() { "QEMU crashed" } else { words::EMULATOR_FAULT };
    let machines = STARTED.take();
    let kept = machines.iter().filter(|machine| keep_logs(machine)).map(String::as_str).collect::<Vec<_>>().join(", ");
    note(&format!("{why}; machines: {}; logs in out/vm-logs/first-run: {kept}", machines.join(", ")));
    test();
}

/// Moves the logs of a machine to where its next run does not write over them; whether there were any.
fn keep_logs(machine: &str) -> bool {
    let logs = checkout().join("out/vm-logs");
    let kept = logs.join("first-run");
    let prefix = format!("{machine}.");
    let mut moved = false;
    for entry in fs::read_dir(&logs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(&prefix) && fs::create_dir_all(&kept).is_ok() {
            moved |= fs::rename(entry.path(), kept.join(name)).is_ok();
        }
    }
    moved
}

/// A machine that boots the standard image; from the prompt on, where that makes no difference to these words and the disks.
pub fn vm(name: &str, system: &System, cmdline: &str) -> Result<Vm> {
    let vm = Vm::new(name, system, &image::standard(system)?).append(cmdline);
    // What the kernel says shows what it has come to, also while a prompt keeps it off the console; unless the words are about that.
    let own = cmdline
        .split_whitespace()
        .any(|word| ["quiet", "debug", "loglevel=", "taproot.log="].iter().any(|own| word.starts_with(own)));
    Ok(if own { vm } else { vm.append("ignore_loglevel") }.warm())
}

/// Waits for the explanation of a failed boot and the prompt behind it.
/// Returns the explanation, with every line break and run of blanks as one blank (it is wrapped for the terminal).
pub fn explained_failure(vm: &Running, seconds: u64) -> Result<String> {
    let seen = vm.expect_any(&[words::EXPLANATION, words::PROMPT], seconds)?;
    ensure!(seen == 0, "a prompt without an explanation that begins {:?}", words::EXPLANATION);
    let begin = vm.console.cursor();
    vm.expect(words::PROMPT, 10)?;
    let mut text = vm.console.unmixed(begin..vm.console.cursor());
    if text.contains(words::MORE) {
        let begin = vm.console.cursor();
        vm.type_line("why")?;
        while vm.expect_any(&[words::PAGE, words::PROMPT], 10)? == 0 {
            vm.type_line("")?;
        }
        text += &vm.console.unmixed(begin..vm.console.cursor());
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(text)
}

/// Checks that the rescue prompt answers to `help` in our words.
pub fn prompt_helps(vm: &Running) -> Result<()> {
    vm.type_line("help")?;
    // The packed shell has a word of that name itself, which says nothing of this boot.
    let seen = vm.expect_any(&[words::HELP, words::PROMPT], 10)?;
    ensure!(seen == 0, "`help` does not say {:?}:\n{}", words::HELP, vm.console.tail(20));
    vm.expect(words::PROMPT, 10)
}

/// The dataset on `point` now.
pub fn dataset_at(report: &Report, point: &str) -> Option<String> {
    Report::dataset_at(&report.mounts(), point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_emulator_did_is_tried_again() {
        let runs = Cell::new(0);
        let fails_first_on = |emulated: bool, how: fn()| {
            runs.set(0);
            let test = || {
                runs.set(runs.get() + 1);
                if runs.get() == 1 {
                    how();
                }
            };
            (catch_unwind(AssertUnwindSafe(|| retried_on(|| emulated, |_| {}, test))).is_ok(), runs.get())
        };
        let fails_first = |how: fn()| fails_first_on(true, how);
        assert_eq!(fails_first(|| {}), (true, 1));
        assert_eq!(fails_first(|| panic!("{}", "time is up")), (false, 1));
        assert_eq!(fails_first(|| panic!("{} while waiting", words::EMULATOR_FAULT)), (true, 2));
        assert_eq!(
            fails_first(|| {
                blame_emulator();
                panic!("{}", "Broken pipe")
            }),
            (true, 2)
        );
        assert_eq!(fails_first(|| panic!("{}", "Broken pipe")), (false, 1));
        assert_eq!(fails_first_on(false, || panic!("{} while waiting", words::EMULATOR_FAULT)), (false, 1));
    }

    #[test]
    fn the_first_run_keeps_its_logs() {
        let machine = format!("unit-test-{}", std::process::id());
        let log = checkout().join(format!("out/vm-logs/{machine}.console.log"));
        let again = Cell::new(false);
        let noted = RefCell::new(String::new());
        retried_on(
            || true,
            |why| why.clone_into(&mut noted.borrow_mut()),
            || {
                starts(&machine);
                fs::create_dir_all(log.parent().unwrap()).unwrap();
                fs::write(&log, if again.get() { "second" } else { "first" }).unwrap();
                assert!(again.replace(true), "{}", words::EMULATOR_FAULT);
            },
        );
        let kept = checkout().join(format!("out/vm-logs/first-run/{machine}.console.log"));
        assert_eq!([&kept, &log].map(|path| fs::read_to_string(path).unwrap()), ["first", "second"]);
        assert!(noted.into_inner().contains(&format!("first-run: {machine}")));
        for path in [kept, log] {
            fs::remove_file(path).unwrap();
        }
    }
}
