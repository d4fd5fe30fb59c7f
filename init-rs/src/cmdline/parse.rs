//! Words to [`Request`]: the words of other systems here, our own in `own.rs`, the root in `root.rs`.

use std::time::Duration;

use super::known::{self, Known};
use super::root::check_snapshot;
use super::slips::{slip, stray_root};
use super::state::State;
use super::values::{boolean, hostid, is_off, list, module_number, number, seconds, stops};
use super::{Decided, Fsck, HostidPolicy, ModuleOption, Note, OnFailure, Repair, Request, Word, tokenize};

/// What `quiet` sets the console level to (kernel: `CONSOLE_LOGLEVEL_QUIET`).
const LEVEL_QUIET: u8 = 4;
/// What `debug` sets the console level to (kernel: `CONSOLE_LOGLEVEL_DEBUG`).
const LEVEL_DEBUG: u8 = 10;
/// How long an explanation stays where a word asks for a restart and says no time.
pub(super) const RESTART_DELAY: Duration = Duration::from_secs(10);

/// Reads a command line (the bytes of `/proc/cmdline`).
pub fn parse(line: &[u8]) -> Request {
    let mut words = tokenize(line).into_iter();
    let mut state = State::new();
    for word in words.by_ref() {
        if word.ends_parameters() {
            break;
        }
        state.request.words.push(word.text.clone());
        state.take(&word);
    }
    state.request.init_args = words.map(|w| w.text).collect();
    state.finish()
}

impl State {
    fn take(&mut self, word: &Word) {
        let value = word.value.as_deref();
        if let Some(value) = value
            && self.live.take_root(&word.key, value, &word.text)
        {
            return self.roots.forget_root();
        }
        if let Some(value) = value
            && self.roots.take(&word.key, value, &word.text)
        {
            return;
        }
        match word.key.split_once('.') {
            Some(("taproot", name)) => self.own(word, name),
            Some(("zbm", name)) => self.zbm(word, name),
            _ => self.other(word, value),
        }
    }

    /// A word of the kernel, or of another system.
    fn other(&mut self, word: &Word, value: Option<&str>) {
        let why = word.text.as_str();
        match (word.key.as_str(), value) {
            ("ro", None) => self.request.read_only = Some(Decided::new(true, why)),
            ("rw", None) => self.request.read_only = Some(Decided::new(false, why)),
            ("rootflags" | "real_rootflags", Some(v)) => self.request.root_flags = text(v, why),
            ("init", Some("/linuxrc")) => {
                self.note(word, "is a program of the initramfs that it was written for; ignored");
            }
            ("init" | "real_init", Some(v)) if v.starts_with('/') => self.request.init = text(v, why),
            ("init" | "real_init" | "rootflags" | "real_rootflags", _) => self.bad(word),
            ("fsck.mode" | "fsck.repair" | "fastboot" | "forcefsck" | "fsckfix" | "rd.skipfsck", v) => {
                self.fsck(word, v);
            }
            ("quiet", v) if !is_off(v) => self.level.other = Some(Decided::new(LEVEL_QUIET, why)),
            // The kernel takes its own two with any value; so does initramfs-tools with `debug=vc`.
            ("debug", v) if !is_off(v) => self.level.other = Some(Decided::new(LEVEL_DEBUG, why)),
            ("rd.debug" | "zfs_debug" | "zfs.debug" | "zfsdebug", _) => {
                if self.switch(word) == Some(true) {
                    self.level.other = Some(Decided::new(LEVEL_DEBUG, why));
                }
            }
            ("loglevel", Some(v)) => match v.parse() {
                Ok(level) => self.level.other = Some(Decided::new(level, why)),
                Err(_) => self.bad(word),
            },
            ("zfs_wait" | "rootdelay" | "rootwait", _) => self.waiting(word, value),
            ("zfs_force" | "zfs.force" | "zfsforce", _) => match self.switch(word) {
                Some(true) => self.policy.other = Some(Decided::new(HostidPolicy::Force, why)),
                Some(false) => self.policy.other = None,
                None => {}
            },
            ("zfs_import_dir", Some(v)) => self.import_dirs(word, v),
            ("dozfs", v) => self.genkernel(word, v.unwrap_or_default()),
            ("zfs_boot_only" | "zfs_ignorecache", _) => {
                self.switch(word);
            }
            ("spl_hostid", Some(v)) => match hostid(v) {
                Some(id) => self.hostid.other = Some(Decided::new(id, why)),
                None => self.bad(word),
            },
            ("spl.spl_hostid", v) => self.module_hostid(word, v.unwrap_or_default()),
            ("hostid", Some(_)) => self.note(word, "nothing reads hostid=; the word is spl_hostid=; ignored"),
            ("rollback", _) => {
                if let Some(on) = self.switch(word) {
                    self.request.snapshots.rollback = Decided::new(on, why);
                }
            }
            ("bootfs.snapshot" | "bootfs.rollback", _) => self.bootfs_snapshot(word, value),
            ("panic" | "rd.shell" | "rd.emergency", _) => self.failure(word, value),
            ("break" | "rd.break", _) => self.stop(word, value),
            ("modprobe.blacklist" | "module_blacklist", Some(v)) => {
                self.request.module_blacklist.extend(list(v).map(module_name));
            }
            _ if self.hibernation(word, value)
                || self.dracut_overlay(word, value)
                || self.ruckus(word, value)
                || self.root_hash(word, value)
                || self.persistence(word, value)
                || self.live.take(word) => {}
            (key, v) => match slip(key).or_else(|| stray_root(key, v?)) {
                Some(message) => self.note(word, &message),
                None => self.module_option(key, v),
            },
        }
    }

