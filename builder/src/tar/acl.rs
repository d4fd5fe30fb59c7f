//! POSIX access lists: text in archives, bytes in the kernel (`linux/posix_acl_xattr.h`).

const VERSION: u32 = 2;
const USER_OBJ: u16 = 1;
const USER: u16 = 2;
const GROUP_OBJ: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NOBODY: u32 = u32::MAX;

/// The kernel's form of a list; `None` if it says no more than the mode does.
pub(super) fn pack(text: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "an access list that is not text".to_owned())?;
    let mut entries = Vec::new();
    for line in text
        .split([',', '\n'])
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
    {
        entries.push(entry(line)?);
    }
    entries.sort_unstable();
    if entries.iter().all(|(tag, _, _)| matches!(*tag, USER_OBJ | GROUP_OBJ | OTHER)) {
        return Ok(None);
    }
    let mut packed = VERSION.to_le_bytes().to_vec();
    for (tag, id, rights) in entries {
        packed.extend_from_slice(&tag.to_le_bytes());
        packed.extend_from_slice(&rights.to_le_bytes());
        packed.extend_from_slice(&id.to_le_bytes());
    }
    Ok(Some(packed))
}

/// `user::rw-`, `user:1000:r--`, `group:name:r-x:1000`.
fn entry(line: &str) -> Result<(u16, u32, u16), String> {
    let wrong = || format!("an entry of an access list expected, {line:?} found");
    let parts: Vec<&str> = line.split(':').map(str::trim).collect();
    let (kind, who, rights) = match *parts.as_slice() {
        [kind @ ("mask" | "m" | "other" | "o"), rights] => (kind, "", rights),
        [kind, who, rights] => (kind, who, rights),
        // Behind the rights, star says the number of a name.
        [kind, _, rights, number] => (kind, number, rights),
        _ => return Err(wrong()),
    };
    let tag = match (kind, who.is_empty()) {
        ("user" | "u", true) => USER_OBJ,
        ("user" | "u", false) => USER,
        ("group" | "g", true) => GROUP_OBJ,
        ("group" | "g", false) => GROUP,
        ("mask" | "m", _) => MASK,
        ("other" | "o", _) => OTHER,
        _ => return Err(wrong()),
    };
    let id = match tag {
        USER | GROUP => who.parse().map_err(|_| {
            format!("an access list names {who:?}, a number was expected: make the archive with --numeric-owner")
        })?,
        _ => NOBODY,
    };
    let mut bits = 0;
    for right in rights.chars() {
        bits |= match right {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return Err(wrong()),
        };
    }
    Ok((tag, id, bits))
}
