//! Dataset names: checking and relations (zfs(8), "ZFS File System Hierarchy").

/// Longest dataset name the kernel takes, bytes without the NUL (`ZFS_MAX_DATASET_NAME_LEN` - 1).
const MAX_NAME: usize = 255;

/// Checks that `name` can be the name of a dataset; the error says what is wrong.
pub fn check(name: &str) -> Result<(), String> {
    if name.len() > MAX_NAME {
        return Err(format!("{} bytes long, at most {MAX_NAME} are possible", name.len()));
    }
    if name.is_empty() {
        return Err("it is empty".to_owned());
    }
    if let Some((base, _)) = name.split_once('@') {
        return Err(format!("it names a snapshot; expected a dataset, such as `{base}`"));
    }
    if name.starts_with('/') || name.ends_with('/') {
        return Err("it begins or ends with `/`".to_owned());
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("a part of it is empty, `.` or `..`".to_owned());
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.: /".contains(*c))) {
        Some(bad) => Err(format!("{bad:?} cannot be in a name")),
        None => Ok(()),
    }
}

/// Longest name of a layer, bytes: its image's name gets a suffix, and temporary names a prefix.
const MAX_LAYER: usize = 100;
/// What a layer cannot be called: the upper of an earlier boot goes by it where it is a lower.
const RESERVED_LAYER: &str = "upper";

/// Checks that `name` can be the name of a layer; the error says what is wrong. What could separate or end something in a list of
/// layers, in mount options or in a path is in no name.
pub fn check_layer(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it is empty".to_owned());
    }
    if name.len() > MAX_LAYER {
        return Err(format!("{} bytes long, at most {MAX_LAYER} are possible", name.len()));
    }
    if name == RESERVED_LAYER {
        return Err(format!("`{RESERVED_LAYER}` is what the writable layer is called"));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("expected a letter or digit at its beginning".to_owned());
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.+@".contains(*c))) {
        Some(bad) => Err(format!("{bad:?} cannot be in a name; letters, digits and - _ . + @ can")),
        None => Ok(()),
    }
}

/// Where what the boot and the kernel show lies: what covers it hides that.
const RESERVED_DIRS: [&str; 4] = ["/run", "/proc", "/sys", "/dev"];

/// A directory of the root that may lie elsewhere, as paths are written: absolute, without slashes that mean nothing; `/` for all
/// of it. The error says why it may not.
pub fn check_kept(dir: &str) -> Result<String, String> {
    if !dir.starts_with('/') {
        return Err("expected an absolute path at its beginning".to_owned());
    }
    let dir = format!("/{}", clean_path(dir)?);
    // A program that is starting up must not lose its libraries.
    if dir.starts_with("/lib") {
        return Err("what is called /lib... is not kept".to_owned());
    }
    match RESERVED_DIRS.iter().find(|reserved| is_within(&dir, reserved)) {
        Some(reserved) => Err(format!("{reserved} belongs to the running system")),
        None => Ok(dir),
    }
}

/// A path without slashes that mean nothing, also at its ends.
pub fn clean_path(path: &str) -> Result<String, String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err("`.` and `..` cannot be in a path here".to_owned());
    }
    if path.contains('\0') {
        return Err("a NUL cannot be in a path".to_owned());
    }
    Ok(parts.join("/"))
}

/// The pool a dataset lies in: everything before the first `/`.
pub fn pool_of(name: &str) -> &str {
    name.split_once('/').map_or(name, |(pool, _)| pool)
}

/// The parent dataset; `None` for a pool's own dataset.
pub fn parent(name: &str) -> Option<&str> {
    name.rsplit_once('/').map(|(parent, _)| parent)
}

/// The last component.
pub fn base(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, base)| base)
}

/// Whether `name` is `ancestor` or lies below it (by components: `a/bc` is not below `a/b`).
pub fn is_within(name: &str, ancestor: &str) -> bool {
    name.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `name` and its ancestors, the pool's dataset first.
pub fn lineage(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').filter_map(|(at, _)| name.get(..at)).chain(std::iter::once(name))
}

#[cfg(test)]
mod tests {
    use super::check_layer;

    #[test]
    fn what_a_layer_can_be_called() {
        for name in ["base", "20-site", "debian_13.1+deb@2026", "x", &"a".repeat(100)] {
            assert_eq!(check_layer(name), Ok(()), "{name}");
        }
        for name in ["", "upper", "a:b", "a,b", "a b", "../a", ".a", "-a", "a/b", "a=b", "a\\b", "ä", &"a".repeat(101)]
        {
            assert!(check_layer(name).is_err(), "{name}");
        }
    }
}
