//! Steps that bring layers to memory. The medium is read by a process of its own, which can be killed if it does not answer.

use super::Boot;
use super::release::patiently;
use crate::plan::failure::Failure;
use crate::plan::layers::{Copied, Extent, RAM};
use crate::plan::next::{Copying, Release, not_copied};
use crate::scout::copy::{COPIER, COPY, MEASURE, PROGRESS};
use crate::sys::{Ended, Finished, Program};
use std::path::Path;
use std::time::Duration;

/// A medium from which nothing came for so long is not waited for any more: those that spin up have, by then.
const SILENCE: Duration = Duration::from_secs(60);
/// Between two lines that say how far it is.
const TELL_EVERY: Duration = Duration::from_secs(4);
/// Longest error or answer.
const OUTPUT: usize = 4096;
/// Characters of a bar.
const BAR: u64 = 20;
/// A disk that hangs when it is unmounted is told of after so long.
const TICK: Duration = Duration::from_secs(4);

impl Boot<'_> {
    /// Sees how much there is to copy.
    pub(super) fn measure_layers(&mut self, copies: &[Copied]) -> Result<(), Failure> {
        let text = self.copier(MEASURE, copies, None).map_err(|e| not_copied(&e))?;
        let mut numbers = text.split(' ').map(|number| number.trim().parse().ok());
        let (Some(Some(bytes)), Some(Some(files))) = (numbers.next(), numbers.next()) else {
            return Err(not_copied(&format!("expected their sizes, found {text:?}")));
        };
        self.facts.attempt.layers.to_ram = Copying::Measured(Extent { bytes, files });
        Ok(())
    }

    /// Copies them.
    pub(super) fn copy_layers(&mut self, copies: &[Copied], extent: Extent) -> Result<(), Failure> {
        let phase = self.phases.start("to-ram");
        let began = self.system.now();
        let ram = Path::new(RAM);
        let _ = self.system.unmount(ram, true);
        let mounted = self
            .system
            .make_dirs(ram)
            .and_then(|()| self.system.mount("taproot-layers", ram, "tmpfs", 0, &extent.tmpfs()));
        mounted.map_err(|e| not_copied(&format!("{RAM}: {e}")))?;
        let mib = extent.bytes.div_ceil(1 << 20);
        self.log.info(format!("copying {} layers to memory, {mib} MiB", copies.len()));
        if let Err(e) = self.copier(COPY, copies, Some(extent.bytes)) {
            let _ = self.system.unmount(ram, true);
            return Err(not_copied(&e));
        }
        drop(phase);
        // Nobody writes to them by mistake.
        if let Err(e) = self.system.mount("none", ram, "", libc::MS_REMOUNT | libc::MS_RDONLY, "") {
            self.log.debug(format!("{RAM} stays writable: {e}"));
        }
        let took = self.system.now().saturating_sub(began);
        let rate = u128::from(extent.bytes) / took.as_micros().max(1);
        self.log.info(format!(
            "{} layers are in memory and compared: {mib} MiB in {}.{} s ({rate} MB/s)",
            copies.len(),
            took.as_secs(),
            took.subsec_millis() / 100
        ));
        let memory = super::layers::memory(self.system);
        let known = &mut self.facts.attempt.layers;
        known.memory = memory;
        known.copied();
        Ok(())
    }

    /// Runs the process that reads the medium, and says how far it is. `total`: bytes that there are to copy.
    fn copier(&self, what: &str, copies: &[Copied], total: Option<u64>) -> Result<String, String> {
        let (system, log) = (self.system, self.log);
        let pairs = copies.iter().flat_map(|copied| [copied.from.clone(), copied.to.clone()]);
        let program = Program {
            path: system.own_program(),
            name: Some("taproot-init".to_owned()),
            args: [COPIER.to_owned(), what.to_owned()].into_iter().chain(pairs).collect(),
            env: Vec::new(),
        };
        let progress = Path::new(PROGRESS);
        let _ = system.remove(progress);
        let began = system.now();
        let (mut seen, mut changed) = (None, began);
        let mut silent = || {
            let now = system.now();
            let done = system.text(PROGRESS).parse::<u64>().ok();
            if done.is_some() && done != seen {
                (seen, changed) = (done, now);
            }
            if now.saturating_sub(log.last()) >= TELL_EVERY {
                log.info(line(total, seen.unwrap_or_default(), now.saturating_sub(began)));
                if now.saturating_sub(changed) >= TELL_EVERY {
                    let (quiet, left) = (now.saturating_sub(changed), (changed + SILENCE).saturating_sub(now));
                    log.warn(format!(
                        "nothing has come from the medium for {} s; given up in {} s",
                        quiet.as_secs(),
                        left.as_secs()
                    ));
                }
            }
            now.saturating_sub(changed) >= SILENCE
        };
        let result = system.run(&program, None, OUTPUT, &mut silent);
        let _ = system.remove(progress);
        let Finished { ended, output } = result.map_err(|e| format!("{}: {e}", program.path.display()))?;
        let text = String::from_utf8_lossy(&output).trim().to_owned();
        match ended {
            Ended::Exit(0) => Ok(text),
            Ended::Exit(_) if !text.is_empty() => Err(text),
            Ended::Exit(status) => Err(format!("the process that copies ended with status {status}")),
            Ended::Signal(signal) => Err(format!("the process that copies was ended by signal {signal}")),
            Ended::Late | Ended::Stopped => {
                Err(format!("nothing came from the medium for {} s: it does not answer", SILENCE.as_secs()))
            }
        }
    }

    /// There is too little memory, and that is no reason not to boot.
    pub(super) fn leave_layers(&mut self, why: &str) {
        self.trouble(format!(
            "the layers stay where they are, and what they are on must stay, too: too little memory: {why}"
        ));
        self.facts.attempt.layers.to_ram = Copying::Left;
    }

    /// Gives back what the layers lay on.
    pub(super) fn release_layers(&mut self, release: Release) {
        let mut free = true;
        for place in &release.places {
            match self.release_place(place) {
                Ok(()) => {
                    self.report.mounts.retain(|done| done.step.place != *place);
                    self.facts.attempt.layers.released.insert(place.clone());
                }
                Err(e) => {
                    free = false;
                    self.trouble(format!(
                        "the layers are in memory, but what they were on is still in use: {place}: {e}"
                    ));
                }
            }
        }
        for (pool, guid) in release.pools {
            match self.with_pools(|pools| pools.export(&pool)) {
                Ok(()) => self.facts.exported(guid),
                Err(e) => {
                    free = false;
                    self.trouble(format!("the layers are in memory, but pool {pool} stays imported: {e}"));
                }
            }
        }
        match release.kept {
            Some(kept) => self.log.warn(kept),
            None if free => self.log.info("what the layers were on is not needed any more and can be taken away"),
            None => {}
        }
        self.facts.attempt.layers.to_ram = Copying::Released;
    }

    /// One place; nothing there is fine.
    fn release_place(&self, place: &str) -> std::io::Result<()> {
        let (system, log) = (self.system, self.log);
        let mut tell = |took: Duration| log.warn(format!("unmounting {place}: {} s so far", took.as_secs()));
        let mut result = Ok(());
        let unmount = || system.unmount(Path::new(place), false);
        system.watched(TICK, &mut tell, &mut || result = patiently(system, &unmount));
        match result {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Ok(()),
            result => result,
        }
    }
}

