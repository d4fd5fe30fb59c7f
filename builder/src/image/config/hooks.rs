//! Programs of the user's own at the stages of an image.

use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use toml::de::{DeTable, DeValue};

use crate::output::spawn;
use crate::progress::Progress;

/// The stages, in their order.
pub const STAGES: [&str; 11] = [
    "source",
    "install",
    "configure",
    "identity",
    "initramfs",
    "boot",
    "layout",
    "pool",
    "assemble",
    "convert",
    "done",
];
const PLACES: [&str; 3] = ["before", "replace", "after"];
/// Stages that nothing can take the place of, and what to do instead.
const OWN: [(&str, &str); 4] = [
    ("layout", "partitions are where [disk] has them: say sizes there, or change the disk in assemble.after"),
    ("pool", "no other program writes a pool into a file: change the tree before, or the disk in pool.after"),
    ("assemble", "a disk without its partition table would be none: change it in assemble.after"),
    (
        "done",
        "files get their names in it, or there are none: say done.before, and leave it with an error to have none",
    ),
];

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// An executable, or a directory of such, which run in the order of their names.
    Program(PathBuf),
    /// A text for an interpreter.
    Inline {
        /// The text.
        text: String,
        /// What reads it.
        interpreter: String,
    },
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        match self {
            Self::Program(path) => f.write_str(&quoted(&path.to_string_lossy())),
            Self::Inline { text, interpreter } => {
                write!(f, "{{ inline = {}, interpreter = {} }}", quoted(text), quoted(interpreter))
            }
        }
    }
}

/// All that can be said.
fn all() -> impl Iterator<Item = String> {
    let names = STAGES.iter().flat_map(|stage| PLACES.map(|place| (*stage, place)));
    let fixed = |(stage, place): &(&str, &str)| *place == "replace" && OWN.iter().any(|(own, _)| own == stage);
    names.filter(move |name| !fixed(name)).map(|(stage, place)| format!("{stage}.{place}"))
}

/// Refuses what is no stage with a place.
pub fn check(name: &str) -> Result<()> {
    let parts = name.split_once('.');
    if let Some((stage, "replace")) = parts
        && let Some((_, instead)) = OWN.iter().find(|(own, _)| *own == stage)
    {
        bail!("hook {name:?}: nothing takes the place of this stage: {instead}");
    }
    if parts.is_some_and(|(stage, place)| STAGES.contains(&stage) && PLACES.contains(&place)) {
        return Ok(());
    }
    let known: Vec<String> = all().collect();
    bail!(
        "hook {name:?}: expected STAGE.before, STAGE.replace or STAGE.after of {}{}",
        STAGES.join(", "),
        super::keys::suggestion(name, known.iter().map(String::as_str))
    )
}

/// Hooks as a file has them: a text, a table, or a list of those.
pub fn of_toml(value: &DeValue<'_>, directory: &Path) -> Result<Vec<Hook>> {
    match value {
        DeValue::String(path) => Ok(vec![Hook::Program(from(directory, path))]),
        DeValue::Array(list) => {
            let all = list.iter().map(|value| of_toml(value.get_ref(), directory));
            Ok(all.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
        }
        DeValue::Table(table) => Ok(vec![inline(table)?]),
        _ => bail!("expected a program, a list of them, or {{ inline = \"...\" }}"),
    }
}

fn inline(table: &DeTable<'_>) -> Result<Hook> {
    let (mut text, mut interpreter) = (None, "/bin/sh".to_owned());
    for (name, value) in table {
        let value = value.get_ref().as_str().map(str::to_owned);
        match (name.get_ref().as_ref(), value) {
            ("inline", Some(value)) => text = Some(value),
            ("interpreter", Some(value)) => interpreter = value,
            (name, _) => bail!("expected inline = \"...\" and interpreter = \"...\", found {name}"),
        }
    }
    Ok(Hook::Inline { text: text.context("expected inline = \"...\"")?, interpreter })
}

/// A path as a file means it.
fn from(directory: &Path, path: &str) -> PathBuf {
    // A program of the same directory, and not one of PATH.
    if path.starts_with('/') { PathBuf::from(path) } else { Path::new("./").join(directory).join(path) }
}

/// What hooks are told.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The tree, when there is one on disk.
    pub root: Option<PathBuf>,
    /// What is written.
    pub output: Option<PathBuf>,
    /// A directory for things on the way.
    pub work: PathBuf,
    /// The configuration as JSON, in a file.
    pub config: Option<PathBuf>,
    /// Debian's word for the processor.
    pub arch: String,
    /// The pool's name.
    pub pool: String,
    /// Seconds since 1970.
    pub time: i64,
    /// What else there is at a stage.
    pub more: BTreeMap<&'static str, OsString>,
}

