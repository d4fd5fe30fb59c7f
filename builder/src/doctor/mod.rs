//! Everything that would stop the next boot, or may, with what to do about it.

mod checks;
mod code;
#[cfg(test)]
mod tests;

pub use code::{Code, Severity};

use crate::status::{NextBootText, Status, Survey};
use serde::Serialize;
use std::fmt::Write as _;

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is: a name that stays.
    pub code: &'static str,
    /// What it comes to.
    pub severity: Severity,
    /// What was expected, what was found, what to do.
    pub text: String,
}

/// What `taproot doctor` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Of this object; grows when what is there changes its meaning.
    pub format: u32,
    /// The worst first.
    pub findings: Vec<Finding>,
    /// What could not be looked at, and why.
    pub unknown: Vec<String>,
    /// The boot that it is about.
    pub next: NextBootText,
}

impl Diagnosis {
    /// From what was found out.
    pub fn of(survey: &Survey) -> Self {
        let mut findings: Vec<Finding> = checks::all(survey)
            .into_iter()
            .map(|(code, text)| Finding { code: code.code(), severity: code.severity(), text })
            .collect();
        findings.sort_by_key(|finding| finding.severity);
        findings.dedup();
        Self { format: 1, findings, unknown: survey.unknown.clone(), next: Status::of(survey).next }
    }

    /// As monitoring wants it: 0 nothing, 1 something may stop the next boot, 2 something stops it, 3 it could not be told.
    pub fn exit_code(&self) -> u8 {
        let worst = self.findings.iter().map(|finding| finding.severity).min();
        match worst {
            Some(Severity::Stops) => 2,
            Some(Severity::MayStop) => 1,
            _ if !self.unknown.is_empty() => 3,
            _ => 0,
        }
    }

    /// The text: a line that says it all, then the findings, then the boot that they are about.
    pub fn text(&self) -> String {
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let heading = match self.exit_code() {
            0 => "OK: nothing was found that would stop the next boot".to_owned(),
            3 => "UNKNOWN: nothing was found that would stop the next boot, but not everything could be looked at"
                .to_owned(),
            1 => format!("WARNING: {} that may stop the next boot", things(count(Severity::MayStop))),
            _ => format!("CRITICAL: {} that would stop the next boot", things(count(Severity::Stops))),
        };
        let mut out = format!("{heading}\n");
        for finding in &self.findings {
            let _ = writeln!(out, "  {:<14} {}: {}", finding.severity.word(), finding.code, finding.text);
        }
        for unknown in &self.unknown {
            let _ = writeln!(out, "  {:<14} {unknown}", "not looked at");
        }
        self.next.write(&mut out);
        out
    }
}

fn things(count: usize) -> String {
    if count == 1 { "1 thing".to_owned() } else { format!("{count} things") }
}