    /// `dozfs=force,cache`; without a value, and with `cache`, nothing is asked for that is not done anyway.
    fn genkernel(&mut self, word: &Word, value: &str) {
        self.roots.scan = !is_off(Some(value));
        for part in list(value) {
            match part {
                "force" => self.policy.other = Some(Decided::new(HostidPolicy::Force, word.text.as_str())),
                "cache" => {}
                _ if boolean(Some(part)).is_some() => {}
                _ => self.bad(word),
            }
        }
    }

    fn waiting(&mut self, word: &Word, value: Option<&str>) {
        let time = match (word.key.as_str(), value) {
            ("rootwait", None) => Some(Duration::MAX),
            // A fixed sleep elsewhere: people raise it for slow disks, nobody means to wait less with it.
            ("rootdelay", Some(v)) => seconds(v).map(|time| time.max(self.request.wait.value)),
            (_, Some(v)) => seconds(v),
            (_, None) => None,
        };
        match time {
            Some(time) => self.wait.other = Some(Decided::new(time, word.text.as_str())),
            None => self.bad(word),
        }
    }

    /// Words about checks; the booted system reads them, too.
    fn fsck(&mut self, word: &Word, value: Option<&str>) {
        let why = word.text.as_str();
        let settings = &mut self.request.fsck;
        let mode = match (word.key.as_str(), value) {
            ("fsck.mode", Some("auto")) => Fsck::Auto,
            ("fsck.mode", Some("force")) | ("forcefsck", None) => Fsck::Force,
            ("fsck.mode", Some("skip")) | ("fastboot" | "rd.skipfsck", None) => Fsck::Skip,
            ("fsck.repair", Some("preen")) => return settings.repair = Decided::new(Repair::Preen, why),
            ("fsck.repair", Some("yes")) | ("fsckfix", None) => {
                return settings.repair = Decided::new(Repair::Yes, why);
            }
            ("fsck.repair", Some("no")) => return settings.repair = Decided::new(Repair::No, why),
            _ => return self.bad(word),
        };
        settings.mode = Decided::new(mode, why);
    }

    /// Directories and devices to look at.
    pub(super) fn import_dirs(&mut self, word: &Word, value: &str) {
        let (good, bad): (Vec<&str>, Vec<&str>) =
            value.split(':').filter(|dir| !dir.is_empty()).partition(|dir| dir.starts_with('/'));
        self.request.import.dirs.extend(good.iter().map(|dir| Decided::new((*dir).to_owned(), word.text.as_str())));
        if good.is_empty() {
            return self.bad(word);
        }
        for dir in bad {
            self.note(word, &format!("`{dir}` is not an absolute path; left out"));
        }
    }

