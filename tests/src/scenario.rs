//! What the scenarios share.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use anyhow::{Result, ensure};

use crate::kit::System;
use crate::vm::{Report, Running, Vm};
use crate::{image, words};

/// Makes a test of each function for each kit system: `zfs2_3::name` and `zfs2_1::name`.
#[macro_export]
macro_rules! scenarios {
    ($($(#[$attribute:meta])* fn $name:ident($system:ident) $body:block)*) => {
        $($(#[$attribute])* fn $name($system: &$crate::kit::System) $body)*
        mod zfs2_3 {
            $(#[test] fn $name() { $crate::scenario::run($crate::kit::SYSTEMS[0], super::$name); })*
        }
        mod zfs2_1 {
            $(#[test] fn $name() { $crate::scenario::run($crate::kit::SYSTEMS[1], super::$name); })*
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
}

/// Notes that QEMU crashed, which is why the test that is failing fails.
pub(crate) fn blame_emulator() {
    CRASHED.set(true);
}

/// Runs a test with virtual machines; a second time if the emulator, and nothing else, made the first one fail.
///
/// # Panics
/// When the test does.
pub fn retried(test: impl Fn()) {
    CRASHED.set(false);
    let Err(payload) = catch_unwind(AssertUnwindSafe(&test)) else { return };
    let message = payload.downcast_ref::<String>().map_or("", String::as_str);
    if !CRASHED.get() && !message.contains(words::EMULATOR_FAULT) {
        resume_unwind(payload);
    }
    eprintln!("{}: once more", words::EMULATOR_FAULT);
    test();
}

/// A machine that boots the standard image.
pub fn vm(name: &str, system: &System, cmdline: &str) -> Result<Vm> {
    Ok(Vm::new(name, system, &image::standard(system)?).append(cmdline))
}

/// Waits for the explanation of a failed boot and the prompt behind it.
/// Returns the explanation, with every line break and run of blanks as one blank (it is wrapped for the terminal).
pub fn explained_failure(vm: &Running, seconds: u64) -> Result<String> {
    let seen = vm.expect_any(&[words::EXPLANATION, words::PROMPT], seconds)?;
    ensure!(seen == 0, "a prompt without an explanation that begins {:?}", words::EXPLANATION);
    let begin = vm.console.cursor();
    vm.expect(words::PROMPT, 10)?;
    let text = vm.console.unmixed(begin..vm.console.cursor());
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
        let fails_first = |how: fn()| {
            runs.set(0);
            let test = || {
                runs.set(runs.get() + 1);
                if runs.get() == 1 {
                    how();
                }
            };
            (catch_unwind(AssertUnwindSafe(|| retried(test))).is_ok(), runs.get())
        };
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
    }
}
