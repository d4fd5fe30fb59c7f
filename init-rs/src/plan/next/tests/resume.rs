//! Hibernation.

use super::{boot, comes, holding, labels, machine, run, seen};
use crate::devices::known::{Module, Reading};
use crate::devices::swap::Header;
use crate::plan::failure::Code;
use crate::plan::next::facts::{Hibernated, Import};
use crate::plan::rehearsal::{Known, Play};

const LINE: &str = "zfs=usb resume=LABEL=root taproot.wait=5";

fn known() -> Known {
    let mut known = machine();
    known.kernel.resumes = true;
    known
}

fn usb(play: &mut Play<'_>) {
    seen(play, labels("usb", 8, 1, 0));
}

fn image() -> Header {
    Header { image: Some("S1SUSPEND".to_owned()), swap: true }
}

fn swap(play: &mut Play<'_>) {
    comes(play, "vdb", holding("swap"));
}

/// The page of the device has been read.
fn with_image(play: &mut Play<'_>) {
    swap(play);
    play.facts.resume.page = Some(("LABEL=root".to_owned(), Ok(image())));
}

#[test]
fn the_device_is_waited_for_and_nothing_is_imported_without_it() {
    let told = boot(LINE, &known());
    assert_eq!((told.code(), told.at("fail")), (Some(Code::Resume), 10_000));
    assert!(told.place("import").is_none());
    let told = boot("zfs=tank resume=LABEL=root taproot.resume_wait=3", &known());
    assert_eq!((told.code(), told.at("fail")), (Some(Code::Resume), 3000));
    let told = run(LINE, &known(), &[(100, &usb), (2000, &swap)]);
    assert!(told.booted() && told.at("look-for-image") == 2000, "{told:?}");
    // Read-only nothing is written, so the boot goes on, and says so.
    let told = run(&format!("{LINE} taproot.import=ro"), &known(), &[(100, &usb)]);
    assert!(told.booted() && told.remarks.iter().any(|r| r.contains("did not appear")), "{told:?}");
}

/// By every name that udev or the tools of device-mapper would give it.
#[test]
fn the_device_by_its_other_names() {
    let links = ["by-id/ata-x-part2", "by-path/pci-0000:00:1f.2-ata-1-part2", "mapper/vg-swap", "vg/swap"];
    let named = |play: &mut Play<'_>| {
        swap(play);
        let device = play.hardware.devices.get_mut("vdb").unwrap();
        device.links = links.map(str::to_owned).to_vec();
    };
    for name in [
        "/dev/disk/by-id/ata-x-part2",
        "/dev/disk/by-path/pci-0000:00:1f.2-ata-1-part2",
        "/dev/mapper/vg-swap",
        "/dev/vg/swap",
    ] {
        let told = run(&format!("zfs=usb resume={name} taproot.wait=5"), &known(), &[(100, &usb), (2000, &named)]);
        assert!(told.booted() && told.at("look-for-image") == 2000, "{name}: {told:?}");
    }
    let told = run("zfs=usb resume=/dev/vdb resume=none", &known(), &[(100, &usb)]);
    assert!(told.booted() && told.place("look-for-image").is_none(), "{told:?}");
}

