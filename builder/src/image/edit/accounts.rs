//! Accounts: lines of `/etc/passwd`, `/etc/shadow`, `/etc/group` and `/etc/gshadow`, homes and keys.

use super::desk::{Data, Desk};
use super::identity::lines_of;
use super::seen::wrong;
use super::{Edits, Password, User};
use crate::tar::{Entry, Kind, TarError};

const PASSWD: &str = "etc/passwd";
const SHADOW: &str = "etc/shadow";
const GROUP: &str = "etc/group";
const GSHADOW: &str = "etc/gshadow";
/// Numbers for people (`login.defs`).
const PEOPLE: std::ops::Range<u32> = 1000..60_000;
const DAY: i64 = 86_400;
/// How an account looks that no password opens.
const LOCKED: &str = "!*";

/// A table of lines with fields between colons.
#[derive(Debug)]
struct Table {
    path: &'static str,
    lines: Vec<String>,
    there: bool,
    changed: bool,
}

impl Table {
    fn read(desk: &Desk, path: &'static str) -> Result<Self, TarError> {
        let text = desk.text(path)?;
        let lines = text.as_deref().unwrap_or_default().lines().map(str::to_owned).collect();
        Ok(Self { path, lines, there: text.is_some(), changed: false })
    }

    fn row(&self, name: &str) -> Option<Vec<&str>> {
        let rows = self.lines.iter().map(|line| line.split(':').collect::<Vec<_>>());
        rows.into_iter().find(|row| row.first() == Some(&name))
    }

    fn field(&self, name: &str, at: usize) -> Option<String> {
        self.row(name)?.get(at).map(|field| (*field).to_owned())
    }

    fn set(&mut self, name: &str, at: usize, value: &str) {
        for line in &mut self.lines {
            let mut row: Vec<&str> = line.split(':').collect();
            if row.first() == Some(&name) {
                row.resize(row.len().max(at + 1), "");
                if let Some(field) = row.get_mut(at) {
                    *field = value;
                }
                *line = row.join(":");
                self.changed = true;
            }
        }
    }

    /// Before the lines of NIS, which end a table.
    fn push(&mut self, line: String) {
        let at = self.lines.iter().position(|line| line.starts_with('+')).unwrap_or(self.lines.len());
        self.lines.insert(at, line);
        self.changed = true;
    }

    fn numbers(&self) -> impl Iterator<Item = u32> {
        self.lines.iter().filter_map(|line| line.split(':').nth(2)?.parse().ok())
    }

    fn join(&mut self, group: &str, at: usize, user: &str) {
        let members = self.field(group, at).unwrap_or_default();
        if members.split(',').any(|member| member == user) {
            return;
        }
        let members = if members.is_empty() { user.to_owned() } else { format!("{members},{user}") };
        self.set(group, at, &members);
    }

    fn write(&self, desk: &mut Desk) -> Result<(), TarError> {
        if self.changed {
            let mode = if self.path.ends_with("shadow") { 0o640 } else { 0o644 };
            desk.put(self.path, lines_of(&self.lines), mode)?;
        }
        Ok(())
    }
}

struct Accounts {
    passwd: Table,
    shadow: Table,
    group: Table,
    gshadow: Table,
    /// Days since 1970, for the last change of a password.
    today: i64,
}

pub(super) fn write(desk: &mut Desk, edits: &Edits) -> Result<(), TarError> {
    let mut all = Accounts {
        passwd: Table::read(desk, PASSWD)?,
        shadow: Table::read(desk, SHADOW)?,
        group: Table::read(desk, GROUP)?,
        gshadow: Table::read(desk, GSHADOW)?,
        today: edits.time / DAY,
    };
    let asked = !edits.users.is_empty() || edits.root_password != Password::Unchanged;
    if asked && !all.passwd.there {
        return Err(wrong(PASSWD.as_bytes(), "expected the table of accounts in the tree, found none"));
    }
    if edits.root_password != Password::Unchanged {
        all.password("root", &edits.root_password)?;
        desk.report.changed(SHADOW.as_bytes(), format!("root: {}", word(&edits.root_password)));
    }
    keys(desk, "root", (0, 0), &edits.ssh_keys)?;
    for user in &edits.users {
        all.user(desk, user)?;
    }
    all.empty(edits.allow_empty_root)?;
    for table in [&all.passwd, &all.shadow, &all.group, &all.gshadow] {
        table.write(desk)?;
    }
    all.tell(desk);
    Ok(())
}

fn word(password: &Password) -> &'static str {
    match password {
        Password::Unchanged => "as it was",
        Password::Locked => "locked",
        Password::Empty => "open to whoever comes",
        Password::Hash(_) => "a password",
    }
}

