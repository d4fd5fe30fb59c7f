//! What is done when nothing but the hand-over is left, and the record of the boot.

use super::{Boot, start};
use crate::pools;
use crate::report::boot::REPORT_PATH;
use crate::report::log::LOG_PATH;
use std::path::Path;

impl Boot<'_> {
    /// The last step: failed boots are forgotten, what was borrowed is given back, secrets and the scout end, the record is
    /// written.
    pub(super) fn get_ready(&mut self) {
        self.mounting = None;
        self.forget_failures();
        self.keyring.forget();
        self.keyring.wipe_image_files(self.system);
        pools::patient_again(self.system, self.patience.as_deref());
        self.patience = None;
        if let Some(init) = self.facts.attempt.init.clone() {
            self.told_hand_over(&init);
        }
        self.save_report();
        // Killed, and not waited for: it can sit in a read of a disk that does not answer.
        self.scout.stop();
        if !self.facts.hook {
            start::restore_console_level(self.system, self.console_level.as_deref());
        }
        self.facts.attempt.ready = true;
    }

    /// Leaves the record for the booted system, or for the rescue.
    pub(super) fn save_report(&mut self) {
        self.report.phases = self.phases.list();
        self.report.modules = self.scout.modules_done();
        self.report.request = Some(self.request.clone());
        self.report.declared = self.guard.declared();
        self.report.refused = self.guard.refused();
        for (path, text) in [(REPORT_PATH, self.report.to_json()), (LOG_PATH, self.log.text())] {
            if let Err(e) = self.system.write(Path::new(path), text.as_bytes()) {
                self.log.warn(format!("{path}: {e}"));
            }
        }
    }
}
