//! The checks. Each looks at what was found out, and at nothing else.

use super::Code;
use crate::hooks::files::is_fallback;
use crate::status::facts::{Content, Image, Inside, What};
use crate::status::{Survey, Target, some};
use taproot_init::cmdline::Request;

/// A new image should find this many times the room that the largest one takes.
const ROOM: (u64, u64) = (11, 10);

type Found = Vec<(Code, String)>;

/// Everything that is to be said.
pub(super) fn all(survey: &Survey) -> Found {
    let (target, request) = (survey.target(), survey.request());
    let mut found = Found::new();
    entry(survey, &mut found);
    image(survey, &target, &request, &mut found);
    verdict(survey, &mut found);
    packing(survey, &target, &mut found);
    kernels(survey, &target, &mut found);
    machine(survey, &request, &mut found);
    found
}

/// The boot loader's entry.
fn entry(survey: &Survey, found: &mut Found) {
    let next = &survey.next;
    let Some(entry) = &next.entry else {
        let why = next.unknown.as_deref().unwrap_or("nothing was found out about it");
        found.push((
            Code::LoaderUnknown,
            format!("what boots next is not known: {why}; what is said here is about the running kernel and the words of the present boot"),
        ));
        return;
    };
    let at = entry.source.display();
    if entry.kernel.found.is_none() {
        found.push((
            Code::EntryKernelMissing,
            format!(
                "entry {:?} of {at} boots kernel {}, which is not there; write the boot loader's entries anew (update-grub, bootctl list)",
                entry.title, entry.kernel.name
            ),
        ));
    }
    for named in entry.images.iter().filter(|named| named.found.is_none()) {
        let kernel = entry.release.as_deref().unwrap_or("VERSION");
        found.push((
            Code::EntryImageMissing,
            format!(
                "entry {:?} of {at} loads image {}, which is not there; pack it (taproot initramfs --kernel {kernel} --output FILE), or write the entries anew",
                entry.title, named.name
            ),
        ));
    }
    if entry.images.is_empty() {
        found.push((
            Code::EntryWithoutImage,
            format!("entry {:?} of {at} loads no initramfs, and a kernel by itself boots no pool; write the entries anew once the image is there", entry.title),
        ));
    }
}

/// The image that boots next.
fn image(survey: &Survey, target: &Target<'_>, request: &Request, found: &mut Found) {
    let Some(image) = target.image else {
        if let (None, Some(kernel)) = (&survey.next.entry, &target.kernel) {
            found.push((Code::ImageMissing, missing(kernel)));
        }
        return;
    };
    let (path, kernel) = (image.path.display(), target.kernel.as_deref().unwrap_or("VERSION"));
    let again = format!("pack it again: taproot initramfs --kernel {kernel} --output {path}");
    match &image.content {
        Content::Damaged(why) => found.push((Code::ImageDamaged, format!("{path}: expected an image, found: {why}; {again}"))),
        Content::Other(None) => found.push((
            Code::ImageOfOtherTool,
            format!("{path} was made by another tool, and nothing can be said about what it does; taproot initramfs --output {path} packs one"),
        )),
        Content::Other(Some(inside)) | Content::Taproot(inside) => {
            inside_image(survey, &ImageOf { image, inside, again: &again }, target, request, found);
        }
        // It stands among what could not be looked at.
        Content::Unreadable(_) => {}
    }
}

/// An image with taproot-init.
struct ImageOf<'a> {
    image: &'a Image,
    inside: &'a Inside,
    again: &'a str,
}

