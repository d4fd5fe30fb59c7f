//! Hibernation: whether a pool may be written, seen from the device that may hold an image. A resumed system goes on with
//! what it knew of its pools; if they were written in between, they are damaged. `docs/resume.md` has the rules.

use std::time::Duration;

use super::Refusal;
use super::location::NAME;
use crate::devices::swap::Header;

/// The signature of an image that the kernel itself can resume.
const KERNELS_OWN: &str = "S1SUSPEND";

/// What was found of the resume device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It did not appear in this time.
    Missing(Duration),
    /// It cannot be found or read, and why.
    Unusable(String),
    /// The page that would begin an image.
    Page(Header),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is no image: boot.
    Boot(String),
    /// There was one, and it is gone: boot, with a warning.
    BootAnew(String),
    /// There is one: hand it to the kernel.
    Resume(String),
    /// There may be one, and it cannot be resumed: do not write.
    Stop(Refusal),
}

/// Where an image may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The device, spelled as for `resume=`.
    pub device: String,
    /// Who names it: the word of the command line, or the variable of the firmware.
    pub why: String,
    /// Whether it is the firmware that does.
    pub noted: bool,
}

/// Judges the first look. `kernel`: whether this kernel has `/sys/power/resume`.
pub fn first_look(place: &Place, seen: &Seen, kernel: bool) -> Verdict {
    let Place { device, why: word, .. } = place;
    match seen {
        Seen::Missing(time) => Verdict::Stop(refusal(
            &format!("the resume device {device} did not appear within {} s", time.as_secs()),
            format!("the device named by {word}, to see whether the system was hibernated to it"),
            vec!["no block device of that name; drivers, LUKS, LVM and md that it needs may be missing".to_owned()],
            Some("attach it and type retry; taproot.resume_wait=SECONDS waits longer"),
            place.noted,
        )),
        Seen::Unusable(why) => Verdict::Stop(refusal(
            &format!("the resume device {device} cannot be looked at: {why}"),
            "swap space on a disk or partition, which can be read before any pool is imported".to_owned(),
            vec![],
            None,
            place.noted,
        )),
        Seen::Page(Header { image: None, swap: true, .. }) => {
            Verdict::Boot(format!("no hibernation image on {device}"))
        }
        Seen::Page(Header { image: None, .. }) => {
            Verdict::Boot(format!("no hibernation image on {device}, which holds no swap space there"))
        }
        Seen::Page(Header { image: Some(image), .. }) if image == KERNELS_OWN && kernel => {
            Verdict::Resume(format!("hibernation image ({image}) on {device}: resuming"))
        }
        Seen::Page(Header { image: Some(image), .. }) => {
            let why =
                if kernel { "it was not made by the kernel" } else { "this kernel was built without hibernation" };
            Verdict::Stop(kept(place, image, why))
        }
    }
}

/// Judges the look after the kernel came back, which means that it did not resume. `error`: what writing to
/// `/sys/power/resume` said.
pub fn second_look(place: &Place, seen: &Seen, error: Option<&str>) -> Verdict {
    match seen {
        Seen::Page(Header { image: None, .. }) => Verdict::BootAnew(format!(
            "the kernel could not resume from {} and discarded the image (its reason is in the kernel's log): the system \
             starts anew",
            place.device
        )),
        Seen::Page(Header { image: Some(image), .. }) => {
            let why = error.map_or_else(
                || "the kernel did not take it (nohibernate, or lockdown)".to_owned(),
                |e| format!("the kernel did not take it: {e}"),
            );
            Verdict::Stop(kept(place, image, &why))
        }
        other => first_look(place, other, true),
    }
}

/// The firmware's variable is there, and does not say which device.
pub fn unreadable(why: &str) -> Refusal {
    refusal(
        &format!("{NAME} does not tell where the system was hibernated to: {why}"),
        "JSON with uuid and offset, as systemd writes it".to_owned(),
        vec![],
        Some("retry resume=DEVICE here, if you know where the image is; later on the kernel command line"),
        true,
    )
}

/// There is an image, and pools were imported before it was found: by hand, while its device was missing.
pub fn imported_before(place: &Place, pools: &[String]) -> Refusal {
    let pools = pools.join(" ");
    Refusal {
        problem: format!(
            "there is a hibernation image on {}, but pool {pools} was imported before: what was written to it since, the \
             hibernated system does not know of",
            place.device
        ),
        expected: "an image that is resumed before any pool is imported".to_owned(),
        found: vec!["the image was left as it is".to_owned()],
        advice: vec![
            "if the pool was imported read-only, nothing was written: reboot, and the system is resumed".to_owned(),
            "else retry noresume here, or noresume on the kernel command line: the image is discarded, and what was open in the hibernated system is lost"
                .to_owned(),
        ],
    }
}

