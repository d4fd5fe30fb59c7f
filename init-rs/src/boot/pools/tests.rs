//! How often labels are assembled: what is told in every turn of the loop must cost nothing while nothing changes.

use super::*;
use crate::cmdline::parse;
use crate::devices::known::{Content, Device, Module, Zfs, ZfsLabel};
use crate::devices::swap::Header;
use crate::scout::client::apply;
use crate::scout::message::Message;
use crate::sys::fake::Tree;
use crate::zfs::label::Label;
use crate::zfs::nvlist::Value;

/// As many disks as one vdev can have.
const LEAVES: u64 = 255;
const TURNS: usize = 100;

fn node<const N: usize>(pairs: [(&str, Value); N]) -> NvList {
    pairs.into_iter().collect()
}

/// The label of one disk of a mirror of [`LEAVES`].
fn label(leaf: u64, txg: u64) -> NvList {
    let disk = |id: u64| node([("type", Value::text("disk")), ("id", Value::U64(id)), ("guid", Value::U64(1000 + id))]);
    let top = [("type", Value::text("mirror")), ("id", Value::U64(0)), ("guid", Value::U64(9))];
    let children = ("children", Value::ListArray((0..LEAVES).map(disk).collect()));
    let top: NvList = top.into_iter().chain([children]).collect();
    node([
        ("name", Value::text("tank")),
        ("state", Value::U64(0)),
        ("txg", Value::U64(txg)),
        ("pool_guid", Value::U64(7)),
        ("guid", Value::U64(1000 + leaf)),
        ("top_guid", Value::U64(9)),
        ("vdev_children", Value::U64(1)),
        ("vdev_tree", Value::List(top)),
    ])
}

/// What the scout tells of a disk: of one of the pool, with its label, or of another one.
fn disk(name: &str, label: Option<NvList>) -> Message {
    let member = |config| ZfsLabel { label: Label::new(config, 0), good: [true; 4], tail: None };
    let zfs = label.map_or(Zfs::Nothing, |label| Zfs::Member(member(label)));
    let content = Content { superblock: None, swap: Header::default(), zfs };
    Message::Device(Box::new(Device::known(&format!("/dev/{name}"), Reading::Done(Box::new(content)))))
}

/// A boot's turns, counted.
struct Turns {
    tree: Tree,
    request: Request,
    hardware: Hardware,
    facts: Facts,
}

impl Turns {
    /// In how many of so many turns labels are assembled: pools that are taken away before come back only by that.
    fn assembled(&mut self, turns: usize) -> usize {
        let mut count = 0;
        for _ in 0..turns {
            let kept = std::mem::take(&mut self.facts.disks.candidates);
            look_at_labels(&self.tree, &self.request, &self.hardware, &mut self.facts);
            if self.facts.disks.candidates.is_empty() {
                self.facts.disks.candidates = kept;
            } else {
                count += 1;
            }
        }
        count
    }

    /// The same after a message.
    fn after(&mut self, message: Message) -> usize {
        apply(&mut self.hardware, message, Duration::from_secs(9));
        self.assembled(TURNS)
    }
}

#[test]
fn labels_are_assembled_again_only_when_one_has_changed() {
    let (tree, request) = (Tree::new(), parse(b"root=zfs:AUTO"));
    let mut turns = Turns { tree, request, hardware: Hardware::default(), facts: Facts::default() };
    for leaf in 0..LEAVES {
        apply(&mut turns.hardware, disk(&format!("sd{leaf}"), Some(label(leaf, 4))), Duration::ZERO);
    }
    // However many disks have come between two turns, and however many turns follow.
    assert_eq!(turns.assembled(TURNS), 1);
    assert_eq!(turns.facts.disks.candidates[0].leaves.len(), 255);
    let module = Message::Module { name: "xfs".to_owned(), state: Module::Ready, took: None };
    for (message, times) in [
        (Message::Settled { settled: true, inserting: false }, 0),
        (module, 0),
        // A disk of no pool comes, and goes.
        (disk("usb", None), 0),
        (Message::Gone("usb".to_owned()), 0),
        // The same labels, read again.
        (disk("sd3", Some(label(3, 4))), 0),
        (disk("sd3", Some(label(3, 5))), 1),
        (Message::Gone("sd4".to_owned()), 1),
        (disk("sd4", Some(label(4, 5))), 1),
    ] {
        let text = format!("{message:?}").chars().take(60).collect::<String>();
        assert_eq!(turns.after(message), times, "{text}");
    }
    assert_eq!(turns.facts.disks.candidates[0].missing().count(), 0);
}
