//! Machines that do not start from the beginning: the first one of its kind is stopped at the prompt before anything is
//! looked for, with the zfs module loaded, and its state kept; the others go on from there. Disks are plugged in then, and the
//! words that a boot loader would pass are typed: `cmdline WORDS`, the prompt's own word for another try with other words.
//!
//! Without KVM a kernel takes most of a scenario's time up to that point. What a scenario is about must not lie before
//! it: drivers, buses, consoles, firmware and options of modules need a machine from the beginning ([`Vm::cold`]).

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::disk::{Bus, Disk, Scratch};
use super::machine::Vm;
use super::running::Running;
use crate::{checkout, kit, words};

/// The words of the machine whose state is kept. The last but one is for the kit's Debian, which asks the kernel for it; the last
/// shows what the kernel says while the prompt keeps that off the console.
const WORDS: &str = "root=zfs:AUTO taproot.break=start taproot-test.report ignore_loglevel";
/// What the kernel says when the zfs module is through with its start.
const LOADED: &str = "ZFS: Loaded module";
/// Seconds (of KVM) up to the prompt.
const LIMIT: u64 = 60;
/// Words that are settled before the prompt: when the kernel or its modules start, by the kernel's own command line, or because
/// they forbid every prompt; or that the booted system asks the kernel for.
const EARLY: [&str; 16] = [
    "systemd.",
    "spl_hostid=",
    "spl.",
    "zfs.",
    "taproot.hostid=0x",
    "console=",
    "quiet",
    "debug",
    "loglevel=",
    "taproot.log=",
    "panic=",
    "taproot.rescue=",
    "rd.emergency=",
    "nohibernate",
    "noresume",
    "resume=",
];

/// Whether these words and disks are right for a machine that starts warm.
pub(super) fn fits(words: &str, disks: &[Disk]) -> bool {
    disks.iter().all(|disk| disk.bus == Bus::Virtio)
        && !words.split_whitespace().any(|word| word == "--" || EARLY.iter().any(|early| word.starts_with(early)))
}

/// Whether the boot binary's prompt takes other words.
pub(super) fn is_possible() -> bool {
    let table = checkout().join("init-rs/src/rescue/words.rs");
    fs::read_to_string(table).is_ok_and(|text| text.contains("(\"cmdline\", "))
}

/// A machine's state, and what its console had shown by then.
#[derive(Debug)]
struct Kept {
    state: PathBuf,
    console: PathBuf,
}

impl Vm {
    /// Goes on from the kept state of such a machine: at the prompt, with the disks plugged in and the words typed.
    pub(super) fn start_warm(self) -> Result<Running> {
        let line = self.words();
        let vm = self.start_at_prompt()?;
        vm.type_line(&format!("cmdline {line}"))?;
        // A boot loader's words are meant as they are.
        while vm.expect_any(&[words::CONFIRM, words::TAKEN], LIMIT)? == 0 {
            vm.type_line("yes")?;
        }
        Ok(vm)
    }

    /// Goes on from the kept state of such a machine, at the prompt before anything is looked for, with no word typed.
    pub fn start_at_prompt(self) -> Result<Running> {
        // All go on from the same state.
        let one = self.cpus(1);
        let kept = one.kept()?;
        let (bare, disks) = one.stripped(WORDS);
        let mut vm = bare.launch(&["-incoming", &format!("file:{}", kept.state.display())])?;
        vm.await_status(&["paused", "running"])?;
        let shown = fs::read_to_string(&kept.console).with_context(|| format!("reading {}", kept.console.display()))?;
        vm.console.was_shown(&shown);
        for disk in &disks {
            vm.plug(disk)?;
        }
        vm.qmp.execute("cont", &json!({}))?;
        let found = |vm: &Running| vm.console.text().matches(words::DISK).count() - shown.matches(words::DISK).count();
        vm.await_console(|vm| found(vm) == disks.len(), "that the kernel finds the disks")?;
        Ok(vm)
    }

