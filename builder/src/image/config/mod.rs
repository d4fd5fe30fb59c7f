//! The configuration of an image: TOML files, the environment and the command line, one over the other; each value knows who said it.

pub mod hooks;
pub mod keys;
pub mod merge;
pub mod paczfs;
pub mod settled;
pub mod sources;
#[cfg(test)]
mod tests;
pub mod words;

use anyhow::{Context as _, Result, bail};
use merge::{Merged, Origin, Settings, Value};
use std::path::{Path, PathBuf};

pub use sources::Source;

/// Said on the command line: the option, the key it stands for, and the value.
pub type Said<'a> = (&'a str, &'a str, String);

/// A configuration.
#[derive(Debug, Clone)]
pub struct Config {
    merged: Merged,
    /// Seconds since 1970, for all that has no time of its own.
    pub time: i64,
}

impl Config {
    /// Files, then the environment, then the command line.
    pub fn load(
        files: &[PathBuf],
        environment: impl Iterator<Item = (String, String)>,
        said: &[Said<'_>],
        time: i64,
    ) -> Result<Self> {
        let mut merged = Merged::defaults()?;
        for file in files {
            merged.file(file)?;
        }
        merged.environment(environment)?;
        for (option, path, value) in said {
            merged.option(option, path, value)?;
        }
        Ok(Self { merged, time })
    }

    /// The hooks.
    pub fn hooks(&self) -> hooks::Hooks {
        hooks::Hooks(self.merged.hooks.clone())
    }

    /// What names of outputs may have in them.
    pub fn words(&self) -> words::Words {
        let row = self.row();
        let own = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        words::Words {
            name: row.text("pool.name").unwrap_or_default().to_owned(),
            time: self.time,
            arch: row.text("source.arch").unwrap_or(own).to_owned(),
            version: row.text("boot.kernel").unwrap_or_default().to_owned(),
        }
    }

    /// What was merged, with who said it.
    pub fn show(&self) -> String {
        self.merged.show()
    }

    /// What was merged as JSON, for hooks.
    pub fn json(&self) -> serde_json::Value {
        let value = |value: &Value| match value {
            Value::Text(text) => serde_json::json!(text),
            Value::Number(number) => serde_json::json!(number),
            Value::Flag(flag) => serde_json::json!(flag),
            Value::List(list) => serde_json::json!(list),
        };
        let table = |settings: &Settings| -> serde_json::Value {
            settings.iter().map(|(key, setting)| (key.clone(), value(&setting.value))).collect()
        };
        let all = [("dataset", &self.merged.datasets), ("user", &self.merged.users), ("state", &self.merged.states)];
        let lists = all.map(|(name, rows)| (name.to_owned(), rows.iter().map(table).collect()));
        let settings = self.merged.settings.iter().map(|(key, setting)| (key.clone(), value(&setting.value)));
        settings.chain(lists).collect()
    }

    fn row(&self) -> Row<'_> {
        Row { settings: &self.merged.settings, shown: "" }
    }

    fn rows(&self, list: &'static str) -> impl Iterator<Item = Row<'_>> {
        let rows = match list {
            "user" => &self.merged.users,
            "state" => &self.merged.states,
            _ => &self.merged.datasets,
        };
        rows.iter().map(move |settings| Row { settings, shown: list })
    }
}

/// Values of one table, by what they are to be.
#[derive(Debug, Clone, Copy)]
struct Row<'a> {
    settings: &'a Settings,
    shown: &'static str,
}

impl<'a> Row<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        match &self.settings.get(key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn list(&self, key: &str) -> &'a [String] {
        match self.settings.get(key).map(|setting| &setting.value) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.settings.get(key).map(|setting| &setting.value), Some(Value::Flag(true)))
    }

    fn number<T: TryFrom<i64>>(&self, key: &str) -> Result<Option<T>> {
        let Some(Value::Number(number)) = self.settings.get(key).map(|setting| &setting.value) else { return Ok(None) };
        match T::try_from(*number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!("{}: {number} is too large, or negative", self.at(key)),
        }
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        self.text(key).map(|text| settled::size(text).with_context(|| self.at(key))).transpose()
    }

    fn is_default(&self, key: &str) -> bool {
        self.settings.get(key).is_none_or(|setting| setting.origin == Origin::Default)
    }

    /// The key and who set it, for messages.
    fn at(&self, key: &str) -> String {
        let dot = if self.shown.is_empty() { "" } else { "." };
        match self.settings.get(key).map(|setting| &setting.origin) {
            None | Some(Origin::Default) => format!("{}{dot}{key}", self.shown),
            Some(origin) => format!("{}{dot}{key} ({origin})", self.shown),
        }
    }

    /// A path: what a file says is meant from its own directory, `~/` from the home of whoever packs.
    fn from(&self, key: &str, text: &str) -> PathBuf {
        if let Some(rest) = text.strip_prefix("~/") {
            return Path::new(&std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(rest);
        }
        match self.settings.get(key).map(|setting| &setting.origin) {
            Some(Origin::File(file, _)) => file.parent().unwrap_or(Path::new("")).join(text),
            _ => PathBuf::from(text),
        }
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(|text| self.from(key, text))
    }
}
