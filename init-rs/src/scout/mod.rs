//! stub
use crate::devices::known::Hardware;
use crate::report::log::Log;
use crate::report::modules::ModuleDone;
use crate::sys::System;
use std::io;
use std::time::Duration;
/// stub
pub struct Scout<'a> { pub hardware: Hardware, system: &'a dyn System }
impl<'a> Scout<'a> {
    pub fn start(system: &'a dyn System, _load: bool, _log: &'a Log) -> Self { Self { hardware: Hardware::default(), system } }
    pub fn hear(&mut self, _p: Duration) -> bool { false }
    pub fn load(&mut self, _m: &str) {}
    pub fn wait_module(&mut self, _m: &str, _p: Duration) -> Option<Result<(), String>> { None }
    pub fn reread(&mut self, _d: &str) {}
    pub fn peek(&mut self, _n: &str, _o: u64, _l: usize, _p: Duration) -> io::Result<Vec<u8>> { Ok(vec![]) }
    pub fn discard_image(&mut self, _n: &str, _o: u64, _l: usize, _p: Duration) -> io::Result<bool> { Ok(false) }
    pub fn modules_done(&self) -> Vec<ModuleDone> { vec![] }
    pub fn undriven(&mut self, _p: Duration) -> Vec<String> { vec![] }
    pub fn stop(&mut self) {}
}
