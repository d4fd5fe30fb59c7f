//! Unlocking encryption roots: where a key may come from, in which order, and what happens when it does not come.
//!
//! [`derive`] makes keys of bytes, [`files`] finds and reads key files, [`ask`] asks people, [`agents`] lets plymouth or
//! systemd do that in a hook. `docs/keys.md` tells the order to users.

pub mod agents;
mod ask;
pub mod derive;
mod error;
mod files;
mod keyring;
#[cfg(test)]
mod tests;

pub use agents::Agents;
pub use error::{UnlockError, Why};
pub use files::{MOUNT_POINT as KEY_MOUNTED_AT, kinds, read_beneath, read_on};
pub use keyring::Keyring;

use crate::cmdline::KeySettings;
use crate::devices::known::Ambiguous;
use crate::devices::probe::Wanted;
use crate::report::log::Log;
use crate::report::slow;
use crate::sys::consoles::{Consoles, Secret};
use crate::sys::{System, Terminals};
use crate::zfs::ioctl::{Zfs, ZfsError};
use crate::zfs::keys::{Encryption, KEY_LEN, KeyFormat};
use derive::Key;
use error::Tried;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A derivation that takes longer is told of.
const NOTICE: Duration = Duration::from_secs(1);

/// How hard a key is tried to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// What is at hand: keys known already and files. Nobody is asked.
    Silent,
    /// The key is needed, but is said to be in a file: that is waited for, and nobody is asked.
    Unasked,
    /// People are asked, and may skip it with an empty line.
    Optional,
    /// People are asked; without the key there is no way on.
    Needed,
}

/// Loads keys. What it has learnt is kept in its [`Keyring`], and erased with it.
pub struct Unlocker<'a> {
    system: &'a dyn System,
    log: &'a Log,
    settings: KeySettings,
    keyring: Keyring,
    /// `/` of the image.
    image: PathBuf,
    /// The root that is mounted already, in which key files may lie.
    new_root: Option<PathBuf>,
    load_module: Option<&'a dyn Fn(&str)>,
    find_device: Option<&'a FindDevice<'a>>,
    agents: Option<Agents>,
    apart: Option<&'a dyn Apart>,
    /// Where people are asked.
    terminals: Terminals,
    consoles: Option<Box<dyn Consoles>>,
}

/// A device that a key file lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDevice {
    /// Its node.
    pub node: String,
    /// The file system on it, as mount(8) calls it; `None` if it is none of those known.
    pub kind: Option<String>,
}

/// Finds a device among those that are known, waiting for it at most this long; fails where several are meant.
pub type FindDevice<'a> = dyn Fn(&Wanted, Duration) -> Result<Option<KeyDevice>, Ambiguous> + 'a;

impl std::fmt::Debug for Unlocker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unlocker").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What touches a disk, done where a disk that does not answer holds up nobody else.
pub trait Apart {
    /// A file of the tree at `root`, links followed inside it.
    fn read(&self, root: &Path, path: &str) -> io::Result<Secret>;
    /// A file on a device, which is mounted for the moment.
    fn read_on(&self, device: &KeyDevice, path: &str) -> Result<Secret, String>;
    /// Hands a key to the kernel.
    fn load_key(&self, encryption_root: &str, key: &[u8; KEY_LEN]) -> Result<(), ZfsError>;
}

/// What the kernel, or the key's form, says to an attempt.
enum Attempt {
    Loaded,
    /// Not the key.
    Wrong,
    /// No key at all, and why.
    Bad(derive::BadKey),
}

impl<'a> Unlocker<'a> {
    /// An unlocker that knows nothing yet.
    pub fn new(system: &'a dyn System, log: &'a Log, settings: &KeySettings) -> Self {
        Self {
            system,
            log,
            settings: settings.clone(),
            keyring: Keyring::default(),
            image: PathBuf::from("/"),
            new_root: None,
            load_module: None,
            find_device: None,
            agents: None,
            apart: None,
            terminals: Terminals::All,
            consoles: None,
        }
    }

