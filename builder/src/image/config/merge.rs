//! Files, environment and command line, one over the other, each value with where it came from.

use super::hooks::{self, Hook};
use super::keys::{DATASET, KEYS, Key, Kind, STATE, USER, find, suggestion};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// What begins the names of variables.
const PREFIX: &str = "TAPROOT_IMAGE_";

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// Texts.
    List(Vec<String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::List(list) => write!(f, "[{}]", list.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ")),
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A file's line.
    File(PathBuf, usize),
    /// A variable.
    Environment(String),
    /// An option of the command line.
    Option(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "${name}"),
            Self::Option(name) => f.write_str(name),
        }
    }
}

/// A value with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// What it is.
    pub value: Value,
    /// Who said so.
    pub origin: Origin,
}

/// Values by key.
pub type Settings = BTreeMap<String, Setting>;

/// All that was said.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    /// Keys of tables.
    pub settings: Settings,
    /// `[[dataset]]`, in order of their first mention.
    pub datasets: Vec<Settings>,
    /// `[[user]]`.
    pub users: Vec<Settings>,
    /// `[[state]]`, oldest first.
    pub states: Vec<Settings>,
    /// Hooks by stage and place.
    pub hooks: BTreeMap<String, Vec<Hook>>,
}

impl Merged {
    /// The defaults.
    pub fn defaults() -> Result<Self> {
        let mut merged = Self::default();
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            let value = of_text(key, key.default)?;
            merged.settings.insert(key.path.to_owned(), Setting { value, origin: Origin::Default });
        }
        Ok(merged)
    }

    /// A file over what was said before.
    pub fn file(&mut self, path: &Path) -> Result<()> {
        let text = fs::read_to_string(path).with_context(|| format!("{}: expected a configuration", path.display()))?;
        let file = File { path, text: &text };
        let table = DeTable::parse(&text).map_err(|e| anyhow!("{}: {e}", path.display()))?;
        for (name, value) in table.get_ref() {
            let at = file.origin(name.span().start);
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("dataset", DeValue::Array(rows)) => file.rows(rows, DATASET, &mut self.datasets, &at)?,
                ("user", DeValue::Array(rows)) => file.rows(rows, USER, &mut self.users, &at)?,
                ("state", DeValue::Array(rows)) => file.rows(rows, STATE, &mut self.states, &at)?,
                (name @ ("dataset" | "user" | "state"), _) => {
                    bail!("{at}: expected tables [[{name}]], found something else")
                }
                ("hooks", DeValue::Table(table)) => self.hooks_of(&file, "", table)?,
                (name, DeValue::Table(table)) => self.table(&file, name, table)?,
                (name, _) => bail!(
                    "{at}: expected a table [{name}], or a key inside one{}",
                    suggestion(name, KEYS.iter().map(|key| key.path))
                ),
            }
        }
        Ok(())
    }

    fn table(&mut self, file: &File<'_>, above: &str, table: &DeTable<'_>) -> Result<()> {
        for (name, value) in table {
            let path = format!("{above}.{}", name.get_ref());
            let at = file.origin(name.span().start);
            if let (DeValue::Table(inner), None) = (value.get_ref(), find(&path)) {
                self.table(file, &path, inner)?;
                continue;
            }
            let Some(key) = find(&path) else {
                bail!("{at}: {path} is not known{}", suggestion(&path, KEYS.iter().map(|key| key.path)));
            };
            let value = of_toml(key, value.get_ref()).with_context(|| at.to_string())?;
            self.settings.insert(path, Setting { value, origin: at });
        }
        Ok(())
    }

    fn hooks_of(&mut self, file: &File<'_>, above: &str, table: &DeTable<'_>) -> Result<()> {
        for (name, value) in table {
            let at = file.origin(name.span().start);
            let name =
                if above.is_empty() { name.get_ref().to_string() } else { format!("{above}.{}", name.get_ref()) };
            match value.get_ref() {
                DeValue::Table(inner) if !name.contains('.') => self.hooks_of(file, &name, inner)?,
                other => {
                    hooks::check(&name).with_context(|| at.to_string())?;
                    let directory = file.path.parent().unwrap_or(Path::new(""));
                    let list = hooks::of_toml(other, directory).with_context(|| format!("{at}: {name}"))?;
                    self.hooks.insert(name, list);
                }
            }
        }
        Ok(())
    }

    /// The environment over what was said before.
    pub fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<()> {
        for (name, text) in variables {
            let Some(short) = name.strip_prefix(PREFIX) else { continue };
            let variable = |key: &Key| key.path.to_ascii_uppercase().replace(['.', '-'], "_");
            let Some(key) = KEYS.iter().find(|key| variable(key) == short) else {
                let known: Vec<String> = KEYS.iter().map(|key| format!("{PREFIX}{}", variable(key))).collect();
                bail!("${name}: no such key{}", suggestion(&name, known.iter().map(String::as_str)));
            };
            let value = of_text(key, &text).with_context(|| format!("${name}"))?;
            self.settings.insert(key.path.to_owned(), Setting { value, origin: Origin::Environment(name) });
        }
        Ok(())
    }

    /// A word of the command line over what was said before.
    pub fn option(&mut self, option: &str, path: &str, text: &str) -> Result<()> {
        let Some(key) = find(path) else {
            bail!("{option}: {path} is not known{}", suggestion(path, KEYS.iter().map(|key| key.path)));
        };
        let value = of_text(key, text).with_context(|| option.to_owned())?;
        self.settings.insert(path.to_owned(), Setting { value, origin: Origin::Option(option.to_owned()) });
        Ok(())
    }

    /// All of it with where it came from, as a configuration that says the same.
    pub fn show(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for key in KEYS {
            let Some(setting) = self.settings.get(key.path) else { continue };
            let (table, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
            if table != section {
                let _ = writeln!(out, "{}[{table}]", if out.is_empty() { "" } else { "\n" });
                section = table;
            }
            shown(&mut out, name, setting);
        }
        let lists = [("dataset", &self.datasets, DATASET), ("user", &self.users, USER), ("state", &self.states, STATE)];
        for (table, rows, keys) in lists {
            for row in rows {
                let _ = write!(out, "\n[[{table}]]\n");
                for key in keys {
                    if let Some(setting) = row.get(key.path) {
                        shown(&mut out, key.path, setting);
                    }
                }
            }
        }
        if !self.hooks.is_empty() {
            out.push_str("\n[hooks]\n");
            for (name, list) in &self.hooks {
                let list: Vec<String> = list.iter().map(Hook::to_string).collect();
                let _ = writeln!(
                    out,
                    "\"{name}\" = {}",
                    if list.len() == 1 { list.concat() } else { format!("[{}]", list.join(", ")) }
                );
            }
        }
        out
    }
}

