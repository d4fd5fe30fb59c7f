//! Words to [`Request`].

use std::time::Duration;

use super::{
    Decided, HostidPolicy, ImportSettings, KeySettings, ModuleOption, MountSettings, Note, OnFailure, Request,
    RescueSettings, ResumeSettings, Selector, SnapshotSettings, Which, Word, tokenize,
};
use crate::plan::names;

/// Default of `taproot.wait`, seconds.
const WAIT: u64 = 30;
/// Default of `taproot.degraded_wait`, seconds.
const DEGRADED_WAIT: u64 = 10;
/// Default of `taproot.key_wait`, seconds.
const KEY_WAIT: u64 = 10;
/// Default of `taproot.key_tries`.
const KEY_TRIES: u32 = 3;
/// Default of `taproot.resume_wait`, seconds.
const RESUME_WAIT: u64 = 10;
/// Default of `taproot.attempts`.
const ATTEMPTS: u32 = 3;
/// Why a switch is off that no word turned on.
const DEFAULT: &str = "default (no)";
/// What `quiet` sets the console level to (kernel: `CONSOLE_LOGLEVEL_QUIET`).
const LEVEL_QUIET: u8 = 4;
/// What `debug` sets the console level to (kernel: `CONSOLE_LOGLEVEL_DEBUG`).
const LEVEL_DEBUG: u8 = 10;
/// What a usable root word looks like, for messages.
const ROOT_FORMS: &str = "root=ZFS=pool/dataset, zfs=pool/dataset, or root=zfs:AUTO";

