//! Tables of a boot, for people.

use std::fmt::Write as _;

use serde_json::Value;

/// A table with aligned columns; the first row is the heading. Cells that look like numbers stand to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = String::from("  ");
        for (cell, width) in row.iter().zip(&widths) {
            let right = cell.starts_with(|c: char| c.is_ascii_digit()) || (number == 0 && cell.ends_with(']'));
            let _ = if right { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
        }
        out.push_str(line.trim_end());
        out.push('\n');
        if number == 0 {
            let rule: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
            let _ = writeln!(out, "  {}", rule.join("  "));
        }
    }
    out
}

/// One phase of a boot, in milliseconds since the kernel started.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Name.
    pub name: String,
    /// Begin.
    pub start: f64,
    /// Duration.
    pub took: f64,
}

/// The finished phases in a `boot.json`, in order of their begin.
pub fn phases(json: &Value) -> Vec<Phase> {
    let mut list: Vec<Phase> = entries(json, "phases")
        .filter_map(|p| {
            Some(Phase {
                name: p.get("name")?.as_str()?.to_owned(),
                start: p.get("start_ms")?.as_f64()?,
                took: p.get("ms")?.as_f64()?,
            })
        })
        .collect();
    list.sort_by(|a, b| a.start.total_cmp(&b.start));
    list
}

/// The objects in one of the lists of a `boot.json`.
pub fn entries<'a>(json: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    json.get(list).and_then(Value::as_array).into_iter().flatten()
}

/// A text in a `boot.json`, by path.
pub fn text<'a>(json: &'a Value, pointer: &str) -> &'a str {
    json.pointer(pointer).and_then(Value::as_str).unwrap_or("?")
}

/// Milliseconds as seconds, with three digits.
pub fn seconds(ms: f64) -> String {
    format!("{:.3}", ms / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["what", "[s]"], ["import", "0.5"], ["x", "12.25"]].map(|r| r.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "  what      [s]\n  ------  -----\n  import    0.5\n  x       12.25\n");
    }

    #[test]
    fn phases_in_order_without_the_unfinished() {
        let json = serde_json::json!({"phases": [
            {"name": "b", "start_ms": 2.0, "ms": 1.0}, {"name": "a", "start_ms": 1.0, "ms": 3.0}, {"name": "c", "start_ms": 0, "ms": null}]});
        assert_eq!(phases(&json).iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(text(&json, "/phases/0/name"), "b");
    }
}
