//! Writes what was gathered, in a thread of its own: the next bytes are gathered meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::store::Device;

/// Pieces that may be under way.
const UNDER_WAY: usize = 2;

/// Bytes, and where they go.
type Piece = (u64, Vec<u8>);

/// The thread, with the devices that it writes to, all alike.
#[derive(Debug)]
pub(super) struct Sink {
    full: Option<SyncSender<Piece>>,
    empty: Receiver<Vec<u8>>,
    out: usize,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Sink {
    pub(super) fn new(disks: &[Device<'_>]) -> io::Result<Self> {
        let files = disks.iter().map(|disk| Ok((disk.file.try_clone()?, disk.offset)));
        let files: Vec<(File, u64)> = files.collect::<io::Result<_>>()?;
        let (full, todo) = sync_channel::<Piece>(UNDER_WAY);
        let (done, empty) = sync_channel(UNDER_WAY);
        let thread = thread::Builder::new().name("pool-write".into()).spawn(move || {
            while let Ok((at, mut bytes)) = todo.recv() {
                for (file, offset) in &files {
                    file.write_all_at(&bytes, offset + at)?;
                }
                bytes.clear();
                if done.send(bytes).is_err() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Sink { full: Some(full), empty, out: 0, thread: Some(thread) })
    }

    /// Takes bytes to be written at a place, and gives an empty buffer for the next ones.
    pub(super) fn write(&mut self, at: u64, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let size = bytes.capacity();
        if self.full.as_ref().is_none_or(|full| full.send((at, bytes)).is_err()) {
            return Err(self.failed());
        }
        self.out += 1;
        if self.out < UNDER_WAY { Ok(Vec::with_capacity(size)) } else { self.back() }
    }

    /// Waits until all is written.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        while self.out > 0 {
            self.back()?;
        }
        Ok(())
    }

    fn back(&mut self) -> io::Result<Vec<u8>> {
        let bytes = self.empty.recv().map_err(|_| self.failed())?;
        self.out -= 1;
        Ok(bytes)
    }

    /// Why the thread has ended.
    fn failed(&mut self) -> io::Error {
        self.full = None;
        let ended = self.thread.take().and_then(|thread| thread.join().ok());
        ended.and_then(Result::err).unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Whoever cares has waited.
        self.full = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_after_waiting_and_what_fails_is_told() {
        let file = tempfile::tempfile().unwrap();
        let mut sink = Sink::new(&[Device { file: &file, offset: 3 }]).unwrap();
        for nth in 0..9_u8 {
            assert!(sink.write(u64::from(nth) * 4, vec![nth; 4]).unwrap().is_empty());
        }
        sink.wait().unwrap();
        let mut found = [0; 39];
        file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!((found[2], found[7], found[38]), (0, 1, 8));
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut sink = Sink::new(&[Device { file: &full, offset: 0 }]).unwrap();
        let error = sink.write(0, vec![1]).and_then(|_| sink.wait()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
