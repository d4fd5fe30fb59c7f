//! The words of the next attempt as a person at the prompt has changed them, and the root that was chosen there.

use super::{Boot, person, start};
use crate::cmdline::{self, Decided, edit};
use crate::plan::next::facts::{Asked, Note, Resume};
use crate::plan::roots;
use crate::pools;
use crate::report::boot::WORDS_PATH;
use crate::sys::System;
use std::path::Path;
use std::time::Duration;

/// What the words are, and what people have made of them.
#[derive(Debug, Default)]
pub(super) struct Typed {
    /// The words of the attempt, the image's own before them; `None`: the kernel's could not be read.
    pub(super) words: Option<String>,
    /// The root that a person chose, and where.
    root: Option<(String, &'static str)>,
    /// The file with this system's hostid, as it is packed.
    hostid: Option<Vec<u8>>,
}

impl Typed {
    /// How many fallback roots are behind us as an attempt begins: all, where a person chose the root, for it is not left for
    /// another one behind their back.
    pub(super) fn fallbacks_over(&self, request: &cmdline::Request) -> usize {
        if self.root.is_some() { request.fallback.len() } else { 0 }
    }
}

impl Typed {
    /// Nothing is typed yet.
    pub(super) fn new(system: &dyn System, words: Option<String>) -> Self {
        Self { words, root: None, hostid: pools::packed_hostid(system) }
    }
}

impl Boot<'_> {
    /// Puts these words in the place of those that there are for the same, until the machine is started again.
    pub(super) fn change_words(&mut self, typed: &str) {
        // Without the kernel's words there is nothing to change: the prompt has said so.
        let Some(line) = self.typed.words.as_ref().filter(|_| !typed.trim().is_empty()) else { return };
        let line = edit::edit(line, typed);
        if edit::names_root(typed) {
            self.typed.root = None;
        }
        self.note_typed(typed);
        self.take_line(line, typed);
    }

    /// Begins again as if the kernel command line said this. What the words have done already, options of modules that are
    /// loaded for one, stays.
    pub(super) fn other_words(&mut self, words: &str) {
        self.typed.root = None;
        self.report.typed.clear();
        self.note_typed(words);
        self.facts.offered = false;
        self.facts.stopped.clear();
        self.take_line(format!("{} {words}", self.image.cmdline), words);
        self.begin_anew();
    }

    /// With another time to wait for the pool.
    pub(super) fn wait_longer(&mut self, time: Duration) {
        let typed = format!("taproot.wait={}", time.as_secs());
        if let Some(line) = &self.typed.words {
            self.typed.words = Some(edit::edit(line, &typed));
        }
        self.note_typed(&typed);
        self.request.wait = Decided::new(time, "typed at the rescue prompt");
    }

    /// What was typed earlier and holds no longer goes.
    fn note_typed(&mut self, typed: &str) {
        let line = edit::edit(&self.report.typed.join(" "), typed);
        let away = cmdline::tokenize(typed.as_bytes()).into_iter().filter(|word| word.value.as_deref() == Some(""));
        let away = away.map(|word| word.text);
        self.report.typed = cmdline::tokenize(line.as_bytes()).into_iter().map(|word| word.text).chain(away).collect();
    }

    /// Makes this line the one that is obeyed.
    fn take_line(&mut self, line: String, typed: &str) {
        self.log.info(format!("the next attempt has these words, typed at the rescue prompt: {typed}"));
        let mut request = cmdline::parse(line.as_bytes());
        roots::prefer_packed(&mut request, self.image.root.as_ref());
        for note in request.problems.iter().chain(&request.notes) {
            self.log.warn(format!("{}: {}", note.word, note.message));
        }
        if let Some((name, why)) = &self.typed.root {
            let _ = roots::ask_for(&mut request, name, why);
        }
        if request.import.hostid.is_none() && self.request.import.hostid.is_some() {
            let packed = self.typed.hostid.as_deref();
            if let Err(e) = pools::put_hostid_back(self.system, packed) {
                self.log.error(format!("the packed hostid could not be put back: {e}"));
            }
        }
        start::hostid(self.system, &mut request, self.log);
        start::restore_console_level(self.system, self.console_level.take().as_deref());
        self.console_level = start::console_level(self.system, &request, self.log);
        person::catch_panics(self.outside, request.rescue.on_failure.value, self.image.rescue_password.clone());
        let modules = |request: &cmdline::Request| (request.options_for_modules(), request.module_blacklist.clone());
        let others = modules(&request) != modules(&self.request);
        if let Err(e) = self.system.write(Path::new(WORDS_PATH), line.as_bytes()) {
            self.log.warn(format!("{WORDS_PATH}: {e}"));
        }
        if others {
            self.scout.renew();
        }
        self.report.request = Some(request.clone());
        let facts = &mut self.facts;
        facts.begin = Some(Asked::of(&request));
        facts.fallbacks_taken = self.typed.fallbacks_over(&request);
        facts.disks.generation = None;
        // The words decide anew what of these is asked for.
        facts.zfs = None;
        if request.resume != self.request.resume {
            (facts.note, facts.resume) = (Note::default(), Resume::default());
        }
        self.typed.words = Some(line);
        self.request = request;
    }

    /// Makes `name` the root of the next attempt and of retries. A person watches: fallbacks are not tried by themselves.
    pub(super) fn choose(&mut self, name: &str, why: &'static str) {
        if let Err(e) = roots::ask_for(&mut self.request, name, why) {
            self.log.error(e);
            return;
        }
        self.log.info(format!("root {name}, {why}"));
        self.typed.root = Some((name.to_owned(), why));
        self.facts.begin = Some(Asked::of(&self.request));
        self.facts.fallbacks_taken = self.request.fallback.len();
        self.begin_anew();
    }
}
