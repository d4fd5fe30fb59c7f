//! The status for a terminal.

use super::report::{NextBootText, Row, Status};
use crate::date::day;
use crate::progress::megabytes;
use std::fmt::Write as _;

/// Columns of the table.
const HEADINGS: [&str; 5] = ["KERNEL", "IMAGE", "SIZE", "MADE (UTC)", "STATE"];

impl Status {
    /// The text: a table, then the next boot.
    pub fn text(&self) -> String {
        let mut out = table(&self.images);
        out.push('\n');
        self.next.write(&mut out);
        for unknown in &self.unknown {
            let _ = writeln!(out, "could not be looked at: {unknown}");
        }
        out
    }
}

fn table(rows: &[Row]) -> String {
    let mut lines: Vec<[String; 5]> = vec![HEADINGS.map(str::to_owned)];
    for row in rows {
        let mark = if row.next == Some(true) { "> " } else { "" };
        let running = if row.running { " (running)" } else { "" };
        let why = if row.why.is_empty() { String::new() } else { format!(": {}", row.why.join("; ")) };
        lines.push([
            format!("{mark}{}{running}", row.kernel),
            row.image.as_ref().map_or_else(|| "-".to_owned(), |path| path.display().to_string()),
            row.image.as_ref().map_or_else(|| "-".to_owned(), |_| megabytes(row.bytes)),
            row.image.as_ref().map_or_else(|| "-".to_owned(), |_| date(row.made)),
            format!("{}{why}", row.state.word()),
        ]);
    }
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let mut out = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    if rows.is_empty() {
        out.push_str("no kernel and no image were found\n");
    }
    out
}

impl NextBootText {
    /// The next boot in a few lines.
    pub fn write(&self, out: &mut String) {
        let kernel = self.kernel.as_deref().unwrap_or("not known");
        let image = self.image.as_deref().unwrap_or("none");
        let root = self.root.as_deref().unwrap_or("not known");
        match &self.unknown {
            None => {
                let _ = writeln!(out, "next boot: kernel {kernel}, image {image}");
            }
            Some(why) => {
                let _ = writeln!(out, "next boot: not known, because {why}");
                let _ = writeln!(out, "  taken to be as the present one: kernel {kernel}, image {image}");
            }
        }
        let _ = writeln!(out, "  root: {root} ({})", self.root_from);
        for because in &self.because {
            let _ = writeln!(out, "  because {because}");
        }
        let _ = writeln!(out, "  command line: {}", if self.cmdline.is_empty() { "(empty)" } else { &self.cmdline });
        if let Some(verdict) = &self.verdict {
            let code = verdict.failure_code.as_deref().unwrap_or("unknown");
            let _ = match &verdict.failure {
                Some(why) => writeln!(out, "  would not boot: {why} ({code}; from {})", verdict.facts),
                None => writeln!(out, "  would boot, as far as is known from {}", verdict.facts),
            };
        }
    }
}

/// Seconds since 1970 as a date and time of day.
fn date(seconds: u64) -> String {
    format!("{} {:02}:{:02}", day(seconds.cast_signed()), seconds / 3600 % 24, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_827_696), "2000-02-29 12:34");
        assert_eq!(date(1_795_667_280), "2026-11-26 04:28");
        assert_eq!(date(4_102_444_799), "2099-12-31 23:59");
    }
}
