//! What threads are left of a call.

use super::*;
use nix::unistd::{Pid, gettid};
use std::sync::Barrier;

/// Whether a thread of this process still has this name, or this number.
fn there(is: impl Fn(&str, &str) -> bool) -> bool {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    threads.map(|thread| thread.path()).any(|thread| {
        let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
        is(name.trim_end(), &thread.file_name().unwrap().to_string_lossy())
    })
}

/// PID 1 has one thread at the hand-over: executing the init, the kernel waits for the end of every other, wherever it sits.
#[test]
fn a_call_that_is_watched_or_shared_out_leaves_no_thread() {
    // A thread may be on its way out for a moment.
    let gone = |is: &dyn Fn(&str, &str) -> bool| {
        let began = Instant::now();
        while there(is) {
            assert!(began.elapsed() < Duration::from_secs(10), "a thread is left");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let wait = |until: &dyn Fn() -> bool| {
        while !until() {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let system = Linux::new();
    // Neither one that tells nor one whose tick is far.
    let telling: Mutex<Option<Pid>> = Mutex::default();
    let mut tell = |_| *telling.lock().unwrap() = Some(gettid());
    system.watched(Duration::from_millis(1), &mut tell, &mut || wait(&|| telling.lock().unwrap().is_some()));
    let told = telling.lock().unwrap().unwrap().to_string();
    gone(&|_, number| number == told);
    let watches = |name: &str, _: &str| name == "watch";
    system.watched(Duration::from_secs(3600), &mut |_| (), &mut || wait(&|| there(watches)));
    gone(&watches);
    let both = Barrier::new(2);
    system.together(&|| {
        both.wait();
    });
    gone(&|name, _| name == "beside");
}
