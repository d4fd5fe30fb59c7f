//! Hibernation: an image is resumed, or known not to be there, before any pool is imported.

use super::{Ambiguous, Code, EFIVARFS, Failure, Moment, Named, Next, Settled, Step, Wait, end_of, fail};
use crate::devices::known::{Module, Reading};
use crate::devices::probe::Wanted;
use crate::plan::resume::{Place, Seen, Verdict, first_look, held_up, imported_before, second_look, unreadable};
use std::time::Duration;

use super::facts::{Hibernated, Note};

/// How long drivers may take to come to rest before the kernel is asked to resume.
const REST: Duration = Duration::from_secs(60);
/// How long the module of the firmware's variables may take from when it was asked for: what the firmware would have told must not be
/// missed.
const EFIVARFS_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take until all disks are known, where an image is to be discarded.
const DISCARD_LIMIT: Duration = Duration::from_secs(10);

impl<'a> Moment<'a> {
    /// Settles `resume=`, or the firmware's word for it. Nothing has been imported so far, and nothing may be imported writable
    /// after a failure.
    pub(super) fn resume(self) -> Settled<()> {
        let settled = match self.facts.resume.settled {
            Hibernated::Unknown => false,
            // Other words may have been typed since.
            Hibernated::Left => self.request.import.read_only.value,
            Hibernated::Nobody => true,
        };
        if settled || self.request.resume.disabled.is_some() {
            return Ok(());
        }
        self.note()?;
        let verdict = if self.facts.note == Note::Unreadable {
            Verdict::Stop(unreadable(&self.facts.note_problem))
        } else if self.request.resume.device.is_none() {
            return Ok(());
        } else {
            self.image()?
        };
        match verdict {
            Verdict::Boot(text) | Verdict::Resume(text) => {
                Err(Next::Do(Step::ResumeSettled { text, warn: false, left: false }))
            }
            Verdict::BootAnew(text) => Err(Next::Do(Step::ResumeSettled { text, warn: true, left: false })),
            Verdict::Stop(refusal) if self.request.import.read_only.value => {
                let text = format!("{}; going on, because pools are imported read-only", refusal.problem);
                Err(Next::Do(Step::ResumeSettled { text, warn: true, left: true }))
            }
            Verdict::Stop(refusal) => fail(Failure::refused(Code::Resume, refusal)),
        }
    }

    /// The firmware is asked, unless the command line names the place, or nothing will be written.
    fn note(self) -> Settled<()> {
        let unused = self.request.resume.disabled.is_some() && self.request.import.read_only.value;
        let unread = match self.facts.note {
            Note::Unread => true,
            // Whoever loads modules may have been gone, and be there again.
            Note::NoVariables => {
                let module = self.hardware.module(EFIVARFS);
                let hopeless = matches!(module, Some(Module::Failed(_) | Module::NotPacked));
                !hopeless && module != self.facts.note_module.as_ref()
            }
            Note::Absent | Note::There | Note::Unreadable => false,
        };
        if !unread || self.request.resume.device.is_some() || unused || !self.facts.kernel.efi {
            return Ok(());
        }
        // A kernel may have it built in: reading tells.
        let _ = self.module(EFIVARFS, self.facts.attempt.last_step, EFIVARFS_LIMIT)?;
        Err(Next::Do(Step::ReadNote))
    }

    /// Where an image may be.
    fn image(self) -> Settled<Verdict> {
        let Some(asked) = &self.request.resume.device else { return Ok(Verdict::Boot(String::new())) };
        let noted = self.facts.note == Note::There;
        let place = Place { device: asked.value.clone(), why: asked.why.clone(), noted };
        let look = |seen: &Seen| first_look(&place, seen, self.facts.kernel.resumes);
        if let Some((error, page)) = &self.facts.resume.tried {
            return Ok(second_look(&place, &seen_of(page), error.as_deref()));
        }
        let Some(wanted) = Wanted::parse(&asked.value) else {
            let why = "expected /dev/NAME, UUID=, LABEL=, PARTUUID=, PARTLABEL= or MAJOR:MINOR".to_owned();
            return Ok(look(&Seen::Unusable(why)));
        };
        if matches!(&wanted, Wanted::Node(path) if is_zvol(&path.to_string_lossy())) {
            let why = "a zvol is there only when its pool is imported, which must not happen before".to_owned();
            return Ok(look(&Seen::Unusable(why)));
        }
        let wait = self.request.resume.wait.value;
        let until = end_of(self.facts.attempt.began, wait);
        let device = match self.swap_device(&wanted, self.is_over(until)) {
            Named::There(device) => device,
            Named::Several(ambiguous) => return Ok(look(&Seen::Unusable(ambiguous.to_string()))),
            Named::Awaited { .. } if self.is_over(until) => return Ok(look(&Seen::Missing(wait))),
            Named::Awaited { again } => {
                return Err(Next::Wait(Wait { what: format!("the resume device {}", asked.value), until, again }));
            }
        };
        let (node, offset) = (device.node.clone(), self.image_offset());
        let page = match &self.facts.resume.page {
            Some((of, page)) if *of == asked.value => page,
            _ => return Err(Next::Do(Step::LookForImage { device: asked.value.clone(), node, offset })),
        };
        let verdict = look(&seen_of(page));
        let Verdict::Resume(text) = verdict else { return Ok(verdict) };
        self.rest()?;
        let silent = self.being_read();
        if !silent.is_empty() {
            return Ok(Verdict::Stop(held_up(&place, &silent)));
        }
        // A person can import one while the device is missing.
        let Some(imported) = &self.facts.imported else { return Err(Next::Do(Step::AskImported)) };
        let pools: Vec<String> = imported.iter().map(|pool| pool.name.clone()).collect();
        if !pools.is_empty() {
            return Ok(Verdict::Stop(imported_before(&place, &pools)));
        }
        Err(Next::Do(Step::ResumeImage {
            device: asked.value.clone(),
            node,
            number: device.number,
            offset,
            pages: self.request.resume.offset.as_ref().map(|o| o.value),
            text,
        }))
    }

