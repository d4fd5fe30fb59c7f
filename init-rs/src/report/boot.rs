//! `/run/taproot/boot.json`: what was asked, found, chosen and done. `docs/boot-json.md` describes it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::facts::{datasets, expected, expected_root, fstab};
use super::json::Json;
use super::layers::LayersDone;
use super::modules::{ModuleDone, module};
use super::phases::Phase;
use crate::cmdline::{Request, settings};
use crate::image::{ExpectedPool, ExpectedRoot};
use crate::plan::declared::Declared;
use crate::plan::facts::{Dataset, Doubt, Health, PoolFact};
use crate::plan::fstab::FstabEntry;
use crate::plan::mounts::{MountStep, Origin, Skipped};
use crate::plan::persistence::How;
use crate::plan::select::Choice;
use crate::zfs::calls;

/// Where the report is kept for the booted system.
pub const REPORT_PATH: &str = "/run/taproot/boot.json";
/// The words of the attempt under way, the image's own before them, where a person has typed other ones than the kernel's.
pub const WORDS_PATH: &str = "/run/taproot/words";

/// A mount that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountDone {
    /// What was planned.
    pub step: MountStep,
    /// How long mount(2) took.
    pub took: Duration,
    /// Why it failed; `None` if it is mounted.
    pub error: Option<String>,
    /// Whether its device cannot be written to.
    pub write_protected: bool,
}

/// A directory of which nothing is written to what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protected {
    /// The directory, with all below it that is not listed itself.
    pub directory: String,
    /// `overlay`: what is written goes elsewhere; `read-only`: nothing is written.
    pub by: &'static str,
}

/// A directory that was to lie elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDone {
    /// The directory of the root.
    pub dir: String,
    /// How it was to lie there.
    pub how: How,
    /// What names the medium.
    pub medium: String,
    /// The directory on it.
    pub source: String,
    /// Why it does not lie there.
    pub error: Option<String>,
}

/// What is known about one boot; fields are filled as the boot goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootReport {
    /// Version of taproot-init.
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// What tells the booted image from others; empty if it has no such mark.
    pub image: String,
    /// Version of the zfs module.
    pub zfs: Option<String>,
    /// What the command line asked for.
    pub request: Option<Request>,
    /// The words that were typed at the prompt and hold now.
    pub typed: Vec<String>,
    /// Pools found.
    pub pools: Vec<PoolFact>,
    /// The choice.
    pub choice: Option<Choice>,
    /// The root dataset that was mounted, once `bootfs` is resolved.
    pub root: Option<String>,
    /// Of what it was made, if of layers.
    pub layers: Option<LayersDone>,
    /// Program that is handed over to.
    pub init: Option<String>,
    /// Mounts, in order.
    pub mounts: Vec<MountDone>,
    /// Of a root made of layers: directories of which nothing is written to what they show.
    pub protected: Vec<Protected>,
    /// Directories of the root that lie on other file systems.
    pub kept: Vec<KeptDone>,
    /// Datasets and fstab lines left out.
    pub skipped: Vec<Skipped>,
    /// Pools that the image was packed for.
    pub expected: Vec<ExpectedPool>,
    /// The file system that the image was packed for.
    pub expected_root: Option<ExpectedRoot>,
    /// Datasets that the mounts were planned from: the root's pool, and what was named elsewhere.
    pub datasets: Vec<Dataset>,
    /// Where paths of the root lead that are links, of those that something is mounted on.
    pub places: BTreeMap<String, String>,
    /// The root's fstab.
    pub fstab: Vec<FstabEntry>,
    /// Files below `/run` by which the booted system mounts nothing of other boot environments.
    pub after: Vec<String>,
    /// Kernel modules, in the order they ended.
    pub modules: Vec<ModuleDone>,
    /// Phase timings.
    pub phases: Vec<Phase>,
    /// Everything that went wrong or needs attention.
    pub problems: Vec<String>,
    /// What the words of the boot allowed it to do.
    pub declared: Declared,
    /// What was refused because it was not declared.
    pub refused: Vec<String>,
    /// The last failure: its code, and its sentence.
    pub failure: Option<(&'static str, String)>,
}

impl BootReport {
    /// Another attempt begins: what was chosen, and what was done with it, is over.
    pub fn begin_anew(&mut self) {
        self.choice = None;
        self.root_left();
    }