fn shown(out: &mut String, name: &str, setting: &Setting) {
    let line = format!("{name} = {}", setting.value);
    let _ = writeln!(out, "{line:<50} # {}", setting.origin);
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn origin(&self, at: usize) -> Origin {
        let line = self.text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        Origin::File(self.path.to_owned(), line)
    }

    /// Tables of a list: one that has the name of an earlier one adds to that.
    fn rows(
        &self,
        rows: &toml::de::DeArray<'_>,
        keys: &'static [Key],
        all: &mut Vec<Settings>,
        at: &Origin,
    ) -> Result<()> {
        for row in rows {
            let DeValue::Table(table) = row.get_ref() else { bail!("{at}: expected a table with name = \"...\"") };
            let mut new = Settings::new();
            for (name, value) in table {
                let at = self.origin(name.span().start);
                let Some(key) = keys.iter().find(|key| key.path == name.get_ref()) else {
                    bail!(
                        "{at}: {} is not known here{}",
                        name.get_ref(),
                        suggestion(name.get_ref(), keys.iter().map(|key| key.path))
                    );
                };
                let value = of_toml(key, value.get_ref()).with_context(|| at.to_string())?;
                new.insert(key.path.to_owned(), Setting { value, origin: at });
            }
            let at = self.origin(row.span().start);
            let name = new.get("name").map(|setting| setting.value.clone());
            ensure!(name.is_some(), "{at}: expected name = \"...\" in each of these tables");
            match all.iter_mut().find(|old| old.get("name").map(|setting| &setting.value) == name.as_ref()) {
                Some(old) => old.extend(new),
                None => all.push(new),
            }
        }
        Ok(())
    }
}

fn of_toml(key: &Key, value: &DeValue<'_>) -> Result<Value> {
    let wrong = || anyhow!("{}: expected {}, found {}", key.path, key.kind.expected(), kind_of(value));
    let number = |value: &DeValue<'_>| {
        let number = value.as_integer()?;
        i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
    };
    Ok(match (key.kind, value) {
        (Kind::Text | Kind::Size, DeValue::String(text)) => Value::Text(text.to_string()),
        (Kind::Size, value @ DeValue::Integer(_)) => Value::Text(number(value).ok_or_else(wrong)?.to_string()),
        (Kind::Number, value) => Value::Number(number(value).ok_or_else(wrong)?),
        (Kind::Flag, value) => Value::Flag(value.as_bool().ok_or_else(wrong)?),
        (Kind::List, DeValue::Array(list)) => {
            let texts = list.iter().map(|text| text.get_ref().as_str().map(str::to_owned));
            Value::List(texts.collect::<Option<_>>().ok_or_else(wrong)?)
        }
        _ => return Err(wrong()),
    })
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A value from a text, as the environment and the command line have them: as TOML, or plainly; lists with commas.
fn of_text(key: &Key, text: &str) -> Result<Value> {
    let quoted = text.starts_with(['"', '\'', '[']);
    if quoted || matches!(key.kind, Kind::Number | Kind::Flag) {
        let value =
            DeValue::parse(text.trim()).map_err(|_| anyhow!("expected {}, found {text:?}", key.kind.expected()))?;
        return of_toml(key, value.get_ref());
    }
    Ok(match key.kind {
        Kind::List => {
            Value::List(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
        }
        _ => Value::Text(text.to_owned()),
    })
}
