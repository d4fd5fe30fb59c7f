//! The seam: what the program asks of the machine.

use super::files::{Node, errno};
use super::people::Screen;
use super::world::{End, Over, World};
use super::zfs::name_of;
use super::{apart, copying, layering, mounting, scout, verity};
use std::any::Any;
use std::ffi::OsString;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use taproot_init::scout::copy::COPIER;
use taproot_init::sys::consoles::{Consoles, Secret};
use taproot_init::sys::switch_root::SwitchError;
use taproot_init::sys::{
    Attached, Ended, FileInfo, FileKind, Finished, Heard, Mapping, OverlayMount, Program, System, Terminals, ZfsCall,
    ZfsReply,
};

/// How often a program's caller is asked whether it is still wanted.
const STOP_TURN: Duration = Duration::from_millis(250);

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl System for World {
    fn zfs(&self, call: &ZfsCall<'_>) -> io::Result<ZfsReply> {
        let name = String::from_utf8_lossy(call.name).into_owned();
        if let Err(e) = self.enter(&format!("zfs {}", name_of(call.number)), &name) {
            return Ok(ZfsReply { errno: e.raw_os_error().unwrap_or(libc::EIO), ..ZfsReply::default() });
        }
        if !self.state().loaded("zfs") {
            return Err(errno(libc::ENOENT));
        }
        let answer = self.state().zfs(call);
        match answer.took {
            Some(took) => self.pass(took),
            None => self.never(),
        }
        if answer.reply.errno != 0 {
            self.state().note(false, &format!("  errno {}", answer.reply.errno));
        }
        Ok(answer.reply)
    }

    fn mount(&self, source: &str, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<()> {
        // What needs no disk is neither late nor lost.
        let pseudo = matches!(fstype, "devtmpfs" | "proc" | "sysfs" | "tmpfs" | "efivarfs");
        let kind = if pseudo { "mount pseudo" } else { "mount" };
        self.enter(kind, &format!("{source} {} {fstype} {flags:#x} {data}", shown(target)))?;
        let result = mounting::mount(self, source, target, fstype, flags, data);
        if let Err(e) = &result {
            self.state().note(false, &format!("  {e}"));
        }
        result
    }

    fn bind(&self, source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
        self.enter("bind", &format!("{} {} {read_only}", shown(source), shown(target)))?;
        layering::bind(self, source, target, read_only)
    }

    fn mount_image(&self, image: &Path, target: &Path, fstype: &str) -> io::Result<String> {
        self.enter("mount_image", &format!("{} {} {fstype}", shown(image), shown(target)))?;
        layering::mount_image(self, image, target, fstype)
    }

    fn attach_image(&self, image: &Path) -> io::Result<Attached> {
        self.enter("attach_image", &shown(image))?;
        verity::attach(self, image)
    }

    fn detach_loop(&self, device: &Path) -> io::Result<()> {
        self.enter("detach_loop", &shown(device))
    }

    fn read_image(&self, node: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
        self.enter("read_image", &shown(node))?;
        verity::read(self, node, take)
    }

    fn map(&self, mapping: &Mapping) -> io::Result<PathBuf> {
        self.enter("map", &format!("{} {}", mapping.name, mapping.parameters))?;
        verity::map(self, mapping)
    }

    fn unmap(&self, name: &str) -> io::Result<()> {
        self.enter("unmap", name)?;
        verity::unmap(self, name)
    }

    fn mount_overlay(&self, overlay: &OverlayMount, target: &Path) -> io::Result<()> {
        self.enter("mount_overlay", &format!("{overlay:?} {}", shown(target)))?;
        layering::mount_overlay(self, overlay, target)
    }

    fn probe_whiteout(&self, dir: &Path) -> io::Result<()> {
        self.enter("probe_whiteout", &shown(dir))?;
        layering::probe_whiteout(self, dir)
    }

    fn zvol_name(&self, node: &Path) -> io::Result<String> {
        self.enter("zvol_name", &shown(node))?;
        layering::zvol_name(self, node)
    }

    fn mount_file(&self, file: &Path, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<String> {
        self.enter("mount_file", &format!("{} {} {fstype} {flags:#x} {data}", shown(file), shown(target)))?;
        layering::mount_file(self, file, target, fstype, flags & libc::MS_RDONLY != 0)
    }

    fn copy_dir(&self, from: &Path, to: &Path, content: bool) -> io::Result<()> {
        self.enter("copy_dir", &format!("{} {} {content}", shown(from), shown(to)))?;
        self.state().names.copy_dir(from, to, content)
    }

    fn give(&self, path: &Path, owner: u32, group: u32) -> io::Result<()> {
        self.enter("give", &format!("{} {owner} {group}", shown(path)))
    }

    fn is_opaque(&self, _dir: &Path) -> bool {
        false
    }

    fn unmount(&self, target: &Path, lazy: bool) -> io::Result<()> {
        self.enter("unmount", &shown(target))?;
        mounting::unmount(self, target, lazy)
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        self.enter("read", &shown(path))?;
        let mut state = self.state();
        if path == Path::new("/proc/self/mounts") {
            return Ok(mounting::list(&state).into_bytes());
        }
        let bytes = state.names.bytes(path).map(|bytes| bytes.iter().take(limit).copied().collect());
        if let Err(e) = &bytes {
            state.note(false, &format!("  {e}"));
        }
        bytes
    }

    fn read_secret(&self, path: &Path, limit: usize) -> io::Result<Secret> {
        self.read(path, limit).map(Secret::new)
    }

    fn read_at(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.enter("read_at", &format!("{} {offset}", shown(path)))?;
        let state = self.state();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = state.names.bytes(path)?.get(from..).unwrap_or_default();
        let mut filled = 0;
        for (slot, byte) in buf.iter_mut().zip(bytes) {
            *slot = *byte;
            filled += 1;
        }
        Ok(filled)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(bytes);
        self.enter("write", &format!("{} {}", shown(path), text.lines().next().unwrap_or_default()))?;
        if path == Path::new("/sys/power/resume") {
            return self.resume(text.trim());
        }
        self.state().names.write(path, &mut |content| *content = bytes.to_vec())
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.enter("append", &shown(path))?;
        self.state().names.write(path, &mut |content| content.extend(bytes))
    }

    fn save(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.enter("save", &shown(path))?;
        self.state().names.write(path, &mut |content| *content = bytes.to_vec())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.enter("sync", &shown(path))?;
        self.state().names.node(path).map(drop)
    }

    fn stat(&self, path: &Path) -> io::Result<FileInfo> {
        self.enter("stat", &shown(path))?;
        let state = self.state();
        Ok(match state.names.node(path)? {
            Node::Dir => FileInfo { kind: FileKind::Directory, mode: 0o755, size: 0 },
            Node::File(bytes, mode) => FileInfo { kind: FileKind::File, mode: *mode, size: bytes.len() as u64 },
            Node::Block(major, minor) => {
                FileInfo { kind: FileKind::Block { major: *major, minor: *minor }, mode: 0o600, size: 0 }
            }
            Node::Char | Node::Link(_) => FileInfo { kind: FileKind::Other, mode: 0o600, size: 0 },
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.enter("list", &shown(path))?;
        self.state().names.list(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.enter("read_link", &shown(path))?;
        match self.state().names.link(path)? {
            Node::Link(target) => Ok(PathBuf::from(target)),
            _ => Err(errno(libc::EINVAL)),
        }
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.enter("canonical", &shown(path))?;
        let state = self.state();
        state.names.node(path)?;
        Ok(Path::new("/").join(state.names.walk(path, true)?.path))
    }

    fn make_dirs(&self, path: &Path) -> io::Result<()> {
        self.enter("make_dirs", &shown(path))?;
        self.state().names.make_dirs(path)
    }

    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        self.enter("symlink", &format!("{} -> {}", shown(path), shown(target)))?;
        self.state().names.symlink(target, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.enter("rename", &format!("{} {}", shown(from), shown(to)))?;
        self.state().names.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.enter("remove", &shown(path))?;
        self.state().names.remove(path)
    }

    fn keep_program(&self, place: &Path) -> io::Result<()> {
        self.enter("keep_program", &shown(place))?;
        self.state().names.write(place, &mut |content| *content = b"program".to_vec())
    }

    fn noexec(&self, path: &Path) -> bool {
        let state = self.state();
        let Ok(place) = state.names.walk(path, true) else { return false };
        let mount = state.names.mount_of(&place.path);
        mount.is_some_and(|m| m.flags & libc::MS_NOEXEC != 0 || m.data.split(',').any(|option| option == "noexec"))
    }

    fn make_mutable(&self, path: &Path) -> io::Result<()> {
        self.enter("make_mutable", &shown(path))
    }

    fn wipe(&self, path: &Path) -> io::Result<()> {
        self.enter("wipe", &shown(path))?;
        let mut state = self.state();
        let place = state.names.walk(path, true)?;
        let in_ram = state.names.mount_of(&place.path).is_some_and(|m| matches!(m.fstype.as_str(), "rootfs" | "tmpfs"));
        if !in_ram {
            return Ok(());
        }
        state.names.bytes(path)?;
        state.names.write(path, &mut |content| content.fill(0))
    }

    fn now(&self) -> Duration {
        let state = self.state();
        state.shown.unwrap_or(state.now)
    }

    fn wall_clock(&self) -> u64 {
        let state = self.state();
        state.machine.clock + state.now.as_secs()
    }

    fn sleep(&self, time: Duration) {
        self.state().note(false, &format!("sleep {time:?}"));
        self.pass(time);
    }

    /// The work is done first, and then shown as it would have been seen while it was done: what was watched inside of it was
    /// shown there.
    fn watched(&self, tick: Duration, tell: &mut (dyn FnMut(Duration) + Send), work: &mut dyn FnMut()) {
        let start = self.now();
        self.state().shown_inside.push(Vec::new());
        let result = catch_unwind(AssertUnwindSafe(work));
        if result.is_err() && !is_over(&result) {
            resume_unwind(result.err().unwrap_or_else(|| Box::new(Over)));
        }
        let end = self.time();
        let inside = self.state().shown_inside.pop().unwrap_or_default();
        let mut at = start + tick;
        while at < end && !tick.is_zero() {
            if !inside.iter().any(|(from, to)| *from < at && at <= *to) {
                self.state().shown = Some(at);
                tell(at.saturating_sub(start));
            }
            at += tick;
        }
        self.state().shown = None;
        if let Some(outside) = self.state().shown_inside.last_mut() {
            outside.push((start, end));
        }
        if let Err(payload) = result {
            resume_unwind(payload);
        }
    }

    /// By one thread: a seed is one story.
    fn together(&self, work: &(dyn Fn() + Sync)) {
        work();
    }

    fn consoles(&self, _which: Terminals) -> Box<dyn Consoles> {
        Box::new(Screen(self.clone()))
    }

    fn kmsg(&self, record: &str) -> io::Result<()> {
        self.enter("kmsg", "")?;
        let mut state = self.state();
        // The call itself is no news.
        if state.events.last().is_some_and(|event| event.text == "kmsg") {
            state.events.pop();
        }
        if record.is_empty() {
            return Ok(());
        }
        let text = record.trim_end();
        state.note(true, text.split_once('>').map_or(text, |(_, text)| text));
        Ok(())
    }

    fn kernel_log(&self) -> Vec<String> {
        self.events().into_iter().filter(|event| event.log).map(|event| event.text).collect()
    }

    fn attach_console(&self) -> io::Result<()> {
        self.enter("attach_console", "")
    }

    fn run(
        &self,
        program: &Program,
        limit: Option<Duration>,
        output: usize,
        stop: &mut dyn FnMut() -> bool,
    ) -> io::Result<Finished> {
        let path = shown(&program.path);
        self.enter("run", &format!("{path} {}", program.args.join(" ")))?;
        if let [COPIER, ..] = program.args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            return copying::run(self, program.args.get(1..).unwrap_or_default(), stop);
        }
        if let Some(finished) = apart::run(self, &program.args, limit, stop) {
            return Ok(finished);
        }
        let spec = self.state().machine.programs.get(&path).cloned().ok_or_else(|| errno(libc::ENOENT))?;
        let used = |arg: &String| self.state().names.mounts.iter().any(|mount| mount.source == *arg);
        if path.starts_with("/sbin/fsck.") && program.args.iter().any(used) {
            return Ok(Finished { ended: Ended::Exit(8), output: Secret::new(b"it is in use".to_vec()) });
        }
        let end = spec.takes.unwrap_or(Duration::MAX);
        let last = end.min(limit.unwrap_or(Duration::MAX));
        let mut ran = Duration::ZERO;
        let finished = |ended, text: &str| {
            let bytes: Vec<u8> = text.bytes().take(output).collect();
            Ok(Finished { ended, output: Secret::new(bytes) })
        };
        while ran < last {
            if stop() {
                return finished(Ended::Stopped, "");
            }
            let turn = last.saturating_sub(ran).min(STOP_TURN);
            self.pass(turn);
            ran += turn;
        }
        if end > last { finished(Ended::Late, "") } else { finished(Ended::Exit(spec.status), &spec.output) }
    }

    fn run_on_terminal(&self, program: &Program, terminal: &Path) -> io::Result<()> {
        let path = shown(&program.path);
        self.enter("run_on_terminal", &format!("{path} {}", shown(terminal)))?;
        let known = self.state().machine.programs.contains_key(&path);
        if known { Ok(()) } else { Err(errno(libc::ENOENT)) }
    }

    fn own_program(&self) -> PathBuf {
        PathBuf::from("/init")
    }

    fn own_mounts(&self) -> io::Result<()> {
        Ok(())
    }

    fn is_init(&self) -> bool {
        true
    }

    fn guard_memory(&self) {}

    fn start_scout(&self, args: &[String]) -> io::Result<()> {
        self.enter("start_scout", &args.join(" "))?;
        scout::start(self, args);
        Ok(())
    }

    fn tell_scout(&self, message: &[u8]) -> io::Result<()> {
        self.enter("tell_scout", "")?;
        scout::tell(self, message)
    }

    fn hear_scout(&self, patience: Duration) -> Heard {
        if let Err(e) = self.enter("hear_scout", &format!("{patience:?}")) {
            self.state().scout = None;
            return Heard::Ended(e.to_string());
        }
        scout::hear(self, patience)
    }

    fn end_scout(&self) {
        self.state().note(false, "end_scout");
        self.state().scout = None;
    }

    fn restart(&self) -> io::Result<()> {
        self.enter("restart", "")?;
        self.finish(End::Restart);
        Ok(())
    }

    fn power_off(&self) -> io::Result<()> {
        self.enter("power_off", "")?;
        self.finish(End::PowerOff);
        Ok(())
    }

    fn hand_over(&self, new_root: &Path, init: &Path, args: &[OsString]) -> Result<(), SwitchError> {
        // Executing the init, the kernel waits for the end of every other thread.
        assert!(self.state().shown_inside.is_empty(), "PID 1 has more than one thread at the hand-over");
        // The last of its steps is the one that says so.
        self.enter("hand_over", &format!("{} {}", shown(new_root), shown(init))).map_err(|e| {
            match e.raw_os_error() {
                Some(libc::ENOEXEC) => SwitchError::Exec { init: shown(init), source: e },
                _ => SwitchError::Root(e),
            }
        })?;
        let root = {
            let state = self.state();
            let path = state.names.walk(new_root, true).map_err(SwitchError::Root)?.path;
            state.mount_at(&path).map(|(_, mount)| mount.clone()).ok_or(SwitchError::Root(errno(libc::EINVAL)))?
        };
        for what in ["dev", "proc", "sys", "run"] {
            let place = taproot_init::sys::beneath::resolve(self, new_root, Path::new(what)).unwrap_or_default();
            if !matches!(self.state().names.node(&place), Ok(Node::Dir)) {
                let what = taproot_init::sys::switch_root::MOVED.into_iter().find(|path| path.ends_with(what));
                return Err(SwitchError::Move { what: what.unwrap_or("/run"), source: errno(libc::ENOENT) });
            }
        }
        let program = taproot_init::sys::beneath::resolve(self, new_root, init).unwrap_or_default();
        if !matches!(self.state().names.node(&program), Ok(Node::File(_, mode)) if mode & 0o111 != 0) {
            return Err(SwitchError::Exec { init: shown(init), source: errno(libc::ENOENT) });
        }
        let args = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        self.finish(End::HandOver { root, init: shown(init), args });
        Ok(())
    }
}

impl World {
    /// The kernel is asked to resume from this device: comes back only if there is no image.
    fn resume(&self, number: &str) -> io::Result<()> {
        let image = {
            let state = self.state();
            let named = |device: &&super::machine::Device| format!("{}:{}", device.number.0, device.number.1) == number;
            let device = state.machine.devices.iter().find(named);
            match device.map(|device| (&device.holds, device.answers)) {
                Some((_, None)) => None,
                Some((super::machine::Holds::Swap { image, .. }, _)) => Some(image.is_some()),
                Some(_) => Some(false),
                None => return Err(errno(libc::ENODEV)),
            }
        };
        match image {
            None => self.never(),
            Some(true) => self.finish(End::Resumed(number.to_owned())),
            Some(false) => {}
        }
        Ok(())
    }
}

fn is_over(result: &Result<(), Box<dyn Any + Send>>) -> bool {
    result.as_ref().err().is_some_and(|payload| payload.is::<Over>())
}
