//! A kernel for tests of calls: it answers with what a test prepared, and remembers what it was asked.

use super::ioctl::text;
use super::nvlist::NvList;
use crate::sys::linux::Linux;
use crate::sys::{System, ZfsCall, ZfsReply};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

/// A call, as far as tests look at it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) number: u32,
    pub(super) name: String,
    /// The argument list; empty if there was none.
    pub(super) src: NvList,
    pub(super) dst_capacity: usize,
}

pub(super) struct Fake<F: Fn(&ZfsCall<'_>) -> ZfsReply + Send + Sync> {
    answer: F,
    linux: Linux,
    asked: Mutex<Vec<Asked>>,
}

impl<F: Fn(&ZfsCall<'_>) -> ZfsReply + Send + Sync> Fake<F> {
    pub(super) fn new(answer: F) -> Self {
        Self { answer, linux: Linux::new(), asked: Mutex::default() }
    }

    /// The calls so far.
    pub(super) fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap()
    }
}

impl<F: Fn(&ZfsCall<'_>) -> ZfsReply + Send + Sync> System for Fake<F> {
    fn zfs(&self, call: &ZfsCall<'_>) -> io::Result<ZfsReply> {
        let (number, dst_capacity) = (call.number, call.dst_capacity);
        let src = NvList::decode(call.src).unwrap_or_default();
        self.asked().push(Asked { number, name: text(call.name), src, dst_capacity });
        Ok((self.answer)(call))
    }
    fn mount(&self, _: &str, _: &Path, _: &str, _: u64, _: &str) -> io::Result<()> {
        unreachable!("no ioctl mounts")
    }
    fn unmount(&self, _: &Path, _: bool) -> io::Result<()> {
        unreachable!("no ioctl unmounts")
    }
    crate::sys::fake::otherwise_linux!(linux);
}
