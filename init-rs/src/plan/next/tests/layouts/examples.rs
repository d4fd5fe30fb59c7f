//! Every example in every message works: what a message tells people to type selects the pool that it speaks of.

use super::{Layout, all};
use crate::cmdline::{Selector, known, parse};
use std::collections::BTreeSet;

/// Words in a text that stand for a root, as they are to be typed on the kernel command line.
fn examples(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| c.is_whitespace() || ";,()".contains(c));
    let words = words.map(|word| word.trim_end_matches(['.', ':'])).collect::<Vec<_>>();
    let roots = words.iter().filter(|word| word.starts_with("zfs=") || word.starts_with("root=ZFS="));
    let roots = roots.filter(|word| !word.ends_with('='));
    let mut found: BTreeSet<String> = roots.map(|word| word.replace("DATASET", "r")).collect();
    // `boot ROOT here` is for the prompt.
    let typed = words.windows(3).filter(|three| three[0] == "boot" && three[2] == "here");
    found.extend(typed.map(|three| format!("root=ZFS={}", three[1].replace("DATASET", "r"))));
    found
}

/// Settings that a text names.
fn settings(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| c.is_whitespace() || ";,()".contains(c));
    words.filter(|word| word.starts_with("taproot.")).map(|word| word.trim_end_matches(['.', ':']).to_owned()).collect()
}

/// What is wrong with an example, if anything.
fn wrong(layout: &Layout, example: &str) -> Option<String> {
    let request = parse(example.as_bytes());
    let (Selector::Pool(wanted) | Selector::Dataset { pool: wanted, .. }) = request.root.value else {
        return Some(format!("{example} names no pool"));
    };
    // Not an example, but the form of one.
    if wanted == "pool" {
        return None;
    }
    // The words that were there stay, but for the root.
    let keep = layout.line.split(' ').filter(|word| word.starts_with("taproot."));
    let line: Vec<&str> = keep.chain([example]).collect();
    let outcome = layout.boot(&line.join(" "));
    match outcome.choice {
        Some(choice) if choice.pool == wanted || choice.guid.to_string() == wanted => None,
        _ => Some(format!("{example} does not take pool {wanted}: {:?}", outcome.failure.map(|f| f.to_string()))),
    }
}

#[test]
fn every_example_in_every_message_works() {
    let mut failed = Vec::new();
    let mut tried = 0;
    for layout in all() {
        let outcome = layout.boot(&layout.line);
        let mut texts = outcome.warnings.clone();
        texts.extend(outcome.failure.iter().map(ToString::to_string));
        let asked: BTreeSet<&str> = layout.line.split(' ').collect();
        for text in &texts {
            let found = examples(text);
            let found = found.iter().filter(|example| !asked.contains(example.as_str()));
            for example in found {
                tried += 1;
                failed.extend(
                    wrong(&layout, example).map(|why| format!("{} ({}): {why}\n  in: {text}", layout.name, layout.at)),
                );
            }
            for word in settings(text) {
                let key = word.split('=').next().unwrap_or_default();
                if known::find(key).is_none() {
                    failed.push(format!("{}: {word} is no word; in: {text}", layout.name));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(tried > 20, "only {tried} examples");
}

#[test]
fn what_is_an_example() {
    let text = "name it: zfs=1/DATASET, or boot a/DATASET here (root=ZFS=a/b); taproot.import=ro.";
    let all: Vec<String> = examples(text).into_iter().collect();
    assert_eq!(all, ["root=ZFS=a/b", "root=ZFS=a/r", "zfs=1/r"]);
    assert_eq!(settings(text).into_iter().collect::<Vec<_>>(), ["taproot.import=ro"]);
}
