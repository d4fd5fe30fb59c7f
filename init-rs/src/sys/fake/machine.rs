//! A machine of a test: files in a directory, a clock that only sleeping moves, a console with typed lines, and a record of
//! every other call.

use super::Tree;
use crate::sys::consoles::{Answer, Consoles, Secret, Timeout};
use crate::sys::keymap::Keymap;
use crate::sys::switch_root::SwitchError;
use crate::sys::{Ended, Finished, Heard, OverlayMount, Program, System, Terminals, ZfsCall, ZfsReply};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Programs = Box<dyn Fn(&Machine, &Program) -> Ended + Send + Sync>;
type Refusals = Box<dyn Fn(&str) -> Option<i32> + Send + Sync>;

/// A console that keeps what is said, and on which lines are typed, one for each question; then it is dead, unless the question
/// becomes needless.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    text: Arc<Mutex<String>>,
    typed: Arc<Mutex<Vec<&'static str>>>,
    /// Whether it is a screen, for which keymaps are loaded.
    screen: bool,
    loaded: Arc<Mutex<Vec<Keymap>>>,
    /// Whether no keymap is taken.
    refuses: bool,
}

impl Said {
    pub(crate) fn typing(lines: &[&'static str]) -> Self {
        Self { typed: Arc::new(Mutex::new(lines.to_vec())), ..Self::default() }
    }

    pub(crate) fn on_screen() -> Self {
        Self { screen: true, ..Self::default() }
    }

    pub(crate) fn refusing_keymaps() -> Self {
        Self { refuses: true, ..Self::on_screen() }
    }

    pub(crate) fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    pub(crate) fn loaded(&self) -> Vec<Keymap> {
        self.loaded.lock().unwrap().clone()
    }
}

impl Consoles for Said {
    fn path(&self, console: usize) -> Option<PathBuf> {
        (console < 2).then(|| PathBuf::from(format!("/dev/ttyS{console}")))
    }
    fn print(&self, text: &str) {
        self.text.lock().unwrap().push_str(text);
    }
    fn has_screen(&self) -> bool {
        self.screen
    }
    fn print_on_screens(&self, text: &str) {
        self.print(text);
    }
    fn load_keymap(&self, keymap: &Keymap) -> io::Result<()> {
        if self.refuses {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.loaded.lock().unwrap().push(keymap.clone());
        Ok(())
    }
    fn ask(&mut self, question: &str, echo: bool, timeout: Timeout, stop: &mut dyn FnMut() -> bool) -> Answer {
        self.print(question);
        let mut typed = self.typed.lock().unwrap();
        if typed.is_empty() {
            if (0..10).any(|_| stop()) {
                return Answer::Stopped;
            }
            return if matches!(timeout, Timeout::Untouched(_)) { Answer::TimedOut } else { Answer::NoConsole };
        }
        let line = typed.remove(0);
        self.print(if echo { line } else { "" });
        self.print("\n");
        Answer::Line { console: 0, text: Secret::new(line.as_bytes().to_vec()) }
    }
}

pub(crate) struct Machine {
    pub(crate) tree: Tree,
    pub(crate) said: Said,
    /// Whether this is PID 1.
    pub(crate) init: bool,
    /// What programs do.
    pub(crate) programs: Programs,
    /// The errno of calls, as [`Machine::calls`] has them, that fail.
    pub(crate) refusals: Refusals,
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) now: Mutex<Duration>,
}

impl Machine {
    pub(crate) fn new(tree: Tree) -> Self {
        Self {
            tree,
            said: Said::default(),
            init: true,
            programs: Box::new(|_, _| Ended::Exit(0)),
            refusals: Box::new(|_| None),
            calls: Mutex::default(),
            now: Mutex::default(),
        }
    }

