//! Reading layouts.

use crate::image::ExpectedPool;
use std::collections::BTreeMap;
use std::time::Duration;

/// A pool as its labels have it, and what the kernel would say.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) guid: u64,
    pub(super) kind: String,
    pub(super) vdevs: Vec<u64>,
    /// Below `/dev`.
    pub(super) paths: Vec<String>,
    pub(super) bootfs: Option<String>,
    pub(super) state: u64,
    pub(super) host: u64,
    pub(super) log: Option<String>,
    pub(super) unwritable: Option<String>,
    pub(super) refused: Option<String>,
    /// The kernel does not tell its bootfs before it is imported.
    pub(super) untold: bool,
    /// What is there of it cannot be read.
    pub(super) damaged: bool,
}

/// A disk or partition.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) name: String,
    pub(super) of: Option<String>,
    pub(super) number: u32,
    pub(super) size: u64,
    pub(super) wwid: Option<String>,
    /// Guids of pool and vdev.
    pub(super) vdev: Option<(u64, u64)>,
    pub(super) good: [bool; 4],
    pub(super) tail: Option<String>,
    pub(super) comes: Duration,
    pub(super) goes: Option<Duration>,
    pub(super) silent: bool,
    /// Something else than a vdev.
    pub(super) holds: Option<String>,
}

/// One layout, and what is to come of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    pub(super) name: String,
    /// File and line.
    pub(super) at: String,
    pub(super) pools: Vec<Pool>,
    pub(super) disks: Vec<Disk>,
    pub(super) expected: Vec<ExpectedPool>,
    pub(super) line: String,
    pub(super) boots: Option<String>,
    pub(super) from: Option<u64>,
    pub(super) after: Option<Duration>,
    pub(super) fails: Option<String>,
    pub(super) warns: Vec<String>,
    pub(super) says: Vec<String>,
    pub(super) never: Vec<String>,
    pub(super) leaves: Vec<u64>,
    /// Of the root.
    pub(super) fstab: String,
    /// Guids of pools that are imported in the end, besides the root's.
    pub(super) beside: Vec<u64>,
}

/// The settings behind the first words: `key=value`, where a value in double quotes may hold blanks.
struct Settings<'a> {
    at: &'a str,
    rest: BTreeMap<String, String>,
}

impl<'a> Settings<'a> {
    fn of(at: &'a str, text: &str) -> Self {
        let mut rest = BTreeMap::new();
        let mut text = text.trim();
        while !text.is_empty() {
            let (key, after) = text.split_once('=').unwrap_or_else(|| panic!("{at}: expected KEY=VALUE at {text:?}"));
            let (value, next) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or_else(|| panic!("{at}: a quote does not end")),
                None => after.split_once(' ').unwrap_or((after, "")),
            };
            rest.insert(key.to_owned(), value.to_owned());
            text = next.trim_start();
        }
        Self { at, rest }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.rest.remove(key)
    }

    fn number(&mut self, key: &str) -> Option<u64> {
        Some(number(self.at, &self.text(key)?))
    }

    fn millis(&mut self, key: &str) -> Option<Duration> {
        self.number(key).map(Duration::from_millis)
    }

    /// Nothing is left.
    fn end(self) {
        assert!(self.rest.is_empty(), "{}: not understood: {:?}", self.at, self.rest.keys());
    }
}

fn number(at: &str, text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{at}: expected a number, found {text:?}"))
}

fn numbers(at: &str, text: &str) -> Vec<u64> {
    text.split(',').map(|n| number(at, n)).collect()
}

