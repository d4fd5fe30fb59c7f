//! The stream as it is changed: most entries go by as they are, some are left out, a few are kept until the end.

use super::desk::{Data, Desk, LARGEST, Made};
use super::identity::Part;
use super::report::Report;
use super::rules::{Places, Rules};
use super::seen::{Fate, clean, fate_of, wrong};
use super::{Content, Edits, accounts, identity, settings, texts};
use crate::tar::{Entries, Entry, Kind, TarError};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read as _;

/// What is kept until the end, wherever it is wanted there.
const HELD: &[&str] = &[
    "etc/passwd",
    "etc/shadow",
    "etc/group",
    "etc/gshadow",
    "etc/subuid",
    "etc/subgid",
    "etc/machine-id",
    "etc/hostname",
    "etc/hosts",
    "etc/hostid",
    "etc/fstab",
    "etc/crypttab",
    "etc/mdadm/mdadm.conf",
    "etc/mdadm.conf",
    "etc/localtime",
    "etc/timezone",
    "etc/locale.gen",
    "etc/locale.conf",
    "etc/default/locale",
    "etc/default/keyboard",
    "etc/vconsole.conf",
    "etc/default/grub",
    "etc/default/grub.d/*",
    "etc/kernel/cmdline",
    "etc/environment",
    "etc/apt/apt.conf",
    "etc/apt/apt.conf.d/*",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/*",
    "etc/pacman.conf",
    "etc/pacman.d/mirrorlist",
    "var/lib/dpkg/diversions",
    "root/.ssh/authorized_keys",
    "home/*/.ssh/authorized_keys",
];
/// What new accounts begin with, at any depth that matters.
const SKELETON: &[&str] = &["etc/skel/*", "etc/skel/*/*", "etc/skel/*/*/*"];

/// Where the content of the current entry comes from.
#[derive(Debug)]
enum Serving {
    Stream,
    Bytes(Vec<u8>, usize),
    File(File, String),
}

/// A changed stream.
#[derive(Debug)]
pub struct Edited<E> {
    input: E,
    edits: Edits,
    rules: Rules,
    /// What is kept until the end.
    held: Places,
    desk: Desk,
    serving: Serving,
    /// What is left of the end, once it was reached.
    ending: Option<VecDeque<Made>>,
}

impl<E: Entries> Edited<E> {
    /// Begins.
    pub fn new(input: E, edits: Edits) -> Self {
        let rules = Rules::of(&edits);
        let skeleton = if edits.users.is_empty() { &[] } else { SKELETON };
        let held = Places::of(&[HELD, skeleton].concat());
        let desk = Desk::at(edits.time);
        Self { input, edits, rules, held, desk, serving: Serving::Stream, ending: None }
    }

    /// What was done, once the end was reached; and the stream that it was done to.
    pub fn finish(self) -> (Report, E) {
        (self.desk.report, self.input)
    }

    /// Takes an entry in: gives it back if it goes by.
    fn take(&mut self, mut entry: Entry) -> Result<Option<Entry>, TarError> {
        entry.path = clean(&entry.path)?;
        let part = identity::rename(&mut self.desk, &mut entry)?;
        if part == Part::StandIn {
            return Ok(None);
        }
        let fate = fate_of(entry.kind);
        let (directory, link) = (fate == Fate::Directory, fate == Fate::Link);
        if entry.kind == Kind::HardLink {
            entry.target = clean(&entry.target)?;
        }
        let path = entry.path.as_slice();
        if let Some((place, why)) = self.rules.leaves_out(path, directory, link) {
            self.desk.report.removed(place, why);
            self.desk.seen.note(path, Fate::Out)?;
            return Ok(None);
        }
        let replaced = |added: &super::Added| added.content != Content::Directory && added.path == path;
        if !directory && self.edits.add.iter().any(replaced) {
            self.desk.seen.note(path, Fate::Out)?;
            return Ok(None);
        }
        if let Some(secret) = self.rules.secret(path).filter(|_| !directory && !link) {
            self.desk.report.kept(path, secret);
        }
        if !directory && (self.held.has(path) || (part == Part::None && identity::diverted(&entry))) {
            self.desk.seen.note(path, Fate::Held)?;
            let content = self.content(&entry)?;
            self.desk.hold(entry, content)?;
            return Ok(None);
        }
        if entry.kind == Kind::HardLink {
            match self.desk.seen.target(path, &entry.target)? {
                Fate::Held => {
                    self.desk.seen.note(path, Fate::Held)?;
                    self.desk.links.push(Made { entry, data: Data::Bytes(Vec::new()) });
                    return Ok(None);
                }
                Fate::Out => {
                    let target = String::from_utf8_lossy(&entry.target).into_owned();
                    return Err(wrong(
                        path,
                        format!(
                            "it is another name of /{target}, which is left out: keep that ([system] keep), or remove both"
                        ),
                    ));
                }
                _ => {}
            }
        }
        self.desk.seen.note(path, fate)?;
        self.desk.report.entries += 1;
        Ok(Some(entry))
    }

