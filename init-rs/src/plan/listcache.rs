//! `/etc/zfs/zfs-list.cache/POOL`: the list of a pool's file systems that ZED keeps and the booted system makes its mount
//! units from (`zfs-mount-generator(8)`).

use super::facts::{CanMount, Dataset, Mountpoint};
use super::names;

/// Where the lists lie in a root, a file for each pool.
pub const DIR: &str = "/etc/zfs/zfs-list.cache";

/// Where the list of a pool lies in a root.
pub fn path(pool: &str) -> String {
    format!("{DIR}/{pool}")
}

/// The file systems of a list, as far as it is known from there where they are mounted.
pub fn datasets(text: &str) -> Vec<Dataset> {
    let dataset = |line: &str| {
        let mut fields = line.split('\t');
        let (name, mountpoint, canmount) = (fields.next()?, fields.next()?, fields.next()?);
        let canmount = match canmount {
            "off" => CanMount::Off,
            "noauto" => CanMount::NoAuto,
            _ => CanMount::On,
        };
        let mountpoint = match mountpoint {
            "legacy" => Mountpoint::Legacy,
            path if path.starts_with('/') => Mountpoint::Path(path.to_owned()),
            _ => Mountpoint::None,
        };
        Some(Dataset { canmount, mountpoint, ..Dataset::with_defaults(name) })
    };
    text.lines().filter_map(dataset).collect()
}

/// Names of those that are mounted by their properties (`canmount=on` and a path), and of those that look like roots: they tell
/// what belongs to another system. Lines are tab-separated: name, mountpoint, canmount, and more that is not needed here.
pub fn to_look_at<'a>(text: &'a str, pool: &str) -> Vec<&'a str> {
    let wanted = |line: &'a str| {
        let mut fields = line.split('\t');
        let (name, mountpoint, canmount) = (fields.next()?, fields.next()?, fields.next()?);
        let mounted = canmount == "on" && mountpoint.starts_with('/');
        let root = canmount != "off" && mountpoint == "/";
        ((mounted || root) && names::pool_of(name) == pool).then_some(name)
    };
    text.lines().filter_map(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_as_datasets() {
        let all = datasets("t\tnone\toff\ton\nt/ROOT/a b\t/\tnoauto\nt/l\tlegacy\ton\nbroken\n");
        let facts: Vec<_> = all.iter().map(|d| (d.name.as_str(), d.canmount, d.path())).collect();
        let expected =
            [("t", CanMount::Off, None), ("t/ROOT/a b", CanMount::NoAuto, Some("/")), ("t/l", CanMount::On, None)];
        assert_eq!(facts, expected);
        assert_eq!(all.last().unwrap().mountpoint, Mountpoint::Legacy);
    }

    #[test]
    fn what_is_mounted_and_what_looks_like_a_root() {
        let text = "tank\tnone\ton\ton\n\
            tank/home\t/home\ton\ton\toff\n\
            tank/be\t/\tnoauto\ton\n\
            tank/l\tlegacy\ton\n\
            tank/a b\t/a b\ton\n\
            other/x\t/x\ton\n\
            broken /line on\n\n";
        assert_eq!(to_look_at(text, "tank"), ["tank/home", "tank/be", "tank/a b"]);
        assert_eq!(to_look_at("", "tank"), [""; 0]);
    }
}
