//! What is asked of the kernel.

use super::super::Case;
use super::super::later;
use super::super::world::{Event, World};
use super::record;

/// Calls that change a pool and that no word of a case asks for.
const FORBIDDEN: [&str; 7] =
    ["zfs DESTROY", "zfs DESTROY_SNAPS", "zfs ROLLBACK", "zfs CLONE", "zfs SNAPSHOT", "zfs SET_PROP", "zfs ?"];
/// What the seam says of a call that it did not make.
const REFUSED: &str = "was refused: the words of this boot do not ask for it";

/// No call that is not asked for.
pub(super) fn undeclared(case: &Case, events: &[Event]) -> Vec<String> {
    let forbidden = |event: &&Event| {
        FORBIDDEN.iter().any(|call| event.text.strip_prefix(call).is_some_and(|rest| rest.starts_with(' ')))
    };
    let changed = later::changed(case);
    let asked = |event: &&Event| {
        let call = event.text.split(' ').nth(1).unwrap_or_default();
        let asks = |case: &Case| !case.asked.read_only && case.asked.more.asks_for(call);
        asks(case) || changed.as_ref().is_some_and(asks)
    };
    let mut all: Vec<String> = events
        .iter()
        .filter(|event| !event.log)
        .filter(forbidden)
        .filter(|event| !asked(event))
        .map(|event| format!("undeclared call: {}", event.text))
        .collect();
    if case.asked.more.resume.is_none() {
        let resumes = events.iter().filter(|event| event.text.starts_with("write /sys/power/resume"));
        all.extend(resumes.map(|event| format!("undeclared write: {}", event.text)));
    }
    all
}

/// Nor is one tried: the seam would refuse it, and the machine never see it.
pub(super) fn refused(events: &[Event], world: &World) -> Vec<String> {
    let tried = events.iter().filter(|event| event.log && event.text.contains(REFUSED));
    let mut all: Vec<String> = tried.map(|event| format!("undeclared, and refused: {}", event.text)).collect();
    let report = record::read(world).and_then(Result::ok).unwrap_or_default();
    let lines = report.pointer("/declared/refused").and_then(serde_json::Value::as_array);
    all.extend(lines.into_iter().flatten().map(|line| format!("boot.json: undeclared, and refused: {line}")));
    all
}
