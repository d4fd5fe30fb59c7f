//! The program to hand over to: looked for when everything is mounted, and below what was mounted if it is hidden.

use super::facts::{Cover, Search};
use super::{Code, Failure, Moment, Next, Root, Settled, Step, fail};
use crate::plan::mounts::Origin;

impl Moment<'_> {
    /// The program to hand over to.
    pub(super) fn init(self, root: &Root) -> Settled<String> {
        let attempt = &self.facts.attempt;
        if let Some(init) = &attempt.init {
            return Ok(init.clone());
        }
        let Some(search) = &attempt.search else {
            return Err(Next::Do(Step::FindInit { root: root.name().to_owned() }));
        };
        let covers = empty_covers(search);
        if covers.is_empty() {
            return fail(no_init(root.name(), search));
        }
        Err(Next::Do(Step::Uncover { covers }))
    }
}

/// Empty mounts without which the program is there: one if that is enough, else all.
fn empty_covers(search: &Search) -> Vec<Cover> {
    let empty = |cover: &&Cover| cover.empty;
    match search.covers.iter().filter(empty).find(|cover| cover.hides) {
        Some(one) => vec![one.clone()],
        None if search.without_empty => search.covers.iter().filter(empty).cloned().collect(),
        None => Vec::new(),
    }
}

fn no_init(root: &str, search: &Search) -> Failure {
    let tried = search.tried.join(", ");
    let expected = "an executable file, or init=PATH naming one";
    let Some(cover) = search.covers.iter().find(|cover| cover.hides) else {
        return Failure::new(
            Code::NoInit,
            format!("root {root} has no {tried} that can be executed"),
            expected,
            search.found.clone(),
            &[
                "choose another root at this prompt (boot), or on the kernel command line: root=ZFS=pool/dataset",
                "retry init=/path/to/program here, or that word on the kernel command line; retry init= takes a wrong one away",
            ],
        );
    };
    let made = &cover.made;
    let (dataset, target) = (&made.dataset, &made.target);
    let problem = format!("{dataset}, which is mounted on {target}, hides {tried} of root {root}");
    let word = match made.origin {
        Origin::Fstab => "taproot.fstab=no",
        Origin::Property | Origin::Root => "taproot.mounts=none",
        Origin::Also => "no taproot.also= that names it",
    };
    let way_out = format!("boot without it: retry {word} here, or {word} on the kernel command line");
    let lasting = match made.origin {
        Origin::Fstab => format!("then take the line for {target} out of the root's fstab"),
        _ => format!("then, in the booted system: zfs set canmount=noauto {dataset}"),
    };
    let choose = "choose another root at this prompt (boot)";
    Failure::new(Code::NoInit, problem, expected, search.found.clone(), &[choose, &way_out, &lasting])
}