/// The kernel freezes every task: drivers must have come to rest.
#[test]
fn an_image_is_resumed_when_drivers_are_at_rest() {
    let starting = |play: &mut Play<'_>| {
        with_image(play);
        play.hardware.modules.insert("ahci".to_owned(), Module::Starting);
    };
    let ready = |play: &mut Play<'_>| drop(play.hardware.modules.insert("ahci".to_owned(), Module::Ready));
    let unsettled = |play: &mut Play<'_>| {
        with_image(play);
        play.hardware.settled = false;
    };
    for (script, at) in [
        (vec![(100, &with_image as &dyn Fn(&mut Play<'_>))], 100),
        (vec![(100, &starting), (5000, &ready)], 5000),
        (vec![(100, &starting)], 60_000),
        (vec![(100, &unsettled)], 60_000),
    ] {
        let script: Vec<super::Event<'_>> = script.into_iter().chain([(70_000, &usb as _)]).collect();
        let told = run(&LINE.replace("wait=5", "wait=99"), &known(), &script);
        assert_eq!(told.at("resume-image"), at, "{:?}", told.names());
        assert!(told.place("resume-image") < told.place("ask-zfs"), "{:?}", told.names());
    }
}

/// What reads a disk that does not answer cannot be frozen, and a kernel that cannot freeze discards the image.
#[test]
fn no_image_is_resumed_while_a_disk_does_not_answer() {
    let silent = |play: &mut Play<'_>| {
        with_image(play);
        comes(play, "sdx", Reading::Waiting);
    };
    let answers = |play: &mut Play<'_>| comes(play, "sdx", holding(""));
    let line = LINE.replace("wait=5", "wait=99");
    let told = run(&line, &known(), &[(100, &silent), (8000, &answers), (70_000, &usb)]);
    assert_eq!(told.at("resume-image"), 8000);
    assert!(told.steps.iter().any(|line| line.name == "wait" && line.text.contains("an answer of /dev/sdx")));
    let told = run(&line, &known(), &[(100, &silent)]);
    assert_eq!((told.code(), told.at("fail"), told.place("resume-image")), (Some(Code::Resume), 60_000, None));
    assert!(told.failure.unwrap().to_string().contains("/dev/sdx does not answer"));
    // Without an image nobody waits for it.
    let plain = |play: &mut Play<'_>| {
        swap(play);
        comes(play, "sdx", Reading::Waiting);
    };
    let told = run("zfs=usb resume=/dev/vdb", &known(), &[(100, &plain), (150, &usb)]);
    assert!(told.booted() && told.at("look-for-image") == 100, "{told:?}");
}

/// A kernel that comes back has not resumed.
#[test]
fn what_follows_a_kernel_that_comes_back() {
    let told = run(LINE, &known(), &[(90, &usb), (100, &with_image)]);
    assert!(told.booted() && told.place("resume-image") < told.place("resume-settled"), "{:?}", told.names());
    assert!(told.remarks.iter().any(|remark| remark.contains("starts anew")), "{:?}", told.remarks);
    // The image is still there: nothing may be written.
    let kept = |play: &mut Play<'_>| {
        with_image(play);
        play.facts.resume.tried = Some((Some("EINVAL".to_owned()), Ok(image())));
    };
    let told = run(LINE, &known(), &[(100, &kept)]);
    assert_eq!(told.code(), Some(Code::Resume));
    assert!(told.place("import").is_none());
    // Neither with a kernel that cannot resume.
    let told = run(LINE, &machine(), &[(100, &with_image)]);
    assert_eq!((told.code(), told.place("resume-image")), (Some(Code::Resume), None));
    // Nor over a pool that was imported before: by hand, while the device was missing.
    let by_hand = |play: &mut Play<'_>| {
        with_image(play);
        play.facts.imported = Some(play.known_pools());
        play.facts.ours.insert(7, Import { pool: "tank".into(), read_only: false, beside: true });
    };
    let told = run(LINE, &known(), &[(100, &by_hand)]);
    assert_eq!((told.code(), told.place("resume-image")), (Some(Code::Resume), None));
}

/// An attempt that wrote nothing has left it; the next one has other words.
#[test]
fn an_image_that_was_left_is_looked_for_again_before_anything_is_written() {
    let left = |play: &mut Play<'_>| {
        usb(play);
        play.facts.resume.settled = Hibernated::Left;
    };
    let told = run(&format!("{LINE} taproot.import=ro"), &known(), &[(100, &left)]);
    assert!(told.booted() && told.at("import") == 100, "{told:?}");
    let told = run(LINE, &known(), &[(100, &left)]);
    assert_eq!((told.code(), told.place("import")), (Some(Code::Resume), None));
}

#[test]
fn noresume_discards_before_the_import() {
    let line = format!("{LINE} noresume");
    let script: [super::Event<'_>; 1] = [(100, &|play: &mut Play<'_>| {
        with_image(play);
        seen(play, labels("usb", 8, 1, 0));
    })];
    let told = run(&line, &known(), &script);
    assert!(told.booted() && told.place("resume-image").is_none());
    let names = told.names();
    let at = told.place("discard-image").unwrap();
    assert_eq!(names[at + 1], "import");
    // Nothing is waited for.
    assert_eq!(told.at("discard-image"), 100);
    // Where nothing is written the image stays.
    assert!(run(&format!("{line} taproot.import=ro"), &known(), &script).place("discard-image").is_none());
}

/// Without `resume=` the firmware is asked, where there is one that keeps variables.
#[test]
fn the_firmware_is_asked_before_the_import() {
    let mut known = Known { hardware: None, ..known() };
    assert!(boot("zfs=tank", &known).place("read-note").is_none());
    known.kernel.efi = true;
    let told = boot("zfs=tank", &known);
    assert_eq!(told.names()[..3], ["load-module", "read-note", "load-module"]);
    assert!(boot("zfs=tank resume=/dev/vdb", &known).place("read-note").is_none());
    let told = boot("zfs=tank noresume", &known);
    assert!(told.booted() && told.place("read-note") < told.place("discard-image"), "{:?}", told.names());
    assert!(told.place("discard-image") < told.place("import"));
}
