//! Messages between PID 1 and its scout.

use std::time::Duration;

use taproot_init::devices::known::{Content, Device, Module, Partition, Reading, Superblock, Zfs, ZfsLabel};
use taproot_init::devices::swap::Header;
use taproot_init::report::log::Level;
use taproot_init::scout::message::{Command, Message, Refused};
use taproot_init::zfs::label::Label;
use taproot_init::zfs::nvlist::NvList;

/// A device for each of these labels, one without, and one of each other message and command.
pub fn messages(labels: &[NvList]) -> Vec<Vec<u8>> {
    let members = labels.iter().map(|config| {
        let label = Label::new(config.clone(), 1);
        Zfs::Member(ZfsLabel { label, good: [false, true, true, false], tail: Some("drbd".to_owned()) })
    });
    let contents = members.chain([Zfs::Nothing, Zfs::Damaged("wrong checksum".into())]).map(|zfs| {
        let superblock = Superblock { kind: "swap".into(), uuid: "1-2".into(), label: "x".into() };
        let swap = Header { image: Some("S1SUSPEND".into()), swap: true };
        Reading::Done(Box::new(Content { superblock: Some(superblock), swap, zfs }))
    });
    let readings = contents.chain([Reading::Waiting, Reading::Never, Reading::Failed("bad sector".into())]);
    let devices = readings.map(|content| Message::Device(Box::new(device(content))));
    let name = || "zfs".to_owned();
    let took = Some(Duration::from_millis(3));
    let others = [
        Message::Gone("sda".into()),
        Message::Module { name: name(), state: Module::Starting, took: None },
        Message::Module { name: name(), state: Module::Failed("no".into()), took },
        Message::Settled { settled: true, inserting: false },
        Message::Undriven(vec!["pci:v1".into(), "usb:v2".into()]),
        Message::Log { level: Level::Warn, text: "text".into() },
        Message::Peeked { id: 1, result: Ok(vec![7; 64]) },
        Message::Discarded { id: 2, result: Err(Refused { errno: 5, text: "no".into() }) },
    ];
    let commands = [
        Command::Load(name()),
        Command::Reread("sda".into()),
        Command::Peek { id: 1, node: "/dev/sda".into(), offset: 4096, len: 4096 },
        Command::DiscardImage { id: 2, node: "/dev/sda".into(), offset: 0, page: 4096 },
        Command::Undriven,
    ];
    let messages = devices.chain(others).map(|message| message.encode());
    messages.chain(commands.iter().map(Command::encode)).collect()
}

fn device(content: Reading) -> Device {
    Device {
        name: "sda1".into(),
        node: "/dev/sda1".into(),
        number: (8, 1),
        size: 1 << 30,
        disk: Some("sda".into()),
        partition: Some(Partition { number: 1, start: 1 << 20, uuid: "u".into(), label: "l".into() }),
        wwid: Some("naa.5".into()),
        identity: "Disk, serial 1".into(),
        links: vec!["by-id/x-part1".into(), "by-path/y-part1".into()],
        left_out: Some("its size".into()),
        read_only: true,
        since: Duration::from_secs(1),
        content,
    }
}
