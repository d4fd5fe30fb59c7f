//! A failure in words.

use std::fmt::Write as _;

/// What was expected, what was found, what the user can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Its name for programs and for searching, which stays: `docs/errors.md` has them all.
    pub code: &'static str,
    /// One sentence.
    pub problem: String,
    /// What should have been there.
    pub expected: String,
    /// What was there instead, one line each.
    pub found: Vec<String>,
    /// What helps, one line each.
    pub advice: Vec<String>,
}

/// Width that a serial terminal surely has, and where texts begin.
const COLUMNS: usize = 80;
const INDENT: usize = 13;

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
        section("Code:", &[self.code.to_owned()]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_part() {
        let e = Explanation {
            code: "pool-not-found",
            problem: "no pool".into(),
            expected: "pool tank".into(),
            found: vec!["nothing".into(), "2 disks".into()],
            advice: vec!["plug it in".into()],
        };
        let text = e.text();
        for part in [
            "Problem:   no pool",
            "Code:      pool-not-found",
            "Expected:  pool tank",
            "Found:     nothing",
            "           2 disks",
            "You can:   plug",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }
}
