//! What a command line asks for, and the boot that it leads to on given facts.

pub mod facts;
pub mod text;
mod words;

use facts::Facts;
use serde::Serialize;
use taproot_init::cmdline::{Note, Request, Setting, parse, settings};
use taproot_init::plan::facts::{Dataset, Health, Kind, PoolFact};
use taproot_init::plan::{mounts, names, select, snapshots};

/// At most so many datasets are named where one was looked for in vain.
const SHOWN: usize = 20;

/// Everything there is to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The words and where they come from.
    pub cmdline: Source,
    /// Each word of the kernel's part, and what it does.
    pub words: Vec<WordMeaning>,
    /// Words behind `--`, which go to the init.
    pub init_args: Vec<String>,
    /// Every setting, decided or not.
    pub settings: Vec<SettingText>,
    /// Words that ask for something that cannot be done.
    pub problems: Vec<WordMeaning>,
    /// The boot on the facts; `None` without facts.
    pub boot: Option<Boot>,
}

/// The command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The words.
    pub text: String,
    /// Where they were read.
    pub from: String,
}

/// A word and what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WordMeaning {
    /// As given.
    pub word: String,
    /// In words.
    pub meaning: String,
}

/// One setting in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingText {
    /// What is set.
    pub name: &'static str,
    /// To what.
    pub value: String,
    /// The word, or the default.
    pub why: String,
    /// Whether no word decided it.
    pub default: bool,
}

/// The boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// Where the facts come from.
    pub facts: String,
    /// Pools known.
    pub pools: Vec<String>,
    /// The choice; `None`: see `failure`.
    pub choice: Option<Choice>,
    /// Why nothing can be booted.
    pub failure: Option<String>,
    /// Name of the root dataset.
    pub root: Option<String>,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// What is left out.
    pub skipped: Vec<Skipped>,
    /// What the facts do not tell, and warnings.
    pub remarks: Vec<String>,
}

/// The pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// Name.
    pub pool: String,
    /// Guid, as text.
    pub guid: String,
    /// Why this one.
    pub why: String,
    /// What would be waited for first.
    pub better: Option<String>,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Dataset, or the source as fstab has it.
    pub dataset: String,
    /// Path in the new root.
    pub target: String,
    /// File system type.
    #[serde(rename = "type")]
    pub fstype: String,
    /// Options.
    pub options: String,
    /// Why.
    pub why: String,
}

/// A dataset or fstab line left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Dataset.
    pub dataset: String,
    /// Why.
    pub why: String,
    /// How many more for the same reason.
    pub more: usize,
}

/// Explains `line`; `from` says where it was read.
pub fn explain(line: &str, from: &str, facts: Option<&mut Facts>) -> Explanation {
    let request = parse(line.as_bytes());
    let all = settings(&request);
    let words = request
        .words
        .iter()
        .map(|word| WordMeaning { meaning: words::meaning(word, &request, &all), word: word.clone() });
    let note = |n: &Note| WordMeaning { word: n.word.clone(), meaning: n.message.clone() };
    Explanation {
        cmdline: Source { text: line.trim().to_owned(), from: from.to_owned() },
        words: words.collect(),
        init_args: request.init_args.clone(),
        problems: request.problems.iter().map(note).collect(),
        boot: facts.map(|facts| boot(&request, facts)),
        settings: all.into_iter().map(text_of).collect(),
    }
}

fn text_of(setting: Setting) -> SettingText {
    let Setting { name, value, why, default } = setting;
    SettingText { name, value, why, default }
}

