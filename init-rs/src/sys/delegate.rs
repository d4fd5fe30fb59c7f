//! Methods of [`System`](super::System) that are answered by another system in a field: for those that have an opinion on a few
//! of them only.

/// The methods for files, but for those of [`delegate_writes`](crate::delegate_writes).
#[macro_export]
#[doc(hidden)]
macro_rules! delegate_files {
    ($field:ident) => {
        fn read(&self, path: &std::path::Path, limit: usize) -> std::io::Result<Vec<u8>> {
            self.$field.read(path, limit)
        }
        fn read_secret(&self, path: &std::path::Path, limit: usize) -> std::io::Result<$crate::sys::consoles::Secret> {
            self.$field.read_secret(path, limit)
        }
        fn read_at(&self, path: &std::path::Path, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
            self.$field.read_at(path, offset, buf)
        }
        fn append(&self, path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
            self.$field.append(path, bytes)
        }
        fn save(&self, path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
            self.$field.save(path, bytes)
        }
        fn sync(&self, path: &std::path::Path) -> std::io::Result<()> {
            self.$field.sync(path)
        }
        fn stat(&self, path: &std::path::Path) -> std::io::Result<$crate::sys::FileInfo> {
            self.$field.stat(path)
        }
        fn list(&self, path: &std::path::Path) -> std::io::Result<Vec<String>> {
            self.$field.list(path)
        }
        fn read_link(&self, path: &std::path::Path) -> std::io::Result<std::path::PathBuf> {
            self.$field.read_link(path)
        }
        fn canonical(&self, path: &std::path::Path) -> std::io::Result<std::path::PathBuf> {
            self.$field.canonical(path)
        }
        fn make_dirs(&self, path: &std::path::Path) -> std::io::Result<()> {
            self.$field.make_dirs(path)
        }
        fn symlink(&self, target: &std::path::Path, path: &std::path::Path) -> std::io::Result<()> {
            self.$field.symlink(target, path)
        }
        fn remove(&self, path: &std::path::Path) -> std::io::Result<()> {
            self.$field.remove(path)
        }
        fn keep_program(&self, place: &std::path::Path) -> std::io::Result<()> {
            self.$field.keep_program(place)
        }
        fn noexec(&self, path: &std::path::Path) -> bool {
            self.$field.noexec(path)
        }
        fn make_mutable(&self, path: &std::path::Path) -> std::io::Result<()> {
            self.$field.make_mutable(path)
        }
        fn wipe(&self, path: &std::path::Path) -> std::io::Result<()> {
            self.$field.wipe(path)
        }
    };
}

/// The methods that write or replace a file.
#[macro_export]
#[doc(hidden)]
macro_rules! delegate_writes {
    ($field:ident) => {
        fn write(&self, path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
            self.$field.write(path, bytes)
        }
        fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
            self.$field.rename(from, to)
        }
    };
}

/// The methods for layers.
#[macro_export]
#[doc(hidden)]
macro_rules! delegate_layers {
    ($field:ident) => {
        fn bind(&self, source: &std::path::Path, target: &std::path::Path, read_only: bool) -> std::io::Result<()> {
            self.$field.bind(source, target, read_only)
        }
        fn mount_image(
            &self,
            image: &std::path::Path,
            target: &std::path::Path,
            fstype: &str,
        ) -> std::io::Result<String> {
            self.$field.mount_image(image, target, fstype)
        }
        fn attach_image(&self, image: &std::path::Path) -> std::io::Result<$crate::sys::Attached> {
            self.$field.attach_image(image)
        }
        fn read_image(&self, node: &std::path::Path, take: &mut dyn FnMut(&[u8]) -> bool) -> std::io::Result<()> {
            self.$field.read_image(node, take)
        }
        fn mount_overlay(&self, overlay: &$crate::sys::OverlayMount, target: &std::path::Path) -> std::io::Result<()> {
            self.$field.mount_overlay(overlay, target)
        }
        fn probe_whiteout(&self, dir: &std::path::Path) -> std::io::Result<()> {
            self.$field.probe_whiteout(dir)
        }
        fn zvol_name(&self, node: &std::path::Path) -> std::io::Result<String> {
            self.$field.zvol_name(node)
        }
    };
}

/// The methods for what is kept on media of its own.
#[macro_export]
#[doc(hidden)]
macro_rules! delegate_kept {
    ($field:ident) => {
        fn mount_file(
            &self,
            file: &std::path::Path,
            target: &std::path::Path,
            fstype: &str,
            flags: u64,
            data: &str,
        ) -> std::io::Result<String> {
            self.$field.mount_file(file, target, fstype, flags, data)
        }
        fn copy_dir(&self, from: &std::path::Path, to: &std::path::Path, content: bool) -> std::io::Result<()> {
            self.$field.copy_dir(from, to, content)
        }
        fn give(&self, path: &std::path::Path, owner: u32, group: u32) -> std::io::Result<()> {
            self.$field.give(path, owner, group)
        }
        fn is_opaque(&self, dir: &std::path::Path) -> bool {
            self.$field.is_opaque(dir)
        }
    };
}

/// The clock and the scout.
#[macro_export]
#[doc(hidden)]
macro_rules! delegate_clock_and_scout {
    ($field:ident) => {
        fn now(&self) -> std::time::Duration {
            self.$field.now()
        }
        fn sleep(&self, time: std::time::Duration) {
            self.$field.sleep(time)
        }
        fn start_scout(&self, args: &[String]) -> std::io::Result<()> {
            self.$field.start_scout(args)
        }
        fn tell_scout(&self, message: &[u8]) -> std::io::Result<()> {
            self.$field.tell_scout(message)
        }
        fn hear_scout(&self, patience: std::time::Duration) -> $crate::sys::Heard {
            self.$field.hear_scout(patience)
        }
        fn end_scout(&self) {
            self.$field.end_scout()
        }
    };
}