    /// The state of a machine like this one, made if it is not there.
    fn kept(&self) -> Result<Kept> {
        let dir = kit::cache_of_tests("states")?;
        let key = self.key(WORDS)?;
        let kept = Kept { state: dir.join(format!("{key}.state")), console: dir.join(format!("{key}.console")) };
        // Tests run as separate processes; the first one makes it, the others wait.
        let lock = File::create(dir.join(format!("{key}.lock"))).context("the lock of a kept state")?;
        lock.lock().context("the lock of a kept state")?;
        // What is used stays: both, as one is worth nothing without the other.
        let used = |path: &PathBuf| File::options().append(true).open(path)?.set_modified(SystemTime::now());
        if used(&kept.state).and_then(|()| used(&kept.console)).is_err() {
            self.keep(&kept).context("making the state that machines of this kind start from")?;
        }
        Ok(kept)
    }

    fn keep(&self, kept: &Kept) -> Result<()> {
        let (bare, _) = self.stripped(WORDS);
        // A disk brings in the driver, and goes again.
        let scratch = Scratch::new()?;
        let disk = scratch.blank("warm", 1 << 20)?;
        let mut vm = bare.cold().disk(disk.clone()).start()?;
        vm.expect(words::PROMPT, LIMIT)?;
        vm.await_console(
            |vm| [LOADED, words::DISK].iter().all(|what| vm.console.shows(what)),
            "zfs and the driver of the disk",
        )?;
        vm.unplug(&disk)?;
        // Who still had the disk open would keep its name from the disk that is plugged in when the machine goes on.
        vm.await_idle()?;
        vm.freeze(kept)
    }
}

impl Running {
    /// Stops the machine and writes its state and what its console showed.
    fn freeze(&mut self, kept: &Kept) -> Result<()> {
        self.qmp.execute("stop", &json!({}))?;
        let new = kept.state.with_extension("new");
        self.qmp.execute("migrate", &json!({ "uri": format!("file:{}", new.display()) }))?;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.qmp.execute("query-migrate", &json!({}))?;
            match answer.get("status").and_then(|status| status.as_str()) {
                Some("completed") => break,
                Some("failed" | "cancelled") => bail!("QEMU could not write its state: {answer}"),
                _ => ensure!(Instant::now() < deadline, "QEMU still writes its state: {answer}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        fs::write(&kept.console, self.console.text()).with_context(|| format!("writing {}", kept.console.display()))?;
        fs::rename(&new, &kept.state).with_context(|| format!("renaming {}", new.display()))
    }

    /// Waits until the machine has done next to nothing for a while: emulated, a processor that works takes all of one.
    fn await_idle(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(LIMIT);
        let mut before = self.ticks()?;
        let mut quiet = 0;
        while quiet < 3 {
            std::thread::sleep(Duration::from_millis(250));
            let now = self.ticks()?;
            quiet = if now - before <= 5 { quiet + 1 } else { 0 };
            before = now;
            ensure!(Instant::now() < deadline, "the machine at the prompt is never idle");
        }
        Ok(())
    }

    /// Processor time that QEMU has used, in hundredths of a second (`proc_pid_stat(5)`, fields 14 and 15).
    fn ticks(&self) -> Result<u64> {
        let path = format!("/proc/{}/stat", self.guard.child.id());
        let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let times = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        times.map(|time| time.parse::<u64>().with_context(|| format!("{time:?} in {path}"))).sum()
    }

    /// Waits until QEMU is in one of these states.
    fn await_status(&mut self, wanted: &[&str]) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.status()?;
            if wanted.contains(&status.as_str()) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "QEMU is {status}, expected one of {wanted:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_lies_before_the_prompt_needs_a_cold_start() {
        for words in ["root=zfs:AUTO quiet", "a spl_hostid=1", "root=x -- handed over", "console=tty0", "panic=1"] {
            assert!(!fits(words, &[]), "{words}");
        }
        assert!(fits("root=ZFS=tank/ROOT/be1 taproot.wait=2 ro", &[]));
        let disk = Disk::writable(Path::new("x"), "raw", "x").on(Bus::Usb);
        assert!(!fits("", std::slice::from_ref(&disk)) && fits("", &[disk.on(Bus::Virtio)]));
    }
}