/// The boot as far as the facts reach.
fn boot(request: &Request, facts: &mut Facts) -> Boot {
    let mut boot = Boot {
        facts: facts.source.clone(),
        pools: facts.pools.iter().map(pool).collect(),
        choice: None,
        failure: None,
        root: None,
        mounts: Vec::new(),
        skipped: Vec::new(),
        remarks: facts.remarks.clone(),
    };
    let choice = match select::choose(request, &facts.pools, &facts.expected) {
        Ok(choice) => choice,
        Err(no) => {
            let wait = if no.retry { " (a boot would wait for more disks first)" } else { "" };
            boot.failure = Some(format!("{}{wait}", no.message));
            return boot;
        }
    };
    boot.remarks.extend(choice.warnings.iter().cloned());
    let pool = facts.pools.iter().find(|p| p.guid == choice.guid);
    let root = choice.dataset.clone().or(pool.and_then(|p| p.bootfs.clone()));
    // Neither can be asked before it is imported.
    let unknown = facts.not_opened.contains(&choice.guid) || pool.is_some_and(|p| p.unwritable.is_some());
    boot.choice = Some(Choice {
        pool: choice.pool.clone(),
        guid: choice.guid.to_string(),
        why: choice.why,
        better: choice.better,
    });
    let Some(root) = root else {
        if unknown {
            let text = "is not known here; a boot reads it when the pool is imported";
            boot.remarks.push(format!("the bootfs of pool {} {text}", choice.pool));
            return boot;
        }
        boot.failure = Some(select::no_bootfs(&choice.pool));
        return boot;
    };
    // A pool's bootfs can be a snapshot, which means the same as naming it.
    let (root, of_bootfs) = match root.split_once('@') {
        Some((root, snapshot)) => (root.to_owned(), Some(snapshot.to_owned())),
        None => (root, None),
    };
    boot.root = Some(root.clone());
    if let Err(why) = snapshots(request, &root, of_bootfs, &mut boot) {
        boot.failure = Some(why);
        return boot;
    }
    match facts.look(&root) {
        Ok(dataset) => plan(request, &dataset, facts, &mut boot),
        Err(why) => boot.remarks.push(why),
    }
    boot
}

/// What is done with snapshots before the mounts, in this order; the mounts are planned for the root itself. The error says
/// why the boot stops.
fn snapshots(request: &Request, root: &str, of_bootfs: Option<String>, boot: &mut Boot) -> Result<(), String> {
    let asked = &request.snapshots;
    let release = |name: &Option<String>| name.clone().unwrap_or_else(|| "KERNEL-RELEASE".to_owned());
    let read_only = request.import.read_only.value;
    let mut mounted = root.to_owned();
    if let Some(snapshot) = request.snapshot.as_ref().map(|s| s.value.clone()).or(of_bootfs) {
        let name = asked.clone.as_ref().map(|c| c.value.as_str());
        let remark = if read_only {
            format!("{root}@{snapshot} itself is mounted, read-only")
        } else if asked.rollback.value {
            format!("{root} is rolled back to @{snapshot} before it is mounted ({})", asked.rollback.why)
        } else {
            let clone = snapshots::clone_name(root, &snapshot, name)
                .map_err(|refusal| format!("{refusal}; {}", refusal.advice.join("; ")))?;
            mounted.clone_from(&clone);
            format!("the root is {clone}, a clone of {root}@{snapshot}; the mounts below are those of {root}")
        };
        boot.remarks.push(remark);
    } else {
        let rollback = Some(&asked.rollback).filter(|r| r.value).map(|r| &r.why);
        for word in rollback.into_iter().chain(asked.clone.as_ref().map(|c| &c.why)) {
            boot.remarks.push(format!("{word} has no effect: no snapshot is named behind the root (...@SNAPSHOT)"));
        }
    }
    let not = if read_only { "not " } else { "" };
    if let Some(to) = &asked.rollback_to {
        boot.remarks.push(format!("{mounted} is {not}rolled back to @{} ({})", release(&to.value), to.why));
    }
    if let Some(take) = &asked.take {
        boot.remarks.push(format!("the snapshot {mounted}@{} is {not}taken ({})", release(&take.value), take.why));
    }
    if read_only && (asked.rollback_to.is_some() || asked.take.is_some()) {
        boot.remarks.push(format!("nothing is written to the pool ({})", request.import.read_only.why));
    }
    Ok(())
}