    /// Goes on with what an earlier one has learnt.
    #[must_use]
    pub fn with_keyring(mut self, keyring: Keyring) -> Self {
        self.keyring = keyring;
        self
    }

    /// Looks for key files that a `keylocation` names in this root too, which is mounted.
    #[must_use]
    pub fn with_root(mut self, root: &Path) -> Self {
        self.new_root = Some(root.to_owned());
        self
    }

    /// Loads the drivers of file systems that key files are on by this.
    #[must_use]
    pub fn with_modules(mut self, load: &'a dyn Fn(&str)) -> Self {
        self.load_module = Some(load);
        self
    }

    /// Finds the devices that key files are on by this; it says what is awaited while it waits.
    #[must_use]
    pub fn with_devices(mut self, find: &'a FindDevice<'a>) -> Self {
        self.find_device = Some(find);
        self
    }

    /// Asks people here instead of on every console.
    #[must_use]
    pub fn with_terminals(mut self, terminals: Terminals) -> Self {
        self.terminals = terminals;
        self
    }

    /// Lets these ask instead of the consoles, where they can.
    #[must_use]
    pub fn with_agents(mut self, agents: Agents) -> Self {
        self.agents = Some(agents);
        self
    }

    /// Has this touch the disks.
    #[must_use]
    pub fn with_apart(mut self, apart: &'a dyn Apart) -> Self {
        self.apart = Some(apart);
        self
    }

    /// What was learnt, for the next one.
    #[must_use]
    pub fn into_keyring(self) -> Keyring {
        self.keyring
    }

    /// Loads the key of the encryption root that a dataset belongs to, with this effort.
    pub fn unlock_with(&mut self, dataset: &str, effort: Effort) -> Result<(), UnlockError> {
        let facts = slow::asked(self.system, self.log, &format!("asking for the key of {dataset}"), || {
            self.zfs().encryption(dataset)
        })?;
        let facts = facts.ok_or_else(|| UnlockError::NotEncrypted { dataset: dataset.to_owned() })?;
        if facts.available {
            return Ok(());
        }
        self.system.guard_memory();
        let mut tried = Tried { quiet: effort == Effort::Silent, ..Tried::default() };
        let no_key =
            |why, tried: Tried| UnlockError::NoKey { encryption: Box::new(facts.clone()), why, tried: tried.lines };
        if facts.format.is_none() {
            return Err(no_key(Why::UnknownFormat, tried));
        }
        if self.try_memory(&facts)? || self.try_files(&facts, effort, &mut tried)? {
            return Ok(());
        }
        match (effort, facts.format) {
            (Effort::Silent, _) => return Err(no_key(Why::NotAsked, tried)),
            (Effort::Unasked, Some(KeyFormat::Raw)) => return Err(no_key(Why::RawNotTyped, tried)),
            (Effort::Unasked, _) => return Err(no_key(Why::InFile, tried)),
            _ => {}
        }
        match self.ask(&facts, effort)? {
            Ok(()) => Ok(()),
            Err(why) => Err(no_key(why, tried)),
        }
    }