/// There is an image, and a disk does not answer: what waits for it cannot be frozen, and a kernel that cannot freeze has
/// discarded the image already.
pub fn held_up(place: &Place, silent: &[&str]) -> Refusal {
    let nodes = silent.join(" ");
    refusal(
        &format!("there is a hibernation image on {} that was not resumed: {nodes} does not answer", place.device),
        "every disk read, or gone: the kernel freezes what reads them before it resumes, or discards the image"
            .to_owned(),
        vec!["the image was left as it is".to_owned()],
        Some("detach the disk that does not answer, or wait until it does, then retry"),
        place.noted,
    )
}

fn kept(place: &Place, image: &str, why: &str) -> Refusal {
    refusal(
        &format!("there is a hibernation image on {} that was not resumed: {why}", place.device),
        "the hibernated system to go on".to_owned(),
        vec![format!("signature {image}; it was left as it is")],
        Some("boot with the kernel and the command line that the system was hibernated with"),
        place.noted,
    )
}

/// All of them end in the same way out.
fn refusal(problem: &str, expected: String, found: Vec<String>, first: Option<&str>, noted: bool) -> Refusal {
    let never = if noted {
        "once is enough: with noresume the variable is removed as well"
    } else {
        "if this machine does not hibernate, take resume= off the kernel command line"
    };
    let out = [
        "retry noresume here, or noresume on the kernel command line: an image is discarded, and what was open in the hibernated system is lost",
        "retry taproot.import=ro here to look at the pool without writing to it",
        never,
    ];
    Refusal {
        problem: format!("{problem}; no pool is imported, since writing to it would damage what the image relies on"),
        expected,
        found,
        advice: first.into_iter().chain(out).map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_older_than_an_import_is_not_resumed() {
        let place = Place { device: "LABEL=swap".into(), why: "resume=LABEL=swap".into(), noted: false };
        let refusal = imported_before(&place, &["tank".to_owned()]);
        assert!(refusal.problem.contains("LABEL=swap, but pool tank was imported before"), "{refusal:?}");
        assert!(refusal.advice.iter().any(|line| line.contains("noresume")));
    }

    fn page(image: Option<&str>) -> Seen {
        Seen::Page(Header { image: image.map(str::to_owned), swap: true })
    }

    #[track_caller]
    fn stops(verdict: Verdict, part: &str) {
        let Verdict::Stop(refusal) = verdict else { panic!("{verdict:?}") };
        assert!(refusal.problem.contains(part) && refusal.problem.contains("no pool is imported"), "{refusal:?}");
        assert!(refusal.advice.iter().any(|a| a.contains("noresume")), "{refusal:?}");
    }

    fn at(device: &str) -> Place {
        Place { device: device.to_owned(), why: format!("resume={device}"), noted: false }
    }

    #[test]
    fn the_way_out_is_to_forget_who_named_the_device() {
        let missing = Seen::Missing(Duration::from_secs(10));
        let advice = |noted| match first_look(&Place { noted, ..at("UUID=x") }, &missing, true) {
            Verdict::Stop(refusal) => refusal.advice.join("\n"),
            other => panic!("{other:?}"),
        };
        assert!(advice(false).contains("take resume= off") && !advice(false).contains("variable"));
        assert!(advice(true).contains("the variable is removed") && !advice(true).contains("take resume= off"));
        stops(Verdict::Stop(unreadable("it is no JSON object")), "HibernateLocation does not tell");
    }

    #[test]
    fn no_image_boots() {
        let verdict = first_look(&at("UUID=x"), &page(None), true);
        assert_eq!(verdict, Verdict::Boot("no hibernation image on UUID=x".into()));
        assert_eq!(first_look(&at("UUID=x"), &page(None), false), verdict);
        let blank = Seen::Page(Header::default());
        assert!(matches!(first_look(&at("/dev/x"), &blank, true), Verdict::Boot(t) if t.contains("no swap space")));
    }

    #[test]
    fn the_kernels_image_is_the_kernels() {
        assert!(matches!(first_look(&at("x"), &page(Some("S1SUSPEND")), true), Verdict::Resume(_)));
        stops(first_look(&at("x"), &page(Some("S1SUSPEND")), false), "built without hibernation");
        stops(first_look(&at("x"), &page(Some("ULSUSPEND")), true), "not made by the kernel");
    }

    #[test]
    fn not_knowing_is_no_reason_to_write() {
        stops(first_look(&at("UUID=x"), &Seen::Missing(Duration::from_secs(10)), true), "within 10 s");
        stops(first_look(&at("/dev/zd0"), &Seen::Unusable("it is a zvol".into()), true), "it is a zvol");
    }

    #[test]
    fn after_the_kernel_came_back() {
        assert!(matches!(second_look(&at("x"), &page(None), None), Verdict::BootAnew(t) if t.contains("anew")));
        stops(second_look(&at("x"), &page(Some("S1SUSPEND")), None), "nohibernate");
        stops(second_look(&at("x"), &page(Some("S1SUSPEND")), Some("Invalid argument")), "Invalid argument");
        stops(second_look(&at("x"), &Seen::Unusable("gone".into()), None), "gone");
    }
}