impl Accounts {
    /// Sets what opens an account.
    fn password(&mut self, name: &str, password: &Password) -> Result<(), TarError> {
        let value = match password {
            Password::Unchanged => return Ok(()),
            Password::Locked => LOCKED,
            Password::Empty => "",
            Password::Hash(hash) => hash,
        };
        if value.contains([':', '\n']) {
            return Err(wrong(
                SHADOW.as_bytes(),
                format!(
                    "{name}: expected the hash of a password, as crypt(5) has them, found one with a colon or a line's end"
                ),
            ));
        }
        if self.passwd.row(name).is_none() {
            return Err(wrong(PASSWD.as_bytes(), format!("expected an account {name}")));
        }
        self.passwd.set(name, 1, "x");
        if self.shadow.row(name).is_some() {
            self.shadow.set(name, 1, value);
            self.shadow.set(name, 2, &self.today.to_string());
        } else {
            self.shadow.push(format!("{name}:{value}:{}:0:99999:7:::", self.today));
        }
        Ok(())
    }

    fn user(&mut self, desk: &mut Desk, user: &User) -> Result<(), TarError> {
        let name = user.name.as_str();
        let proper = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        if name.is_empty()
            || name.len() > 32
            || !name.chars().all(proper)
            || name.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        {
            return Err(wrong(
                PASSWD.as_bytes(),
                format!("user {name:?}: expected a name of up to 32 small letters, digits, - and _, first a letter"),
            ));
        }
        let new = self.passwd.row(name).is_none();
        if new {
            self.create(user)?;
            desk.report.added(PASSWD.as_bytes(), format!("user {name}, {}", word(&user.password)));
        } else {
            if let Some(shell) = &user.shell {
                self.passwd.set(name, 6, shell);
            }
            desk.report.changed(PASSWD.as_bytes(), format!("user {name}, {}", word(&user.password)));
        }
        let password = if new && user.password == Password::Unchanged { &Password::Locked } else { &user.password };
        self.password(name, password)?;
        for group in &user.groups {
            if self.group.row(group).is_none() {
                return Err(wrong(
                    GROUP.as_bytes(),
                    format!("user {name}: the tree has no group {group:?}; install what makes it, or leave it out"),
                ));
            }
            self.group.join(group, 3, name);
            if self.gshadow.row(group).is_some() {
                self.gshadow.join(group, 3, name);
            }
        }
        let number = |at| self.passwd.field(name, at).and_then(|field| field.parse::<u32>().ok());
        let home = self.passwd.field(name, 5).unwrap_or_default();
        let (Some(uid), Some(gid)) = (number(2), number(3)) else {
            return Err(wrong(PASSWD.as_bytes(), format!("{name}: expected numbers of a user and a group")));
        };
        let home = home.trim_matches('/').to_owned();
        self::home(desk, &home, (uid, gid))?;
        keys(desk, &home, (uid, gid), &user.ssh_keys)?;
        if user.sudo { sudo(desk, user) } else { Ok(()) }
    }

    /// The lines of a new account, with a group of its own.
    fn create(&mut self, user: &User) -> Result<(), TarError> {
        let name = &user.name;
        let taken: Vec<u32> = self.passwd.numbers().chain(self.group.numbers()).collect();
        let free = || PEOPLE.into_iter().find(|id| !taken.contains(id));
        let id = user.uid.or_else(free).ok_or_else(|| wrong(PASSWD.as_bytes(), "no number below 60000 is free"))?;
        if self.passwd.numbers().any(|other| other == id) {
            return Err(wrong(PASSWD.as_bytes(), format!("user {name}: the number {id} is taken")));
        }
        let gid = self.group.field(name, 2).and_then(|gid| gid.parse().ok());
        let gid: u32 = if let Some(gid) = gid {
            gid
        } else {
            let id = if self.group.numbers().any(|other| other == id) { free().unwrap_or(id) } else { id };
            self.group.push(format!("{name}:x:{id}:"));
            if self.gshadow.there {
                self.gshadow.push(format!("{name}:!::"));
            }
            id
        };
        let shell = user.shell.as_deref().unwrap_or("/bin/bash");
        self.passwd.push(format!("{name}:x:{id}:{gid}::/home/{name}:{shell}"));
        Ok(())
    }

