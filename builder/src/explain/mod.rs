//! What a command line asks for, and the boot that it leads to on given facts.

pub mod facts;
pub mod text;
mod words;

use facts::Facts;
use serde::Serialize;
use taproot_init::cmdline::Selector;
use taproot_init::cmdline::{Note, Request, Setting, parse, settings};
use taproot_init::image::ExpectedRoot;
use taproot_init::plan::facts::{Health, PoolFact};
use taproot_init::plan::failure::{Code, Failure};
use taproot_init::plan::mounts::MountStep;
use taproot_init::plan::rehearsal::{Rehearsal, rehearse};
use taproot_init::plan::roots::prefer_packed;
use taproot_init::zfs::judge::bootfs_text;

/// Everything there is to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Of this object; grows when what is there changes its meaning.
    pub format: u32,
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
    /// The stable code of that failure: see `docs/errors.md`.
    pub failure_code: Option<&'static str>,
    /// Name of the root: a dataset, or a device as the words name it.
    pub root: Option<String>,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// What is left out.
    pub skipped: Vec<Skipped>,
    /// The program that is handed over to.
    pub init: Option<String>,
    /// Everything that is done, in order.
    pub steps: Vec<String>,
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

/// Explains `line`; `from` says where it was read, `packed` for which file system the image was packed.
pub fn explain(line: &str, from: &str, packed: Option<&ExpectedRoot>, facts: Option<&mut Facts>) -> Explanation {
    let mut request = parse(line.as_bytes());
    prefer_packed(&mut request, packed);
    let all = settings(&request);
    let words = request
        .words
        .iter()
        .map(|word| WordMeaning { meaning: words::meaning(word, &request, &all), word: word.clone() });
    let note = |n: &Note| WordMeaning { word: n.word.clone(), meaning: n.message.clone() };
    Explanation {
        format: 1,
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
    let mut roots = request.fallback.iter().filter_map(|fallback| fallback.value.base()).chain([&request.root.value]);
    if roots.any(|root| matches!(root, Selector::Device(_) | Selector::Medium)) {
        facts.look_at_devices();
    }
    let mut told = rehearse(request, &facts.known);
    // The running system is asked for a pool's datasets once it is known which pool it is.
    while told.wanted.iter().any(|root| facts.complete(root)) {
        told = rehearse(request, &facts.known);
    }
    let mut remarks = facts.remarks.clone();
    remarks.extend(facts.may_lack(&told, request));
    let choice = told.choice.map(|choice| Choice {
        pool: choice.pool,
        guid: choice.guid.to_string(),
        why: choice.why,
        better: choice.better,
    });
    remarks.extend(told.remarks);
    Boot {
        facts: facts.source.clone(),
        pools: facts.known.pools.iter().map(pool).collect(),
        choice,
        failure: told.failure.as_ref().map(failure),
        failure_code: told.failure.map(|failure| failure.code.code()),
        root: told.root,
        mounts: told.mounts.into_iter().map(mount).collect(),
        skipped: told.skipped.into_iter().map(|s| Skipped { dataset: s.dataset, why: s.why, more: s.more }).collect(),
        init: told.init,
        steps: told.steps.into_iter().map(|step| step.text).collect(),
        remarks,
    }
}

fn mount(step: MountStep) -> Mount {
    Mount {
        fstype: step.foreign.map_or_else(|| "zfs".to_owned(), |f| f.fstype),
        dataset: step.dataset,
        target: step.target,
        options: step.options.data,
        why: step.why,
    }
}

/// A failure in a sentence; with what helps, where that is another word.
fn failure(failure: &Failure) -> String {
    match failure.code {
        Code::Snapshot => format!("{failure}; {}", failure.refusal.advice.join("; ")),
        _ => failure.to_string(),
    }
}

fn pool(pool: &PoolFact) -> String {
    let health = match pool.health {
        Health::Online => "online",
        Health::Degraded => "degraded",
        Health::Unavailable => "unavailable",
    };
    let bootfs = format!("bootfs {}", bootfs_text(pool.bootfs.as_deref(), pool.bootfs_unknown));
    let more = [&pool.problem, &pool.foreign, &pool.missing_log, &pool.unwritable];
    let mut parts = vec![format!("guid {}, {health}, {bootfs}", pool.guid)];
    parts.extend(more.into_iter().flatten().cloned());
    parts.extend(pool.destroyed.then(|| "destroyed".to_owned()));
    format!("{} ({})", pool.name, parts.join(", "))
}

impl Facts {
    /// A boot looks at no more datasets than it needs, so its record can lack what another boot would mount.
    fn may_lack(&self, told: &Rehearsal, request: &Request) -> Option<String> {
        let recorded = self.root.as_ref().filter(|_| self.is_record())?;
        // Of a root on a device everything is known that could be mounted: its fstab.
        let root = told.root.as_ref().filter(|_| told.choice.is_some() && !told.mounts.is_empty())?;
        let which = self.words.as_ref().map(|words| parse(words.as_bytes()).mounts.which.value);
        let same = recorded == root && which.is_none_or(|which| which == request.mounts.which.value);
        let text = "which looked at no more than it needed: datasets that this boot would mount can be missing here";
        (!same).then(|| format!("the record is of a boot of {recorded}, {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taproot_init::plan::rehearsal::Known;

    #[test]
    fn a_bootfs_that_is_not_known_is_not_called_missing() {
        let explained = |bootfs_unknown| {
            let pool = PoolFact { bootfs_unknown, ..PoolFact::named("p", 1) };
            let known = Known { pools: vec![pool], ..Known::default() };
            let mut facts = Facts { known, ..Facts::default() };
            explain("zfs=p taproot.import=ro", "here", None, Some(&mut facts)).boot.unwrap()
        };
        let boot = explained(true);
        assert!(boot.failure.is_none() && boot.remarks.iter().any(|r| r.contains("bootfs of pool p is not known")));
        assert!(explained(false).failure.unwrap().contains("pool p has no bootfs"));
    }
}
