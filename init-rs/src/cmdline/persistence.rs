//! What is kept on a medium of its own under a root of layers: live-boot's words for its persistence, and `taproot.bind=`.

use super::layers::LayerSettings;
use super::root::spaces;
use super::state::State;
use super::upper::{Upper, UpperFallback};
use super::values::{boolean, directory};
use super::{Decided, Note, Word};
use crate::plan::names;

/// What live-boot looks for, if no word says otherwise.
const LABEL: &str = "persistence";

/// `persistence`: directories of the root, or all of it, lie on other media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persistence {
    /// The word that asks for it.
    pub why: String,
    /// `persistence-zfs=`: the zvol that is the only medium.
    pub zvol: Option<Decided<String>>,
    /// `persistence-label=`: labels of file systems or partitions, or names of files.
    pub labels: Decided<Vec<String>>,
    /// `persistence-storage=`: what can be a medium.
    pub storage: Decided<Storage>,
    /// `persistence-path=`: the directory that files are in; empty for the topmost.
    pub path: Decided<String>,
    /// `persistence-media=`: which disks they are on.
    pub media: Decided<MediaKind>,
    /// `persistence-read-only`: nothing is written to them.
    pub read_only: Option<Decided<bool>>,
    /// Why it cannot be had, whatever there is.
    pub impossible: Option<Decided<String>>,
    /// `taproot.upper_fallback=`: what follows when it cannot be had.
    pub fallback: Decided<UpperFallback>,
}

/// What can be a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// A file system with the label.
    pub filesystem: bool,
    /// A file with a file system in it.
    pub file: bool,
}

/// On which disks media are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// On all.
    Any,
    /// On cards and on what is attached by USB.
    Removable,
    /// On what is attached by USB.
    Usb,
}

/// The words so far.
#[derive(Debug, Clone, Default)]
pub(super) struct PersistenceWords {
    wanted: Option<Decided<bool>>,
    /// `nopersistence`, which is stronger wherever it stands.
    never: bool,
    zvol: Option<Decided<String>>,
    labels: Option<Decided<Vec<String>>>,
    storage: Option<Decided<Storage>>,
    path: Option<Decided<String>>,
    media: Option<Decided<MediaKind>>,
    read_only: Option<Decided<bool>>,
    impossible: Option<Decided<String>>,
    /// The first word that says how, and not whether.
    how: Option<String>,
}

impl State {
    /// A word about persistence; whether it is one.
    pub(super) fn persistence(&mut self, word: &Word, value: Option<&str>) -> bool {
        let why = word.text.as_str();
        let words = &mut self.layers.persistence;
        match (word.key.as_str(), value) {
            ("persistence", v) => match boolean(v) {
                Some(on) => words.wanted = Some(Decided::new(on, why)),
                None => return self.persistence_bad(word),
            },
            ("nopersistence", None) => words.never = true,
            ("persistence-zfs", Some(v)) => {
                let name = spaces(v);
                if names::check(&name).is_err() || !name.contains('/') {
                    let message = format!("`{v}` names no zvol; expected persistence-zfs=POOL/NAME");
                    words.impossible = Some(Decided::new(message, why));
                } else {
                    words.zvol = Some(Decided::new(name, why));
                }
                words.wanted.get_or_insert_with(|| Decided::new(true, why));
            }
            ("persistence-label", Some(v)) => {
                let labels: Vec<String> = v.split(',').filter(|label| is_name(label)).map(str::to_owned).collect();
                if labels.is_empty() {
                    return self.persistence_bad(word);
                }
                words.labels = Some(Decided::new(labels, why));
            }
            ("persistence-storage", Some(v)) => match storage(v) {
                Some(storage) => words.storage = Some(Decided::new(storage, why)),
                None => return self.persistence_bad(word),
            },
            ("persistence-path", Some(v)) => match directory(v) {
                Some(path) => words.path = Some(Decided::new(path, why)),
                None => return self.persistence_bad(word),
            },
            ("persistence-media", Some(v)) => match v {
                "removable" => words.media = Some(Decided::new(MediaKind::Removable, why)),
                "removable-usb" => words.media = Some(Decided::new(MediaKind::Usb, why)),
                _ => return self.persistence_bad(word),
            },
            ("persistence-read-only", v) => match boolean(v) {
                Some(on) => words.read_only = on.then(|| Decided::new(true, why)),
                None => return self.persistence_bad(word),
            },
            ("persistence-encryption", Some(v)) => return self.encryption(word, v),
            ("persistence-method", Some("overlay")) => {}
            ("persistence-method" | "persistence-remove", _) => {
                self.note(word, "nothing here corresponds to it; ignored");
                return true;
            }
            _ => return false,
        }
        match word.key.as_str() {
            "nopersistence" => {}
            "persistence" => drop(self.layers.first.get_or_insert_with(|| why.to_owned())),
            _ => drop(words.how.get_or_insert_with(|| why.to_owned())),
        }
        true
    }

