//! [`System`] on the running kernel.
#![allow(unsafe_code)]

use super::consoles::{Consoles, OwnTerminal, Secret, Tty};
use super::scouting::Process;
use super::switch_root::SwitchError;
use super::{
    Attached, End, FileInfo, Finished, Heard, Kept, Mapping, OverlayMount, PanicAnswer, Program, System, Terminals,
    ZfsCall, ZfsReply, entry, files, keeping, layering, loops, mapper, panics, pinning, power, programs, switch_root,
    terminal,
};
use nix::time::{ClockId, clock_gettime};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The kernel copies `sizeof(zfs_cmd_t)` of its own version in and out (13,736 to 13,744 bytes so far); a larger zeroed
/// buffer fits them all (reference: zfs-ioctl 1.3).
const CMD_SIZE: usize = 16 * 1024;
const NAME_LEN: usize = 4096;

mod offset {
    pub(super) const SRC: usize = 4096;
    pub(super) const SRC_SIZE: usize = 4104;
    pub(super) const DST: usize = 4112;
    pub(super) const DST_SIZE: usize = 4120;
    pub(super) const GUID: usize = 12592;
    pub(super) const CONF: usize = 12600;
    pub(super) const CONF_SIZE: usize = 12608;
    pub(super) const COOKIE: usize = 12616;
    pub(super) const OBJECT: usize = 12656;
    pub(super) const OBJSET_STATS: usize = 12704;
    pub(super) const DDS_TYPE: usize = OBJSET_STATS + 24;
}

/// `zfs_cmd_t` as bytes, aligned as the kernel's struct is.
#[repr(C, align(8))]
struct Cmd([u8; CMD_SIZE]);

impl Cmd {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(room) = self.0.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    }
    fn put_u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_ne_bytes());
    }
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..at + N).and_then(|b| b.try_into().ok()).unwrap_or([0; N])
    }
    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.bytes(at))
    }
}

/// The running kernel.
#[derive(Debug, Default)]
pub struct Linux {
    zfs: OnceLock<File>,
    kmsg: OnceLock<File>,
    scout: Mutex<Option<Process>>,
}

impl Linux {
    /// Nothing is opened before it is used.
    pub fn new() -> Self {
        Self::default()
    }

    fn scout(&self) -> MutexGuard<'_, Option<Process>> {
        self.scout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn zfs_device(&self) -> io::Result<&File> {
        if let Some(file) = self.zfs.get() {
            return Ok(file);
        }
        let file = File::options().read(true).write(true).open("/dev/zfs")?;
        Ok(self.zfs.get_or_init(|| file))
    }
}

