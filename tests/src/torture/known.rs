//! What is known of the files of the system whose power fails, by what it said: that must be there, whatever the power did.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Files by their paths: the checksum of what is in them, or nothing where there is none any more.
type Files = BTreeMap<String, Option<String>>;

/// What was said until now.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// What is durable.
    files: Files,
    /// Files that were being written, or removed, when the power failed: anything may have come of them.
    unsure: BTreeSet<String>,
    /// The last status of the layers.
    status: Value,
    /// Names beside the layers, said with it.
    beside: Vec<String>,
}

impl Known {
    /// These files, and nothing else.
    pub(super) fn new(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let files = files.into_iter().map(|(path, sum)| (path, Some(sum))).collect();
        Self { files, ..Self::default() }
    }

    /// Goes on with what a session said. The error is a file that is not what it was.
    pub(super) fn hear(&mut self, text: &str) -> Result<()> {
        let mut listed: Option<Files> = None;
        // Of the last line nobody knows whether it is whole.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let Some((word, rest)) =
                line.trim_end().strip_prefix("@@").map(|said| said.split_once(' ').unwrap_or((said, "")))
            else {
                continue;
            };
            let (path, sum) = rest.split_once(' ').unwrap_or((rest, ""));
            match word {
                "WRITE" => {
                    self.unsure.insert(path.to_owned());
                }
                "HAS" => {
                    self.unsure.remove(path);
                    self.files.insert(path.to_owned(), (sum != "-").then(|| sum.to_owned()));
                }
                "LIST" => listed = Some(Files::new()),
                "FILE" => {
                    listed.get_or_insert_default().insert(path.to_owned(), Some(sum.to_owned()));
                }
                "LISTED" => self.compare(listed.take().unwrap_or_default())?,
                "STATUS" => {
                    self.status = serde_json::from_str(rest).with_context(|| format!("a status: {rest}"))?;
                    self.beside.clear();
                }
                "BESIDE" => self.beside.push(rest.to_owned()),
                _ => {}
            }
        }
        Ok(())
    }

    /// A boot shows these files.
    fn compare(&mut self, listed: Files) -> Result<()> {
        let paths: BTreeSet<&String> = self.files.keys().chain(listed.keys()).collect();
        for path in paths.into_iter().filter(|path| !self.unsure.contains(*path)) {
            let of = |files: &Files| files.get(path).cloned().flatten().unwrap_or_else(|| "nothing".to_owned());
            let (should, is) = (of(&self.files), of(&listed));
            ensure!(should == is, "{path}: expected {should}, found {is}");
        }
        (self.files, self.unsure) = (listed, BTreeSet::new());
        Ok(())
    }

    /// Names of the layers that are mounted, the topmost first.
    pub(super) fn mounted(&self) -> String {
        let names = self.status.get("mounted").and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    }

    /// What is under way: how far each operation is, and why it does not go on.
    pub(super) fn under_way(&self) -> String {
        let of = |operation: &Value, field: &str| {
            operation.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let operations = self.status.get("operations").and_then(Value::as_array).into_iter().flatten();
        let said = operations.map(|operation| {
            format!("{} {} {}", of(operation, "name"), of(operation, "phase"), of(operation, "trouble"))
        });
        said.map(|said| said.trim_end().to_owned()).collect::<Vec<_>>().join(", ")
    }

    /// Whether nothing is under way, and nothing to be removed.
    pub(super) fn is_done(&self) -> bool {
        let is = |field: &str, value: &Value| self.status.get(field) == Some(value);
        self.under_way().is_empty() && is("waits_for", &"nothing".into()) && is("to_remove", &0.into())
    }

    /// What lies beside the layers and belongs to none of them.
    pub(super) fn left_over(&self) -> Vec<&String> {
        let pasts = self.status.get("pasts").and_then(Value::as_array).into_iter().flatten();
        let stacks = pasts.chain(self.status.get("next")).filter_map(|stack| stack.get("layers"));
        let named: BTreeSet<&str> = stacks.filter_map(Value::as_array).flatten().filter_map(Value::as_str).collect();
        let known = |name: &str| named.contains(name) || [".layers", "lost+found"].contains(&name);
        // Those that were given are never removed.
        let given = |name: &str| name == super::BASE || name == super::SITE;
        self.beside.iter().filter(|name| !known(name) && !given(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_durable_must_be_there_and_nothing_else() {
        let known = |said: &str| {
            let mut known = Known::new([("/a".to_owned(), "1".to_owned())]);
            known.hear(said).map_err(|e| e.to_string())
        };
        let list = "@@LIST\n@@FILE /a 1\n@@LISTED\n";
        assert_eq!(known(list), Ok(()));
        assert_eq!(known(&format!("@@HAS /a 2\n{list}")).unwrap_err(), "/a: expected 2, found 1");
        assert_eq!(known(&format!("@@HAS /b 2\n{list}")).unwrap_err(), "/b: expected 2, found nothing");
        assert_eq!(known(&format!("@@HAS /a -\n{list}")).unwrap_err(), "/a: expected nothing, found 1");
        assert_eq!(known(&list.replace("/a 1", "/a 1\n@@FILE /b 1")).unwrap_err(), "/b: expected nothing, found 1");
        // What was being written may be anything, until it is seen; a line that breaks off says nothing.
        assert_eq!(known(&format!("@@HAS /a 2\n@@WRITE /a\n{list}{list}")), Ok(()));
        assert_eq!(known(&format!("@@WRITE /a\n{list}@@HAS /a 2\n{list}")).unwrap_err(), "/a: expected 2, found 1");
        assert_eq!(known(&format!("{list}@@HAS /a 2")), Ok(()));
    }

    #[test]
    fn what_belongs_to_no_stack_is_left_over() {
        let mut known = Known::default();
        let status = r#"{"mounted":["two","base"],"operations":[],"waits_for":"nothing","to_remove":0,
            "next":{"layers":["two.sqsh","base.sqsh"]},"pasts":[{"layers":["old.sqsh"]}]}"#;
        let beside = [".layers", "base.sqsh", "site.sqsh", "two.sqsh", "old.sqsh", "tmp-two.7"];
        let beside = beside.map(|name| format!("@@BESIDE {name}\n")).concat();
        known.hear(&format!("@@STATUS {}\n{beside}", status.replace('\n', ""))).unwrap();
        assert!(known.is_done() && known.mounted() == "two base");
        assert_eq!(known.left_over(), ["tmp-two.7"]);
    }
}
