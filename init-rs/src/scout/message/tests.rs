use super::*;
use crate::devices::known::{Content, Partition, Reading, Superblock, Zfs, ZfsLabel};
use crate::devices::swap::Header;
use crate::zfs::label::Label;
use crate::zfs::nvlist::{NvList, Value};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn config() -> impl Strategy<Value = NvList> {
    (any::<u64>(), "[a-z]{0,9}", vec(any::<u64>(), 0..4)).prop_map(|(guid, name, holes)| {
        let tree: NvList = [("guid", Value::U64(guid)), ("type", Value::text("disk"))].into_iter().collect();
        let pairs = [
            ("name", Value::text(&name)),
            ("guid", Value::U64(guid)),
            ("hole_array", Value::U64Array(holes)),
            ("vdev_tree", Value::List(tree.clone())),
            ("children", Value::ListArray(vec![tree.clone(), tree])),
        ];
        pairs.into_iter().collect()
    })
}

fn zfs() -> impl Strategy<Value = Zfs> {
    let member = (config(), 0_u8..4, any::<[bool; 4]>(), option::of("[a-z_]{1,20}"))
        .prop_map(|(config, index, good, tail)| Zfs::Member(ZfsLabel { label: Label::new(config, index), good, tail }));
    prop_oneof![Just(Zfs::Nothing), ".{0,20}".prop_map(Zfs::Damaged), member]
}

fn reading() -> impl Strategy<Value = Reading> {
    let superblock =
        ("[a-z0-9_]{1,9}", ".{0,9}", ".{0,9}").prop_map(|(kind, uuid, label)| Superblock { kind, uuid, label });
    let swap = (option::of("[A-Z]{1,9}"), any::<bool>()).prop_map(|(image, swap)| Header { image, swap });
    let content =
        (option::of(superblock), swap, zfs()).prop_map(|(superblock, swap, zfs)| Content { superblock, swap, zfs });
    prop_oneof![
        Just(Reading::Waiting),
        Just(Reading::Never),
        ".{0,20}".prop_map(Reading::Failed),
        content.prop_map(|content| Reading::Done(Box::new(content))),
    ]
}

fn device() -> impl Strategy<Value = Device> {
    let partition = (any::<u32>(), any::<u64>(), ".{0,9}", ".{0,9}")
        .prop_map(|(number, start, uuid, label)| Partition { number, start, uuid, label });
    let names = ("[a-z]{1,5}", ".{0,20}", option::of("[a-z]{1,5}"), option::of(".{0,9}"), ".{0,20}");
    let rest = (any::<(u32, u32)>(), any::<u64>(), option::of(partition), vec(".{0,9}", 0..3), option::of(".{0,9}"));
    (names, rest, any::<u32>(), reading()).prop_map(|(names, rest, nanos, content)| Device {
        name: names.0,
        node: names.1,
        number: rest.0,
        size: rest.1,
        disk: names.2,
        partition: rest.2,
        wwid: names.3,
        identity: names.4,
        links: rest.3,
        left_out: rest.4,
        read_only: nanos % 2 == 1,
        since: Duration::from_nanos(nanos.into()),
        content,
    })
}