impl System for Linux {
    fn zfs(&self, call: &ZfsCall<'_>) -> io::Result<ZfsReply> {
        let device = self.zfs_device()?;
        if call.name.len() >= NAME_LEN || call.name.contains(&0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "dataset name too long or with a NUL"));
        }
        let mut dst = vec![0_u8; call.dst_capacity];
        let mut cmd = Box::new(Cmd([0; CMD_SIZE]));
        cmd.put(0, call.name);
        // Pointers as integers: the struct carries them as u64 on every architecture.
        if !call.src.is_empty() {
            cmd.put_u64(offset::SRC, call.src.as_ptr() as u64);
            cmd.put_u64(offset::SRC_SIZE, call.src.len() as u64);
        }
        if !call.conf.is_empty() {
            cmd.put_u64(offset::CONF, call.conf.as_ptr() as u64);
            cmd.put_u64(offset::CONF_SIZE, call.conf.len() as u64);
        }
        if !dst.is_empty() {
            cmd.put_u64(offset::DST, dst.as_mut_ptr() as u64);
            cmd.put_u64(offset::DST_SIZE, dst.len() as u64);
        }
        cmd.put_u64(offset::COOKIE, call.cookie);
        cmd.put_u64(offset::GUID, call.guid);
        cmd.put_u64(offset::OBJECT, call.object);

        let request = 0x5a00 + call.number;
        // SAFETY: `cmd` is larger than any kernel's zfs_cmd_t and lives across the call, as do `src`, `conf` and `dst`,
        // whose true lengths are in the struct; the kernel writes only into `cmd` and `dst`.
        let result = unsafe { libc::ioctl(device.as_raw_fd(), request.into(), std::ptr::from_mut(&mut cmd.0)) };
        let errno = if result < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { 0 };

        let dst_size = cmd.u64(offset::DST_SIZE);
        // On ENOMEM the size is what would be needed; nothing in the buffer may be trusted then.
        let filled = if errno == libc::ENOMEM { 0 } else { usize::try_from(dst_size).unwrap_or(0).min(dst.len()) };
        dst.truncate(filled);
        let name = cmd.0.get(..NAME_LEN).unwrap_or(&[]);
        let name = name.split(|b| *b == 0).next().unwrap_or(&[]).to_vec();
        Ok(ZfsReply {
            errno,
            name,
            cookie: cmd.u64(offset::COOKIE),
            dst,
            dst_size,
            objset_type: i32::from_ne_bytes(cmd.bytes(offset::DDS_TYPE)),
        })
    }

    fn mount(&self, source: &str, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<()> {
        super::mounting::mount_with(source, target, fstype, flags, data)
    }

    fn bind(&self, source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
        layering::bind(source, target, read_only)
    }

    fn mount_image(&self, image: &Path, target: &Path, fstype: &str) -> io::Result<String> {
        layering::mount_image(image, target, fstype)
    }

    fn mount_overlay(&self, overlay: &OverlayMount, target: &Path) -> io::Result<()> {
        layering::mount_overlay(overlay, target)
    }

    fn probe_whiteout(&self, dir: &Path) -> io::Result<()> {
        layering::probe_whiteout(dir)
    }

    fn zvol_name(&self, node: &Path) -> io::Result<String> {
        layering::zvol_name(node)
    }

    fn mount_file(&self, file: &Path, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<String> {
        layering::mount_file(file, target, fstype, flags, data)
    }

    fn copy_dir(&self, from: &Path, to: &Path, content: bool) -> io::Result<()> {
        keeping::copy_dir(from, to, content)
    }

    fn give(&self, path: &Path, owner: u32, group: u32) -> io::Result<()> {
        keeping::give(path, owner, group)
    }

    fn is_opaque(&self, dir: &Path) -> bool {
        keeping::is_opaque(dir)
    }

    fn unmount(&self, target: &Path, lazy: bool) -> io::Result<()> {
        let flags = if lazy { nix::mount::MntFlags::MNT_DETACH } else { nix::mount::MntFlags::empty() };
        nix::mount::umount2(target, flags).map_err(io::Error::from)
    }

    fn map(&self, mapping: &Mapping) -> io::Result<PathBuf> {
        mapper::map(mapping)
    }

    fn unmap(&self, name: &str) -> io::Result<()> {
        mapper::unmap(name)
    }

    fn attach_image(&self, image: &Path) -> io::Result<Attached> {
        loops::attach(&File::open(image)?, image, loops::READ_ONLY).map(|(attached, _)| attached)
    }

    fn read_image(&self, node: &Path, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
        layering::read_image(node, take)
    }

    fn detach_loop(&self, device: &Path) -> io::Result<()> {
        loops::detach(device)
    }

    fn sync_all(&self) {
        nix::unistd::sync();
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        files::read(path, limit)
    }

    fn read_secret(&self, path: &Path, limit: usize) -> io::Result<Secret> {
        files::read_secret(path, limit)
    }

    fn read_at(&self, path: &Path, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        files::read_at(path, offset, buf)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        files::write(path, bytes)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        files::append(path, bytes)
    }

    fn save(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        files::save(path, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        files::sync(path)
    }

    fn stat(&self, path: &Path) -> io::Result<FileInfo> {
        files::stat(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        files::list(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        fs::read_link(path)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn make_dirs(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        files::remove(path)
    }

    fn keep_program(&self, place: &Path) -> io::Result<()> {
        files::keep_program(place)
    }

    fn noexec(&self, path: &Path) -> bool {
        files::noexec(path)
    }

    fn make_mutable(&self, path: &Path) -> io::Result<()> {
        files::make_mutable(path)
    }

    fn wipe(&self, path: &Path) -> io::Result<()> {
        files::wipe(path)
    }

    fn now(&self) -> Duration {
        clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
    }

    fn wall_clock(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn within(&self, limit: Duration, work: Box<dyn FnOnce() + Send>) -> bool {
        let (done, waiting) = channel();
        let work = move || {
            work();
            let _ = done.send(());
        };
        let started = std::thread::Builder::new().name("bounded".into()).spawn(work);
        started.is_ok() && waiting.recv_timeout(limit).is_ok()
    }

    fn watched(&self, tick: Duration, tell: &mut (dyn FnMut(Duration) + Send), work: &mut dyn FnMut()) {
        let (done, waiting) = channel::<()>();
        std::thread::scope(|scope| {
            let watch = move || {
                let start = Instant::now();
                while waiting.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
                    tell(start.elapsed());
                }
            };
            // Without a thread nothing is told.
            let _ = std::thread::Builder::new().name("watch".into()).spawn_scoped(scope, watch);
            work();
            drop(done);
        });
    }

    fn together(&self, work: &(dyn Fn() + Sync)) {
        std::thread::scope(|scope| {
            // Without a thread the other one does it alone.
            let _ = std::thread::Builder::new().name("beside".into()).spawn_scoped(scope, work);
            work();
        });
    }

    fn consoles(&self, which: Terminals) -> Box<dyn Consoles> {
        match which {
            Terminals::All => Box::new(Tty::open()),
            Terminals::Own => Box::new(OwnTerminal::open()),
        }
    }

    fn kmsg(&self, record: &str) -> io::Result<()> {
        let mut file = if let Some(file) = self.kmsg.get() {
            file
        } else {
            let file = File::options().write(true).open("/dev/kmsg")?;
            self.kmsg.get_or_init(|| file)
        };
        file.write_all(record.as_bytes())
    }

    fn kernel_log(&self) -> Vec<String> {
        files::kernel_log()
    }

    fn attach_console(&self) -> io::Result<()> {
        entry::attach_console()
    }

    fn run(
        &self,
        program: &Program,
        limit: Option<Duration>,
        output: usize,
        stop: &mut dyn FnMut() -> bool,
    ) -> io::Result<Finished> {
        programs::run(program, limit, output, stop)
    }

    fn run_on_terminal(&self, program: &Program, path: &Path) -> io::Result<()> {
        terminal::run_in_foreground(&mut programs::command(program), path)
    }

    fn own_program(&self) -> PathBuf {
        std::env::current_exe().unwrap_or_else(|_| "taproot-init".into())
    }

    fn is_init(&self) -> bool {
        std::process::id() == 1
    }

    fn guard_memory(&self) {
        let _ = nix::sys::prctl::set_dumpable(false);
    }

    fn become_program(&self, program: &Program) -> io::Error {
        programs::command(program).exec()
    }

    fn own_mounts(&self) -> io::Result<()> {
        super::mounting::own_mounts()
    }

    fn hang_up_caller(&self) -> io::Result<()> {
        nix::sys::signal::kill(nix::unistd::getppid(), nix::sys::signal::Signal::SIGHUP).map_err(io::Error::from)
    }

    fn keep_in_memory(&self, path: &Path) -> io::Result<Kept> {
        pinning::keep(path)
    }

    fn answers(&self, node: &Path) -> io::Result<()> {
        pinning::answers(node)
    }

    fn await_stop(&self, patience: Option<Duration>) -> io::Result<bool> {
        pinning::await_stop(patience)
    }

    fn on_panic(&self, then: PanicAnswer) {
        panics::answer(then);
    }

    fn start_scout(&self, args: &[String]) -> io::Result<()> {
        self.end_scout();
        *self.scout() = Some(Process::start(args)?);
        Ok(())
    }

    fn tell_scout(&self, message: &[u8]) -> io::Result<()> {
        self.scout().as_ref().map_or_else(|| Err(io::ErrorKind::NotConnected.into()), |scout| scout.tell(message))
    }

    fn hear_scout(&self, patience: Duration) -> Heard {
        let mut scout = self.scout();
        let Some(process) = scout.as_ref() else { return Heard::Ended("it was not started".to_owned()) };
        let heard = process.hear(patience);
        if let Heard::Ended(why) = heard {
            let why = process.reap().unwrap_or(why);
            if let Some(process) = scout.take() {
                process.end();
            }
            return Heard::Ended(why);
        }
        heard
    }

    fn end_scout(&self) {
        if let Some(process) = self.scout().take() {
            process.end();
        }
    }

    fn restart(&self) -> io::Result<()> {
        Err(power::restart())
    }

    fn power_off(&self) -> io::Result<()> {
        Err(power::power_off())
    }

    fn end_now(&self, how: End) -> io::Result<()> {
        Err(power::end_now(how))
    }

    fn hand_over(&self, new_root: &Path, init: &Path, args: &[OsString]) -> Result<(), SwitchError> {
        Err(switch_root::hand_over(new_root, init, args))
    }
}

#[cfg(test)]
mod tests;