    /// The module reads it with an automatic base, and refuses to load when it cannot.
    fn module_hostid(&mut self, word: &Word, value: &str) {
        let Some(id) = module_number(value) else {
            let hint = hostid(value).map(|id| format!("; spl.spl_hostid=0x{id:08x} would do")).unwrap_or_default();
            let message = format!(
                "expected a number that the module takes (0x for hexadecimal, a leading 0 for octal), else it does not \
                 load{hint}; left out"
            );
            self.request.problems.push(Note { word: word.text.clone(), message });
            return;
        };
        self.module_option(&word.key, Some(value));
        // The module keeps 32 bits, and takes 0 for "not given".
        let id = u32::try_from(id & u64::from(u32::MAX)).unwrap_or(0);
        self.hostid.other = (id != 0).then(|| Decided::new(id, word.text.as_str()));
    }

    fn bootfs_snapshot(&mut self, word: &Word, value: Option<&str>) {
        let name = match value.map(|v| v.strip_prefix('@').unwrap_or(v)) {
            None | Some("") => None,
            Some(v) if is_off(value) => {
                return self.note(word, &format!("taken for `off`, not for a snapshot called {v}; ignored"));
            }
            Some(v) => match check_snapshot(v) {
                Ok(name) => Some(name),
                Err(why) => return self.note(word, &format!("{why}; ignored")),
            },
        };
        let decided = Some(Decided::new(name, word.text.as_str()));
        match word.key.as_str() {
            "bootfs.snapshot" => self.request.snapshots.take = decided,
            _ => self.request.snapshots.rollback_to = decided,
        }
    }

    fn failure(&mut self, word: &Word, value: Option<&str>) {
        let why = word.text.as_str();
        match (word.key.as_str(), value) {
            ("rd.shell", _) => match self.switch(word) {
                Some(true) => self.no_shell = None,
                Some(false) => self.no_shell = Some(Decided::new(OnFailure::Locked, why)),
                None => {}
            },
            ("rd.emergency", Some("reboot")) => {
                self.on_failure.other = Some(Decided::new(OnFailure::Reboot(RESTART_DELAY), why));
            }
            ("rd.emergency", Some("poweroff" | "halt")) => {
                self.on_failure.other = Some(Decided::new(OnFailure::PowerOff(RESTART_DELAY), why));
            }
            ("panic", Some(v)) => {
                // Every value locks: a word that is there to lock a console must not open it.
                let negative = v.strip_prefix('-').and_then(number).map(|_| Duration::ZERO);
                let Some(time) = seconds(v).or(negative) else { return self.bad(word) };
                self.on_failure.other = Some(Decided::new(OnFailure::Reboot(time), why));
            }
            _ => self.bad(word),
        }
    }

    /// `break=`, `rd.break=`, `taproot.break=`.
    pub(super) fn stop(&mut self, word: &Word, value: Option<&str>) {
        let Some(stops) = stops(&word.key) else { return };
        let decide = |stage| Decided::new(stage, word.text.as_str());
        match boolean(value) {
            Some(true) => self.stops.push(decide(stops.bare)),
            Some(false) => {}
            None => {
                for name in list(value.unwrap_or_default()) {
                    if let Some(stage) = stops.stage(name) {
                        self.stops.push(decide(stage));
                        continue;
                    }
                    let known: Vec<_> = stops.names.iter().map(|(known, _)| *known).collect();
                    self.note(word, &format!("no stage is called {name}; known: {}; left out", known.join(", ")));
                }
            }
        }
    }

    /// Words about a hibernated system; whether it was one.
    fn hibernation(&mut self, word: &Word, value: Option<&str>) -> bool {
        let why = word.text.as_str();
        match (word.key.as_str(), value) {
            ("resume", Some(v)) => {
                // Kept whatever it looks like: where it is wrong, that is to be found out before anything is written.
                self.request.resume.device = text(v, why).filter(|_| v != "none" && !is_off(value));
                if is_stacked(v) {
                    self.note(
                        word,
                        "taproot-init opens neither LUKS nor LVM nor md: unless another initramfs has done so, the boot stops at it",
                    );
                } else if v.starts_with("/dev/zvol/") {
                    self.note(word, "a zvol is there only when its pool is imported: the boot stops at it");
                } else if self.request.resume.device.is_some() && !is_device(v) {
                    self.note(
                        word,
                        "expected /dev/..., UUID=, LABEL=, PARTUUID=, PARTLABEL= or MAJOR:MINOR; the boot stops at it",
                    );
                }
            }
            ("resume_offset", Some(v)) => match number(v) {
                Some(n) => self.request.resume.offset = Some(Decided::new(n, why)),
                None => self.bad(word),
            },
            ("noresume", v) if !is_off(v) => self.request.resume.disabled = Some(why.to_owned()),
            ("hibernate", Some("noresume" | "no")) => self.request.resume.disabled = Some(why.to_owned()),
            ("resumewait", None) => self.resume_wait.other = Some(Decided::new(Duration::MAX, why)),
            ("resumedelay", Some(v)) => match seconds(v) {
                Some(time) => {
                    self.resume_wait.other = Some(Decided::new(time.max(self.request.resume.wait.value), why));
                }
                None => self.bad(word),
            },
            _ => return false,
        }
        true
    }

