//! Words that begin with `taproot.`.

use std::time::Duration;

use super::defaults::DEGRADED;
use super::parse::{RESTART_DELAY, expected};
use super::root::{self, spaces};
use super::state::State;
use super::values::{boolean, hostid, is_off, key_file, list, number, seconds, seconds_or_forever};
use super::{Also, Automatic, Decided, Fallback, HostidPolicy, KeyFile, OnFailure, Which, Word};
use super::{integrity, known, layers};
use crate::plan::names;

impl State {
    /// Takes `taproot.NAME`; `-` is as good as `_`, as in the kernel's own parameters.
    pub(super) fn own(&mut self, word: &Word, name: &str) {
        let value = word.value.as_deref();
        let why = word.text.as_str();
        let name = name.replace('-', "_");
        let understood = match (name.as_str(), value) {
            ("wait", Some(v)) => set(&mut self.wait.own, seconds_or_forever(v), why),
            ("resume_wait", Some(v)) => set(&mut self.resume_wait.own, seconds_or_forever(v), why),
            ("degraded", Some(v)) => put(&mut self.request.degraded, degraded(v).ok(), why),
            ("degraded_wait", Some(v)) => put(&mut self.request.degraded, seconds(v).map(Some), why),
            ("hostid", Some(v)) => self.own_hostid(v, why),
            ("import", Some(v)) => put(&mut self.request.import.read_only, read_only(v), why),
            ("import_dir", Some(v)) => {
                self.import_dirs(word, v);
                true
            }
            ("missing_log", v) => put(&mut self.request.import.missing_log, boolean(v), why),
            ("skip_pools", Some(v)) => {
                let pools = self.names(word, v);
                self.request.import.skip.extend(pools);
                true
            }
            ("also_pools", Some(v)) => {
                let pools = self.names(word, v);
                self.request.import.also.extend(pools.into_iter().map(|pool| Decided::new(pool, why)));
                true
            }
            ("auto", Some(v)) => put(&mut self.request.import.automatic, automatic(v), why),
            ("fallback", Some(v)) => {
                for root in list(v) {
                    match Fallback::parse(root) {
                        Ok(root) => self.request.fallback.push(Decided::new(root, why)),
                        Err(problem) => self.note(word, &format!("{problem}; left out")),
                    }
                }
                true
            }
            ("log", Some(v)) => set(&mut self.level.own, level(v), why),
            ("key" | "key_wait" | "key_prompt" | "key_tries" | "key_timeout", _) => self.own_key(&name, value, why),
            ("mounts", Some(v)) => self.own_mounts(word, v),
            ("also", Some(v)) => {
                for part in list(v) {
                    match also(part) {
                        Ok(also) => self.request.mounts.also.push(also),
                        Err(problem) => self.note(word, &format!("{problem}; left out")),
                    }
                }
                true
            }
            ("fstab", v) => put(&mut self.request.mounts.fstab, boolean(v), why),
            ("destroy_newer", v) => put(&mut self.request.snapshots.destroy_newer, boolean(v), why),
            ("clone", Some(v)) => {
                let name = spaces(v);
                let good = name.contains('/') && names::check(&name).is_ok();
                set(&mut self.request.snapshots.clone, good.then_some(name), why)
            }
            (name, v) if integrity::OWN.contains(&name) => self.own_integrity(word, name, v),
            (name, v) if layers::OWN.contains(&name) => self.own_layers(word, name, v),
            ("rescue", v) => self.own_rescue(v, why),
            ("attempts", Some(v)) => put(&mut self.request.rescue.attempts, small(v), why),
            ("break", v) => {
                self.stop(word, v);
                true
            }
            ("menu", v) => self.own_menu(v, why),
            _ => return self.unknown(word, &name),
        };
        if !understood {
            self.bad(word);
        }
    }

    fn unknown(&mut self, word: &Word, name: &str) {
        let key = format!("taproot.{name}");
        // A word that is known comes here when its value is missing.
        if known::find(&key).is_some() {
            return self.bad(word);
        }
        let message = match known::nearest(&key.to_ascii_lowercase()) {
            Some(near) => format!("unknown, ignored; did you mean {near}?"),
            None => "unknown, ignored; docs/boot-parameters.md has them all".to_owned(),
        };
        self.note(word, &message);
    }

    fn own_hostid(&mut self, value: &str, why: &str) -> bool {
        let policy = match value {
            "strict" => HostidPolicy::Strict,
            "known" => HostidPolicy::Known,
            "force" => HostidPolicy::Force,
            number => return set(&mut self.hostid.own, hostid(number), why),
        };
        set(&mut self.policy.own, Some(policy), why)
    }

    fn own_key(&mut self, name: &str, value: Option<&str>, why: &str) -> bool {
        let keys = &mut self.request.keys;
        match (name, value) {
            ("key", Some(v)) => {
                let Some((device, path)) = key_file(v) else { return false };
                let device = device.map(str::to_owned);
                keys.files.push(KeyFile { device, path: path.to_owned(), why: why.to_owned() });
                true
            }
            ("key_wait", Some(v)) => put(&mut keys.file_wait, seconds_or_forever(v), why),
            ("key_tries", Some(v)) => put(&mut keys.tries, small(v), why),
            ("key_timeout", Some(v)) => {
                let time = if is_off(value) { Some(None) } else { seconds(v).map(Some) };
                put(&mut keys.timeout, time, why)
            }
            ("key_prompt", v) => set(&mut self.prompt, boolean(v), why),
            _ => false,
        }
    }