    /// The kernel freezes every task before it resumes, which fails while a driver is being loaded, or a device is read that does
    /// not answer - and then it has discarded the image already.
    fn rest(self) -> Settled<()> {
        let until = self.facts.attempt.began.saturating_add(REST);
        let starting = self.hardware.modules.values().any(|module| *module == Module::Starting);
        if (starting || !self.hardware.settled || self.hardware.inserting) && self.now < until {
            return Err(Next::Wait(Wait::until("the drivers to come to rest before the image is resumed", until)));
        }
        let silent = self.being_read();
        if !silent.is_empty() && self.now < until {
            let what = format!("an answer of {} before the image is resumed", silent.join(" "));
            return Err(Next::Wait(Wait::until(what, until)));
        }
        Ok(())
    }

    /// Devices whose readers wait for an answer.
    fn being_read(self) -> Vec<&'a str> {
        let waiting = self.hardware.devices.values().filter(|device| device.content == Reading::Waiting);
        waiting.map(|device| device.node.as_str()).collect()
    }

    /// `noresume`, and a pool is about to be written: an image that stayed could be resumed by a later boot, on top of a
    /// pool that has changed. So it is made plain swap space again, and the firmware's word of it is removed.
    pub(super) fn discard_image(self) -> Settled<()> {
        let (Some(word), false) = (&self.request.resume.disabled, self.request.import.read_only.value) else {
            return Ok(());
        };
        if self.facts.resume.discarded {
            return Ok(());
        }
        self.note()?;
        if self.facts.note == Note::NoVariables && self.hardware.unwatched {
            return fail(unseen(word, "the firmware's note"));
        }
        let asked = self.request.resume.device.as_ref();
        let wanted = asked.and_then(|asked| Some((asked, Wanted::parse(&asked.value)?)));
        // Longer than until all disks that are there are known it is not waited for: it may be gone for good.
        let since = self.facts.attempt.last_step.max(self.hardware.since);
        let until = Some(since.saturating_add(DISCARD_LIMIT));
        let over = self.is_over(until);
        let unread = |wanted| self.hardware.may_be(wanted).next().is_some();
        let place = match &wanted {
            None => None,
            Some((asked, wanted)) => match self.swap_device(wanted, over) {
                Named::There(device) => Some((asked.value.clone(), device.node.clone(), self.image_offset())),
                Named::Several(ambiguous) => return fail(kept(word, &ambiguous)),
                Named::Awaited { again } if !over && (!self.hardware.settled || unread(wanted)) => {
                    let what = format!("{}, where {word} discards the hibernation image", asked.value);
                    return Err(Next::Wait(Wait { what, until, again }));
                }
                Named::Awaited { .. } if self.hardware.unwatched => return fail(unseen(word, &asked.value)),
                Named::Awaited { .. } => None,
            },
        };
        Err(Next::Do(Step::DiscardImage { word: word.clone(), place }))
    }

    fn swap_device(self, wanted: &Wanted, over: bool) -> Named<'a> {
        match self.named(wanted, over) {
            Named::There(device) if is_zvol(&device.node) => Named::Awaited { again: None },
            named => named,
        }
    }

    /// Bytes from the beginning of the device to the page with the signature.
    fn image_offset(self) -> u64 {
        let pages = self.request.resume.offset.as_ref().map_or(0, |o| o.value);
        pages.saturating_mul(self.facts.kernel.page as u64)
    }
}

/// `noresume`, and which disk holds the image is not clear.
fn kept(word: &str, ambiguous: &Ambiguous) -> Failure {
    Failure::new(
        Code::KeptImage,
        format!("{word}: it is not clear where a hibernation image is to be discarded: {ambiguous}"),
        "one disk of that name: an image that stayed could be resumed later, over a pool that has changed",
        vec![],
        &["detach the one that is not meant, then retry", "retry taproot.import=ro here to look without writing"],
    )
}

/// `noresume`, and nobody looks for the disk with the image, or for what would say which it is.
fn unseen(word: &str, place: &str) -> Failure {
    Failure::new(
        Code::KeptImage,
        format!("{word}: a hibernation image is to be discarded, and {place} is not seen: nobody looks for devices"),
        "what says that there is none: an image that stayed could be resumed later, over a pool that has changed",
        vec![],
        &["look at the log (log), then retry", "retry taproot.import=ro here to look without writing"],
    )
}

fn seen_of(page: &Result<crate::devices::swap::Header, String>) -> Seen {
    match page {
        Ok(header) => Seen::Page(header.clone()),
        Err(why) => Seen::Unusable(why.clone()),
    }
}

/// `/dev/zvol/...` and the kernel's `/dev/zd16`.
fn is_zvol(node: &str) -> bool {
    let number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    node.starts_with("/dev/zvol") || node.strip_prefix("/dev/zd").is_some_and(number)
}