    /// ZFSBootMenu reads these on its own command line; here they mean that somebody copied it.
    fn zbm(&mut self, word: &Word, name: &str) {
        let equivalent = match name {
            "import_policy" => "taproot.hostid=known|strict|force",
            "force_import" => "taproot.hostid=force",
            "timeout" | "show" | "skip" => "taproot.menu=SECONDS|yes|no",
            "prefer" => "zfs=POOL",
            "wait_for" | "import_delay" | "retry_delay" => "taproot.wait=SECONDS",
            "set_hostid" => "spl_hostid=HEX",
            _ => {
                return self
                    .note(word, "is for ZFSBootMenu's own command line; nothing here corresponds to it; ignored");
            }
        };
        self.note(word, &format!("is for ZFSBootMenu's own command line; ignored; here it would be {equivalent}"));
    }

    fn module_option(&mut self, key: &str, value: Option<&str>) {
        if let Some((module, param)) = key.split_once('.')
            && !module.is_empty()
            && !param.is_empty()
            && module != "rd"
        {
            let value = value.map(str::to_owned);
            let option = ModuleOption { module: module_name(module), param: param.to_owned(), value };
            self.request.module_options.push(option);
        }
    }

    /// The value of a switch; a note if it is none.
    pub(super) fn switch(&mut self, word: &Word) -> Option<bool> {
        let on = boolean(word.value.as_deref());
        if on.is_none() {
            self.note(word, "expected yes or no (also 1, on, true; 0, off, false); ignored");
        }
        on
    }

    /// Says what the word should have looked like.
    pub(super) fn bad(&mut self, word: &Word) {
        self.note(word, &expected(word));
    }

    pub(super) fn note(&mut self, word: &Word, message: &str) {
        self.request.notes.push(Note { word: word.text.clone(), message: message.to_owned() });
    }
}

/// What the word should have looked like.
pub(super) fn expected(word: &Word) -> String {
    match known::find(&word.key.replace('-', "_")) {
        Some(Known { word, form, .. }) => format!("expected {word}{form}; ignored"),
        None => "not understood; ignored".to_owned(),
    }
}

fn text(value: &str, why: &str) -> Option<Decided<String>> {
    (!value.is_empty()).then(|| Decided::new(value.to_owned(), why))
}

fn is_device(value: &str) -> bool {
    let named = value
        .split_once('=')
        .is_some_and(|(kind, id)| matches!(kind, "UUID" | "LABEL" | "PARTUUID" | "PARTLABEL") && !id.is_empty());
    let numbers =
        value.split_once(':').is_some_and(|(major, minor)| number(major).is_some() && number(minor).is_some());
    named || numbers || value.starts_with("/dev/")
}

/// Whether a path below /dev is the name of a device that lies on others: `mapper/x`, `GROUP/VOLUME`, `dm-0`, `md0`.
fn is_stacked(value: &str) -> bool {
    // Directories of real disks; of zvols more is to be said.
    let plain = ["disk", "cciss", "ida", "rd", "zvol"];
    let Some(name) = value.strip_prefix("/dev/") else { return false };
    let number =
        |prefix| name.strip_prefix(prefix).is_some_and(|rest: &str| rest.starts_with(|c: char| c.is_ascii_digit()));
    name.split_once('/').is_some_and(|(dir, _)| !plain.contains(&dir)) || number("dm-") || number("md")
}

fn module_name(name: &str) -> String {
    name.replace('-', "_")
}
