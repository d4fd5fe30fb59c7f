//! An explanation for a terminal.

use super::{Boot, Explanation, WordMeaning};
use std::fmt::Write as _;

/// Names wider than this push their text to the right instead of all others.
const WIDEST: usize = 40;

impl Explanation {
    /// The text.
    pub fn text(&self) -> String {
        let line = if self.cmdline.text.is_empty() { "(empty)" } else { &self.cmdline.text };
        let mut out = format!("Command line ({}):\n  {line}\n", self.cmdline.from);
        let mut words: Vec<(&str, String)> = self.words.iter().map(pair).collect();
        words.extend(self.init_args.iter().map(|word| (word.as_str(), "for the init of the booted system".to_owned())));
        if !words.is_empty() {
            section(&mut out, "Words", &words);
        }
        let defaults: Vec<_> =
            self.settings.iter().filter(|s| s.default).map(|s| (s.name, default(&s.value, &s.why))).collect();
        section(&mut out, "Not decided by a word", &defaults);
        match &self.boot {
            Some(boot) => boot_text(boot, &mut out),
            None => out.push_str(
                "\nNo facts about pools: none were asked for, or there is no /run/taproot/boot.json and no /dev/zfs here. Give the \
                 boot.json of a boot with --facts to see what it would boot.\n",
            ),
        }
        out
    }
}

fn pair(word: &WordMeaning) -> (&str, String) {
    (&word.word, word.meaning.clone())
}

/// A default that depends on a word says on which.
fn default(value: &str, why: &str) -> String {
    match why.split_once("because of ") {
        Some((_, word)) => format!("{value}, because of {}", word.trim_end_matches(')')),
        None => value.to_owned(),
    }
}

fn boot_text(boot: &Boot, out: &mut String) {
    let none = ["none".to_owned()];
    let pools: Vec<_> = if boot.pools.is_empty() { &none } else { boot.pools.as_slice() }
        .iter()
        .map(|pool| ("", pool.clone()))
        .collect();
    section(out, &format!("Pools known from {}", boot.facts), &pools);
    let mut choice = Vec::new();
    if let Some(chosen) = &boot.choice {
        choice.push(("pool", format!("{} (guid {}): {}", chosen.pool, chosen.guid, chosen.why)));
        choice.extend(chosen.better.iter().map(|better| ("waits for", better.clone())));
    }
    choice.extend(boot.root.iter().map(|root| ("root", root.clone())));
    let code = boot.failure_code.unwrap_or_default();
    choice.extend(boot.failure.iter().map(|why| ("cannot boot", format!("{why} ({code})"))));
    choice.extend(boot.init.iter().map(|init| ("init", init.clone())));
    section(out, "Choice", &choice);
    if !boot.mounts.is_empty() {
        let mounts: Vec<(&str, String)> = boot
            .mounts
            .iter()
            .map(|m| (m.target.as_str(), format!("{}: {}\n[{} {}]", m.dataset, m.why, m.fstype, m.options)))
            .collect();
        section(out, "Mounts, in this order", &mounts);
    }
    if !boot.skipped.is_empty() {
        let skipped: Vec<(&str, String)> = boot
            .skipped
            .iter()
            .map(|s| {
                let more = if s.more > 0 { format!(" (and {} more)", s.more) } else { String::new() };
                (s.dataset.as_str(), format!("{}{more}", s.why))
            })
            .collect();
        section(out, "Not mounted", &skipped);
    }
    let steps: Vec<_> = boot.steps.iter().map(|step| ("", step.clone())).collect();
    section(out, "Steps, in this order", &steps);
    if !boot.remarks.is_empty() {
        let remarks: Vec<_> = boot.remarks.iter().map(|r| ("", r.clone())).collect();
        section(out, "Remarks", &remarks);
    }
}

/// A title and aligned rows; a row's further lines are indented below its text.
fn section(out: &mut String, title: &str, rows: &[(&str, String)]) {
    let _ = write!(out, "\n{title}:\n");
    let width = rows.iter().map(|(name, _)| name.chars().count()).filter(|n| *n <= WIDEST).max().unwrap_or(0);
    for (name, text) in rows {
        for (n, line) in text.lines().enumerate() {
            let name = if n == 0 { name } else { "" };
            let gap = if width == 0 { "" } else { "  " };
            let _ = writeln!(out, "  {name:<width$}{gap}{line}");
        }
    }
}