    /// What was called, but for files, time and people.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn called(&self, call: String) -> io::Result<()> {
        let refused = (self.refusals)(&call);
        self.calls.lock().unwrap().push(call);
        refused.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

fn words(program: &Program) -> String {
    [program.path.display().to_string()].iter().chain(&program.args).cloned().collect::<Vec<_>>().join(" ")
}

impl System for Machine {
    fn zfs(&self, call: &ZfsCall<'_>) -> io::Result<ZfsReply> {
        self.tree.zfs(call)
    }
    fn mount(&self, source: &str, target: &Path, fstype: &str, flags: u64, data: &str) -> io::Result<()> {
        self.called(format!("mount {source} {} {fstype} {flags:#x} {data}", target.display()).trim_end().to_owned())
    }
    fn unmount(&self, target: &Path, lazy: bool) -> io::Result<()> {
        self.called(format!("unmount {}{}", target.display(), if lazy { " lazily" } else { "" }))?;
        let mounts = Path::new("/proc/self/mounts");
        if let Ok(text) = self.read(mounts, 1 << 20) {
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            let here = |line: &&str| line.split(' ').nth(1) == target.to_str();
            let last = lines.iter().rposition(here);
            let left: Vec<&str> =
                lines.iter().enumerate().filter(|(at, _)| Some(*at) != last).map(|(_, line)| *line).collect();
            self.write(mounts, left.concat().as_bytes())?;
        }
        Ok(())
    }
    fn bind(&self, source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
        self.called(format!("bind {} {} {read_only}", source.display(), target.display()))
    }
    fn mount_image(&self, image: &Path, target: &Path, fstype: &str) -> io::Result<String> {
        self.called(format!("mount image {} {} {fstype}", image.display(), target.display()))?;
        Ok("/dev/loop0".to_owned())
    }
    fn mount_overlay(&self, overlay: &OverlayMount, target: &Path) -> io::Result<()> {
        self.called(format!("mount overlay {overlay:?} {}", target.display()))
    }
    fn probe_whiteout(&self, dir: &Path) -> io::Result<()> {
        self.called(format!("probe {}", dir.display()))
    }
    fn zvol_name(&self, node: &Path) -> io::Result<String> {
        self.called(format!("name of {}", node.display()))?;
        Err(io::ErrorKind::NotFound.into())
    }
    crate::delegate_kept!(tree);
    crate::delegate_files!(tree);
    crate::delegate_writes!(tree);
    crate::delegate_log!(tree);
    fn now(&self) -> Duration {
        *self.now.lock().unwrap()
    }
    fn wall_clock(&self) -> u64 {
        0
    }
    fn sleep(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }
    fn watched(&self, _: Duration, _: &mut (dyn FnMut(Duration) + Send), work: &mut dyn FnMut()) {
        work();
    }
    fn together(&self, work: &(dyn Fn() + Sync)) {
        work();
    }
    fn consoles(&self, _: Terminals) -> Box<dyn Consoles> {
        Box::new(self.said.clone())
    }
    fn kernel_log(&self) -> Vec<String> {
        vec![]
    }
    fn attach_console(&self) -> io::Result<()> {
        Ok(())
    }
    fn run(
        &self,
        program: &Program,
        limit: Option<Duration>,
        _: usize,
        _: &mut dyn FnMut() -> bool,
    ) -> io::Result<Finished> {
        self.called(format!("run {}", words(program)))?;
        let ended = (self.programs)(self, program);
        if ended == Ended::Late {
            self.sleep(limit.unwrap());
        }
        Ok(Finished { ended, output: Secret::default() })
    }
    fn run_on_terminal(&self, program: &Program, terminal: &Path) -> io::Result<()> {
        self.called(format!("on {}: {}", terminal.display(), words(program)))?;
        (self.programs)(self, program);
        Ok(())
    }
    fn own_program(&self) -> PathBuf {
        "/usr/bin/taproot-init".into()
    }
    fn is_init(&self) -> bool {
        self.init
    }
    fn guard_memory(&self) {}
    fn become_program(&self, program: &Program) -> io::Error {
        self.called(format!("become {}", words(program))).err().unwrap_or(io::ErrorKind::NotFound.into())
    }
    fn own_mounts(&self) -> io::Result<()> {
        self.called("own mounts".to_owned())
    }
    fn hang_up_caller(&self) -> io::Result<()> {
        self.called("hang up".to_owned())
    }
    fn start_scout(&self, args: &[String]) -> io::Result<()> {
        self.called(format!("scout {}", args.join(" ")))?;
        Err(io::ErrorKind::Unsupported.into())
    }
    fn tell_scout(&self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }
    fn hear_scout(&self, _: Duration) -> Heard {
        Heard::Ended("there is none".to_owned())
    }
    fn end_scout(&self) {}
    fn restart(&self) -> io::Result<()> {
        self.called("restart".to_owned())
    }
    fn power_off(&self) -> io::Result<()> {
        self.called("power off".to_owned())
    }
    fn hand_over(&self, _: &Path, _: &Path, _: &[OsString]) -> Result<(), SwitchError> {
        unreachable!("nothing here boots")
    }
}
