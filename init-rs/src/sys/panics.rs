//! Panics of this program.

use super::linux::Linux;
use super::{Panic, PanicAnswer, System};
use std::backtrace::Backtrace;
use std::sync::Arc;

/// Answers every panic by `then`. Should that panic in its turn, it is called again, in yet another thread: a panic within a
/// panic would end the process, and the machine with it.
pub(super) fn answer(then: PanicAnswer) {
    std::panic::set_hook(Box::new(move |info| {
        let panic = Panic { message: info.to_string(), backtrace: Backtrace::force_capture().to_string() };
        let work = || {
            let system: Arc<dyn System> = Arc::new(Linux::new());
            then(&system, &panic);
        };
        std::thread::scope(|scope| {
            match std::thread::Builder::new().name("panic".into()).spawn_scoped(scope, work) {
                // Joined by hand: the scope would panic for a thread that did.
                Ok(thread) => drop(thread.join()),
                Err(_) => work(),
            }
        });
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::sync::{Mutex, PoisonError};

    /// What holds a lock when it fails.
    #[inline(never)]
    fn culprit(lock: &Mutex<()>) {
        let _held = lock.lock();
        let nothing: Option<u8> = None;
        assert!(nothing.is_some(), "nothing is there");
    }

    #[test]
    fn the_answer_gets_message_place_and_calls_and_may_panic_itself() {
        let before = std::panic::take_hook();
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        answer(Box::new(move |_, panic| {
            tell.lock().unwrap_or_else(PoisonError::into_inner).send(panic.clone()).unwrap();
            assert!(!panic.message.contains("nothing is there"), "in the answer");
        }));
        let lock = Mutex::new(());
        let _ = std::panic::catch_unwind(|| culprit(&lock));
        std::panic::set_hook(before);
        let said: Vec<Panic> = told.iter().filter(|panic| panic.message.contains("panics.rs")).collect();
        let [first, second] = said.as_slice() else { panic!("{said:?}") };
        assert!(first.message.contains("nothing is there") && first.backtrace.contains("culprit"), "{first:?}");
        assert!(second.message.contains("in the answer"), "{second:?}");
    }
}