    /// `taproot.bind=`.
    pub(super) fn beside(&mut self, word: &Word, value: &str) {
        let (dirs, bad) = bound(value);
        self.layers.bind = (!dirs.is_empty()).then(|| Decided::new(dirs, word.text.as_str()));
        for message in bad {
            self.note(word, &message);
        }
    }

    fn persistence_bad(&mut self, word: &Word) -> bool {
        self.bad(word);
        true
    }

    /// Media that are encrypted are not opened; one that is not may still be there.
    fn encryption(&mut self, word: &Word, value: &str) -> bool {
        let kinds: Vec<&str> = value.split(',').filter(|kind| !kind.is_empty()).collect();
        if !kinds.iter().all(|kind| matches!(*kind, "none" | "luks")) || kinds.is_empty() {
            return self.persistence_bad(word);
        }
        if kinds.contains(&"luks") {
            let words = &mut self.layers.persistence;
            if kinds.contains(&"none") {
                self.note(word, "taproot-init opens no LUKS: only media that are not encrypted are used");
            } else {
                let message =
                    "taproot-init opens no LUKS; persistence-zfs=POOL/NAME takes a zvol, which can be encrypted";
                words.impossible = Some(Decided::new(message.to_owned(), word.text.as_str()));
            }
        }
        true
    }
}

impl PersistenceWords {
    /// What they ask for, and what is to be said about them. `fallback`: what other words say about an upper that cannot be had.
    pub(super) fn settle(
        self,
        fallback: Option<&Decided<UpperFallback>>,
        notes: &mut Vec<Note>,
    ) -> Option<Persistence> {
        let wanted = self.wanted.filter(|wanted| wanted.value && !self.never);
        let Some(wanted) = wanted else {
            if let Some(word) = self.how.filter(|_| !self.never) {
                let message = "nothing without the word persistence; ignored".to_owned();
                notes.push(Note { word, message });
            }
            return None;
        };
        let default = |what: &str| format!("default ({what})");
        let labels = self.labels.unwrap_or_else(|| Decided::new(vec![LABEL.to_owned()], default(LABEL)));
        let both = Storage { filesystem: true, file: true };
        let ram = || Decided::new(UpperFallback::Ram, default("ram, for words of live systems"));
        Some(Persistence {
            why: wanted.why,
            zvol: self.zvol,
            labels,
            storage: self.storage.unwrap_or_else(|| Decided::new(both, default("filesystem,file"))),
            path: self.path.unwrap_or_else(|| Decided::new(String::new(), default("the topmost directory"))),
            media: self.media.unwrap_or_else(|| Decided::new(MediaKind::Any, default("any"))),
            read_only: self.read_only,
            impossible: self.impossible,
            fallback: fallback.cloned().unwrap_or_else(ram),
        })
    }

    /// Whether persistence is asked for.
    pub(super) fn wanted(&self) -> bool {
        !self.never && self.wanted.as_ref().is_some_and(|wanted| wanted.value)
    }
}

impl LayerSettings {
    /// Whether a zvol is asked for by this name.
    pub fn is_zvol(&self, name: &str) -> bool {
        let kept = self.persistence.as_ref().and_then(|kept| kept.zvol.as_ref());
        let zvol = |upper: &Upper| matches!(upper, Upper::Zvol(zvol) if zvol == name);
        self.uppers().any(zvol) || kept.is_some_and(|zvol| zvol.value == name)
    }
}

/// The directories of `taproot.bind=`, and what is wrong with the others.
fn bound(value: &str) -> (Vec<String>, Vec<String>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for dir in value.split(':').filter(|dir| !dir.is_empty()) {
        match names::check_kept(dir) {
            Ok(dir) if dir == "/" => bad.push("`/` cannot lie beside its own overlay; left out".to_owned()),
            Ok(dir) if good.contains(&dir) => {}
            Ok(dir) => good.push(dir),
            Err(why) => bad.push(format!("`{dir}`: {why}; left out")),
        }
    }
    (good, bad)
}

