//! Each finding by what was found out; that nothing is found where all is well.

use super::{Code, Diagnosis, Severity};
use crate::initramfs::trial::Trial;
use crate::loader::{Entry, Named, NextBoot};
use crate::status::facts::{Change, Content, Image, Inside, Kernel, Pool, System, What};
use crate::status::{State, Status, Survey, Verdict};

const KERNEL: &str = "6.1";
const PATH: &str = "/boot/i.img";

fn named(name: &str) -> Named {
    Named { name: name.into(), found: Some(name.into()) }
}

fn inside() -> Inside {
    Inside {
        kernel: KERNEL.into(),
        packer: "taproot 0.1.0".into(),
        pools: vec![("tank".into(), "7".into())],
        hostid: Some("00000bab".into()),
        modules: Some(vec!["zfs".into(), "nvme".into()]),
        files: vec!["/etc/key".into()],
        features: vec!["com.delphix:hole_birth".into()],
        members: vec![("70".into(), "/dev/a".into())],
        recorded: true,
        ..Inside::default()
    }
}

fn image(inside: Inside) -> Image {
    Image { path: PATH.into(), bytes: 1000, made: 5, release: None, content: Content::Taproot(Box::new(inside)) }
}

/// A machine where all is well.
fn fine() -> Survey {
    let entry = Entry {
        title: "Debian".into(),
        source: "/boot/grub/grub.cfg".into(),
        kernel: named("/boot/vmlinuz-6.1"),
        release: Some(KERNEL.into()),
        images: vec![named(PATH)],
        words: "zfs=tank/ROOT/a".into(),
        ..Entry::default()
    };
    let needed = [("nvme".to_owned(), "driver of disk nvme0n1".to_owned())].into();
    let trial = Trial { kernel: KERNEL.into(), needed, key: Some("/etc/key".into()), ..Trial::default() };
    Survey {
        system: System { running: KERNEL.into(), room: Some(("/boot".into(), 5000)), ..System::default() },
        next: NextBoot { entry: Some(entry), ..NextBoot::default() },
        kernels: vec![Kernel { release: KERNEL.into(), zfs: true }],
        images: vec![image(inside())],
        pool: Some(Pool {
            name: "tank".into(),
            guid: Some("7".into()),
            members: vec![("70".into(), "/dev/a".into())],
            features: vec!["com.delphix:hole_birth".into()],
            state: Some("ONLINE".into()),
            hostid: Some("00000bab".into()),
        }),
        verdict: Some(Verdict { root: Some("tank/ROOT/a".into()), ..Verdict::default() }),
        trials: vec![(KERNEL.into(), Ok(trial))],
        ..Survey::default()
    }
}

fn entry(survey: &mut Survey) -> &mut Entry {
    survey.next.entry.as_mut().unwrap()
}

fn with(survey: &mut Survey, change: impl FnOnce(&mut Inside)) {
    let mut changed = inside();
    change(&mut changed);
    survey.images = vec![image(changed)];
}

fn trial(survey: &mut Survey) -> &mut Trial {
    survey.trials[0].1.as_mut().unwrap()
}

fn pool(survey: &mut Survey) -> &mut Pool {
    survey.pool.as_mut().unwrap()
}

fn changed(survey: &mut Survey, what: What) {
    with(survey, |inside| inside.changes.push(Change { what, text: "changed".into() }));
}

/// Makes of a machine where all is well one where this is to be said.
fn spoil(survey: &mut Survey, code: Code) {
    match code {
        Code::EntryKernelMissing => entry(survey).kernel.found = None,
        Code::EntryImageMissing => entry(survey).images[0].found = None,
        Code::EntryWithoutImage => entry(survey).images.clear(),
        Code::ImageDamaged => survey.images[0].content = Content::Damaged("cut off".into()),
        Code::ImageOfOtherKernel => with(survey, |inside| inside.kernel = "6.0".into()),
        Code::WouldNotBoot => survey.verdict.as_mut().unwrap().failure = Some("no pool".into()),
        Code::PoolFeatures => pool(survey).features.push("org.openzfs:new".into()),
        Code::ImageMissing => survey.kernels.insert(0, Kernel { release: "6.0".into(), zfs: true }),
        Code::ModulesChanged => changed(survey, What::Modules),
        Code::ModuleLacking => with(survey, |inside| inside.modules = Some(vec!["zfs".into()])),
        Code::FilesChanged => changed(survey, What::Files),
        Code::HostidDiffers => pool(survey).hostid = Some("00000001".into()),
        Code::PoolDiffers => pool(survey).guid = Some("8".into()),
        Code::KeyLacking => with(survey, |inside| inside.files.clear()),
        Code::WouldNotPack => trial(survey).problems.push("no driver".into()),
        Code::ZfsMissing => {
            survey.kernels.push(Kernel { release: "6.2".into(), zfs: false });
            survey.images.push(Image {
                path: "/boot/initrd.img-6.2".into(),
                content: Content::Other(None),
                ..image(inside())
            });
        }
        Code::KernelWithoutModules => survey.kernels[0].release = "6.0".into(),
        Code::BootUnmounted => survey.system.unmounted.push("/boot".into()),
        Code::LoaderPartitionBehind => survey.system.behind.push("/boot/efi-2".into()),
        Code::NoRoom => survey.system.room = Some(("/boot".into(), 1000)),
        Code::PoolSuspended => pool(survey).state = Some("SUSPENDED".into()),
        Code::PoolDegraded => pool(survey).state = Some("DEGRADED".into()),
        Code::InitChanged => changed(survey, What::Init),
        Code::ConfigurationChanged => changed(survey, What::Configuration),
        Code::DisksChanged => pool(survey).members.push(("71".into(), "/dev/b".into())),
        Code::ResumeMissing => {
            entry(survey).words.push_str(" resume=UUID=1");
            survey.devices.push(("UUID=1".into(), false));
        }
        Code::ImageOfOtherTool => survey.images[0].content = Content::Other(None),
        Code::ImageUnrecorded => with(survey, |inside| inside.recorded = false),
        Code::LoaderUnknown => survey.next.entry = None,
        Code::PackingNote => trial(survey).notes.push("a note".into()),
    }
}