    /// The root is left, or what was to become one. What was chosen, what is known of the machine and of its pools, and what went
    /// wrong stays.
    pub fn root_left(&mut self) {
        // Each by its name: whatever is recorded besides, it is said here whether it is of one root.
        let Self {
            root,
            layers,
            init,
            mounts,
            protected,
            kept,
            skipped,
            datasets,
            places,
            fstab,
            after,
            version: _,
            kernel: _,
            image: _,
            zfs: _,
            request: _,
            typed: _,
            pools: _,
            choice: _,
            expected: _,
            expected_root: _,
            modules: _,
            phases: _,
            problems: _,
            declared: _,
            refused: _,
            failure: _,
        } = self;
        (*root, *layers, *init) = (None, None, None);
        mounts.clear();
        protected.clear();
        kept.clear();
        skipped.clear();
        datasets.clear();
        places.clear();
        fstab.clear();
        after.clear();
    }

    /// The document.
    pub fn to_json(&self) -> String {
        let (datasets, left_out) = datasets(&self.datasets, self.root.as_deref());
        Json::Object(vec![
            ("format", Json::Int(1)),
            ("version", self.version.as_str().into()),
            ("kernel", self.kernel.as_str().into()),
            ("image", Some(self.image.as_str()).filter(|id| !id.is_empty()).into()),
            ("zfs", self.zfs.as_deref().into()),
            ("request", self.request.as_ref().map(request).into()),
            ("typed", Json::list(&self.typed, |word| word.as_str().into())),
            ("pools", Json::list(&self.pools, pool)),
            ("choice", self.choice.as_ref().map(choice).into()),
            ("root", self.root.as_deref().into()),
            ("layers", self.layers.as_ref().map(LayersDone::to_json).into()),
            ("init", self.init.as_deref().into()),
            ("mounts", Json::list(&self.mounts, mount)),
            ("protected", Json::list(&self.protected, protected)),
            ("kept", Json::list(&self.kept, kept)),
            ("skipped", Json::list(&self.skipped, skipped)),
            ("expected", Json::list(&self.expected, expected)),
            ("expected_root", self.expected_root.as_ref().map(expected_root).into()),
            ("datasets", datasets),
            ("datasets_left_out", left_out),
            ("places", places(&self.places)),
            ("fstab", fstab(&self.fstab)),
            ("after", Json::list(&self.after, |file| file.as_str().into())),
            ("modules", Json::list(&self.modules, module)),
            ("phases", Json::list(&self.phases, phase)),
            ("problems", Json::list(&self.problems, |p| p.as_str().into())),
            ("declared", declared(&self.declared, &self.refused)),
            ("failure", self.failure.as_ref().map(failure).into()),
        ])
        .render()
    }
}

fn request(request: &Request) -> Json {
    let note = |n: &crate::cmdline::Note| {
        Json::Object(vec![("word", n.word.as_str().into()), ("message", n.message.as_str().into())])
    };
    let decided: Vec<_> = settings(request).into_iter().filter(|setting| !setting.default).collect();
    let setting = |s: &crate::cmdline::Setting| {
        let (value, why) = (s.value.as_str().into(), s.why.as_str().into());
        Json::line(vec![("name", s.name.into()), ("value", value), ("why", why)])
    };
    Json::Object(vec![
        ("words", Json::list(&request.words, |w| w.as_str().into())),
        ("root", request.root.why.as_str().into()),
        ("settings", Json::list(&decided, setting)),
        ("problems", Json::list(&request.problems, note)),
        ("notes", Json::list(&request.notes, note)),
    ])
}

fn declared(declared: &Declared, refused: &[String]) -> Json {
    let calls: Vec<u32> = declared.calls.iter().copied().collect();
    let rooted: Vec<String> = declared.rooted.iter().cloned().collect();
    Json::Object(vec![
        ("calls", Json::list(&calls, |call| calls::name(*call).into())),
        ("mounts", Json::list(&declared.mounts, |what| what.name().into())),
        ("read_only", declared.read_only.into()),
        ("layers", declared.layers.into()),
        ("rooted", Json::list(&rooted, |name| name.as_str().into())),
        ("layer_state", declared.layer_state.into()),
        ("refused", Json::list(refused, |line| line.as_str().into())),
    ])
}