fn inside_image(survey: &Survey, of: &ImageOf<'_>, target: &Target<'_>, request: &Request, found: &mut Found) {
    let ImageOf { image, inside, again } = of;
    let path = image.path.display();
    if let Some(kernel) = target.kernel.as_ref().filter(|kernel| **kernel != inside.kernel && !inside.kernel.is_empty())
    {
        let text =
            format!("{path} has modules of kernel {}, and kernel {kernel} boots with it; {again}", inside.kernel);
        found.push((Code::ImageOfOtherKernel, text));
    }
    for change in survey.changes(inside) {
        let code = match change.what {
            What::Modules => Code::ModulesChanged,
            What::Init => Code::InitChanged,
            What::Hostid => Code::HostidDiffers,
            What::Configuration => Code::ConfigurationChanged,
            What::Files => Code::FilesChanged,
            What::Pool => Code::PoolDiffers,
            What::Disks => Code::DisksChanged,
        };
        found.push((code, format!("{path}: {}; {again}", change.text)));
    }
    if !inside.recorded && matches!(image.content, Content::Taproot(_)) {
        let text = format!(
            "{path} was packed by {}, which did not note what it was made of, so not every change is seen; {again}",
            inside.packer
        );
        found.push((Code::ImageUnrecorded, text));
    }
    if let Some(pool) = &survey.pool {
        if let (Some(label), Some(own)) = (&pool.hostid, &inside.hostid)
            && label != own
            && !found.iter().any(|(code, _)| *code == Code::HostidDiffers)
        {
            let text = format!(
                "{path} has hostid {own}, and the labels of pool {} have {label}, so it counts as another system's; {again}",
                pool.name
            );
            found.push((Code::HostidDiffers, text));
        }
        let unknown: Vec<String> =
            pool.features.iter().filter(|feature| !inside.features.contains(feature)).cloned().collect();
        if !inside.features.is_empty() && !unknown.is_empty() {
            let text = format!(
                "pool {} has features that the zfs module in {path} does not know: {}; install the OpenZFS that the pool was upgraded with for kernel {}, and {again}",
                pool.name,
                some(&unknown),
                inside.kernel
            );
            found.push((Code::PoolFeatures, text));
        }
    }
    let trial =
        survey.trials.iter().find(|(kernel, _)| *kernel == inside.kernel).and_then(|(_, trial)| trial.as_ref().ok());
    let Some(trial) = trial else { return };
    for (module, why) in &trial.needed {
        if inside.modules.as_ref().is_some_and(|modules| !modules.contains(module)) {
            found.push((Code::ModuleLacking, format!("{path} lacks module {module} ({why}); {again}")));
        }
    }
    let named = !request.keys.files.is_empty();
    if let Some(key) = trial.key.as_ref().filter(|key| !named && !inside.files.contains(key)) {
        let text = format!(
            "the key of the root is {key}, which is not in {path}, and no word names another (taproot.key=DEVICE:/path); pack it: --add-file {key}"
        );
        found.push((Code::KeyLacking, text));
    }
}

/// What `taproot explain` says.
fn verdict(survey: &Survey, found: &mut Found) {
    let Some(verdict) = &survey.verdict else { return };
    let code = verdict.failure_code.as_deref().unwrap_or("unknown");
    if let Some(why) = &verdict.failure {
        let text = format!(
            "{why} ({code}, docs/errors.md; from {}); taproot explain --cmdline WORDS says what other words would do",
            verdict.facts
        );
        found.push((Code::WouldNotBoot, text));
    }
}

/// What packing would come to.
fn packing(survey: &Survey, target: &Target<'_>, found: &mut Found) {
    for (kernel, trial) in &survey.trials {
        let refused = |why: &str| {
            let text = format!("a new image for kernel {kernel} would be refused: {why}");
            (Code::WouldNotPack, text)
        };
        match trial {
            Err(why) => found.push(refused(why)),
            Ok(trial) => {
                let no_zfs = survey.kernels.iter().any(|known| known.release == *kernel && !known.zfs);
                let other = target.kernel.as_ref() != Some(kernel);
                if !(no_zfs && other) {
                    found.extend(trial.problems.iter().map(|why| refused(why)));
                }
                found.extend(trial.notes.iter().filter(|_| !other).map(|note| (Code::PackingNote, note.clone())));
            }
        }
    }
}

fn missing(kernel: &str) -> String {
    format!(
        "kernel {kernel} has no image; pack one (taproot initramfs --kernel {kernel}), and let the boot loader know of it"
    )
}

