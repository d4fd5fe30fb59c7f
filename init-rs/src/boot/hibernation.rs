//! Steps about a hibernated system, and the firmware's note of it.

use super::Boot;
use crate::cmdline::Decided;
use crate::devices::swap::Header;
use crate::firmware::{EFIVARFS, Variables};
use crate::plan::failure::{Code, Failure};
use crate::plan::location::{self, NAME};
use crate::plan::next::facts::Note;
use std::io;
use std::path::Path;
use std::time::Duration;

const RESUME: &str = "/sys/power/resume";
const RESUME_OFFSET: &str = "/sys/power/resume_offset";
/// How long a disk may take for one page.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where systemd notes it when the command line does not say it (`systemd-hibernate-resume-generator(8)`).
const LOCATION: &str = "HibernateLocation-8cf2644b-4b0b-428f-9387-6d876050dc67";

impl Boot<'_> {
    /// Takes systemd's note, if there is one, for the `resume=` that the command line lacks.
    pub(super) fn read_note(&mut self) {
        let began = self.system.now();
        let found = match Variables::open(self.system) {
            Ok(variables) => variables.read(LOCATION),
            Err(e) => {
                // systemd needs them as well: what hibernated here has left none.
                self.log.info(format!(
                    "the firmware's variables are not usable ({e}), so none tells of a hibernated system"
                ));
                self.facts.note_module = self.scout.hardware.module(EFIVARFS).cloned();
                return self.facts.note = Note::NoVariables;
            }
        };
        self.log.debug(format!("asked the firmware for {NAME} in {:.1?}", self.system.now().saturating_sub(began)));
        let place = match found {
            Ok(None) => return self.facts.note = Note::Absent,
            Ok(Some(data)) => location::parse(&data),
            Err(e) => Err(e.to_string()),
        };
        match place {
            Err(why) => {
                self.facts.note = Note::Unreadable;
                self.facts.note_problem = why;
            }
            Ok(place) => {
                self.facts.note = Note::There;
                // The time to wait for its device begins here: whoever loads the variables' driver may have come late.
                self.facts.attempt.began = self.system.now();
                self.log.info(format!("{NAME} says that {} hibernated to {place}", place.system));
                self.request.resume.device = Some(Decided::new(format!("UUID={}", place.uuid), NAME));
                self.request.resume.offset = Some(Decided::new(place.offset, NAME));
                if let Some(request) = &mut self.report.request {
                    request.resume = self.request.resume.clone();
                }
            }
        }
    }

    /// Removes the note: what it tells of is no longer there, or is not wanted.
    pub(super) fn forget_note(&mut self) {
        if !matches!(self.facts.note, Note::There | Note::Unreadable) {
            return;
        }
        self.facts.note = Note::Absent;
        match Variables::open(self.system).and_then(|variables| variables.remove(LOCATION)) {
            Ok(_) => self.log.info(format!("{NAME} is removed")),
            Err(e) => self.log.warn(format!("{NAME} could not be removed: {e}")),
        }
    }

    pub(super) fn look_for_image(&mut self, device: String, node: &str, offset: u64) {
        let page = self.image_page(node, offset);
        self.facts.resume.page = Some((device, page));
    }

    fn image_page(&mut self, node: &str, offset: u64) -> Result<Header, String> {
        let page = self.scout.peek(node, offset, self.facts.kernel.page, PATIENCE);
        page.map(|page: Vec<u8>| Header::read(&page)).map_err(|e| e.to_string())
    }

    /// Asks the kernel to resume. Comes back only if it does not.
    pub(super) fn resume_image(
        &mut self,
        device: &str,
        node: &str,
        number: (u32, u32),
        offset: u64,
        pages: Option<u64>,
    ) {
        let phase = self.phases.start("resume");
        let resume = || -> io::Result<()> {
            if let Some(pages) = pages {
                self.system.write(Path::new(RESUME_OFFSET), pages.to_string().as_bytes())?;
            }
            let (major, minor) = number;
            self.system.write(Path::new(RESUME), format!("{major}:{minor}").as_bytes())
        };
        let error = resume().err().map(|e| e.to_string());
        drop(phase);
        // Still here: the kernel did not resume.
        self.log.warn(format!("the kernel came back without resuming from {device}"));
        let page = self.image_page(node, offset);
        self.facts.resume.tried = Some((error, page));
    }

    pub(super) fn resume_settled(&mut self, text: &str, warn: bool, left: bool) {
        if warn {
            self.trouble(text.to_owned());
        } else {
            self.log.info(text);
        }
        // An image that stays where it is keeps the note of it.
        if !left {
            self.forget_note();
        }
        self.facts.resume_settled(left, self.system.now());
    }

    /// `noresume`, and a pool is about to be written.
    pub(super) fn discard_image(&mut self, word: &str, place: Option<(String, String, u64)>) -> Result<(), Failure> {
        if self.facts.note == Note::Unreadable {
            self.log.warn(format!("{word}: {NAME} cannot be understood; an image would stay where it is"));
        }
        match (place, &self.request.resume.device) {
            (Some((device, node, offset)), _) => {
                let page = self.facts.kernel.page;
                let was = self.scout.discard_image(&node, offset, page, PATIENCE);
                if was.map_err(|e| kept(&device, &e))? {
                    self.log.warn(format!(
                        "{word}: the hibernation image on {device} is discarded, because a pool is about to be written"
                    ));
                }
            }
            (None, Some(asked)) => self.log.info(format!("{word}: {} is not there to be looked at", asked.value)),
            (None, None) => {}
        }
        self.forget_note();
        self.facts.resume.discarded = true;
        Ok(())
    }
}

/// `noresume`, but the image cannot be discarded.
fn kept(device: &str, error: &io::Error) -> Failure {
    Failure::new(
        Code::KeptImage,
        format!("the hibernation image on {device} could not be discarded: {error}"),
        "a device that can be written: an image that stayed could be resumed later, over a pool that has changed",
        vec![],
        &["look at the log (log)", "retry taproot.import=ro here to look at the pool without writing to it"],
    )
}
