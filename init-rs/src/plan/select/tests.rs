use super::*;
use crate::cmdline::parse;

fn pool(name: &str, guid: u64, bootfs: Option<&str>) -> PoolFact {
    PoolFact {
        name: name.into(),
        guid,
        bootfs: bootfs.map(str::to_owned),
        health: Health::Online,
        problem: None,
        exported: true,
        hostid: 0,
        hostname: None,
    }
}

fn gone(mut pool: PoolFact) -> PoolFact {
    pool.health = Health::Unavailable;
    pool.problem = Some("2 of 4 disks of raidz1-0 are missing".into());
    pool
}

fn expect(name: &str, guid: u64) -> ExpectedPool {
    ExpectedPool { name: name.into(), guid, vdevs: vec![format!("/dev/disk/by-id/{name}")] }
}

fn ask(line: &str, pools: &[PoolFact], expected: &[ExpectedPool]) -> Result<Choice, NoChoice> {
    let request = parse(line.as_bytes());
    let answer = choose(&request, pools, expected);
    let reversed: Vec<_> = pools.iter().rev().cloned().collect();
    assert_eq!(answer, choose(&request, &reversed, expected), "the order of pools must not matter");
    answer
}

#[track_caller]
fn chosen(answer: Result<Choice, NoChoice>, guid: u64, dataset: Option<&str>, why: &str) -> Option<String> {
    let choice = answer.unwrap();
    assert_eq!((choice.guid, choice.dataset.as_deref()), (guid, dataset));
    assert!(choice.why.contains(why), "{}", choice.why);
    choice.better
}

#[track_caller]
fn refused(answer: Result<Choice, NoChoice>, retry: bool, parts: &[&str]) {
    let refusal = answer.unwrap_err();
    for part in parts {
        assert!(refusal.message.contains(part), "expected `{part}` in: {}", refusal.message);
    }
    assert_eq!(refusal.retry, retry, "{}", refusal.message);
}

#[test]
fn auto() {
    let a = || pool("a", 1, Some("a/ROOT/x"));
    let b = || pool("b", 2, Some("b/ROOT/y"));
    let c = || pool("c", 3, None);
    assert_eq!(chosen(ask("", &[b(), c()], &[]), 2, Some("b/ROOT/y"), "the only"), None);
    assert_eq!(chosen(ask("root=zfs:AUTO", &[b(), a(), c()], &[]), 1, Some("a/ROOT/x"), "first by name"), None);
    assert_eq!(chosen(ask("zfs=bootfs", &[a(), b()], &[expect("b", 2)]), 2, Some("b/ROOT/y"), "image expects"), None);
    // a snapshot is booted by its clone
    assert_eq!(chosen(ask("", &[pool("c", 3, Some("c/r@s"))], &[]), 3, Some("c/r@s"), "the only"), None);
    // made anew under the same name
    let better = chosen(ask("", &[a(), b()], &[expect("b", 9)]), 2, Some("b/ROOT/y"), "image expects");
    assert_eq!(better.unwrap(), "pool b (guid 9), which the image expects, was not found yet");
    assert_eq!(chosen(ask("", &[a(), b()], &[expect("b", 0)]), 2, Some("b/ROOT/y"), "image expects"), None);
    // the expected pool may be late
    let better = chosen(ask("", &[a()], &[expect("b", 2)]), 1, Some("a/ROOT/x"), "the only");
    assert_eq!(better.unwrap(), "pool b (guid 2), which the image expects, was not found yet");
    let better = chosen(ask("", &[a(), gone(b())], &[expect("b", 2)]), 1, Some("a/ROOT/x"), "the only");
    assert_eq!(better.unwrap(), "pool b, which the image expects, is not complete yet");
    // an expected pool without bootfs is not waited for
    assert_eq!(chosen(ask("", &[a(), c()], &[expect("c", 3)]), 1, Some("a/ROOT/x"), "the only"), None);
}

#[test]
fn auto_refusals() {
    refused(ask("", &[], &[]), true, &["no pool was found", "drivers"]);
    refused(ask("", &[], &[expect("b", 2)]), true, &["the image expects: b (on /dev/disk/by-id/b)"]);
    refused(
        ask("root=zfs", &[pool("c", 3, None)], &[]),
        true,
        &["root=zfs", "no bootfs", "zpool set bootfs=c/DATASET c"],
    );
    refused(ask("", &[pool("c", 3, None)], &[expect("c", 3)]), false, &["zfs=c/DATASET"]);
    refused(ask("", &[gone(pool("c", 3, Some("c/r")))], &[expect("c", 3)]), true, &["2 of 4 disks of raidz1-0"]);
    let twins = [pool("a", 1, Some("a/x")), pool("a", 2, Some("a/x"))];
    refused(ask("", &twins, &[]), false, &["2 pools are called a (guids 1, 2)", "zfs=1/DATASET"]);
    assert_eq!(chosen(ask("", &twins, &[expect("a", 2)]), 2, Some("a/x"), "image expects"), None);
}

#[test]
fn named() {
    let pools = [pool("a", 1, Some("a/ROOT/x")), pool("b", 2, None)];
    assert_eq!(
        chosen(ask("zfs=a/other", &pools, &[]), 1, Some("a/other"), "dataset of pool a, named by zfs=a/other"),
        None
    );
    assert_eq!(chosen(ask("root=ZFS=b/r", &pools, &[expect("a", 1)]), 2, Some("b/r"), "named by"), None);
    assert_eq!(chosen(ask("zfs=a", &pools, &[]), 1, Some("a/ROOT/x"), "bootfs of pool a"), None);
    assert_eq!(chosen(ask("zfs=b", &pools, &[]), 2, None, "pool b"), None);
    assert_eq!(chosen(ask("zfs=2/r/s", &pools, &[]), 2, Some("b/r/s"), "guid named by"), None);
    assert_eq!(chosen(ask("root=ZFS=b", &pools, &[]), 2, Some("b"), "dataset of pool b"), None);
    refused(
        ask("zfs=z/r", &pools, &[]),
        true,
        &["zfs=z/r asks for pool z", "pool a (online, bootfs a/ROOT/x); pool b"],
    );
    refused(ask("zfs=a/r", &[gone(pool("a", 1, None))], &[]), true, &["cannot be imported", "2 of 4"]);
    let mut foreign = pool("a", 1, None);
    foreign.problem = Some("it was last used by host x".into());
    refused(ask("zfs=a/r", &[foreign], &[]), false, &["host x"]);
    refused(ask("root=/dev/sda1", &pools, &[]), false, &["root=/dev/sda1", "expected root=ZFS=pool/dataset"]);
}

#[test]
fn namesakes() {
    let twins = [pool("a", 1, None), pool("a", 2, None)];
    refused(ask("zfs=a/x", &twins, &[]), false, &["guids 1, 2"]);
    refused(ask("zfs=a/x", &twins, &[expect("a", 3)]), true, &["guids 1, 2"]);
    assert_eq!(chosen(ask("zfs=a/x", &twins, &[expect("a", 2)]), 2, Some("a/x"), "guid the image expects"), None);
    assert_eq!(chosen(ask("zfs=2/x", &twins, &[]), 2, Some("a/x"), "guid named"), None);
    // a copy came first: wait for the original
    let better = chosen(ask("zfs=a/x", &[pool("a", 1, None)], &[expect("a", 2)]), 1, Some("a/x"), "named by");
    assert!(better.unwrap().contains("guid 2"));
}
