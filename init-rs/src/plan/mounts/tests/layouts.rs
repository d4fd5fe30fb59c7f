//! Layouts of pools as people have them, with what is mounted. `layouts.txt` says how to add one.

use super::*;
use crate::plan::names;

const LAYOUTS: &str = include_str!("layouts.txt");

/// One layout, as the file has it.
#[derive(Default)]
struct Layout<'t> {
    name: &'t str,
    words: &'t str,
    root: &'t str,
    datasets: Vec<Dataset>,
    fstab: String,
    links: BTreeMap<&'t str, &'t str>,
    /// `target dataset`.
    mounts: Vec<(&'t str, &'t str)>,
    /// `dataset reason`.
    left: Vec<(&'t str, &'t str)>,
    /// Parts of warnings, in order.
    warnings: Vec<&'t str>,
    /// Whether the root is made writable.
    remounted: bool,
}

fn layouts() -> Vec<Layout<'static>> {
    let mut all: Vec<Layout<'static>> = Vec::new();
    for line in LAYOUTS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            all.push(Layout { name, ..Layout::default() });
            continue;
        }
        let layout = all.last_mut().expect("a name first");
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        let pair = || rest.split_once(' ').map_or((rest, ""), |(a, b)| (a, b.trim()));
        match what {
            "words" => layout.words = rest,
            "fstab" => layout.fstab.extend([rest, "\n"]),
            "link" => drop(layout.links.insert(pair().0, pair().1)),
            "root" => {
                layout.root = pair().0;
                layout.datasets.push(dataset(&words(rest)));
            }
            "has" => layout.datasets.push(dataset(&words(rest))),
            "mounts" => layout.mounts.push(pair()),
            "leaves" => layout.left.push(pair()),
            "warns" => layout.warnings.push(rest),
            "remounts" => layout.remounted = true,
            other => panic!("{}: `{other}`", layout.name),
        }
    }
    all
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Links of the layout, followed as the kernel does: the longest first, again and again.
fn place(links: &BTreeMap<&str, &str>, target: &str) -> String {
    let mut target = target.to_owned();
    for _ in 0..8 {
        let link = links.iter().find(|(from, _)| names::is_within(&target, from));
        let Some((from, to)) = link else { break };
        target = format!("{to}{}", target.strip_prefix(from).unwrap_or_default());
    }
    target
}

#[test]
fn each_is_mounted_as_it_should_be() {
    let layouts = layouts();
    assert!(layouts.len() >= 40, "{} layouts", layouts.len());
    let mut wrong = String::new();
    for layout in &layouts {
        let request = parse(layout.words.as_bytes());
        assert!(request.problems.is_empty() && request.notes.is_empty(), "{}: {:?}", layout.name, request.notes);
        let root = layout.datasets.iter().find(|d| d.name == layout.root).expect(layout.name).clone();
        let (root, fstab) = (Root::Dataset(root), fstab::parse(layout.fstab.as_bytes()));
        let place = |target: &str| place(&layout.links, target);
        let ground = Ground { place: &place, ..ground(&root, &layout.datasets, &fstab) };
        let found = plan(ground, &request);
        let mounts: Vec<_> = found.steps.iter().skip(1).map(|s| (s.target.as_str(), s.dataset.as_str())).collect();
        let mut complain = |text: String| wrong.extend([layout.name, ": ", &text, "\n"]);
        if mounts != layout.mounts {
            complain(format!("mounts {mounts:?}, expected {:?}; {:#?}", layout.mounts, found.skipped));
        }
        for (dataset, why) in &layout.left {
            let skip = found.skipped.iter().find(|skip| skip.dataset == *dataset);
            if !skip.is_some_and(|skip| skip.why.contains(why)) {
                complain(format!("leaves {dataset} because of {skip:?}, expected {why}"));
            }
        }
        let told = found.warnings.iter().zip(&layout.warnings).all(|(found, part)| found.contains(part));
        if !told || found.warnings.len() != layout.warnings.len() {
            complain(format!("warns of {:#?}, expected {:#?}", found.warnings, layout.warnings));
        }
        if found.remount_root.is_some() != layout.remounted {
            complain(format!("remounts: {:?}", found.remount_root));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