fn message() -> impl Strategy<Value = Message> {
    let state = prop_oneof![
        Just(Module::Starting),
        Just(Module::Ready),
        Just(Module::NotPacked),
        ".{0,20}".prop_map(Module::Failed)
    ];
    let level = prop_oneof![Just(Level::Error), Just(Level::Warn), Just(Level::Info), Just(Level::Debug)];
    let refused = || (any::<i32>(), ".{0,20}").prop_map(|(errno, text)| Refused { errno, text });
    let bytes = prop_oneof![vec(any::<u8>(), 0..50).prop_map(Ok), refused().prop_map(Err)];
    let was = prop_oneof![any::<bool>().prop_map(Ok), refused().prop_map(Err)];
    prop_oneof![
        device().prop_map(|device| Message::Device(Box::new(device))),
        ".{0,9}".prop_map(Message::Gone),
        (".{0,9}", state, option::of(any::<u32>())).prop_map(|(name, state, took)| Message::Module {
            name,
            state,
            took: took.map(|nanos| Duration::from_nanos(nanos.into()))
        }),
        any::<(bool, bool)>().prop_map(|(settled, inserting)| Message::Settled { settled, inserting }),
        vec(".{0,20}", 0..5).prop_map(Message::Undriven),
        (level, ".{0,40}").prop_map(|(level, text)| Message::Log { level, text }),
        (any::<u64>(), bytes).prop_map(|(id, result)| Message::Peeked { id, result }),
        (any::<u64>(), was).prop_map(|(id, result)| Message::Discarded { id, result }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        ".{0,9}".prop_map(Command::Load),
        ".{0,9}".prop_map(Command::Reread),
        (any::<u64>(), ".{0,9}", any::<u64>(), any::<u32>()).prop_map(|(id, node, offset, len)| Command::Peek {
            id,
            node,
            offset,
            len
        }),
        (any::<u64>(), ".{0,9}", any::<u64>(), any::<u32>())
            .prop_map(|(id, node, offset, page)| Command::DiscardImage { id, node, offset, page }),
        Just(Command::Undriven),
    ]
}

proptest! {
    #[test]
    fn messages_come_back(message in message()) {
        let bytes = message.encode();
        prop_assert_eq!(Message::decode(&bytes).unwrap(), message);
        for end in 0..bytes.len() {
            prop_assert!(Message::decode(&bytes[..end]).is_err(), "cut at {}", end);
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        prop_assert_eq!(Message::decode(&longer), Err(Malformed::Long(1)));
    }

    #[test]
    fn commands_come_back(command in command()) {
        let bytes = command.encode();
        prop_assert_eq!(Command::decode(&bytes).unwrap(), command);
        for end in 0..bytes.len() {
            prop_assert!(Command::decode(&bytes[..end]).is_err(), "cut at {}", end);
        }
    }

    #[test]
    fn decoding_is_total(kind in 0_u8..10, bytes in vec(any::<u8>(), 0..300)) {
        let bytes = [&[kind], bytes.as_slice()].concat();
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        }
        let _ = Command::decode(&bytes);
    }
}

#[test]
fn nothing_is_too_long_for_the_socket() {
    let limit = crate::sys::SCOUT_MESSAGE_MAX;
    let long = "ä".repeat(1 << 13);
    let many = Message::Undriven(vec![long.clone(); 200]);
    let Message::Undriven(told) = Message::decode(&many.encode()).unwrap() else { panic!() };
    assert!(!told.is_empty() && told.iter().all(|text| text.len() == TEXT_MAX));
    let line = Message::Log { level: Level::Info, text: long.clone() };
    let peeked = Message::Peeked { id: 1, result: Ok(vec![0; 1 << 20]) };
    let label = NvList::from_iter([("children", Value::ListArray(vec![NvList::new(); 10_000]))]);
    let label = Label::new(label, 0);
    let device = |config: NvList| Device {
        name: long.clone(),
        node: long.clone(),
        number: (0, 0),
        size: 0,
        disk: Some(long.clone()),
        partition: None,
        wwid: Some(long.clone()),
        identity: long.clone(),
        links: vec![long.clone(); 1000],
        left_out: Some(long.clone()),
        read_only: true,
        since: Duration::ZERO,
        content: Reading::Done(Box::new(Content {
            superblock: None,
            swap: Header::default(),
            zfs: Zfs::Member(ZfsLabel { label: Label::new(config, 0), good: [true; 4], tail: Some(long.clone()) }),
        })),
    };
    let small = device(NvList::clone(&label.config));
    let big = device(NvList::from_iter([("b", Value::ByteArray(vec![1; 1 << 20]))]));
    let Message::Device(told) = Message::decode(&Message::Device(Box::new(big.clone())).encode()).unwrap() else {
        panic!()
    };
    assert!(matches!(&told.content().unwrap().zfs, Zfs::Damaged(why) if why.contains("too long")));
    for message in [many, line, peeked, Message::Device(Box::new(small)), Message::Device(Box::new(big))] {
        assert!(message.encode().len() <= limit, "{} bytes", message.encode().len());
    }
}