/// Splits off the first word.
fn word<'t>(at: &str, text: &'t str) -> (&'t str, &'t str) {
    let (first, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    assert!(!first.is_empty(), "{at}: a word is missing");
    (first, rest)
}

fn pool(at: &str, text: &str) -> Pool {
    let (name, rest) = word(at, text);
    let (guid, rest) = word(at, rest);
    let mut settings = Settings::of(at, rest);
    let list = |text: Option<String>| text.map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default();
    let pool = Pool {
        name: name.to_owned(),
        guid: number(at, guid),
        kind: settings.text("kind").unwrap_or_else(|| "disk".to_owned()),
        vdevs: numbers(at, &settings.text("vdevs").unwrap_or_else(|| panic!("{at}: expected vdevs="))),
        paths: list(settings.text("paths")),
        bootfs: settings.text("bootfs"),
        state: match settings.text("state").as_deref() {
            None | Some("exported") => 1,
            Some("active") => 0,
            Some("destroyed") => 2,
            Some(other) => panic!("{at}: {other} is no state"),
        },
        host: settings.number("host").unwrap_or(0),
        log: settings.text("lacks-log"),
        unwritable: settings.text("read-only-because"),
        refused: settings.text("refused-because"),
        untold: settings.text("tells-bootfs").as_deref() == Some("no"),
        damaged: settings.text("damaged").as_deref() == Some("yes"),
    };
    settings.end();
    pool
}

fn disk(at: &str, text: &str) -> Disk {
    let (name, rest) = word(at, text);
    let mut settings = Settings::of(at, rest);
    let digits: u32 = name.chars().rev().map_while(|c| c.to_digit(10)).zip(0..).map(|(d, n)| d * 10_u32.pow(n)).sum();
    let good = settings.text("good").unwrap_or_else(|| "0123".to_owned());
    let vdev = settings.text("vdev").map(|text| match numbers(at, &text.replace('/', ",")).as_slice() {
        [pool, vdev] => (*pool, *vdev),
        _ => panic!("{at}: expected vdev=POOL/VDEV"),
    });
    let disk = Disk {
        name: name.to_owned(),
        of: settings.text("of"),
        number: digits,
        size: settings.number("mib").unwrap_or(1024) << 20,
        wwid: settings.text("wwid"),
        vdev,
        good: ["0", "1", "2", "3"].map(|n| good.contains(n)),
        tail: settings.text("tail"),
        comes: settings.millis("comes").unwrap_or_default(),
        goes: settings.millis("goes"),
        silent: settings.text("silent").is_some(),
        holds: settings.text("holds"),
    };
    settings.end();
    disk
}

/// One line of a layout.
fn line(at: &str, layout: &mut Layout, text: &str) {
    let (what, rest) = word(at, text);
    let rest = rest.trim();
    match what {
        "pool" => layout.pools.push(pool(at, rest)),
        "disk" => layout.disks.push(disk(at, rest)),
        "image" => {
            let (name, guid) = word(at, rest);
            let guid = if guid.trim().is_empty() { 0 } else { number(at, guid.trim()) };
            layout.expected.push(ExpectedPool { name: name.to_owned(), guid, vdevs: vec![] });
        }
        "line" => rest.clone_into(&mut layout.line),
        "boots" => {
            let (root, rest) = word(at, rest);
            let mut settings = Settings::of(at, rest);
            layout.boots = Some(root.to_owned());
            (layout.from, layout.after) = (settings.number("pool"), settings.millis("after"));
            settings.end();
        }
        "fails" => layout.fails = Some(rest.to_owned()),
        "warns" => layout.warns.push(rest.to_owned()),
        "says" => layout.says.push(rest.to_owned()),
        "never" => layout.never.push(rest.to_owned()),
        "fstab" => layout.fstab = format!("{}{rest}\n", layout.fstab),
        "beside" => layout.beside = numbers(at, rest),
        "leaves" => layout.leaves = numbers(at, rest),
        other => panic!("{at}: {other} is no word of a layout"),
    }
}

/// The layouts of a file: paragraphs, of which the first line is `layout NAME`; `#` begins a comment.
pub(super) fn layouts(file: &str, text: &str) -> Vec<Layout> {
    let mut found: Vec<Layout> = Vec::new();
    for (number, content) in (1..).zip(text.lines()) {
        let at = format!("{file}:{number}");
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if let Some(name) = content.strip_prefix("layout ") {
            found.push(Layout { name: name.trim().to_owned(), at, ..Layout::default() });
            continue;
        }
        let layout = found.last_mut().unwrap_or_else(|| panic!("{at}: expected `layout NAME` first"));
        line(&at, layout, content);
    }
    for layout in &mut found {
        let Layout { at, name, boots, fails, .. } = &*layout;
        assert!(boots.is_some() != fails.is_some(), "{at}: {name} is to say `boots` or `fails`");
        layout.disks.sort_by(|a, b| a.name.cmp(&b.name));
    }
    found
}