impl Surroundings {
    /// Variables for a stage; the last ones are those that paczfs had.
    fn variables(&self, stage: &str) -> BTreeMap<&'static str, OsString> {
        let mut all: BTreeMap<&'static str, OsString> = BTreeMap::new();
        all.insert("TAPROOT_STAGE", stage.into());
        all.insert("TAPROOT_WORK", self.work.clone().into());
        all.insert("TAPROOT_ARCH", self.arch.clone().into());
        all.insert("SOURCE_DATE_EPOCH", self.time.to_string().into());
        all.insert("SUFFIX", self.time.to_string().into());
        all.insert("POOL_NAME", self.pool.clone().into());
        if let Some(root) = &self.root {
            all.insert("TAPROOT_ROOT", root.clone().into());
            all.insert("CHROOT_PATH", root.clone().into());
        }
        if let Some(output) = &self.output {
            all.insert("TAPROOT_OUTPUT", output.clone().into());
        }
        if let Some(config) = &self.config {
            all.insert("TAPROOT_CONFIG_JSON", config.clone().into());
        }
        all.extend(self.more.iter().map(|(name, value)| (*name, value.clone())));
        all
    }
}

/// Hooks by stage and place.
#[derive(Debug, Clone, Default)]
pub struct Hooks(pub BTreeMap<String, Vec<Hook>>);

impl Hooks {
    /// Runs a stage: what comes before it, itself unless it is replaced, and what comes after it. Whatever fails, fails the image,
    /// whether a person looks on or not.
    pub fn stage<T>(
        &self,
        stage: &str,
        around: &Surroundings,
        progress: &Progress,
        own: impl FnOnce() -> Result<T>,
    ) -> Result<Option<T>> {
        self.run(stage, "before", around, progress)?;
        let done = if self.run(stage, "replace", around, progress)? { None } else { Some(own()?) };
        self.run(stage, "after", around, progress)?;
        Ok(done)
    }

    /// Whether there is a hook of which the name begins so.
    pub fn has(&self, start: &str) -> bool {
        self.0.iter().any(|(name, list)| name.starts_with(start) && !list.is_empty())
    }

    /// Runs the hooks of one place; whether there were any.
    pub fn run(&self, stage: &str, place: &str, around: &Surroundings, progress: &Progress) -> Result<bool> {
        let Some(list) = self.0.get(&format!("{stage}.{place}")) else { return Ok(false) };
        for hook in list {
            for (command, _file) in commands(hook)? {
                let shown = command.get_program().to_string_lossy().into_owned();
                progress.step(&format!("hook {stage}.{place}: {shown}"));
                let mut command = prepared(&command, around, stage)?;
                let status = progress.aside(|| spawn(&mut command)?.wait());
                let status = status.with_context(|| format!("hook {stage}.{place}: starting {shown}"))?;
                ensure!(status.success(), "hook {stage}.{place}: {shown} failed: {status}; what it said stands above");
            }
        }
        Ok(!list.is_empty())
    }
}

/// The command with what it is told. Where there is a tree, what is mounted in it is gone when the program ends.
fn prepared(command: &Command, around: &Surroundings, stage: &str) -> Result<Command> {
    let mut new = match &around.root {
        Some(_) => {
            let mut unshare = Command::new("unshare");
            unshare.args(["--mount", "--propagation", "private", "--"]).arg(command.get_program());
            unshare
        }
        None => Command::new(command.get_program()),
    };
    new.args(command.get_args()).envs(around.variables(stage));
    if let Some(root) = &around.root {
        // What vmdebootstrap's programs are called with.
        new.arg(root).args(&around.output);
    }
    // Standard input may be the archive, and standard output is what the image is told about in.
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().context("standard error")?;
    new.stdin(Stdio::null()).stdout(stderr);
    Ok(new)
}

/// Each with the file that it is in, if it has none of its own.
fn commands(hook: &Hook) -> Result<Vec<(Command, Option<tempfile::TempPath>)>> {
    match hook {
        Hook::Inline { text, interpreter } => {
            let mut file = tempfile::NamedTempFile::new().context("making a file for a hook")?;
            file.write_all(text.as_bytes()).context("writing a hook")?;
            let path = file.into_temp_path();
            let mut command = Command::new(interpreter);
            command.arg(&path);
            Ok(vec![(command, Some(path))])
        }
        Hook::Program(path) => {
            let meta = fs::metadata(path).with_context(|| format!("hook {}: expected a program", path.display()))?;
            if !meta.is_dir() {
                ensure!(
                    meta.permissions().mode() & 0o111 != 0,
                    "hook {}: expected a program that can be executed: chmod +x",
                    path.display()
                );
                return Ok(vec![(Command::new(path), None)]);
            }
            let list = fs::read_dir(path).with_context(|| format!("hook {}: listing it", path.display()))?;
            let mut programs =
                list.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
            programs.retain(|path| {
                fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
            });
            programs.sort();
            Ok(programs.into_iter().map(|path| (Command::new(path), None)).collect())
        }
    }
}