fn storage(value: &str) -> Option<Storage> {
    let mut storage = Storage { filesystem: false, file: false };
    for kind in value.split(',').filter(|kind| !kind.is_empty()) {
        match kind {
            "filesystem" => storage.filesystem = true,
            "file" => storage.file = true,
            _ => return None,
        }
    }
    (storage.filesystem || storage.file).then_some(storage)
}

/// Whether it can be a label and the name of a file.
fn is_name(label: &str) -> bool {
    !matches!(label, "" | "." | "..") && !label.contains(|c: char| c == '/' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::{Request, parse};

    fn of(words: &str) -> Request {
        parse(format!("root=UUID=1 taproot.layers=a {words}").as_bytes())
    }

    fn kept(words: &str) -> Persistence {
        let request = of(words);
        let layers = request.layers.clone().unwrap();
        layers.persistence.unwrap_or_else(|| panic!("{words}: {:?}", request.notes))
    }

    #[test]
    fn what_live_boot_takes_if_nothing_else_is_said() {
        let all = kept("persistence");
        assert_eq!(all.labels.value, ["persistence"]);
        assert_eq!(all.storage.value, Storage { filesystem: true, file: true });
        assert_eq!((all.media.value, all.path.value.as_str(), all.zvol), (MediaKind::Any, "", None));
        assert_eq!(all.fallback.value, UpperFallback::Ram);
        let layers = of("persistence").layers.unwrap();
        assert_eq!(
            (layers.upper.value, layers.fallback.value),
            (Upper::Ram { size: None, inodes: None }, UpperFallback::Ram)
        );
        assert_eq!(of("persistence taproot.upper=dir").layers.unwrap().fallback.value, UpperFallback::Fail);
        let strict = of("persistence taproot.upper_fallback=fail").layers.unwrap();
        assert_eq!(strict.fallback.value, UpperFallback::Fail);
        assert_eq!(strict.persistence.unwrap().fallback.value, UpperFallback::Fail);
    }

    #[test]
    fn each_word() {
        let all = kept(
            "persistence persistence-label=a,b persistence-storage=file persistence-path=/x//y/ persistence-read-only \
             persistence-media=removable-usb persistence-encryption=none persistence-method=overlay",
        );
        assert_eq!(all.labels.value, ["a", "b"]);
        assert_eq!(all.storage.value, Storage { filesystem: false, file: true });
        assert_eq!((all.media.value, all.path.value.as_str()), (MediaKind::Usb, "x/y"));
        assert!(all.read_only.is_some() && all.impossible.is_none());
        assert_eq!(kept("persistence-zfs=tank/live").zvol.unwrap().value, "tank/live");
        assert!(kept("persistence-zfs=tank").impossible.unwrap().value.contains("POOL/NAME"));
        assert!(kept("persistence persistence-encryption=luks").impossible.unwrap().value.contains("no LUKS"));
        assert!(kept("persistence persistence-encryption=none,luks").impossible.is_none());
        for none in ["", "nopersistence persistence", "persistence nopersistence", "persistence=no"] {
            assert_eq!(of(none).layers.unwrap().persistence, None, "{none}");
        }
        for wrong in
            ["persistence-label=/", "persistence-storage=directory", "persistence-media=x", "persistence-path=.."]
        {
            let request = of(&format!("persistence {wrong}"));
            assert_eq!(request.notes.len(), 1, "{wrong}: {:?}", request.notes);
            assert!(request.layers.unwrap().persistence.is_some(), "{wrong}");
        }
        assert!(of("persistence-label=a").notes[0].message.contains("nothing without the word persistence"));
    }

    #[test]
    fn directories_beside_the_overlay() {
        let request = of("taproot.bind=/var/lib/docker:/var/lib//containers/:/var/lib/docker");
        assert_eq!(request.layers.unwrap().bind.unwrap().value, ["/var/lib/docker", "/var/lib/containers"]);
        for (wrong, says) in [("/", "`/` cannot"), ("x", "absolute"), ("/a/../b", "`..`"), ("/run/x", "/run")] {
            let request = of(&format!("taproot.bind={wrong}:/srv"));
            assert!(request.notes[0].message.contains(says), "{wrong}: {:?}", request.notes);
            assert_eq!(request.layers.unwrap().bind.unwrap().value, ["/srv"]);
        }
    }
}
