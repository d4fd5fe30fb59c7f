//! A failure in words.

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
    /// Words that were typed at the prompt and hold.
    pub typed: Vec<String>,
}

/// Width that a serial terminal surely has, and where texts begin.
pub(super) const COLUMNS: usize = 80;
const INDENT: usize = 13;

impl Explanation {
    /// The text for a console of 80 columns or more. The problem stands last: where more is said than a screen holds, it is seen.
    pub fn text(&self) -> String {
        format!("{}{}\n", self.shortened(usize::MAX), self.last())
    }

    /// All but the problem, in at most so many lines.
    pub(super) fn shortened(&self, rows: usize) -> String {
        let typed = Some(self.typed.join(" ")).filter(|typed| !typed.is_empty());
        let before =
            [section("Code:", &[self.code.to_owned()]), section("Expected:", std::slice::from_ref(&self.expected))]
                .concat();
        let found = section("Found:", &self.found);
        let after =
            [section("Typed:", &typed.into_iter().collect::<Vec<_>>()), section("You can:", &self.advice)].concat();
        let others = TITLE.lines().count() + before.len() + after.len();
        let found = cut(found, rows.saturating_sub(others).max(2));
        let lines = cut([before, found, after].concat(), rows.saturating_sub(TITLE.lines().count()));
        format!("{TITLE}{}", lines.concat())
    }

    /// The problem.
    pub(super) fn last(&self) -> String {
        section("Problem:", std::slice::from_ref(&self.problem)).concat()
    }
}

/// What an explanation begins with.
const TITLE: &str = "\ntaproot: the system could not be started\n\n";

/// The lines of a part, each with its newline.
fn section(title: &str, lines: &[String]) -> Vec<String> {
    let wrapped = lines.iter().flat_map(|line| wrap(line, COLUMNS - INDENT));
    wrapped.enumerate().map(|(at, line)| format!("  {:<11}{line}\n", if at == 0 { title } else { "" })).collect()
}

/// At most so many of the lines, the last of which then says how many there are.
fn cut(mut lines: Vec<String>, rows: usize) -> Vec<String> {
    if lines.len() > rows {
        let left = rows.saturating_sub(1);
        let more = lines.len() - left;
        lines.truncate(left);
        lines.push(format!("{:INDENT$}... {more} more lines: type why\n", ""));
    }
    lines
}

/// Breaks a line at spaces; continued parts are indented by two more columns.
pub(super) fn wrap(line: &str, columns: usize) -> Vec<String> {
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
            typed: vec!["init=".into(), "ro".into()],
        };
        let text = e.text();
        for part in [
            "Problem:   no pool",
            "Code:      pool-not-found",
            "Expected:  pool tank",
            "Found:     nothing",
            "           2 disks",
            "Typed:     init= ro",
            "You can:   plug",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(text.ends_with("  Problem:   no pool\n\n"), "{text}");
        assert_eq!(text.lines().count(), 11);
    }

    #[test]
    fn what_does_not_fit_is_cut_where_it_is_longest() {
        let lines = |what: &str, n: usize| (1..=n).map(|n| format!("{what} {n}")).collect();
        let e = Explanation { code: "x", found: lines("disk", 30), advice: lines("try", 3), ..Explanation::default() };
        let text = e.shortened(14);
        assert_eq!(text.lines().count(), 14, "{text}");
        assert!(text.contains("disk 5\n") && !text.contains("disk 6"), "{text}");
        assert!(
            text.contains("... 25 more lines: type why\n  You can:   try 1\n") && text.ends_with("try 3\n"),
            "{text}"
        );
        assert_eq!(e.shortened(99), e.shortened(usize::MAX));
        let e = Explanation { advice: lines("try", 30), ..e };
        let text = e.shortened(14);
        assert!(text.lines().count() == 14 && text.ends_with("more lines: type why\n"), "{text}");
    }
}
