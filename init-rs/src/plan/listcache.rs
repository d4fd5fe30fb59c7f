//! `/etc/zfs/zfs-list.cache/POOL`: the list of a pool's file systems that ZED keeps and the booted system makes its mount
//! units from (`zfs-mount-generator(8)`).

use super::names;

/// Where the list of a pool lies in a root.
pub fn path(pool: &str) -> String {
    format!("/etc/zfs/zfs-list.cache/{pool}")
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