/// Reads a command line (the bytes of `/proc/cmdline`).
pub fn parse(line: &[u8]) -> Request {
    let mut words = tokenize(line).into_iter();
    let mut state = State { request: empty(), root: None, zfs: None };
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

fn empty() -> Request {
    Request {
        words: Vec::new(),
        root: Decided::new(Selector::Auto, "default: no root= or zfs= word"),
        ours: true,
        snapshot: None,
        snapshots: SnapshotSettings {
            rollback: Decided::new(false, DEFAULT),
            rollback_to: None,
            destroy_newer: Decided::new(false, DEFAULT),
            take: None,
            clone: None,
        },
        fallback: Vec::new(),
        read_only: None,
        root_flags: None,
        init: None,
        console_level: None,
        module_options: Vec::new(),
        module_blacklist: Vec::new(),
        wait: seconds(WAIT),
        degraded: Decided::new(Some(Duration::from_secs(DEGRADED_WAIT)), format!("default ({DEGRADED_WAIT} s)")),
        import: ImportSettings {
            hostid_policy: Decided::new(HostidPolicy::Known, "default (known)"),
            hostid: None,
            read_only: Decided::new(false, "default (rw)"),
            dirs: Vec::new(),
            missing_log: Decided::new(false, DEFAULT),
            skip: Vec::new(),
        },
        keys: KeySettings {
            files: Vec::new(),
            file_wait: seconds(KEY_WAIT),
            prompt: Decided::new(true, "default (yes)"),
            tries: Decided::new(KEY_TRIES, format!("default ({KEY_TRIES})")),
            timeout: Decided::new(None, "default (for ever)"),
        },
        mounts: MountSettings {
            which: Decided::new(Which::All, "default (all)"),
            also: Vec::new(),
            fstab: Decided::new(true, "default (yes)"),
        },
        resume: ResumeSettings { device: None, offset: None, disabled: None, wait: seconds(RESUME_WAIT) },
        rescue: RescueSettings {
            on_failure: Decided::new(OnFailure::Menu, "default (menu)"),
            attempts: Decided::new(ATTEMPTS, format!("default ({ATTEMPTS})")),
            stops: Vec::new(),
            menu: None,
        },
        init_args: Vec::new(),
        problems: Vec::new(),
        notes: Vec::new(),
    }
}

fn seconds(default: u64) -> Decided<Duration> {
    Decided::new(Duration::from_secs(default), format!("default ({default} s)"))
}

/// `root=` and `zfs=` are kept apart until the end: `zfs=` wins wherever it stands.
struct State {
    request: Request,
    root: Option<Decided<Selector>>,
    zfs: Option<Decided<Selector>>,
}

impl State {
    fn take(&mut self, word: &Word) {
        let value = word.value.as_deref();
        let why = word.text.as_str();
        match (word.key.as_str(), value) {
            ("root", Some(v)) => self.root = Some(Decided::new(root_selector(v), why)),
            ("zfs", Some(v)) => {
                if let Some(selector) = zfs_selector(v) {
                    self.zfs = Some(Decided::new(selector, why));
                }
            }
            ("ro", None) => self.request.read_only = Some(Decided::new(true, why)),
            ("rw", None) => self.request.read_only = Some(Decided::new(false, why)),
            ("init", Some(v)) if v.starts_with('/') => self.request.init = Some(Decided::new(v.to_owned(), why)),
            ("init", _) => self.note(word, "expected init=/absolute/path; ignored"),
            ("quiet", None) => self.request.console_level = Some(Decided::new(LEVEL_QUIET, why)),
            ("debug", None) => self.request.console_level = Some(Decided::new(LEVEL_DEBUG, why)),
            ("loglevel", Some(v)) => match v.parse() {
                Ok(level) => self.request.console_level = Some(Decided::new(level, why)),
                Err(_) => self.note(word, "expected a number from 0 to 10; ignored"),
            },
            ("panic", Some(v)) => match v.parse::<i64>() {
                Ok(n) => {
                    let delay = Duration::from_secs(u64::try_from(n).unwrap_or(0));
                    self.request.rescue.on_failure = Decided::new(OnFailure::Reboot(delay), why);
                }
                Err(_) => self.note(word, "expected a number of seconds; ignored"),
            },
            ("modprobe.blacklist" | "module_blacklist", Some(v)) => {
                let names = v.split(',').filter(|m| !m.is_empty()).map(module_name);
                self.request.module_blacklist.extend(names);
            }
            (key, _) => match key.split_once('.') {
                Some(("taproot", name)) => self.own(word, name),
                Some((module, param)) if !module.is_empty() && !param.is_empty() => {
                    self.request.module_options.push(ModuleOption {
                        module: module_name(module),
                        param: param.to_owned(),
                        value: word.value.clone(),
                    });
                }
                _ => {}
            },
        }
    }

    /// A `taproot.` word.
    fn own(&mut self, word: &Word, name: &str) {
        let why = word.text.as_str();
        match (name, word.value.as_deref().map(str::parse).and_then(Result::ok).map(Duration::from_secs)) {
            ("wait", Some(time)) => self.request.wait = Decided::new(time, why),
            ("degraded_wait", Some(time)) => self.request.degraded = Decided::new(Some(time), why),
            ("wait" | "degraded_wait", None) => self.note(word, "expected a whole number of seconds; ignored"),
            _ => {
                self.note(word, "no such taproot parameter; known are taproot.wait and taproot.degraded_wait; ignored");
            }
        }
    }

    fn note(&mut self, word: &Word, message: &str) {
        self.request.notes.push(Note { word: word.text.clone(), message: message.to_owned() });
    }

    fn finish(self) -> Request {
        let mut request = self.request;
        if let (Some(root), Some(zfs)) = (&self.root, &self.zfs)
            && root.value != zfs.value
        {
            let message = format!("{} wins over root=", zfs.why);
            request.notes.push(Note { word: root.why.clone(), message });
        }
        if let Some(decided) = self.zfs.or(self.root) {
            request.root = decided;
        }
        if let Selector::Unusable(message) = &request.root.value {
            request.problems.push(Note { word: request.root.why.clone(), message: message.clone() });
        }
        request
    }
}

fn module_name(name: &str) -> String {
    name.replace('-', "_")
}

/// The value of `root=`.
fn root_selector(value: &str) -> Selector {
    match value {
        "zfs" | "zfs:" | "zfs:AUTO" | "ZFS=AUTO" => return Selector::Auto,
        _ => {}
    }
    let name = match value.strip_prefix("zfs:") {
        Some(rest) => rest.strip_prefix("ZFS=").unwrap_or(rest),
        None => match value.strip_prefix("ZFS=") {
            Some(rest) => rest,
            None => return Selector::Unusable(format!("root={value} names no ZFS dataset; expected {ROOT_FORMS}")),
        },
    };
    dataset_selector(name)
}

/// The value of `zfs=`; `None` for the words that only switch services of the booted system (`zfs=off`).
fn zfs_selector(value: &str) -> Option<Selector> {
    Some(match value {
        "off" | "no" | "0" => return None,
        "auto" | "bootfs" => Selector::Auto,
        pool if !pool.contains('/') && names::check(pool).is_ok() => Selector::Pool(pool.to_owned()),
        name => dataset_selector(name),
    })
}

fn dataset_selector(name: &str) -> Selector {
    match names::check(name) {
        Ok(()) => {
            let pool = names::pool_of(name).to_owned();
            Selector::Dataset { pool, dataset: name.to_owned() }
        }
        Err(why) => Selector::Unusable(format!("`{name}` is not a dataset name: {why}; expected {ROOT_FORMS}")),
    }
}