    /// Whether somebody without a password may become root.
    fn empty(&self, allowed: bool) -> Result<(), TarError> {
        if !self.passwd.there || allowed {
            return Ok(());
        }
        for line in &self.passwd.lines {
            let row: Vec<&str> = line.split(':').collect();
            let [name, field, "0", ..] = row.as_slice() else { continue };
            let open =
                field.is_empty() || (*field == "x" && self.shadow.field(name, 1).is_some_and(|hash| hash.is_empty()));
            if open {
                return Err(wrong(
                    SHADOW.as_bytes(),
                    format!(
                        "{name} has no password: whoever reaches a console is root; lock it ([system] root-password = \"locked\") or give a hash by a file, or say --set system.allow-empty-root=true"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Names the accounts that a password opens, and the keys.
    fn tell(&self, desk: &mut Desk) {
        for line in &self.shadow.lines {
            let mut row = line.split(':');
            let (name, hash) = (row.next().unwrap_or_default(), row.next().unwrap_or_default());
            if hash.is_empty() && !name.is_empty() {
                desk.report.kept(SHADOW.as_bytes(), format!("{name} is open to whoever comes"));
            } else if hash.starts_with('$') || hash.len() == 13 {
                desk.report.kept(SHADOW.as_bytes(), format!("the password of {name}"));
            }
        }
        let keys: Vec<Vec<u8>> =
            desk.held.keys().filter(|path| path.ends_with(b"/.ssh/authorized_keys")).cloned().collect();
        for path in keys {
            desk.report.kept(&path, "whose keys open the account");
        }
    }
}

/// A home with what new ones begin with; one that is there stays as it is.
fn home(desk: &mut Desk, home: &str, owner: (u32, u32)) -> Result<(), TarError> {
    if home.is_empty() || desk.has(home) {
        return Ok(());
    }
    desk.directory(home.as_bytes(), 0o700, owner)?;
    let skeleton: Vec<(Vec<u8>, Entry, Data)> = desk
        .held
        .iter()
        .filter_map(|(path, made)| {
            Some((path.strip_prefix(b"etc/skel/")?.to_vec(), made.entry.clone(), made.data.clone()))
        })
        .collect();
    for (path, entry, data) in skeleton {
        // Files that have several names there are left out; nobody has such.
        if !matches!(entry.kind, Kind::File | Kind::SymbolicLink) {
            continue;
        }
        let place = [home.as_bytes(), b"/", &path].concat();
        let mut above = home.len();
        while let Some(next) = place.get(above + 1..).and_then(|rest| rest.iter().position(|byte| *byte == b'/')) {
            above += 1 + next;
            desk.directory(place.get(..above).unwrap_or_default(), 0o755, owner)?;
        }
        desk.insert(Entry { path: place, uid: owner.0, gid: owner.1, ..entry }, data)?;
    }
    Ok(())
}

/// Adds keys to those that open an account by ssh.
fn keys(desk: &mut Desk, home: &str, owner: (u32, u32), keys: &[String]) -> Result<(), TarError> {
    if keys.is_empty() {
        return Ok(());
    }
    let directory = format!("{home}/.ssh");
    let path = format!("{directory}/authorized_keys");
    let mut lines: Vec<String> = desk.text(&path)?.unwrap_or_default().lines().map(str::to_owned).collect();
    for key in keys {
        let words: Vec<&str> = key.split_whitespace().collect();
        if !words.iter().any(|word| word.starts_with("AAAA")) || key.contains('\n') {
            return Err(wrong(
                path.as_bytes(),
                format!("expected a public ssh key (ssh-ed25519 AAAA...), found {key:?}"),
            ));
        }
        if !lines.contains(key) {
            lines.push(key.clone());
        }
    }
    desk.directory(directory.as_bytes(), 0o700, owner)?;
    let entry = match desk.held.get(path.as_bytes()) {
        Some(made) if made.entry.kind == Kind::File => made.entry.clone(),
        _ => desk.blank(path.as_bytes(), Kind::File, 0o600, owner),
    };
    desk.insert(entry, Data::Bytes(lines_of(&lines).into_bytes()))?;
    desk.report.added(path.as_bytes(), format!("keys: {}", keys.len()));
    Ok(())
}

/// Lets somebody become root; without a password of his own nobody could ask for it.
fn sudo(desk: &mut Desk, user: &User) -> Result<(), TarError> {
    if !desk.has("usr/bin/sudo") {
        return Err(wrong(
            b"usr/bin/sudo",
            format!("user {}: sudo = true, and the tree has no sudo; install it", user.name),
        ));
    }
    let asks = matches!(user.password, Password::Hash(_) | Password::Unchanged);
    let tag = if asks { "" } else { "NOPASSWD: " };
    let path = format!("etc/sudoers.d/{}", user.name);
    let entry = desk.blank(path.as_bytes(), Kind::File, 0o440, (0, 0));
    desk.insert(entry, Data::Bytes(format!("{} ALL=(ALL:ALL) {tag}ALL\n", user.name).into_bytes()))?;
    desk.report.added(path.as_bytes(), if asks { "sudo, with the password" } else { "sudo without a password" });
    Ok(())
}
