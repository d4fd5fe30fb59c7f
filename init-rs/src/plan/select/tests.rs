use super::*;
use crate::cmdline::{Decided, HostidPolicy, parse};

fn pool(name: &str, guid: u64, bootfs: Option<&str>) -> PoolFact {
    PoolFact { bootfs: bootfs.map(str::to_owned), exported: true, ..PoolFact::named(name, guid) }
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
    // Another one may come, where it would be taken.
    refused(ask("", &[pool("c", 3, None)], &[expect("c", 3)]), true, &["zfs=c/DATASET"]);
    refused(ask("taproot.auto=expected", &[pool("c", 3, None)], &[expect("c", 3)]), false, &["zfs=c/DATASET"]);
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
    assert_eq!(chosen(ask("zfs=b", &pools, &[]), 2, None, "bootfs of pool b"), None);
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
    refused(ask("root=a/b", &pools, &[]), false, &["root=a/b", "expected root=ZFS=pool/dataset"]);
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

fn request(line: &str, edit: impl Fn(&mut Request)) -> Request {
    let mut request = parse(line.as_bytes());
    edit(&mut request);
    request
}

fn policy(request: &mut Request, policy: HostidPolicy) {
    request.import.hostid_policy = Decided::new(policy, "taproot.hostid=x");
}

fn foreign(name: &str, guid: u64) -> PoolFact {
    let mut pool = pool(name, guid, Some(&format!("{name}/r")));
    pool.exported = false;
    pool.foreign = Some("last used by another system, elsewhere (hostid 00000abc; this one's is 00000001)".into());
    pool
}

#[test]
fn pools_of_other_hosts() {
    let pools = [foreign("a", 1)];
    let known = |line: &str| request(line, |_| ());
    let strict = |line: &str| request(line, |r| policy(r, HostidPolicy::Strict));
    let force = |line: &str| request(line, |r| policy(r, HostidPolicy::Force));
    let read_only = |line: &str| request(line, |r| r.import.read_only = Decided::new(true, "taproot.import=ro"));
    let none: &[ExpectedPool] = &[];
    let expected: &[ExpectedPool] = &[expect("a", 1)];

    // Taken over, but never silently.
    for (request, expected, because) in [
        (Box::new(known("zfs=a/r")), none, "it is named by zfs=a/r"),
        (Box::new(known("zfs=1/r")), none, "it is named by zfs=1/r"),
        (Box::new(known("zfs=a")), none, "it is named by zfs=a"),
        (Box::new(known("")), expected, "the image expects it"),
        (Box::new(force("")), none, "taproot.hostid=x"),
        (Box::new(read_only("")), none, "taproot.import=ro writes nothing to it"),
    ] {
        let choice = choose(&request, &pools, expected).unwrap();
        assert_eq!(choice.dataset.as_deref(), Some("a/r"));
        let [warning] = choice.warnings.as_slice() else { panic!("{:?}", choice.warnings) };
        for part in ["elsewhere (hostid 00000abc", because] {
            assert!(warning.contains(part), "expected {part:?} in {warning}");
        }
    }
    // Refused, with the way out, and at once where no disk that comes later changes it.
    let auto: &[&str] = &["elsewhere", "root=ZFS=a/DATASET", "taproot.hostid=force", "taproot.import=ro"];
    refused(choose(&known(""), &pools, &[expect("a", 0)]), true, auto);
    refused(choose(&known("taproot.auto=expected"), &pools, &[expect("a", 0)]), false, auto);
    refused(
        choose(&strict("zfs=a/r"), &pools, expected),
        false,
        &["elsewhere", "taproot.hostid=x refuses it", "export"],
    );
    refused(choose(&strict(""), &pools, expected), true, &["taproot.hostid=x refuses it"]);
    // It is no rival to one's own.
    let both = [foreign("a", 1), pool("a", 2, Some("a/own")), pool("b", 3, Some("b/r"))];
    let choice = choose(&known(""), &both, none).unwrap();
    assert_eq!((choice.guid, choice.dataset.as_deref()), (2, Some("a/own")));
    assert_eq!(choose(&strict("zfs=a"), &both, none).unwrap().guid, 2);
    refused(choose(&known("zfs=a"), &both, none), false, &["2 pools are called a (guids 1, 2)"]);
}

#[test]
fn destroyed_pools_are_listed_and_never_taken() {
    let mut destroyed = pool("a", 1, None);
    destroyed.destroyed = true;
    destroyed.health = Health::Unavailable;
    let pools = [destroyed.clone(), pool("b", 2, Some("b/r"))];
    refused(ask("zfs=a/r", &pools, &[]), false, &["asks for pool a", "it was destroyed", "zpool import -D"]);
    refused(ask("zfs=1/r", &pools, &[]), false, &["it was destroyed"]);
    refused(ask("", &pools[..1], &[]), true, &["pool a (destroyed"]);
    assert_eq!(chosen(ask("", &pools, &[]), 2, Some("b/r"), "the only"), None);
    // One that the image expects is not waited for either.
    assert_eq!(chosen(ask("", &pools, &[expect("a", 1)]), 2, Some("b/r"), "the only"), None);
    // Made anew under the old name.
    let renewed = [destroyed, pool("a", 2, Some("a/r"))];
    assert_eq!(chosen(ask("zfs=a", &renewed, &[]), 2, Some("a/r"), "named by"), None);
    assert_eq!(chosen(ask("", &renewed, &[]), 2, Some("a/r"), "the only"), None);
}

#[test]
fn a_missing_log_needs_leave() {
    let mut pool = pool("a", 1, Some("a/r"));
    pool.health = Health::Degraded;
    pool.missing_log = Some("/dev/disk/by-id/log0".into());
    let pools = [pool];
    for line in ["zfs=a/r", ""] {
        refused(ask(line, &pools, &[]), true, &["log device /dev/disk/by-id/log0", "taproot.missing_log=yes"]);
        let leave = request(line, |r| r.import.missing_log = Decided::new(true, "taproot.missing_log=yes"));
        let choice = choose(&leave, &pools, &[]).unwrap();
        assert!(choice.warnings[0].contains("without its log device /dev/disk/by-id/log0"), "{:?}", choice.warnings);
    }
}

#[test]
fn unsupported_features_leave_a_read_only_import() {
    let mut pool = pool("a", 1, None);
    pool.unwritable = Some("the pool uses features this OpenZFS does not have: org.example:new".into());
    pool.bootfs_unknown = true;
    let pools = [pool];
    refused(ask("zfs=a/r", &pools, &[]), false, &["org.example:new", "taproot.import=ro"]);
    refused(ask("", &pools, &[]), true, &["bootfs not known", "org.example:new"]);
    let read_only = |line: &str| request(line, |r| r.import.read_only = Decided::new(true, "taproot.import=ro"));
    let choice = choose(&read_only("zfs=a/r"), &pools, &[]).unwrap();
    assert!(choice.warnings[0].contains("imported read-only: the pool uses features"), "{:?}", choice.warnings);
    // Its bootfs is known only once it is imported, which needs its name.
    assert_eq!(choose(&read_only("zfs=a"), &pools, &[]).unwrap().dataset, None);
    refused(choose(&read_only(""), &pools, &[]), true, &["zfs=a/DATASET"]);
}

#[test]
fn degraded_only_if_allowed() {
    let mut pool = pool("a", 1, Some("a/r"));
    pool.health = Health::Degraded;
    let pools = [pool];
    let never = |line: &str| request(line, |r| r.degraded = Decided::new(None, "taproot.degraded=no"));
    refused(choose(&never("zfs=a/r"), &pools, &[]), true, &["disks are missing", "taproot.degraded=no"]);
    refused(choose(&never(""), &pools, &[]), true, &["taproot.degraded=no"]);
    assert!(ask("zfs=a/r", &pools, &[]).is_ok());
}

#[test]
fn of_one_name_the_pool_that_the_machine_was_started_from() {
    let mut pools = [pool("a", 11, Some("a/r")), pool("a", 12, Some("a/r")), pool("b", 13, Some("b/r"))];
    for line in ["zfs=a", ""] {
        refused(ask(line, &pools, &[]), false, &["2 pools are called a"]);
    }
    pools[1].started = true;
    for line in ["zfs=a", ""] {
        assert_eq!(ask(line, &pools, &[]).unwrap().guid, 12, "{line}");
    }
    assert!(ask("zfs=a", &pools, &[]).unwrap().why.ends_with("the one that the machine was started from"));
    // What a word or the image says is stronger.
    assert_eq!(ask("zfs=11", &pools, &[]).unwrap().guid, 11);
    assert_eq!(ask("zfs=a", &pools, &[expect("a", 11)]).unwrap().guid, 11);
    assert_eq!(ask("zfs=b", &pools, &[]).unwrap().guid, 13);
    // Of two on that disk none is the one.
    pools[0].started = true;
    refused(ask("zfs=a", &pools, &[]), false, &["2 pools are called a"]);
}

#[test]
fn pools_passed_over_are_named() {
    let pools = [pool("b", 2, Some("b/r")), pool("a", 1, Some("a/r")), pool("c", 3, Some("c/r"))];
    let warnings = ask("", &pools, &[]).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    for part in ["a is booted", "first by name", "passed over: b, c", "zfs=a"] {
        assert!(warnings[0].contains(part), "expected {part:?} in {}", warnings[0]);
    }
    assert_eq!(ask("", &pools, &[expect("b", 2)]).unwrap().warnings, [""; 0]);
    assert_eq!(ask("zfs=b", &pools, &[]).unwrap().warnings, [""; 0]);

    // Named ones are left out.
    for (skip, why, rest) in [("a", "first by name", "c"), ("1", "first by name", "c")] {
        let skipping = request("", |r| r.import.skip = vec![skip.to_owned()]);
        let choice = choose(&skipping, &pools, &[]).unwrap();
        assert_eq!(choice.guid, 2);
        assert!(choice.why.contains(why) && choice.warnings[0].contains(&format!("passed over: {rest}")));
        // It is not waited for, whatever the image expects.
        let choice = choose(&skipping, &pools[..1], &[expect("a", 1)]).unwrap();
        assert_eq!((choice.guid, choice.better), (2, None));
        // Naming it is stronger.
        let named = request("zfs=a", |r| r.import.skip = vec![skip.to_owned()]);
        assert_eq!(choose(&named, &pools, &[]).unwrap().guid, 1);
        refused(choose(&skipping, &pools[1..2], &[]), true, &["left out by taproot.skip_pools"]);
    }
}
