//! Hibernation: an image is resumed, or known not to be there, before any pool is imported.

use super::Boot;
use super::failure::Failure;
use crate::devices::probe::{Prober, Wanted};
use crate::devices::swap::{self, Header};
use crate::plan::location::NAME;
use crate::plan::resume::{self as plan, Seen, Verdict, first_look, second_look};
use crate::zfs::ioctl::Zfs;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RESUME: &str = "/sys/power/resume";
const RESUME_OFFSET: &str = "/sys/power/resume_offset";
/// Longest sleep while waiting for the device: events may be missed.
const POLL: Duration = Duration::from_secs(1);
/// How long drivers may take to come to rest before the kernel is asked to resume.
const REST: Duration = Duration::from_secs(60);
/// Length of a signature at the end of the first page.
const SIGNATURE: u64 = 10;

/// Where an image may be.
struct Place {
    node: PathBuf,
    /// Number of the device, major and minor.
    number: (u64, u64),
    /// Bytes from the beginning of the device to the page with the signature.
    offset: u64,
}

impl Boot<'_> {
    /// Settles `resume=`, or the firmware's word for it: comes back when there is nothing (any more) to resume. Nothing has
    /// been imported so far, and nothing may be imported writable after a failure. Asked again after the rescue, it only
    /// answers.
    pub(super) fn settle_resume(&mut self) -> Result<(), Failure> {
        if self.resume_settled || self.request.resume.disabled.is_some() {
            return Ok(());
        }
        let verdict = match self.read_note() {
            Err(refusal) => Verdict::Stop(refusal),
            Ok(()) => match &self.request.resume.device {
                None => return Ok(()),
                Some(asked) => self.try_resume(&asked.value, &asked.why),
            },
        };
        match verdict {
            Verdict::Boot(text) | Verdict::Resume(text) => {
                self.log.info(text);
                self.forget_note();
            }
            Verdict::BootAnew(text) => {
                self.log.warn(&text);
                self.report.problems.push(text);
                self.forget_note();
            }
            Verdict::Stop(refusal) if self.request.import.read_only.value => {
                self.log.warn(format!("{}; going on, because pools are imported read-only", refusal.problem));
                self.report.problems.push(refusal.problem);
            }
            Verdict::Stop(refusal) => return Err(Failure::Resume(Box::new(refusal))),
        }
        self.resume_settled = true;
        Ok(())
    }

    /// Looks for an image, and has the kernel resume it; comes back if it does not.
    fn try_resume(&self, device: &str, word: &str) -> Verdict {
        let _phase = self.phases.start("resume");
        let named = plan::Place { device: device.to_owned(), why: word.to_owned(), noted: self.noted() };
        let (place, seen) = self.look_for_image(device);
        let verdict = first_look(&named, &seen, Path::new(RESUME).exists());
        let (Verdict::Resume(text), Some(place)) = (&verdict, place) else { return verdict };
        // A person can import one while the device is missing.
        let pools: Vec<String> =
            Zfs::new(self.system).imported_pools().unwrap_or_default().into_iter().map(|(name, _)| name).collect();
        if !pools.is_empty() {
            return Verdict::Stop(plan::imported_before(&named, &pools));
        }
        self.log.info(text);
        self.rest();
        let error = resume(&place, self.request.resume.offset.as_ref().map(|o| o.value)).err();
        // Still here: the kernel did not resume.
        let error = error.map(|e| e.to_string());
        let seen =
            self.read(&place).map_or_else(|e| Seen::Unusable(e.to_string()), |page| Seen::Page(Header::read(&page)));
        second_look(&named, &seen, error.as_deref())
    }

    /// `noresume`, and a pool is about to be written: an image that stayed could be resumed by a later boot, on top of a
    /// pool that has changed. So it is made plain swap space again, and the firmware's word of it is removed.
    pub(super) fn discard_image(&mut self) -> Result<(), Failure> {
        let (Some(word), false) = (self.request.resume.disabled.clone(), self.request.import.read_only.value) else {
            return Ok(());
        };
        if self.read_note().is_err() {
            self.log.warn(format!("{word}: {NAME} cannot be understood; an image would stay where it is"));
        }
        if let Some(asked) = &self.request.resume.device {
            self.discard(&asked.value, &word)?;
        }
        self.forget_note();
        Ok(())
    }

    fn discard(&self, device: &str, word: &str) -> Result<(), Failure> {
        let Some(place) = Wanted::parse(device).and_then(|wanted| self.place(&mut prober(), &wanted)) else {
            self.log.info(format!("{word}: {device} is not there to be looked at"));
            return Ok(());
        };
        let page = self.read(&place).unwrap_or_default();
        if Header::read(&page).image.is_none() {
            return Ok(());
        }
        let write = || -> io::Result<()> {
            let file = File::options().write(true).open(&place.node)?;
            let at = place.offset + page.len() as u64 - SIGNATURE;
            file.write_all_at(&swap::signature_without_image(&page), at)?;
            file.sync_all()
        };
        write().map_err(|source| Failure::KeptImage { device: device.to_owned(), source })?;
        self.log.warn(format!(
            "{word}: the hibernation image on {device} is discarded, because a pool is about to be written"
        ));
        Ok(())
    }

    /// Waits for the device and reads its header.
    fn look_for_image(&self, asked: &str) -> (Option<Place>, Seen) {
        let Some(wanted) = Wanted::parse(asked) else {
            let why = "expected /dev/NAME, UUID=, LABEL=, PARTUUID=, PARTLABEL= or MAJOR:MINOR".to_owned();
            return (None, Seen::Unusable(why));
        };
        if matches!(&wanted, Wanted::Node(path) if is_zvol(path)) {
            let why = "a zvol is there only when its pool is imported, which must not happen before".to_owned();
            return (None, Seen::Unusable(why));
        }
        let mut prober = prober();
        let wait = self.request.resume.wait.value;
        let start = Instant::now();
        let mut told = false;
        loop {
            if let Some(place) = self.place(&mut prober, &wanted) {
                let page = self.read(&place);
                let seen = page.map_or_else(|e| Seen::Unusable(e.to_string()), |page| Seen::Page(Header::read(&page)));
                return (Some(place), seen);
            }
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return (None, Seen::Missing(wait));
            }
            if !told && start.elapsed() >= POLL {
                told = true;
                self.log.warn(format!("waiting for the resume device {asked} ({} s left)", left.as_secs()));
            }
            self.hardware.wait_change(left.min(POLL));
        }
    }

    fn place(&self, prober: &mut Prober, wanted: &Wanted) -> Option<Place> {
        let mut read = |path: &Path, offset: u64, buf: &mut [u8]| crate::sys::device::read_at(path, offset, buf);
        let node = prober.find(wanted, &mut read)?.node;
        if is_zvol(&node) {
            return None;
        }
        let device = fs::metadata(&node).ok().filter(|m| m.file_type().is_block_device())?.rdev();
        let number = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let pages = self.request.resume.offset.as_ref().map_or(0, |o| o.value);
        Some(Place { node, number, offset: pages.saturating_mul(page_size() as u64) })
    }

    fn read(&self, place: &Place) -> io::Result<Vec<u8>> {
        let mut page = vec![0; page_size()];
        crate::sys::device::read_at(&place.node, place.offset, &mut page)?;
        Ok(page)
    }

    /// The kernel freezes every task before it resumes, which fails while a driver is being loaded - and then it has
    /// discarded the image already.
    fn rest(&self) {
        let start = Instant::now();
        let _ = self.hardware.module("zfs", REST);
        while !self.hardware.settled() && start.elapsed() < REST {
            self.hardware.wait_change(Duration::from_millis(50));
        }
    }
}

/// Asks the kernel to resume. Comes back only if it does not.
fn resume(place: &Place, offset: Option<u64>) -> io::Result<()> {
    if let Some(offset) = offset {
        fs::write(RESUME_OFFSET, offset.to_string())?;
    }
    let (major, minor) = place.number;
    fs::write(RESUME, format!("{major}:{minor}"))
}

fn prober() -> Prober {
    Prober::new(Path::new("/sys"), Path::new("/dev"))
}

/// `/dev/zvol/...` and the kernel's `/dev/zd16`.
fn is_zvol(path: &Path) -> bool {
    let number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    path.starts_with("/dev/zvol") || path.to_str().and_then(|p| p.strip_prefix("/dev/zd")).is_some_and(number)
}

fn page_size() -> usize {
    usize::try_from(procfs::page_size()).unwrap_or(4096)
}
