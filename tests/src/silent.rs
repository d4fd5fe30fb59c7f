//! Disks that hardly answer: one request, or 1500 bytes, a second. Boots beside them, and what they are held to.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::kit::{self, System};
use crate::scenario;
use crate::vm::{Bus, Disk, Report, Running, Scratch, Vm};

/// A boot beside a disk that says nothing may take so many times as long as without it, and so many seconds more. The promise is 2 s, which
/// `make bench` measures; this is what a busy host can make of two equal boots in a row. Who waits for the disk is a minute late.
const TIMES: f64 = 2.0;
const MORE: f64 = 10.0;
/// Seconds between the line of the hand-over and the init. They are 0.1 to 0.3; whoever waits for a request that is under way takes 4.
const GAP: f64 = 2.0;

/// What most of them boot.
const ROOT: &str = "root=ZFS=pmirror/ROOT/default";
/// How such a disk is throttled.
const THROTTLED: &str = "throttling.iops-total=1,throttling.bps-total=1500";

/// A root on a mirror whose disks answer, where nobody needs those that say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// No pool is named: what is there is taken, whatever may be on the disks that say nothing.
    Auto,
    /// The root is named.
    Named,
    /// A swap area is found by its label. Its disk comes when the silent one is there, whose name stands between the others.
    Label,
    /// The mirror's second disk comes when a stick that hardly answers has been pulled out while the kernel read its partition table.
    Stick,
}

impl Beside {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Named, Self::Label, Self::Stick];

    /// In words, with so many disks that say nothing.
    pub fn what(self, silent: usize) -> String {
        let (what, disk) = match self {
            Self::Auto => ("root=zfs:AUTO", "disks"),
            Self::Named => ("a named root", "disks"),
            Self::Label => ("a device by its label", "disk"),
            Self::Stick => ("a disk that comes late", "stick that is pulled out"),
        };
        if silent == 0 { what.to_owned() } else { format!("{what}, {silent} silent {disk}") }
    }

    /// How many disks say nothing, where there are any. Eight: as many as there ever were readers.
    pub fn silent(self) -> usize {
        match self {
            Self::Auto | Self::Named => 8,
            Self::Label | Self::Stick => 1,
        }
    }

    /// Boots with so many of them (0, or [`Self::silent`]) and with these words besides; the machine, which has ended, and when it handed
    /// over: since its kernel started, or since the disk came that was awaited.
    pub fn boot(self, name: &str, system: &System, silent: usize, words: &str) -> Result<(Running, HandOver)> {
        let scratch = Scratch::new()?;
        let vm =
            |cmdline: &str| Ok::<_, anyhow::Error>(scenario::vm(name, system, &format!("{cmdline} {words}"))?.cold());
        let disks = scratch.overlays(system, &["mirror0", "mirror1"])?;
        match self {
            Self::Auto | Self::Named => {
                let root = if self == Self::Auto { "root=zfs:AUTO" } else { ROOT };
                let machine = vm(&format!("{root} taproot.wait=600"))?.disks(disks);
                booted(self::disks(machine, &scratch, silent)?.start()?, None)
            }
            Self::Label => {
                let pool = disks.into_iter().map(|disk| disk.on(Bus::Nvme));
                let machine = vm(&format!("{ROOT} resume=LABEL=zzz taproot.resume_wait=600"))?.disks(pool);
                let mut running = self::disks(machine, &scratch, silent)?.start()?;
                running.expect(if silent > 0 { "[sda]" } else { "ZFS: Loaded module" }, 60)?;
                let swap = scratch.blank("swap", 64 << 20)?;
                kit::run(Command::new("mkswap").args(["-q", "-L", "zzz"]).arg(&swap.path))?;
                running.plug(&swap)?;
                let done = booted(running, Some("[vda]"))?;
                ensure!(done.0.console.shows("no hibernation image on LABEL=zzz"), "{}", done.0.console.text());
                Ok(done)
            }
            Self::Stick => {
                let machine = vm(&format!("{ROOT} taproot.wait=600 taproot.degraded=no"))?;
                after_a_stick(machine, &scratch, &disks, silent > 0)
            }
        }
    }
}

fn after_a_stick(machine: Vm, scratch: &Scratch, disks: &[Disk], stick: bool) -> Result<(Running, HandOver)> {
    let [first, second] = disks else { anyhow::bail!("two disks expected") };
    let mut machine = machine.disk(first.clone()).extra(&["-device", "qemu-xhci,id=bus"]);
    if stick {
        let file = scratch.blank("gone", 256 << 20)?.path;
        let drive = format!("file={},if=none,id=gone,format=raw,{THROTTLED}", file.display());
        machine = machine.extra(&["-drive", &drive, "-device", "usb-storage,bus=bus.0,drive=gone,id=gone-disk"]);
    }
    let mut running = machine.start()?;
    if stick {
        running.expect("[sda] Write cache", 60)?;
        running.qmp.execute("device_del", &serde_json::json!({ "id": "gone-disk" }))?;
    }
    running.expect("waiting for pool pmirror: missing: /dev/disk/by-id/virtio-mirror1-part1", 60)?;
    running.plug(second)?;
    booted(running, Some("[vdb]"))
}