fn codes(survey: &Survey) -> Vec<&'static str> {
    Diagnosis::of(survey).findings.into_iter().map(|finding| finding.code).collect()
}

#[test]
fn nothing_is_found_where_all_is_well() {
    let diagnosis = Diagnosis::of(&fine());
    assert_eq!(diagnosis.findings, []);
    assert_eq!(diagnosis.exit_code(), 0);
    assert!(diagnosis.text().starts_with("OK: "), "{}", diagnosis.text());
    let status = Status::of(&fine());
    assert!(status.is_fine());
    assert_eq!((status.images[0].state, status.images[0].next), (State::Ok, Some(true)));
    assert_eq!(
        (status.next.root.as_deref(), status.next.root_from.as_str()),
        (Some("tank/ROOT/a"), "command line: zfs=tank/ROOT/a")
    );
}

#[test]
fn each_finding_is_found_by_itself() {
    for code in Code::ALL {
        let mut survey = fine();
        spoil(&mut survey, code);
        let found = codes(&survey);
        // A kernel that is not installed has, and is, something else beside.
        let beside: &[&str] = if code == Code::KernelWithoutModules { &["image-missing"] } else { &[] };
        let rest: Vec<_> = found.iter().filter(|found| **found != code.code() && !beside.contains(found)).collect();
        assert!(found.contains(&code.code()) && rest.is_empty(), "{code:?}: {found:?}");
        let expected = match code.severity() {
            Severity::Stops => 2,
            Severity::MayStop => 1,
            Severity::Note => 0,
        };
        assert_eq!(Diagnosis::of(&survey).exit_code(), expected.max(u8::from(!beside.is_empty())), "{code:?}");
    }
}

#[test]
fn a_resume_device_that_is_not_there_stops_only_what_settles_it() {
    let missing = || {
        let mut survey = fine();
        spoil(&mut survey, Code::ResumeMissing);
        survey
    };
    assert_eq!(codes(&missing()), ["resume-missing"]);
    for word in [" noresume", " taproot.import=ro"] {
        let mut survey = missing();
        entry(&mut survey).words.push_str(word);
        assert_eq!(codes(&survey), [""; 0], "{word}");
    }
    let mut survey = missing();
    spoil(&mut survey, Code::ImageOfOtherTool);
    assert_eq!(codes(&survey), ["image-of-other-tool"]);
}

#[test]
fn what_could_not_be_looked_at_is_no_all_clear() {
    let mut survey = fine();
    survey.unknown.push("no answer".into());
    let diagnosis = Diagnosis::of(&survey);
    assert_eq!(diagnosis.exit_code(), 3);
    assert!(diagnosis.text().starts_with("UNKNOWN: ") && diagnosis.text().contains("no answer"));
    spoil(&mut survey, Code::NoRoom);
    assert_eq!(Diagnosis::of(&survey).exit_code(), 1, "what is known counts more");
    spoil(&mut survey, Code::EntryWithoutImage);
    assert!(Diagnosis::of(&survey).text().starts_with("CRITICAL: 1 thing that would stop the next boot"));
}

#[test]
fn the_image_before_may_be_stale() {
    let mut survey = fine();
    let mut old = inside();
    old.changes.push(Change { what: What::Modules, text: "changed".into() });
    survey.images.push(Image { path: "/boot/i.old.img".into(), ..image(old) });
    let status = Status::of(&survey);
    assert_eq!(status.images.iter().map(|row| row.state).collect::<Vec<_>>(), [State::Ok, State::Fallback]);
    assert!(status.is_fine() && codes(&survey).is_empty());
}

#[test]
fn what_names_the_root() {
    let from = |words: &str, packed: &str, root: &str| {
        let mut survey = fine();
        entry(&mut survey).words = words.into();
        with(&mut survey, |inside| inside.cmdline = packed.into());
        survey.verdict.as_mut().unwrap().root = Some(root.into());
        Status::of(&survey).next.root_from
    };
    assert_eq!(from("ro", "zfs=tank/a", "tank/a"), "image: zfs=tank/a");
    assert_eq!(from("ro", "", "tank/a"), "bootfs of pool tank; no word names one");
    assert_eq!(from("root=zfs:AUTO", "", "tank/a"), "bootfs of pool tank; command line: root=zfs:AUTO");
}