fn plan(request: &Request, root: &Dataset, facts: &Facts, boot: &mut Boot) {
    if root.kind != Kind::Filesystem {
        boot.failure = Some(format!("{} is a volume, not a file system", root.name));
        return;
    }
    let fstab = facts.fstab.as_deref().filter(|_| facts.root.as_ref() == Some(&root.name));
    let plan = mounts::plan(&taproot_init::plan::root::Root::Dataset(root.clone()), &facts.datasets, fstab.unwrap_or_default(), request);
    boot.mounts = plan
        .steps
        .iter()
        .map(|step| Mount {
            dataset: step.dataset.clone(),
            target: step.target.clone(),
            fstype: step.foreign.as_ref().map_or("zfs", |f| f.fstype.as_str()).to_owned(),
            options: step.options.data.clone(),
            why: step.why.clone(),
        })
        .collect();
    boot.remarks.extend(plan.warnings);
    boot.remarks.extend(facts.may_lack(root, request));
    match (fstab, plan.remount_root) {
        (None, _) => {
            boot.remarks.push(format!("the fstab of {} is not known here, so nothing is planned from it", root.name));
        }
        (Some(_), Some(remount)) => {
            boot.remarks.push(format!("the root is remounted ({}): {}", remount.options.data, remount.why));
        }
        (Some(_), None) => {}
    }
    let skipped = mounts::condense(plan.skipped).into_iter();
    boot.skipped = skipped.map(|s| Skipped { dataset: s.dataset, why: s.why, more: s.more }).collect();
}

fn pool(pool: &PoolFact) -> String {
    let health = match pool.health {
        Health::Online => "online",
        Health::Degraded => "degraded",
        Health::Unavailable => "unavailable",
    };
    let bootfs = pool.bootfs.as_ref().map_or_else(|| "no bootfs".to_owned(), |b| format!("bootfs {b}"));
    let more = [&pool.problem, &pool.foreign, &pool.missing_log, &pool.unwritable];
    let mut parts = vec![format!("guid {}, {health}, {bootfs}", pool.guid)];
    parts.extend(more.into_iter().flatten().cloned());
    parts.extend(pool.destroyed.then(|| "destroyed".to_owned()));
    format!("{} ({})", pool.name, parts.join(", "))
}

/// The file systems among `datasets`, for a message.
fn some_names(datasets: &[Dataset]) -> String {
    let mut all: Vec<&str> = datasets.iter().filter(|d| d.kind == Kind::Filesystem).map(|d| d.name.as_str()).collect();
    all.sort_unstable();
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    if more > 0 { format!("{} and {more} more", all.join(", ")) } else { all.join(", ") }
}

impl Facts {
    /// The dataset of this name, with all others of its pool looked up where that is possible.
    fn look(&mut self, root: &str) -> Result<Dataset, String> {
        self.complete(root);
        if let Some(dataset) = self.datasets.iter().find(|d| d.name == root) {
            return Ok(dataset.clone());
        }
        let pool = names::pool_of(root);
        Err(if !self.datasets.iter().any(|d| names::is_within(&d.name, pool)) {
            format!("the datasets of pool {pool} are not known here, so no mounts can be planned")
        } else if self.is_record() {
            let known = some_names(&self.datasets);
            format!("the record does not hold {root}, so no mounts can be planned; that boot looked at: {known}")
        } else {
            format!("there is no dataset {root}, so it cannot be mounted; there are: {}", some_names(&self.datasets))
        })
    }

    /// A boot looks at no more datasets than it needs, so its record can lack what another boot would mount.
    fn may_lack(&self, root: &Dataset, request: &Request) -> Option<String> {
        let recorded = self.root.as_ref().filter(|_| self.is_record())?;
        let which = self.words.as_ref().map(|words| parse(words.as_bytes()).mounts.which.value);
        let same = *recorded == root.name && which.is_none_or(|which| which == request.mounts.which.value);
        let text = "which looked at no more than it needed: datasets that this boot would mount can be missing here";
        (!same).then(|| format!("the record is of a boot of {recorded}, {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootfs_that_is_not_known_is_not_called_missing() {
        let explained = |pool: PoolFact, not_opened: &[u64]| {
            let not_opened = not_opened.iter().copied().collect();
            let mut facts = Facts { pools: vec![pool], not_opened, ..Facts::default() };
            explain("zfs=p taproot.import=ro", "here", Some(&mut facts)).boot.unwrap()
        };
        let unwritable = PoolFact { unwritable: Some("features".into()), ..PoolFact::named("p", 1) };
        for boot in [explained(PoolFact::named("p", 1), &[1]), explained(unwritable, &[])] {
            assert!(boot.failure.is_none() && boot.remarks.iter().any(|r| r.contains("bootfs of pool p is not known")));
        }
        assert!(explained(PoolFact::named("p", 1), &[]).failure.unwrap().contains("pool p has no bootfs"));
    }
}