/// Follows a machine to the end of its boot: from the root on the whole mirror.
fn booted(mut vm: Running, since: Option<&str>) -> Result<(Running, HandOver)> {
    let report = vm.report(60)?;
    vm.wait_exit(60)?;
    let health = report.json.as_ref().and_then(|json| json.pointer("/choice/health")?.as_str());
    ensure!(report.hostname() == "pmirror" && health == Some("online"), "{} {health:?}", report.hostname());
    let when = HandOver::of(&vm, &report)?;
    let when = since.map_or(Ok(when), |what| when.since(&vm, what))?;
    Ok((vm, when))
}

/// When a boot said that it hands over, and when the init began: in seconds of the guest, which began when its kernel did.
#[derive(Debug, Clone, Copy)]
pub struct HandOver {
    /// Up to the line that says so.
    pub told: f64,
    /// Up to the first line of the init.
    pub began: f64,
}

impl HandOver {
    /// Of a machine whose init has made its report.
    pub fn of(vm: &Running, report: &Report) -> Result<Self> {
        let text = said(vm);
        let told = text.lines().find_map(|line| line.split_once("handing over to ")?.1.split(' ').nth(1)?.parse().ok());
        let began: f64 = report.one("USERSPACE").parse().context("when the init began")?;
        Ok(Self { told: told.context("the line of the hand-over")?, began: began / 1e6 })
    }

    /// The same, counted from the kernel's first line that has this text.
    pub fn since(self, vm: &Running, what: &str) -> Result<Self> {
        let text = said(vm);
        let time = text.lines().find_map(|line| stamp(line.split_once(what)?.0));
        let time = time.with_context(|| format!("a line of the kernel with {what:?}"))?;
        Ok(Self { told: self.told - time, began: self.began - time })
    }

    /// Fails if this boot, beside a disk that says nothing, was put off against the same machine `without` it.
    pub fn was_not_put_off(self, without: Self) -> Result<()> {
        let limit = without.told * TIMES + MORE;
        ensure!(
            self.told <= limit,
            "handed over after {:.1} s; expected {limit:.1} s at most, as it takes {:.1} s without the disk",
            self.told,
            without.told
        );
        let gap = self.began - self.told;
        ensure!(gap < GAP, "the init began {gap:.1} s after the line of the hand-over; expected less than {GAP} s");
        Ok(())
    }
}

/// The console, each line in one piece.
fn said(vm: &Running) -> String {
    vm.console.unmixed(0..vm.console.text().len())
}

/// The time before a line of the kernel: `[   12.345678] `.
fn stamp(before: &str) -> Option<f64> {
    before.rsplit_once('[')?.1.split_once(']')?.0.trim().parse().ok()
}

/// Two controllers with this many empty disks that hardly answer. No slot that QEMU would give to a disk is taken: not the last, which it
/// compares with that of any disk that is plugged in.
pub fn disks(vm: Vm, scratch: &Scratch, count: usize) -> Result<Vm> {
    let mut vm =
        vm.cpus(2).extra(&["-device", "ahci,id=quiet,addr=0x1e"]).extra(&["-device", "ahci,id=quiet2,addr=0x1d"]);
    for n in 0..count {
        let file = scratch.path().join(format!("quiet{n}.img"));
        File::create(&file).and_then(|file| file.set_len(256 << 20)).context("a silent disk")?;
        vm = attach(vm, &file, "raw", n, &format!("quiet{n}"));
    }
    Ok(vm)
}

/// Attaches an image to port `n` of the two controllers, throttled.
#[must_use]
pub fn attach(vm: Vm, file: &Path, format: &str, n: usize, serial: &str) -> Vm {
    let (bus, port) = if n < 6 { ("quiet", n) } else { ("quiet2", n - 6) };
    let drive = format!("file={},if=none,id=drive-{serial},format={format},{THROTTLED}", file.display());
    let device = format!("ide-hd,bus={bus}.{port},drive=drive-{serial},serial={serial}");
    vm.extra(&["-drive", &drive, "-device", &device])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_that_waits_for_the_disk_is_told_from_one_on_a_busy_host() {
        let judged = |without: f64, told: f64, gap: f64| {
            let before = HandOver { told: without, began: without + 0.2 };
            HandOver { told, began: told + gap }.was_not_put_off(before).map_err(|e| e.to_string())
        };
        assert_eq!(judged(12.0, 12.3, 0.2), Ok(()));
        assert_eq!(judged(12.0, 30.0, 1.0), Ok(()), "another machine runs beside the second boot");
        assert_eq!(judged(30.0, 12.0, 0.2), Ok(()));
        // Put off by a read that is never answered, on a quiet host and on one that takes three times as long for all else.
        for (without, told) in [(12.0, 99.0), (36.0, 123.0)] {
            assert!(judged(without, told, 0.2).unwrap_err().contains("at most"), "{told}");
        }
        assert!(judged(12.0, 12.3, 4.0).unwrap_err().contains("4.0 s after the line"));
    }

    #[test]
    fn the_time_of_a_line_of_the_kernel() {
        assert_eq!(stamp("\n[   33.104242] virtio_blk virtio3: "), Some(33.104_242));
        assert_eq!(stamp("taproot: [x"), None);
    }
}