    /// The whole content of an entry that is kept.
    fn content(&mut self, entry: &Entry) -> Result<Vec<u8>, TarError> {
        if entry.kind != Kind::File {
            return Ok(Vec::new());
        }
        if entry.size > LARGEST {
            return Err(wrong(
                &entry.path,
                format!("expected a text of at most {LARGEST} bytes, found {}", entry.size),
            ));
        }
        let mut content = vec![0; usize::try_from(entry.size).unwrap_or(0)];
        for (offset, length) in &entry.parts {
            let (from, to) = (usize::try_from(*offset).unwrap_or(0), usize::try_from(offset + length).unwrap_or(0));
            self.input.read(content.get_mut(from..to).unwrap_or_default())?;
        }
        Ok(content)
    }

    /// All that is written at the end.
    fn compose(&mut self) -> Result<VecDeque<Made>, TarError> {
        let (desk, edits) = (&mut self.desk, &self.edits);
        identity::write(desk, edits)?;
        texts::write(desk, edits)?;
        settings::write(desk, edits)?;
        accounts::write(desk, edits)?;
        for added in &edits.add {
            desk.add(added)?;
        }
        let mut all: VecDeque<Made> = std::mem::take(&mut desk.held).into_values().collect();
        for made in std::mem::take(&mut desk.links) {
            if !all.iter().any(|other| other.entry.path == made.entry.target) {
                return Err(wrong(&made.entry.path, "it is another name of a file that is left out"));
            }
            all.push_back(made);
        }
        desk.report.entries += all.len() as u64;
        Ok(all)
    }

    /// The next entry of the end.
    fn last(&mut self) -> Result<Option<Entry>, TarError> {
        let Some(made) = self.ending.as_mut().and_then(VecDeque::pop_front) else { return Ok(None) };
        self.serving = match made.data {
            Data::Bytes(bytes) => Serving::Bytes(bytes, 0),
            Data::File(path) => {
                let shown = path.display().to_string();
                let file = File::open(&path).map_err(|e| wrong(&made.entry.path, format!("adding {shown}: {e}")))?;
                Serving::File(file, shown)
            }
        };
        let Entry { mut parts, size, .. } = made.entry;
        if matches!(self.serving, Serving::Bytes(..)) && made.entry.kind == Kind::File {
            // Small enough to be written whole, had it holes or not.
            parts = if size > 0 { vec![(0, size)] } else { Vec::new() };
        }
        Ok(Some(Entry { parts, ..made.entry }))
    }
}

impl<E: Entries> Entries for Edited<E> {
    fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        while self.ending.is_none() {
            match self.input.next_entry()? {
                Some(entry) => {
                    if let Some(entry) = self.take(entry)? {
                        return Ok(Some(entry));
                    }
                }
                None => self.ending = Some(self.compose()?),
            }
        }
        self.last()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        match &mut self.serving {
            Serving::Stream => self.input.read(buffer),
            Serving::Bytes(bytes, at) => {
                let from = bytes.get(*at..*at + buffer.len());
                buffer.copy_from_slice(from.ok_or_else(|| TarError::Cut { inside: "what was added".into() })?);
                *at += buffer.len();
                Ok(())
            }
            Serving::File(file, shown) => file.read_exact(buffer).map_err(|e| TarError::Entry {
                path: shown.clone(),
                what: format!("it changed while it was added: {e}"),
            }),
        }
    }
}