/// Calls that are watched.
#[macro_export]
#[doc(hidden)]
macro_rules! delegate_watched {
    ($field:ident) => {
        fn watched(
            &self,
            tick: std::time::Duration,
            tell: &mut (dyn FnMut(std::time::Duration) + Send),
            work: &mut dyn FnMut(),
        ) {
            self.$field.watched(tick, tell, work)
        }
    };
}

/// Everything that is neither files nor the kernel's log.
#[macro_export]
#[doc(hidden)]
macro_rules! delegate_others {
    ($field:ident) => {
        fn wall_clock(&self) -> u64 {
            self.$field.wall_clock()
        }
        fn together(&self, work: &(dyn Fn() + Sync)) {
            self.$field.together(work)
        }
        fn consoles(&self, which: $crate::sys::Terminals) -> Box<dyn $crate::sys::consoles::Consoles> {
            self.$field.consoles(which)
        }
        fn kernel_log(&self) -> Vec<String> {
            self.$field.kernel_log()
        }
        fn attach_console(&self) -> std::io::Result<()> {
            self.$field.attach_console()
        }
        fn run(
            &self,
            program: &$crate::sys::Program,
            limit: Option<std::time::Duration>,
            output: usize,
            stop: &mut dyn FnMut() -> bool,
        ) -> std::io::Result<$crate::sys::Finished> {
            self.$field.run(program, limit, output, stop)
        }
        fn run_on_terminal(&self, program: &$crate::sys::Program, terminal: &std::path::Path) -> std::io::Result<()> {
            self.$field.run_on_terminal(program, terminal)
        }
        fn own_program(&self) -> std::path::PathBuf {
            self.$field.own_program()
        }
        fn is_init(&self) -> bool {
            self.$field.is_init()
        }
        fn guard_memory(&self) {
            self.$field.guard_memory()
        }
        fn restart(&self) -> std::io::Result<()> {
            self.$field.restart()
        }
        fn power_off(&self) -> std::io::Result<()> {
            self.$field.power_off()
        }
        fn hand_over(
            &self,
            new_root: &std::path::Path,
            init: &std::path::Path,
            args: &[std::ffi::OsString],
        ) -> Result<(), $crate::sys::switch_root::SwitchError> {
            self.$field.hand_over(new_root, init, args)
        }
    };
}

/// The kernel's log.
#[macro_export]
#[doc(hidden)]
macro_rules! delegate_log {
    ($field:ident) => {
        fn kmsg(&self, record: &str) -> std::io::Result<()> {
            self.$field.kmsg(record)
        }
    };
}

/// What a whole system in front of another one passes on besides the above.
#[macro_export]
#[doc(hidden)]
macro_rules! delegate_rest {
    ($field:ident) => {
        fn zfs(&self, call: &$crate::sys::ZfsCall<'_>) -> std::io::Result<$crate::sys::ZfsReply> {
            self.$field.zfs(call)
        }
        fn mount(
            &self,
            source: &str,
            target: &std::path::Path,
            fstype: &str,
            flags: u64,
            data: &str,
        ) -> std::io::Result<()> {
            self.$field.mount(source, target, fstype, flags, data)
        }
        fn unmount(&self, target: &std::path::Path, lazy: bool) -> std::io::Result<()> {
            self.$field.unmount(target, lazy)
        }
        fn detach_loop(&self, device: &std::path::Path) -> std::io::Result<()> {
            self.$field.detach_loop(device)
        }
        fn sync_all(&self) {
            self.$field.sync_all()
        }
        fn map(&self, mapping: &$crate::sys::Mapping) -> std::io::Result<std::path::PathBuf> {
            self.$field.map(mapping)
        }
        fn unmap(&self, name: &str) -> std::io::Result<()> {
            self.$field.unmap(name)
        }
        fn within(&self, limit: std::time::Duration, work: Box<dyn FnOnce() + Send>) -> bool {
            self.$field.within(limit, work)
        }
        fn become_program(&self, program: &$crate::sys::Program) -> std::io::Error {
            self.$field.become_program(program)
        }
        fn own_mounts(&self) -> std::io::Result<()> {
            self.$field.own_mounts()
        }
        fn hang_up_caller(&self) -> std::io::Result<()> {
            self.$field.hang_up_caller()
        }
        fn on_panic(&self, then: $crate::sys::PanicAnswer) {
            self.$field.on_panic(then)
        }
        fn keep_in_memory(&self, path: &std::path::Path) -> std::io::Result<$crate::sys::Kept> {
            self.$field.keep_in_memory(path)
        }
        fn answers(&self, node: &std::path::Path) -> std::io::Result<()> {
            self.$field.answers(node)
        }
        fn await_stop(&self, patience: Option<std::time::Duration>) -> std::io::Result<bool> {
            self.$field.await_stop(patience)
        }
        fn end_now(&self, how: $crate::sys::End) -> std::io::Result<()> {
            self.$field.end_now(how)
        }
    };
}

#[cfg(test)]
mod tests {
    /// A method with a body of its own would be that one, not the one behind.
    #[test]
    fn every_method_can_be_passed_on() {
        let seam = include_str!("mod.rs");
        let (_, methods) = seam.split_once("pub trait System").unwrap();
        let (methods, _) = methods.split_once("\n}\n").unwrap();
        let names = methods.lines().filter_map(|line| line.strip_prefix("    fn ")?.split('(').next());
        let here = include_str!("delegate.rs");
        // In front of another system it is what that one is watched for.
        let left: Vec<&str> =
            names.filter(|name| *name != "questioned" && !here.contains(&format!("fn {name}("))).collect();
        assert_eq!(left, [""; 0]);
    }
}