    fn own_mounts(&mut self, word: &Word, value: &str) -> bool {
        let which = match value {
            "all" => Which::All,
            "children" => Which::Children,
            "system" => Which::System,
            "none" => Which::None,
            _ if boolean(Some(value)) == Some(true) => Which::All,
            _ if is_off(Some(value)) => Which::None,
            _ => {
                let before = self.request.notes.len();
                if let Some(meant) = list(value).find_map(mounts_meant) {
                    let message = format!("{}; did you mean taproot.mounts={meant}?", expected(word));
                    self.note(word, &message);
                    return true;
                }
                let names = self.names(word, value);
                if names.is_empty() {
                    // Mounting nothing at all has its own word. What was wrong with each name is noted already.
                    return self.request.notes.len() > before;
                }
                Which::List(names)
            }
        };
        put(&mut self.request.mounts.which, Some(which), &word.text)
    }

    fn own_rescue(&mut self, value: Option<&str>, why: &str) -> bool {
        let on_failure = match value.map(|v| v.split_once(':').unwrap_or((v, ""))) {
            Some(("menu", "")) => OnFailure::Menu,
            Some(("shell", "")) => OnFailure::Shell,
            Some(("locked", "")) => OnFailure::Locked,
            Some((kind @ ("reboot" | "poweroff"), time)) => {
                let delay = if time.is_empty() { Some(RESTART_DELAY) } else { seconds(time) };
                match (kind, delay) {
                    (_, None) => return false,
                    ("reboot", Some(delay)) => OnFailure::Reboot(delay),
                    (_, Some(delay)) => OnFailure::PowerOff(delay),
                }
            }
            _ => {
                let Some(now) = boolean(value.filter(|v| *v != "now")) else { return false };
                self.rescue_now = now.then(|| why.to_owned());
                return true;
            }
        };
        set(&mut self.on_failure.own, Some(on_failure), why)
    }

    fn own_menu(&mut self, value: Option<&str>, why: &str) -> bool {
        // A number is a time, also 1; no time at all is no menu.
        let time = value.and_then(seconds).filter(|time| !time.is_zero());
        let menu = match (time, boolean(value)) {
            (Some(time), _) => Some(Some(time)),
            (None, Some(true)) => Some(None),
            (None, Some(false)) => None,
            // 00
            (None, None) if value.and_then(seconds).is_some() => None,
            (None, None) => return false,
        };
        self.request.rescue.menu = menu.map(|time| Decided::new(time, why));
        true
    }

    /// A list of pools or datasets; what cannot be a name is noted and left out.
    fn names(&mut self, word: &Word, value: &str) -> Vec<String> {
        let mut good = Vec::new();
        for name in list(value).map(spaces) {
            match root::name(&name) {
                Ok(()) => good.push(name),
                Err(problem) => self.note(word, &format!("{problem}; left out")),
            }
        }
        good
    }
}

/// `DATASET[=/PATH]`; no name holds a `=`.
fn also(text: &str) -> Result<Also, String> {
    let (dataset, target) = text.split_once('=').map_or((text, None), |(dataset, target)| (dataset, Some(target)));
    let dataset = spaces(dataset);
    root::name(&dataset)?;
    let good =
        |target: &&str| target.starts_with('/') && target.len() > 1 && target.split('/').all(|part| part != "..");
    match target.filter(|target| !good(target)) {
        Some(bad) => Err(format!("`{bad}` is not where a dataset can be mounted; expected {dataset}=/path")),
        None => Ok(Also { dataset, target: target.map(str::to_owned) }),
    }
}

/// Sets what has a default; whether the value was understood.
fn put<T>(place: &mut Decided<T>, value: Option<T>, why: &str) -> bool {
    value.map(|value| *place = Decided::new(value, why)).is_some()
}

/// Sets what has none; whether the value was understood.
fn set<T>(place: &mut Option<Decided<T>>, value: Option<T>, why: &str) -> bool {
    value.map(|value| *place = Some(Decided::new(value, why))).is_some()
}

/// Numbers are seconds, but 0 is `no`, because a switch that says 0 must be off.
fn degraded(value: &str) -> Result<Option<Duration>, ()> {
    match value {
        "now" => Ok(Some(Duration::ZERO)),
        _ if is_off(Some(value)) => Ok(None),
        _ => match seconds(value) {
            Some(time) => Ok(Some(time)),
            None => boolean(Some(value)).map(|_| Some(Duration::from_secs(DEGRADED))).ok_or(()),
        },
    }
}

/// The setting of `taproot.mounts=` that was probably meant. It stands alone, and hardly any pool is called so.
fn mounts_meant(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let near = |setting: &&str| {
        let begins = name.len() > 2 && (setting.starts_with(&name) || name.starts_with(setting));
        begins || known::distance(setting, &name) <= 1
    };
    match name.as_str() {
        "root" | "only" | "nothing" => Some("none"),
        _ => ["all", "children", "system", "none"].into_iter().find(near),
    }
}

fn read_only(value: &str) -> Option<bool> {
    match value {
        "ro" => Some(true),
        "rw" => Some(false),
        _ => None,
    }
}

fn automatic(value: &str) -> Option<Automatic> {
    match value {
        "any" => Some(Automatic::Any),
        "expected" => Some(Automatic::Expected),
        _ => None,
    }
}

/// The console level that shows this message and what matters more.
fn level(value: &str) -> Option<u8> {
    Some(match value {
        "error" => 4,
        "warn" => 5,
        "info" => 7,
        "debug" => 8,
        _ => return None,
    })
}

fn small(value: &str) -> Option<u32> {
    number(value).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}
