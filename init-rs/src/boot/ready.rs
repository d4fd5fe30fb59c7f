//! What is done when nothing but the hand-over is left, and the record of the boot.

use super::root::CHECKED;
use super::{Boot, start};
use crate::after;
use crate::plan::root::Root;
use crate::pools;
use crate::report::boot::{Protected, REPORT_PATH};
use crate::report::log::LOG_PATH;
use crate::shutdown;
use crate::sys::beneath::resolve;
use crate::sys::switch_root::MOVED;
use std::path::Path;

impl Boot<'_> {
    /// The last step: failed boots are forgotten, what was borrowed is given back, secrets and the scout end, the record is
    /// written.
    pub(super) fn get_ready(&mut self) {
        self.mounting = None;
        // What reads the root comes first: if its disk goes now, the failures are still counted.
        self.look_ahead();
        self.look_after_layers();
        self.look_at_places();
        self.forget_failures();
        self.keyring.forget();
        self.keyring.wipe_image_files(self.system);
        pools::patient_again(self.system, self.patience.as_deref());
        self.patience = None;
        if let Some(init) = self.facts.attempt.init.clone() {
            self.told_hand_over(&init);
        }
        self.save_report();
        self.leave_live_log();
        // Killed, and not waited for: it can sit in a read of a disk that does not answer.
        self.scout.stop();
        if !self.facts.hook {
            start::restore_console_level(self.system, self.console_level.as_deref());
        }
        self.facts.attempt.ready = true;
    }

    /// Reads what the hand-over looks up, so that it is in memory: nothing watches the hand-over.
    fn look_at_places(&self) {
        for place in MOVED.iter().filter(|_| !self.facts.hook) {
            let _ = resolve(self.system, &self.new_root, Path::new(place)).and_then(|path| self.system.stat(&path));
        }
    }

    /// Leaves what keeps other environments' datasets unmounted in the booted system, if its root is a dataset.
    fn look_ahead(&mut self) {
        if self.report.choice.is_none() {
            return;
        }
        let _phase = self.phases.start("after");
        // Another tool's init looks for the program itself.
        let found = self.facts.attempt.init.as_deref().or(self.request.init.as_ref().map(|init| init.value.as_str()));
        match after::prepare(self.system, &self.new_root, found.unwrap_or("/sbin/init")) {
            Ok(prepared) => {
                if let Some(left) = prepared.left {
                    self.log.info(left);
                }
                for file in &prepared.files {
                    self.log.debug(format!("{file}: the booted system mounts nothing of other boot environments"));
                }
                self.report.after = prepared.files;
            }
            Err(why) => self.trouble(format!("the booted system may mount datasets of other boot environments: {why}")),
        }
    }

    /// What holds a layered root is given back at its end by us, and a line for `/` in its fstab is about another root.
    fn look_after_layers(&mut self) {
        let Some(Root::Layers(root)) = &self.facts.attempt.root else { return };
        let in_memory = self.facts.attempt.layers.only_memory(&root.upper);
        let init = self.facts.attempt.init.clone().unwrap_or_else(|| "/sbin/init".to_owned());
        let systemd = after::runs_systemd(self.system, &self.new_root, &init);
        self.end_prepared = true;
        let end = shutdown::prepare(self.system)
            .and_then(|()| if systemd { shutdown::mark(self.system) } else { Ok(()) })
            .and_then(|()| if systemd && !in_memory { shutdown::leave_watcher(self.system) } else { Ok(()) });
        if let Err(e) = end {
            self.trouble(format!("what holds the root may not be given back in order when this system ends: {e}"));
        }
        self.look_after_lines(&init);
        match after::without_root_line(self.system, &self.new_root, &init) {
            Ok(mut files) if !files.is_empty() => {
                self.log.info("the root's fstab has a line for /, which is not for layers: systemd is kept from it");
                self.report.after.append(&mut files);
            }
            Ok(_) => {}
            Err(e) => self.trouble(format!("systemd may try to remount / as the root's fstab says, and fail: {e}")),
        }
    }

    /// Takes away what lies in `/run` for a root that was not handed over to: another one may be of another system.
    pub(super) fn clear_run(&mut self) {
        let end = if std::mem::take(&mut self.end_prepared) { shutdown::FILES.as_slice() } else { &[] };
        let checked = if self.facts.attempt.root_checked { [CHECKED].as_slice() } else { &[] };
        let files = self.report.after.iter().map(String::as_str).chain(end.iter().chain(checked).copied());
        for file in files.map(Path::new) {
            let _ = self.system.remove(file);
            // `/run/systemd/system` alone would tell programs that systemd runs. What holds other things stays.
            for directory in file.ancestors().skip(1).take_while(|dir| dir.starts_with("/run/systemd")) {
                if self.system.remove(directory).is_err() {
                    break;
                }
            }
        }
    }

    /// What belongs to a root that is a layer itself is not written to by the booted system either.
    fn look_after_lines(&mut self, init: &str) {
        let itself = matches!(&self.facts.attempt.root, Some(Root::Layers(layers)) if layers.itself);
        if !itself {
            return;
        }
        let mounted: Vec<String> = self
            .report
            .mounts
            .iter()
            .filter(|done| done.error.is_none())
            .map(|done| done.step.target.clone())
            .collect();
        match after::read_only_lines(self.system, &self.new_root, init, &mounted) {
            Ok(lines) => {
                let by = "read-only";
                self.report.protected.extend(lines.read_only.into_iter().map(|directory| Protected { directory, by }));
                self.report.after.extend(lines.files);
                if !lines.writable.is_empty() {
                    let directories = lines.writable.join(", ");
                    self.trouble(format!(
                        "the booted system mounts {directories} itself, as its fstab says, and writes to it"
                    ));
                }
            }
            Err(e) => self.trouble(format!("the booted system may write to what its fstab names: {e}")),
        }
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