    fn zfs(&self) -> Zfs<'a> {
        Zfs::new(self.system)
    }

    /// Passphrases that opened something else, or came from a file.
    fn try_memory(&mut self, facts: &Encryption) -> Result<bool, UnlockError> {
        if facts.format != Some(KeyFormat::Passphrase) {
            return Ok(false);
        }
        // Taken out for the time, so that nothing is copied.
        let known = self.keyring.take_passphrases();
        let mut result = Ok(false);
        for (of, passphrase) in &known {
            result = self.attempt(facts, passphrase).map(|attempt| matches!(attempt, Attempt::Loaded));
            if !matches!(result, Ok(false)) {
                if result.is_ok() {
                    self.log.info(format!("key of {} loaded: it has the passphrase of {of}", facts.root));
                }
                break;
            }
        }
        self.keyring.put_passphrases(known);
        result
    }

    /// Key files: the one that `keylocation` names, then those of the command line.
    fn try_files(&mut self, facts: &Encryption, effort: Effort, tried: &mut Tried) -> Result<bool, UnlockError> {
        if let Some(path) = facts.location.strip_prefix("file://") {
            let place = format!("keylocation={}", facts.location);
            match self.location_file(path) {
                Ok((found, content)) => {
                    let source = format!("{} (keylocation)", found.display());
                    if self.try_content(facts, &source, content, tried)? {
                        return Ok(true);
                    }
                }
                Err(why) => tried.add(self.log, &facts.root, &place, &why),
            }
        } else if facts.location.starts_with("http://") || facts.location.starts_with("https://") {
            let why = "keys are not fetched from the network this early; give a key file by taproot.key=, or type it";
            tried.add(self.log, &facts.root, &format!("keylocation={}", facts.location), why);
        }
        for index in 0..self.settings.files.len() {
            let Some(file) = self.settings.files.get(index).cloned() else { continue };
            match self.command_line_file(&file, effort) {
                Ok(content) => {
                    if self.try_content(facts, &file.why, content, tried)? {
                        return Ok(true);
                    }
                }
                Err(why) => tried.add(self.log, &facts.root, &file.why, &why),
            }
        }
        Ok(false)
    }

    /// Tries what was read from `source`; a passphrase that opens this encryption root may open others.
    fn try_content(
        &mut self,
        facts: &Encryption,
        source: &str,
        content: Secret,
        tried: &mut Tried,
    ) -> Result<bool, UnlockError> {
        let attempt = self.attempt(facts, &content)?;
        match &attempt {
            Attempt::Loaded => self.log.info(format!("key of {} loaded from {source}", facts.root)),
            Attempt::Wrong => {
                let noun = facts.format.map_or("key", KeyFormat::noun);
                tried.add(self.log, &facts.root, source, &format!("its {noun} is not the right one"));
            }
            Attempt::Bad(bad) => tried.add(self.log, &facts.root, source, &bad.to_string()),
        }
        let loaded = matches!(attempt, Attempt::Loaded);
        if loaded && facts.format == Some(KeyFormat::Passphrase) {
            self.keyring.remember(&format!("{} ({source})", facts.root), content);
        }
        Ok(loaded)
    }

    /// Makes the key and hands it to the kernel.
    fn attempt(&self, facts: &Encryption, content: &[u8]) -> Result<Attempt, UnlockError> {
        let key = match self.derive(facts, content) {
            Ok(key) => key,
            Err(bad) => return Ok(Attempt::Bad(bad)),
        };
        let loaded = match self.apart {
            Some(apart) => apart.load_key(&facts.root, key.bytes()),
            None => slow::asked(self.system, self.log, &format!("loading the key of {}", facts.root), || {
                self.zfs().load_key(&facts.root, key.bytes())
            }),
        };
        match loaded {
            Ok(()) => Ok(Attempt::Loaded),
            // Somebody else was faster.
            Err(e) if e.errno == libc::EEXIST => Ok(Attempt::Loaded),
            Err(e) if e.errno == libc::EACCES => Ok(Attempt::Wrong),
            Err(e) => Err(e.into()),
        }
    }

    /// A passphrase takes a fraction of a second, or many of them on slow machines: then a line says so.
    fn derive(&self, facts: &Encryption, content: &[u8]) -> Result<Key, derive::BadKey> {
        if facts.format != Some(KeyFormat::Passphrase) {
            return derive::key(facts, content);
        }
        let (log, consoles) = (self.log, self.consoles.as_deref());
        let mut told = false;
        let mut notice = |_| {
            if std::mem::replace(&mut told, true) {
                return;
            }
            let text = format!("deriving the key of {} ({} rounds)", facts.root, facts.iterations);
            log.info(&text);
            if let Some(consoles) = consoles {
                consoles.print(&format!("taproot: {text}...\n"));
            }
        };
        let mut key = None;
        self.system.watched(NOTICE, &mut notice, &mut || key = Some(derive::key(facts, content)));
        key.unwrap_or_else(|| derive::key(facts, content))
    }
}
