//! What the system in memory does next: decided here, carried out by the room around it. Pure.

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Event {
    /// The disk is there, and the image whole: what was found, for a person.
    Ready(String),
    /// They are not.
    Failed(String),
    /// Somebody typed a line.
    Typed(String),
    /// The time for an answer is over.
    Late,
    /// How far the writing has come.
    Written(String),
    /// Everything is written and was read back.
    Done,
    /// That failed.
    Torn(String),
}

/// What is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Act {
    /// Say it on every console.
    Say(String),
    /// Write the image to the disk.
    Write,
    /// Restart the machine.
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Looks for the disk, and reads the image. Nothing was written.
    Looking,
    /// Could begin. Nothing was written.
    Ready,
    /// Cannot begin. Nothing was written.
    Failed,
    /// The disk is neither old nor new.
    Writing,
    /// The same, and nobody works at it.
    Torn,
    /// The disk is new.
    Done,
}

/// Where it stands.
#[derive(Debug)]
pub(in super::super) struct Rehearsal {
    nonce: String,
    minutes: u64,
    phase: Phase,
}

impl Rehearsal {
    /// Begins.
    pub(in super::super) fn new(nonce: &str, minutes: u64) -> Self {
        Self { nonce: nonce.to_owned(), minutes, phase: Phase::Looking }
    }

    /// Whether the machine restarts by itself when the time is over: as long as the old system is what it was.
    pub(in super::super) fn returns(&self) -> bool {
        matches!(self.phase, Phase::Looking | Phase::Ready | Phase::Failed)
    }