fn failure((code, text): &(&'static str, String)) -> Json {
    Json::Object(vec![("code", (*code).into()), ("problem", text.as_str().into())])
}

fn pool(pool: &PoolFact) -> Json {
    Json::Object(vec![
        ("name", pool.name.as_str().into()),
        ("guid", Json::text(&pool.guid)),
        ("bootfs", pool.bootfs.as_deref().into()),
        ("bootfs_unknown", pool.bootfs_unknown.into()),
        ("health", health(pool.health)),
        ("problem", pool.problem.as_deref().into()),
        ("exported", pool.exported.into()),
        ("hostid", Json::Int(pool.hostid.into())),
        ("hostname", pool.hostname.as_deref().into()),
        ("destroyed", pool.destroyed.into()),
        ("foreign", pool.foreign.as_deref().into()),
        ("missing_log", pool.missing_log.as_deref().into()),
        ("unwritable", pool.unwritable.as_deref().into()),
        ("devices", Json::list(&pool.devices, |node| node.as_str().into())),
        ("doubt", pool.doubt.as_ref().map_or(Json::Null, doubt)),
        ("started", pool.started.into()),
    ])
}

fn doubt(doubt: &Doubt) -> Json {
    Json::line(vec![("text", doubt.text.as_str().into()), ("grave", doubt.grave.into())])
}

fn health(health: Health) -> Json {
    match health {
        Health::Online => "online",
        Health::Degraded => "degraded",
        Health::Unavailable => "unavailable",
    }
    .into()
}

fn choice(choice: &Choice) -> Json {
    Json::Object(vec![
        ("pool", choice.pool.as_str().into()),
        ("guid", Json::text(&choice.guid)),
        ("dataset", choice.dataset.as_deref().into()),
        ("health", health(choice.health)),
        ("why", choice.why.as_str().into()),
        ("warnings", Json::list(&choice.warnings, |w| w.as_str().into())),
    ])
}

fn places(places: &BTreeMap<String, String>) -> Json {
    let places: Vec<(&String, &String)> = places.iter().collect();
    Json::list(&places, |(target, place)| {
        Json::line(vec![("target", target.as_str().into()), ("place", place.as_str().into())])
    })
}

fn mount(done: &MountDone) -> Json {
    let origin = match done.step.origin {
        Origin::Root => "root",
        Origin::Property => "property",
        Origin::Fstab => "fstab",
        Origin::Also => "also",
    };
    let fstype = done.step.foreign.as_ref().map_or("zfs", |f| f.fstype.as_str());
    Json::Object(vec![
        ("dataset", done.step.dataset.as_str().into()),
        ("type", fstype.into()),
        ("target", done.step.target.as_str().into()),
        ("options", done.step.options.data.as_str().into()),
        ("origin", origin.into()),
        ("why", done.step.why.as_str().into()),
        ("ms", millis(done.took)),
        ("error", done.error.as_deref().into()),
        ("write_protected", done.write_protected.into()),
    ])
}

fn protected(protected: &Protected) -> Json {
    Json::line(vec![("directory", protected.directory.as_str().into()), ("by", protected.by.into())])
}

fn kept(kept: &KeptDone) -> Json {
    let how = match kept.how {
        How::Bind => "bind",
        How::Union => "union",
        How::Link => "link",
    };
    Json::Object(vec![
        ("directory", kept.dir.as_str().into()),
        ("how", how.into()),
        ("medium", kept.medium.as_str().into()),
        ("source", kept.source.as_str().into()),
        ("error", kept.error.as_deref().into()),
    ])
}

fn skipped(skipped: &Skipped) -> Json {
    let mut fields = vec![("dataset", skipped.dataset.as_str().into()), ("why", skipped.why.as_str().into())];
    if let Ok(more @ 1..) = i64::try_from(skipped.more) {
        fields.push(("more", Json::Int(more)));
    }
    Json::Object(fields)
}

fn phase(phase: &Phase) -> Json {
    Json::Object(vec![
        ("name", phase.name.as_str().into()),
        ("start_ms", millis(phase.start)),
        ("ms", phase.took.map(millis).into()),
    ])
}

/// Milliseconds with microsecond resolution.
pub(super) fn millis(time: Duration) -> Json {
    Json::Thousandths(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::mounts::root_step;

    #[test]
    fn another_attempt_is_recorded_as_if_none_had_been_before() {
        let before = BootReport {
            version: "0.1.0".into(),
            pools: vec![PoolFact::named("tank", 7)],
            problems: vec!["a".into()],
            failure: Some(("no-key", "b".into())),
            ..BootReport::default()
        };
        let mut report = BootReport {
            choice: Some(Choice {
                pool: "tank".into(),
                guid: 7,
                health: Health::Online,
                dataset: None,
                why: "asked for".into(),
                warnings: vec![],
                better: None,
                unsure: false,
                certain: true,
            }),
            ..before.clone()
        };
        let chosen = report.clone();
        report.root = Some("tank/a".into());
        report.init = Some("/sbin/init".into());
        report.skipped = vec![Skipped { dataset: "tank/x".into(), why: "canmount=off".into(), more: 0 }];
        report.datasets = vec![Dataset::with_defaults("tank/a")];
        report.root_left();
        assert_eq!(report, chosen);
        report.begin_anew();
        assert_eq!(report, before);
    }

    #[test]
    fn every_part_is_valid_json() {
        let request = crate::cmdline::parse(b"root=ZFS=tank/ROOT/a \"x y\" taproot.nope=1");
        let step = root_step(&crate::plan::root::Root::Dataset(Dataset::with_defaults("tank/ROOT/a")), &request);
        let report = BootReport {
            version: "0.1.0".into(),
            kernel: "6.12".into(),
            pools: vec![PoolFact {
                health: Health::Degraded,
                problem: Some("one \"disk\" is missing".into()),
                hostid: u32::MAX,
                ..PoolFact::named("tank", u64::MAX)
            }],
            choice: Some(Choice {
                pool: "tank".into(),
                guid: 7,
                health: Health::Online,
                dataset: Some("tank/ROOT/a".into()),
                why: "asked for".into(),
                warnings: vec!["b passed over".into()],
                better: None,
                unsure: false,
                certain: true,
            }),
            root: Some("tank/ROOT/a".into()),
            mounts: vec![MountDone { step, took: Duration::from_micros(1234), error: None, write_protected: false }],
            skipped: vec![Skipped { dataset: "tank/x".into(), why: "canmount=off".into(), more: 3 }],
            expected: vec![ExpectedPool { name: "tank".into(), guid: 7, vdevs: vec![] }],
            datasets: vec![Dataset::with_defaults("tank/ROOT/a")],
            fstab: crate::plan::fstab::parse(b"tank/a /a zfs\nLABEL=h /home ext4\nLABEL=l /l ext4 x-initrd.mount\n"),
            phases: vec![Phase { name: "import".into(), start: Duration::from_millis(1500), took: None }],
            problems: vec!["a\nb".into()],
            request: Some(request),
            ..BootReport::default()
        };
        let doc: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(doc["pools"][0]["guid"], u64::MAX.to_string());
        assert_eq!(doc["mounts"][0]["ms"], 1.234);
        assert_eq!(doc["mounts"][0]["target"], "/");
        assert_eq!(doc["mounts"][0]["type"], "zfs");
        assert_eq!(doc["skipped"][0]["more"], 3);
        assert_eq!(doc["phases"][0]["start_ms"], 1500.0);
        assert_eq!(doc["phases"][0]["ms"], serde_json::Value::Null);
        assert_eq!(doc["request"]["words"][1], "\"x y\"");
        assert_eq!(doc["request"]["settings"][0]["why"], "root=ZFS=tank/ROOT/a");
        assert_eq!(doc["request"]["settings"][1], serde_json::Value::Null);
        assert_eq!(doc["datasets"][0]["name"], "tank/ROOT/a");
        assert_eq!(doc["fstab"].as_array().unwrap().len(), 2);
        assert_eq!(doc["fstab"][1]["options"][0], "x-initrd.mount");
        assert_eq!(doc["expected"][0]["guid"], "7");
        assert_eq!(doc["request"]["notes"][0]["word"], "taproot.nope=1");
        assert_eq!(doc["problems"][0], "a\nb");
    }

    #[test]
    fn an_empty_report_is_valid() {
        let doc: serde_json::Value = serde_json::from_str(&BootReport::default().to_json()).unwrap();
        assert_eq!(doc["format"], 1);
        assert!(doc["choice"].is_null());
        let page = include_str!("../../../docs/boot-json.md");
        for field in doc.as_object().unwrap().keys() {
            assert!(page.contains(&format!("\n| `{field}` | ")), "docs/boot-json.md lacks `{field}`");
        }
    }
}
