//! Why a pool is left alone, or cannot be booted from as things are.

use crate::cmdline::{HostidPolicy, Request, Selector};
use crate::image::ExpectedPool;
use crate::plan::facts::{Health, PoolFact};

/// Something in the way of importing a pool.
pub(super) struct Obstacle {
    /// The end of a sentence, with the way out.
    pub(super) text: String,
    /// Whether waiting for devices may help.
    pub(super) wait: bool,
}

/// Whether the request names this pool, by its name or its guid in decimal.
pub fn names(request: &Request, name: &str, guid: u64) -> bool {
    match &request.root.value {
        Selector::Pool(pool) | Selector::Dataset { pool, .. } => pool == name || pool.parse() == Ok(guid),
        Selector::Auto | Selector::Device(_) | Selector::Medium | Selector::Unusable(_) => false,
    }
}

/// Whether the request names a pool by this guid.
pub(super) fn is_guid(request: &Request, guid: u64) -> bool {
    match &request.root.value {
        Selector::Pool(pool) | Selector::Dataset { pool, .. } => pool.parse() == Ok(guid),
        Selector::Auto | Selector::Device(_) | Selector::Medium | Selector::Unusable(_) => false,
    }
}

/// Why a pool is not even opened, if so: nobody asks for it, it was destroyed, it may be another system's, or left over.
pub fn untouched(request: &Request, pool: &PoolFact, expected: &[ExpectedPool]) -> Option<String> {
    let named = names(request, &pool.name, pool.guid);
    match &request.root.value {
        _ if pool.destroyed => {
            Some("it was destroyed; a boot never imports such a pool (in a running system: zpool import -D)".to_owned())
        }
        Selector::Unusable(why) => Some(why.clone()),
        Selector::Device(device) => Some(format!("{} asks for the block device {device}", request.root.why)),
        Selector::Medium => Some(format!("{} asks for a live medium", request.root.why)),
        Selector::Pool(wanted) | Selector::Dataset { pool: wanted, .. } if !named => {
            Some(format!("{} asks for pool {wanted}", request.root.why))
        }
        Selector::Auto if skipped(request, &pool.name, pool.guid) => Some("left out by taproot.skip_pools".to_owned()),
        _ => foreign(request, pool, expected).err().or_else(|| doubted(request, pool, expected).err()),
    }
}

/// Whether a pool that may be left over, or belong to something else, may be written to: yes, with a warning, or why not.
fn doubted(request: &Request, pool: &PoolFact, expected: &[ExpectedPool]) -> Result<Option<String>, String> {
    let PoolFact { name, guid, doubt: Some(doubt), .. } = pool else { return Ok(None) };
    let text = &doubt.text;
    let because = if names(request, name, *guid) {
        format!("it is named by {}", request.root.why)
    } else if request.import.read_only.value {
        format!("{} writes nothing to it", request.import.read_only.why)
    } else if !doubt.grave && expected.iter().any(|e| e.guid == *guid) {
        "the image expects it".to_owned()
    } else {
        return Err(format!(
            "{text}; if it is meant all the same, name it: zfs={guid}, or look at it read-only with taproot.import=ro"
        ));
    };
    Ok(Some(format!("pool {name}: {text}; it is imported because {because}")))
}

/// Whether the setting takes this pool out of the choice.
pub(super) fn skipped(request: &Request, name: &str, guid: u64) -> bool {
    request.import.skip.iter().any(|skip| skip == name || skip.parse() == Ok(guid))
}

/// Whether the pool may be imported as far as its last user is concerned: yes, with a warning if it is another system's, or
/// why not. The kernel does not look at the hostid.
fn foreign(request: &Request, pool: &PoolFact, expected: &[ExpectedPool]) -> Result<Option<String>, String> {
    let Some(whose) = &pool.foreign else { return Ok(None) };
    let policy = &request.import.hostid_policy;
    let because = match policy.value {
        HostidPolicy::Force => policy.why.clone(),
        HostidPolicy::Strict => {
            return Err(format!(
                "it was {whose}; {} refuses it: export it there, or boot with taproot.hostid=force",
                policy.why
            ));
        }
        HostidPolicy::Known if names(request, &pool.name, pool.guid) => {
            format!("it is named by {}", request.root.why)
        }
        HostidPolicy::Known if expected.iter().any(|e| e.guid == pool.guid) => "the image expects it".to_owned(),
        HostidPolicy::Known if request.import.read_only.value => {
            format!("{} writes nothing to it", request.import.read_only.why)
        }
        HostidPolicy::Known => {
            let name = &pool.name;
            return Err(format!(
                "it was {whose}; if it is yours all the same, name it: root=ZFS={name}/DATASET or zfs={name}, or boot with \
                 taproot.hostid=force, or read-only with taproot.import=ro"
            ));
        }
    };
    Ok(Some(format!("pool {} was {whose}; it is imported because {because}", pool.name)))
}

/// Why a pool cannot be imported as things are.
pub(super) fn obstacle(request: &Request, pool: &PoolFact, expected: &[ExpectedPool]) -> Option<Obstacle> {
    let import = &request.import;
    let (text, wait) = if let Some(text) = untouched(request, pool, expected) {
        (text, false)
    } else if let Some(problem) = &pool.problem {
        (problem.clone(), pool.health == Health::Unavailable && !pool.hopeless)
    } else if pool.health == Health::Unavailable {
        ("too many of its disks are missing or damaged".to_owned(), true)
    } else if let Some(why) = pool.unwritable.as_ref().filter(|_| !import.read_only.value) {
        (format!("{why}; it can be imported read-only: taproot.import=ro"), false)
    } else if let Some(log) = pool.missing_log.as_ref().filter(|_| !import.missing_log.value) {
        let text = "is missing, and what was written last may be only there; attach it, or give that up with";
        (format!("its log device {log} {text} taproot.missing_log=yes"), true)
    } else if pool.health == Health::Degraded && request.degraded.value.is_none() {
        (format!("some of its disks are missing, and {} allows no degraded import", request.degraded.why), true)
    } else {
        return None;
    };
    Some(Obstacle { text, wait })
}

/// What is imported against a rule, and why: never silently.
pub(super) fn warnings(request: &Request, pool: &PoolFact, expected: &[ExpectedPool]) -> Vec<String> {
    let name = &pool.name;
    let whose = foreign(request, pool, expected).ok().flatten();
    let doubt = doubted(request, pool, expected).ok().flatten();
    let log = pool.missing_log.as_ref().map(|log| {
        let why = &request.import.missing_log.why;
        format!("pool {name} is imported without its log device {log} ({why}): what only the log holds is lost")
    });
    let unwritable = pool.unwritable.as_ref().map(|why| format!("pool {name} is imported read-only: {why}"));
    [whose, doubt, log, unwritable].into_iter().flatten().collect()
}