    /// What the prompt asks for.
    pub(in super::super) fn question(&self) -> &'static str {
        match self.phase {
            Phase::Looking => "takeover (looking)> ",
            Phase::Ready => "takeover (ready)> ",
            Phase::Failed => "takeover (failed)> ",
            Phase::Writing => "takeover (writing)> ",
            Phase::Torn => "takeover (torn)> ",
            Phase::Done => "takeover (done)> ",
        }
    }

    /// What it says first.
    pub(in super::super) fn greeting(&self) -> String {
        format!(
            "This is the system in memory of rehearsal {}. The disk was not touched.\n\
             Without a confirmation the machine restarts into its old system in {} min.",
            self.nonce, self.minutes
        )
    }

    /// What follows.
    pub(in super::super) fn answer(&mut self, event: Event) -> Vec<Act> {
        let say = |text: String| vec![Act::Say(text)];
        match (self.phase, event) {
            (Phase::Looking, Event::Ready(found)) => {
                self.phase = Phase::Ready;
                say(format!(
                    "Rehearsal {0} is ready: {found}.\nTo replace what is on the disk type: confirm {0}\n\
                     To go back to the old system type: return",
                    self.nonce
                ))
            }
            (Phase::Looking, Event::Failed(why)) => {
                self.phase = Phase::Failed;
                say(format!(
                    "Rehearsal {} failed: {why}.\nNothing was written; type return for the old system",
                    self.nonce
                ))
            }
            (Phase::Looking | Phase::Ready | Phase::Failed, Event::Late) => {
                vec![Act::Say("No confirmation came in time: back to the old system.".to_owned()), Act::Restart]
            }
            (Phase::Writing, Event::Done) => {
                self.phase = Phase::Done;
                let text = "Everything is written and was read back: the machine restarts into its new system.";
                vec![Act::Say(text.to_owned()), Act::Restart]
            }
            (Phase::Writing, Event::Torn(why)) => {
                self.phase = Phase::Torn;
                say(format!(
                    "The disk is neither old nor new: {why}.\nThe image is still in memory, so do not restart; to write it again type: again {}",
                    self.nonce
                ))
            }
            (Phase::Writing, Event::Written(far)) => say(far),
            (_, Event::Typed(line)) => self.typed(&line),
            // What comes late of something that is over.
            _ => Vec::new(),
        }
    }

    fn typed(&mut self, line: &str) -> Vec<Act> {
        let say = |text: String| vec![Act::Say(text)];
        let words: Vec<&str> = line.split_whitespace().collect();
        let begin = match self.phase {
            Phase::Ready => "confirm",
            Phase::Torn => "again",
            _ => "",
        };
        match words.as_slice() {
            [] => Vec::new(),
            [word, nonce] if *word == begin && *nonce == self.nonce => {
                self.phase = Phase::Writing;
                vec![Act::Say("The disk is written now. Do not switch off.".to_owned()), Act::Write]
            }
            [word, ..] if *word == begin => say(format!("expected {begin} {}, found {line:?}", self.nonce)),
            ["return"] if self.returns() => vec![Act::Restart],
            ["restart"] if self.phase == Phase::Torn => vec![Act::Restart],
            _ => say(match self.phase {
                Phase::Looking => {
                    "The disk is looked for, and the image checked. Type return for the old system".to_owned()
                }
                Phase::Ready => {
                    format!("Type confirm {} to replace what is on the disk, or return for the old system", self.nonce)
                }
                Phase::Failed => "Type return for the old system".to_owned(),
                Phase::Writing | Phase::Done => "The disk is being written: wait".to_owned(),
                Phase::Torn => format!("Type again {} to write the image again, or restart to give up", self.nonce),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Event {
        Event::Typed(line.to_owned())
    }

    fn writes(acts: &[Act]) -> bool {
        acts.contains(&Act::Write)
    }

    fn at(phase: Phase) -> Rehearsal {
        Rehearsal { phase, ..Rehearsal::new("c0ffee12", 10) }
    }

    #[test]
    fn only_a_ready_rehearsal_that_is_confirmed_by_its_nonce_writes() {
        for phase in [Phase::Looking, Phase::Failed, Phase::Writing, Phase::Done, Phase::Torn] {
            assert!(!writes(&at(phase).answer(typed("confirm c0ffee12"))), "{phase:?}");
        }
        for line in ["confirm", "confirm c0ffee13", "again c0ffee12", "yes", "c0ffee12", "confirm c0ffee12 now", ""] {
            let mut ready = at(Phase::Ready);
            assert!(!writes(&ready.answer(typed(line))), "{line}");
            assert!(ready.returns(), "{line}");
        }
        let mut ready = at(Phase::Ready);
        assert!(writes(&ready.answer(typed(" confirm  c0ffee12 "))));
        assert!(!ready.returns());
        assert!(!writes(&ready.answer(typed("confirm c0ffee12"))), "once");
        for phase in [Phase::Looking, Phase::Ready, Phase::Failed, Phase::Writing, Phase::Done] {
            assert!(!writes(&at(phase).answer(typed("again c0ffee12"))), "{phase:?}");
        }
    }

    #[test]
    fn it_returns_by_itself_as_long_as_nothing_was_written() {
        for phase in [Phase::Looking, Phase::Ready, Phase::Failed] {
            assert!(at(phase).answer(Event::Late).contains(&Act::Restart), "{phase:?}");
            assert_eq!(at(phase).answer(typed("return")), [Act::Restart]);
        }
        for phase in [Phase::Writing, Phase::Torn, Phase::Done] {
            assert_eq!(at(phase).answer(Event::Late), []);
            assert!(!at(phase).answer(typed("return")).contains(&Act::Restart), "{phase:?}");
        }
    }

    #[test]
    fn a_takeover_from_beginning_to_end() {
        let mut rehearsal = Rehearsal::new("c0ffee12", 10);
        assert!(rehearsal.greeting().contains("rehearsal c0ffee12"));
        let said = rehearsal.answer(Event::Ready("disk vda".into()));
        assert!(
            matches!(&said[..], [Act::Say(text)] if text.contains("disk vda") && text.contains("confirm c0ffee12"))
        );
        assert!(writes(&rehearsal.answer(typed("confirm c0ffee12"))));
        assert_eq!(rehearsal.answer(Event::Written("1 of 2".into())), [Act::Say("1 of 2".into())]);
        let said = rehearsal.answer(Event::Torn("it broke".into()));
        assert!(matches!(&said[..], [Act::Say(text)] if text.contains("it broke") && text.contains("again c0ffee12")));
        assert!(writes(&rehearsal.answer(typed("again c0ffee12"))));
        assert_eq!(rehearsal.answer(Event::Done).last(), Some(&Act::Restart));
    }

    #[test]
    fn a_failed_one_can_only_return() {
        let mut rehearsal = Rehearsal::new("c0ffee12", 10);
        let said = rehearsal.answer(Event::Failed("no disk".into()));
        assert!(matches!(&said[..], [Act::Say(text)] if text.contains("no disk") && text.contains("return")));
        assert_eq!(rehearsal.answer(Event::Ready("disk".into())), []);
        assert!(!writes(&rehearsal.answer(typed("confirm c0ffee12"))));
        for event in [Event::Done, Event::Torn(String::new()), Event::Written(String::new())] {
            assert_eq!(rehearsal.answer(event), []);
        }
    }
}
