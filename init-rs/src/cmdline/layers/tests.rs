use super::*;
use crate::cmdline::parse;

fn layers(line: &str) -> LayerSettings {
    let request = parse(line.as_bytes());
    request.layers.unwrap_or_else(|| panic!("{line}: {:?} {:?}", request.problems, request.notes))
}

#[test]
fn the_list_is_taken_whole_or_not_at_all() {
    let settings = layers("root=UUID=1 taproot.layers=top:mid-2.0:base");
    assert_eq!(settings.names.value, ["top", "mid-2.0", "base"]);
    assert_eq!(settings.upper.value, Upper::Directory("upper".into()));
    assert!(!settings.places && settings.retained.is_none());
    let many = |count: usize| (0..count).map(|n| format!("l{n}")).collect::<Vec<_>>().join(":");
    assert_eq!(layers(&format!("taproot.layers={}", many(500))).names.value.len(), 500);
    for (list, why) in [
        ("", "empty"),
        ("a::b", "empty"),
        ("a:a", "twice"),
        ("a:upper", "writable layer"),
        ("a,b", "cannot be in a name"),
        ("\"a b\"", "cannot be in a name"),
        ("a:../b", "letter or digit"),
        (&many(501), "501 layers"),
    ] {
        let request = parse(format!("root=UUID=1 taproot.layers={list} taproot.fallback=UUID=2").as_bytes());
        assert_eq!(request.layers, None, "{list}");
        let Selector::Unusable(message) = &request.root.value else { panic!("{list}: {:?}", request.root) };
        assert!(message.contains(why), "{list}: {message}");
        assert_eq!(request.problems.len(), 1, "{list}");
    }
}

#[test]
fn every_upper() {
    let upper = |text: &str| layers(&format!("taproot.layers=a taproot.upper={text}")).upper.value;
    let ram = |size: Option<&str>, inodes| Upper::Ram { size: size.map(str::to_owned), inodes };
    assert_eq!(upper("dir:/a//b/"), Upper::Directory("a/b".into()));
    assert_eq!(upper("dir"), Upper::Directory("upper".into()));
    assert_eq!(upper("ram"), ram(None, None));
    assert_eq!(upper("ram:2G"), ram(Some("2G"), None));
    assert_eq!(upper("ram:50%,inodes=9"), ram(Some("50%"), Some(9)));
    assert_eq!(upper("ram:,inodes=9"), ram(None, Some(9)));
    assert_eq!(upper("zvol:tank/live"), Upper::Zvol("tank/live".into()));
    assert_eq!(upper("zfs:tank/upper"), Upper::Dataset("tank/upper".into()));
    assert_eq!(upper("label:persistence"), Upper::Device("LABEL=persistence".into()));
    assert_eq!(upper("PARTLABEL=x"), Upper::Device("PARTLABEL=x".into()));
    assert_eq!(upper("none"), Upper::None);
    for wrong in
        ["", "dir:..", "dir:/", "ram:x", "ram:0", "ram:2GB", "ram:1,inodes=0", "zvol:tank", "zfs:a//b", "label:", "x"]
    {
        let request = parse(format!("taproot.layers=a taproot.upper={wrong}").as_bytes());
        assert!(matches!(request.root.value, Selector::Unusable(_)), "{wrong}: {:?}", request.layers);
    }
}

#[test]
fn own_words_are_stronger_and_those_of_others_leave_a_mark() {
    let settings = layers("sqsh_layers=a:b ram_layer=2G overlayflags=index=on,lowerdir=/x,xino=auto root_true_rw");
    assert_eq!(settings.upper.value, Upper::Ram { size: Some("2G".into()), inodes: None });
    assert!(settings.places && settings.retained.is_some());
    let to_ram = |words: &str| layers(&format!("sqsh_layers=a:b {words}")).to_ram.map(|to_ram| to_ram.value);
    assert_eq!(to_ram("ram_layer=2G to_ram"), Some(ToRam::Must));
    assert!(parse(b"root=UUID=1 taproot.layers=. taproot.to_ram").problems[0].message.contains("itself is a layer"));
    assert_eq!((to_ram("taproot.to_ram=try"), to_ram("to_ram taproot.to_ram=no")), (Some(ToRam::IfItFits), None));
    assert_eq!(settings.flags.unwrap().value, ["index=on", "xino=auto"]);
    let settings = layers("taproot.upper=none sqsh_layers=a:b ram_layer=2G");
    assert!(settings.upper.value == Upper::None && settings.retained.is_none());
    assert!(parse(b"ram_layer=2G").notes[0].message.contains("nothing without taproot.layers="));
    assert!(parse(b"sqsh_layers=a ram_layer=x").layers.is_none());
}

#[test]
fn a_layer_device_is_spelled_as_a_root() {
    let device = |text: &str| layers(&format!("sqsh_layers=a sqsh_layerdev={text}")).device.unwrap().value;
    assert_eq!(device("LABEL=x"), Selector::Device("LABEL=x".into()));
    let dataset = Selector::Dataset { pool: "zroot".into(), dataset: "zroot/sqsh".into() };
    assert_eq!(device("ZFS=zroot/sqsh"), dataset);
    assert_eq!(device("/dev/sr0"), Selector::Device("/dev/sr0".into()));
    for wrong in ["nonsense", "zfs:AUTO", "ZFS=a/b@c"] {
        let request = parse(format!("sqsh_layers=a sqsh_layerdev={wrong}").as_bytes());
        assert!(matches!(request.root.value, Selector::Unusable(_)), "{wrong}: {:?}", request.layers);
    }
}

#[test]
fn a_live_medium_and_what_is_kept_are_one_request() {
    let memory = Upper::Ram { size: None, inodes: None };
    for line in ["boot=live persistence", "persistence boot=live", "boot=casper persistence persistence-label=writable"]
    {
        let settings = layers(line);
        assert!(settings.live.is_some() && settings.names.value.is_empty() && !settings.by_state(), "{line}");
        assert_eq!((&settings.upper.value, settings.fallback.value), (&memory, UpperFallback::Ram), "{line}");
        assert_eq!(settings.persistence.unwrap().fallback.value, UpperFallback::Ram, "{line}");
    }
    let settings = layers("boot=live persistence nopersistence");
    assert!(settings.live.is_some() && settings.persistence.is_none());
    let settings = layers("boot=live persistence taproot.upper=label:x");
    assert_eq!(settings.fallback.value, UpperFallback::Ram, "an upper that a stick does not have");
    let settings = layers("boot=live persistence taproot.upper_fallback=fail");
    assert_eq!(settings.fallback.value, UpperFallback::Fail);
    assert_eq!(settings.persistence.unwrap().fallback.value, UpperFallback::Fail);
    assert_eq!(layers("boot=live taproot.layers=a:b").names.value, ["a", "b"]);
    let request = parse(b"boot=live taproot.layers");
    assert!(request.layers.is_none());
    let Selector::Unusable(message) = &request.root.value else { panic!("{:?}", request.root) };
    assert!(message.contains("boot=live the images of a live medium"), "{message}");
    let note = parse(b"boot=casper persistent").notes.remove(0);
    assert!(note.word == "persistent" && note.message.contains("goes to memory"), "{note:?}");
}