/// How far it is.
fn line(total: Option<u64>, done: u64, took: Duration) -> String {
    let Some(total) = total else {
        return format!("looking at the layers: {done} files so far, {} s", took.as_secs());
    };
    let total = total.max(1);
    let done = done.min(total);
    let full = done.saturating_mul(BAR) / total;
    let bar: String = (0..BAR).map(|at| if at < full { '#' } else { '.' }).collect();
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let left = (total - done).saturating_mul(micros / 1000).checked_div(done);
    let left = left.map_or_else(String::new, |left| format!(", {} s left", left / 1000));
    format!(
        "copying layers to memory [{bar}] {} % ({} of {} MiB, {} MB/s{left})",
        done.saturating_mul(100) / total,
        done >> 20,
        total >> 20,
        done / micros
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_is() {
        let at = |done, seconds| line(Some(300 << 20), done, Duration::from_secs(seconds));
        assert_eq!(at(0, 5), "copying layers to memory [....................] 0 % (0 of 300 MiB, 0 MB/s)");
        assert_eq!(
            at(75 << 20, 5),
            "copying layers to memory [#####...............] 25 % (75 of 300 MiB, 15 MB/s, 15 s left)"
        );
        assert!(at(301 << 20, 50).contains("[####################] 100 %"));
        assert!(line(Some(0), 0, Duration::ZERO).contains("0 %"), "nothing to copy");
        assert_eq!(line(None, 12, Duration::from_secs(7)), "looking at the layers: 12 files so far, 7 s");
    }
}