/// The kernels that are installed.
fn kernels(survey: &Survey, target: &Target<'_>, found: &mut Found) {
    for kernel in &survey.kernels {
        let has_one = survey.images.iter().any(|image| image.kernel() == Some(&kernel.release));
        let is_target = target.kernel.as_ref() == Some(&kernel.release);
        // Of the one that boots next more has been said.
        if !has_one && !is_target {
            found.push((Code::ImageMissing, missing(&kernel.release)));
        }
    }
    let expects_pool =
        survey.pool.is_some() || target.image.and_then(Image::inside).is_some_and(|inside| !inside.pools.is_empty());
    let any_zfs = survey.kernels.iter().any(|kernel| kernel.zfs);
    if let Some(newest) = survey.newest().filter(|kernel| !kernel.zfs && (expects_pool || any_zfs)) {
        let release = &newest.release;
        let text = format!(
            "kernel {release}, the newest, has no zfs module, so it cannot boot a pool; build it (dkms autoinstall -k {release}) or remove that kernel"
        );
        found.push((Code::ZfsMissing, text));
    }
    if let (Some(_), Some(kernel)) = (&survey.next.entry, &target.kernel)
        && !survey.kernels.is_empty()
        && !survey.kernels.iter().any(|known| known.release == *kernel)
    {
        let text = format!(
            "kernel {kernel} boots next, and its modules are not installed (no lib/modules/{kernel}/modules.dep), so the booted system lacks drivers; install its package, or write the boot loader's entries anew"
        );
        found.push((Code::KernelWithoutModules, text));
    }
}

/// The machine around it.
fn machine(survey: &Survey, request: &Request, found: &mut Found) {
    for target in &survey.system.unmounted {
        let text = format!(
            "fstab mounts {target}, and it is not mounted: kernels and images written there now are not those that the boot loader finds; mount {target}"
        );
        found.push((Code::BootUnmounted, text));
    }
    for place in &survey.system.behind {
        let text = format!(
            "the boot loader's partition at {place} was away or could not be written when kernels or images changed, so its disk starts an older state; mount it, and: taproot hooks update"
        );
        found.push((Code::LoaderPartitionBehind, text));
    }
    let own =
        survey.images.iter().filter(|image| matches!(image.content, Content::Taproot(_)) && !is_fallback(&image.path));
    let largest = own.map(|image| image.bytes).max().unwrap_or(0) / ROOM.1 * ROOM.0;
    if let Some((place, free)) = survey.system.room.as_ref().filter(|(_, free)| *free < largest) {
        let text = format!(
            "{} has {} free, and a new image takes up to {}; remove old kernels or images there",
            place.display(),
            crate::progress::megabytes(*free),
            crate::progress::megabytes(largest)
        );
        found.push((Code::NoRoom, text));
    }
    if let Some((pool, state)) = survey.pool.as_ref().and_then(|pool| Some((pool, pool.state.as_deref()?))) {
        let name = &pool.name;
        match state {
            "ONLINE" => {}
            "DEGRADED" => {
                let text = format!(
                    "pool {name} is degraded: the boot waits for its missing disks and then goes on, unless taproot.degraded=no; see zpool status {name}"
                );
                found.push((Code::PoolDegraded, text));
            }
            state => {
                let text = format!(
                    "pool {name} is {state}, expected ONLINE: what needs it does not go on; bring its disks back and zpool clear {name}"
                );
                found.push((Code::PoolSuspended, text));
            }
        }
    }
    // What another tool's image does is not known; a boot that writes nothing goes on.
    let other = survey.target().image.is_some_and(|image| matches!(image.content, Content::Other(None)));
    let settles = !other && request.resume.disabled.is_none() && !request.import.read_only.value;
    if let Some(device) = request.resume.device.as_ref().filter(|_| settles)
        && survey.devices.contains(&(device.value.clone(), false))
    {
        let seconds = request.resume.wait.value.as_secs();
        let text = format!(
            "{} names a device that is not there: the boot waits {seconds} s for it, then stops (resume-unsettled); attach it, correct the word, or boot with noresume",
            device.why
        );
        found.push((Code::ResumeMissing, text));
    }
}
