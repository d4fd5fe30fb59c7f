//! When the boot cannot go on: say why, then give a shell. PID 1 never ends here.

mod applet;
mod pools;
mod prompt;
mod shell;

pub use applet::run as applet;

use crate::cmdline::OnFailure;
use crate::report::log::Log;
use crate::sys::power;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// A failure in words: what was expected, what was found, what the user can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// One sentence.
    pub problem: String,
    /// What should have been there.
    pub expected: String,
    /// What was there instead, one line each.
    pub found: Vec<String>,
    /// What helps, one line each.
    pub advice: Vec<String>,
}

/// What the user decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Try to boot again.
    Retry,
    /// Restart the machine.
    Reboot,
    /// Switch it off.
    PowerOff,
}

/// Width that a serial terminal surely has, and where texts begin.
const COLUMNS: usize = 80;
const INDENT: usize = 13;
/// The explanation, for `why` in the packed shell.
const WHY_FILE: &str = "/run/taproot/why";

impl Explanation {
    /// The text for a console of 80 columns or more.
    pub fn text(&self) -> String {
        let mut out = String::from("\ntaproot: the system could not be started\n\n");
        let mut section = |title: &str, lines: &[String]| {
            let wrapped = lines.iter().flat_map(|line| wrap(line, COLUMNS - INDENT));
            for (i, line) in wrapped.enumerate() {
                let title = if i == 0 { title } else { "" };
                let _ = writeln!(out, "  {title:<11}{line}");
            }
        };
        section("Problem:", std::slice::from_ref(&self.problem));
        section("Expected:", std::slice::from_ref(&self.expected));
        section("Found:", &self.found);
        section("You can:", &self.advice);
        out.push('\n');
        out
    }
}

/// Breaks a line at spaces; continued parts are indented by two more columns.
fn wrap(line: &str, columns: usize) -> Vec<String> {
    let indent = line.len() - line.trim_start().len();
    let mut lines = vec![" ".repeat(indent)];
    for word in line.split_whitespace() {
        let Some(last) = lines.last_mut() else { break };
        if last.trim().is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= columns {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(format!("{}{word}", " ".repeat(indent + 2)));
        }
    }
    lines
}

/// Explains and asks; where `policy` is headless the machine restarts or goes off instead.
pub fn run(explanation: &Explanation, policy: OnFailure, log: &Log) -> Decision {
    log.error(&explanation.problem);
    let text = explanation.text();
    let _ = std::fs::write(WHY_FILE, &text);
    print(&text);
    if let OnFailure::Reboot(delay) | OnFailure::PowerOff(delay) = policy {
        let (what, decision) = match policy {
            OnFailure::PowerOff(_) => ("switching off", Decision::PowerOff),
            _ => ("restarting", Decision::Reboot),
        };
        print(&format!("taproot: nobody is to be asked: {what} in {} s\n", delay.as_secs()));
        std::thread::sleep(delay);
        return decision;
    }
    print("taproot: 'help' lists what this prompt knows, 'retry' boots again\n");
    if Path::new(shell::BUSYBOX).exists() {
        match shell::run() {
            Ok(decision) => return decision,
            Err(e) => print(&format!("taproot: the packed shell did not start ({e}); here is the built-in one\n")),
        }
    }
    prompt::run()
}

/// The last resort, also from a panic hook: the built-in prompt until a restart or power-off succeeds.
pub fn last_resort(problem: &str) -> ! {
    let explanation = Explanation {
        problem: problem.to_owned(),
        expected: "a boot".into(),
        found: vec![],
        advice: vec!["reboot".into(), "poweroff".into()],
    };
    let text = explanation.text();
    let _ = std::fs::write(WHY_FILE, &text);
    print(&text);
    loop {
        let error = match prompt::run() {
            Decision::Reboot | Decision::Retry => power::restart(),
            Decision::PowerOff => power::power_off(),
        };
        print(&format!("taproot: {error}\n"));
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A bug must not become a kernel panic: the message and a prompt instead of an abort.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|info| {
        let problem = format!("a bug in taproot-init: {info}");
        let _ = std::fs::write("/dev/kmsg", format!("<2>taproot: {problem}\n"));
        last_resort(&problem);
    }));
}

/// Writes to the console; a console that is gone is no reason to stop.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_part() {
        let e = Explanation {
            problem: "no pool".into(),
            expected: "pool tank".into(),
            found: vec!["nothing".into(), "2 disks".into()],
            advice: vec!["plug it in".into()],
        };
        let text = e.text();
        for part in [
            "Problem:   no pool",
            "Expected:  pool tank",
            "Found:     nothing",
            "           2 disks",
            "You can:   plug",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }
}
