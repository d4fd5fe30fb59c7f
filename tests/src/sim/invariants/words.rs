//! What is said while something is waited for.

use super::super::Case;
use super::super::people::UNANSWERED;
use super::super::seed::Policy;
use super::super::world::{Event, World};
use std::time::Duration;

/// Longest time without a word while something is waited for; a moment more than what is promised, for the step under way.
const SILENCE: Duration = Duration::from_millis(5600);
/// How lines about a wait begin, and what those about work that goes on have in them.
const WAITING: &str = "waiting for";
const AT_WORK: &str = "so far";
/// What a person is asked who is to decide.
const PROMPT: &str = "ask (taproot)";

/// Nothing is waited for in silence, to the very end of the run.
pub(super) fn quiet(events: &[Event], world: &World) -> Option<String> {
    let mut events = events.to_vec();
    events.push(Event { at: world.time(), log: false, text: "the end of the run".to_owned() });
    silence(&events)
}

/// Nothing is waited for in silence: a line at least every five seconds.
pub fn silence(events: &[Event]) -> Option<String> {
    let mut spoke = events.first()?.at;
    // Whatever the log tells meanwhile, a question stands until it is answered, or needless.
    let mut question = false;
    for event in events {
        let gap = event.at.saturating_sub(spoke);
        // A person who is asked knows what is waited for. A pause is announced, as any other wait.
        if !question && gap > SILENCE {
            let gap = gap.as_secs_f64();
            return Some(format!("no word for {gap:.1} s until {:.1} s ({})", event.at.as_secs_f64(), event.text));
        }
        if event.text.starts_with("ask ") {
            question = true;
        } else if event.text.starts_with("typed") || event.text == UNANSWERED {
            // Until then it stood there to be read.
            (question, spoke) = (false, event.at);
        }
        if question || speaks(event) {
            spoke = event.at;
        }
    }
    None
}

/// Whether somebody can read this. A line that the kernel did not take was said all the same.
fn speaks(event: &Event) -> bool {
    event.log || event.text == "kmsg" || event.text.starts_with("screen: ")
}

/// Whoever says that something is awaited, or still at work, says what.
pub(super) fn unnamed(events: &[Event]) -> Option<String> {
    let empty = |what: &str| !what.chars().any(char::is_alphanumeric);
    // "still" alone says nothing.
    let vague = |what: &str| what.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric)).count() < 2;
    let unnamed = |event: &&Event| {
        let text = event.text.strip_prefix("screen: ").unwrap_or(&event.text);
        let text = text.trim().strip_prefix("taproot:").unwrap_or(text).trim();
        let waits = text.strip_prefix(WAITING).map(|rest| rest.split('(').next().unwrap_or_default());
        let works = text.split_once(AT_WORK).map(|(before, _)| before.rsplit_once(':').map_or("", |(what, _)| what));
        waits.is_some_and(empty) || works.is_some_and(vague)
    };
    let line = events.iter().filter(|event| speaks(event)).find(unnamed)?;
    Some(format!("a line does not say what is waited for: {}", line.text))
}

/// A machine that nobody watches asks nobody what is to be done. Without its words it is not known to be one.
pub(super) fn asked_of_nobody(case: &Case, events: &[Event], world: &World) -> Option<String> {
    if case.asked.policy == Policy::Ask || world.unread("/proc/cmdline") {
        return None;
    }
    let asked = events.iter().find(|event| event.text.starts_with(PROMPT))?;
    Some(format!("nobody watches, and somebody was asked at {:.1} s", asked.at.as_secs_f64()))
}
