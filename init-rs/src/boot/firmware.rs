//! Variables of UEFI firmware that a boot reads, and among them systemd's note of where it hibernated to.

use super::Boot;
use crate::cmdline::Decided;
use crate::firmware::{self, EFIVARFS, Variables};
use crate::plan::Refusal;
use crate::plan::{location, resume};
use std::io;
use std::time::{Duration, Instant};

/// How long the module may take to load.
const MODULE_PATIENCE: Duration = Duration::from_secs(5);
/// Where systemd notes it when the command line does not say it (`systemd-hibernate-resume-generator(8)`).
const LOCATION: &str = "HibernateLocation-8cf2644b-4b0b-428f-9387-6d876050dc67";

/// What is known of systemd's note.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Note {
    /// Nothing yet, or it is of no interest.
    #[default]
    Unread,
    /// There is none.
    Absent,
    /// It is there, and is taken for the command line's word.
    There,
    /// It is there and tells nothing; it is read again for another attempt.
    Unreadable,
}

impl Boot<'_> {
    /// Starts to load what the variables need, so that nobody has to wait for it later.
    pub(super) fn prepare_variables(&self) {
        if self.counts() || self.wants_note() {
            let _ = self.hardware.module(EFIVARFS, Duration::ZERO);
        }
    }

    /// The firmware's variables.
    pub(super) fn variables(&self) -> io::Result<Variables<'_>> {
        // A kernel may have it built in: mounting tells.
        let _ = self.hardware.module(EFIVARFS, MODULE_PATIENCE);
        Variables::open(self.system)
    }

    /// Whether the firmware is to be asked: not if the command line names the place, or if nothing will be written.
    fn wants_note(&self) -> bool {
        let (resume, import) = (&self.request.resume, &self.request.import);
        let unused = resume.disabled.is_some() && import.read_only.value;
        matches!(self.note, Note::Unread | Note::Unreadable)
            && resume.device.is_none()
            && !unused
            && firmware::present(self.system)
    }

    /// Takes systemd's note, if there is one, for the `resume=` that the command line lacks. Refuses if there is one that
    /// tells nothing.
    pub(super) fn read_note(&mut self) -> Result<(), Refusal> {
        if !self.wants_note() {
            return Ok(());
        }
        let began = Instant::now();
        let found = match self.variables() {
            Ok(variables) => variables.read(LOCATION),
            Err(e) => {
                // systemd needs them as well.
                self.log.info(format!(
                    "the firmware's variables are not usable ({e}), so none tells of a hibernated system"
                ));
                Ok(None)
            }
        };
        self.log.debug(format!("asked the firmware for {} in {:.1?}", location::NAME, began.elapsed()));
        let place = match found {
            Ok(None) => {
                self.note = Note::Absent;
                return Ok(());
            }
            Ok(Some(data)) => location::parse(&data),
            Err(e) => Err(e.to_string()),
        };
        self.note = Note::Unreadable;
        let place = place.map_err(|why| resume::unreadable(&why))?;
        self.note = Note::There;
        self.log.info(format!("{} says that {} hibernated to {place}", location::NAME, place.system));
        self.request.resume.device = Some(Decided::new(format!("UUID={}", place.uuid), location::NAME));
        self.request.resume.offset = Some(Decided::new(place.offset, location::NAME));
        if let Some(request) = &mut self.report.request {
            request.resume = self.request.resume.clone();
        }
        Ok(())
    }

    /// Whether the place of the image is the firmware's word, not the command line's.
    pub(super) fn noted(&self) -> bool {
        self.note == Note::There
    }

    /// Removes the note: what it tells of is no longer there, or is not wanted.
    pub(super) fn forget_note(&mut self) {
        if !matches!(std::mem::replace(&mut self.note, Note::Absent), Note::There | Note::Unreadable) {
            return;
        }
        match self.variables().and_then(|variables| variables.remove(LOCATION)) {
            Ok(_) => self.log.info(format!("{} is removed", location::NAME)),
            Err(e) => self.log.warn(format!("{} could not be removed: {e}", location::NAME)),
        }
    }
}
