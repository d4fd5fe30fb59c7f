//! Which kernels have which image, whether it is what would be packed now, and what boots next. A machine whose pool does not answer
//! any more is looked at all the same: see [`ask`](mod@ask).

pub mod ask;
pub mod facts;
mod images;
pub mod look;
mod report;
mod text;

use crate::hooks::files::is_fallback;
use crate::initramfs::trial::Trial;
use crate::loader::NextBoot;
use ask::{Answer, End, ask};
use facts::{Change, Content, Fact, Image, Inside, Kernel, Pool, System, What};
pub(crate) use images::some;
pub use report::{NextBootText, Row, State, Status};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use taproot_init::cmdline::{Request, parse};
use taproot_init::image::ExpectedRoot;
use taproot_init::plan::roots::prefer_packed;
use taproot_init::report::boot::REPORT_PATH;

/// Everything that was found out.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// The system.
    pub system: System,
    /// What boots next.
    pub next: NextBoot,
    /// Kernels, oldest first.
    pub kernels: Vec<Kernel>,
    /// Images.
    pub images: Vec<Image>,
    /// The root's pool.
    pub pool: Option<Pool>,
    /// Devices that words name, and whether each is there.
    pub devices: Vec<(String, bool)>,
    /// What the next boot would come to.
    pub verdict: Option<Verdict>,
    /// What packing would come to, or why that cannot be told.
    pub trials: Vec<(String, Result<Trial, String>)>,
    /// What could not be looked at, and why.
    pub unknown: Vec<String>,
}

/// What `taproot explain` says of the next boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Where its facts come from.
    pub facts: String,
    /// The root.
    pub root: Option<String>,
    /// Why it cannot boot.
    pub failure: Option<String>,
    /// The code of that failure.
    pub failure_code: Option<String>,
}

/// The next boot, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// Kernel release.
    pub kernel: Option<String>,
    /// The image that counts: of several, the one with taproot-init.
    pub image: Option<&'a Image>,
    /// The kernel command line.
    pub words: String,
}

/// Puts the questions: `patience` is for each of them, `packing` whether it is tried what packing would come to.
pub fn survey(root: &Path, patience: Duration, packing: bool) -> Survey {
    let mut survey = Survey::default();
    let root_text = root.to_string_lossy().into_owned();
    let word = look::WORD;
    survey.hear("kernels and images", &ask(&[word, "files", &root_text], patience), patience);
    let Target { words, kernel, image } = survey.target();
    let image = image.filter(|image| matches!(image.content, Content::Taproot(_) | Content::Other(Some(_))));
    let (image, request) = (image.map(|image| image.path.clone()), parse(words.as_bytes()));
    let resume = request.resume.device.iter().filter(|_| request.resume.disabled.is_none());
    let mut about_pool = vec![word.to_owned(), "pool".to_owned(), root_text.clone()];
    about_pool.extend(resume.map(|device| device.value.clone()));
    let mut kernels: Vec<String> =
        kernel.into_iter().chain(survey.newest().map(|kernel| kernel.release.clone())).collect();
    kernels.dedup();
    kernels.retain(|kernel| packing && survey.kernels.iter().any(|known| known.release == *kernel));
    let trial = |kernel: &String| (kernel.clone(), ask(&[word, "trial", &root_text, kernel], patience));
    let (pool, verdict, trials) = std::thread::scope(|scope| {
        let pool = scope.spawn(|| ask(&about_pool, patience));
        let verdict = scope.spawn(|| image.map(|image| explain(root, &image, &words, patience)));
        let trials: Vec<(String, Answer)> = kernels.iter().map(trial).collect();
        (pool.join().unwrap_or_default(), verdict.join().unwrap_or_default(), trials)
    });
    survey.hear("the root's pool", &pool, patience);
    for (kernel, answer) in trials {
        survey.take(&answer.lines);
        match answer.end {
            End::Code(0) => {}
            End::Late => {
                survey.unknown.push(format!("what packing for kernel {kernel} would come to: {}", late(patience)));
            }
            End::Code(_) | End::Killed => survey.trials.push((kernel, Err(answer.reason()))),
        }
    }
    match verdict {
        Some(Ok(verdict)) => survey.verdict = verdict,
        Some(Err(why)) => survey.unknown.push(format!("what the next boot would come to: {why}")),
        None => {}
    }
    survey
}

/// Lets this program explain the next boot: on what the running system says, else on the record of the present boot.
fn explain(root: &Path, image: &Path, words: &str, patience: Duration) -> Result<Option<Verdict>, String> {
    let here = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path)).to_string_lossy().into_owned();
    let record = here(Path::new(REPORT_PATH));
    let image = here(image);
    let on = |facts: &str| {
        let args = ["explain", "--json", "--cmdline", words, "--image", &image, "--facts", facts];
        verdict(&ask(&args, patience), patience)
    };
    let recorded = Path::new(&record).is_file();
    match (root == Path::new("/"), recorded) {
        (true, false) => on("system"),
        (true, true) => on("system").or_else(|why| on(&record).map_err(|_| why)),
        (false, true) => on(&record),
        (false, false) => Ok(None),
    }
}

fn verdict(answer: &Answer, patience: Duration) -> Result<Option<Verdict>, String> {
    #[derive(Deserialize)]
    struct Boot {
        facts: String,
        root: Option<String>,
        failure: Option<String>,
        failure_code: Option<String>,
    }
    #[derive(Deserialize)]
    struct Document {
        boot: Option<Boot>,
    }
    let text = answer.lines.join("\n");
    match serde_json::from_str::<Document>(&text) {
        Ok(Document { boot }) => Ok(boot.map(|boot| {
            let Boot { facts, root, failure, failure_code } = boot;
            Verdict { facts, root, failure, failure_code }
        })),
        Err(_) if answer.end == End::Late => Err(late(patience)),
        Err(_) => Err(answer.reason()),
    }
}

fn late(patience: Duration) -> String {
    format!(
        "no answer within {} s; a pool that lost its disks does not answer (zpool status), and a slow disk may take longer (--wait)",
        patience.as_secs()
    )
}

impl Survey {
    /// Takes the facts of an answer; what is missing of them is not known.
    fn hear(&mut self, about: &str, answer: &Answer, patience: Duration) {
        self.take(&answer.lines);
        match answer.end {
            End::Code(0) => {}
            End::Late => self.unknown.push(format!("{about}: {}", late(patience))),
            End::Code(_) | End::Killed => self.unknown.push(format!("{about}: {}", answer.reason())),
        }
    }

    fn take(&mut self, lines: &[String]) {
        for line in lines {
            match serde_json::from_str(line) {
                Ok(Fact::System(system)) => self.system = system,
                Ok(Fact::Next(next)) => self.next = *next,
                Ok(Fact::Kernel(kernel)) => self.kernels.push(kernel),
                Ok(Fact::Image(image)) => {
                    if let Content::Unreadable(why) = &image.content {
                        self.unknown.push(why.clone());
                    }
                    self.images.push(*image);
                }
                Ok(Fact::Pool(pool)) => self.pool = Some(pool),
                Ok(Fact::Device(name, there)) => self.devices.push((name, there)),
                Ok(Fact::Trial(trial)) => self.trials.push((trial.kernel.clone(), Ok(trial))),
                Ok(Fact::Unknown(why)) => self.unknown.push(why),
                // Cut off, because it was left.
                Err(_) => {}
            }
        }
    }

    /// The newest kernel.
    pub fn newest(&self) -> Option<&Kernel> {
        self.kernels.last()
    }

    /// What boots next; where the boot loader does not tell, the present boot is taken.
    pub fn target(&self) -> Target<'_> {
        let Some(entry) = &self.next.entry else {
            let kernel = Some(self.system.running.clone()).filter(|kernel| !kernel.is_empty());
            let own = |image: &&Image| !is_fallback(&image.path) && image.kernel() == kernel.as_deref();
            let image = self.images.iter().filter(own).max_by_key(|image| image.made);
            return Target { kernel, image, words: self.next.present.clone() };
        };
        let found = entry.images.iter().filter_map(|named| named.found.as_ref());
        let images: Vec<&Image> =
            found.filter_map(|path| self.images.iter().find(|image| image.path == *path)).collect();
        let ours = images.iter().rev().find(|image| !matches!(image.content, Content::Other(None)));
        let image = ours.or_else(|| images.last()).copied();
        let inside = image.and_then(Image::kernel).map(str::to_owned);
        Target { kernel: entry.release.clone().or(inside), image, words: entry.words.clone() }
    }

    /// The words that count for the next boot, and where the root comes from.
    pub fn request(&self) -> Request {
        let target = self.target();
        let inside = target.image.and_then(Image::inside);
        let packed = inside.map_or("", |inside| inside.cmdline.as_str());
        let mut request = parse(format!("{packed} {}", target.words).as_bytes());
        let root = inside.and_then(|inside| inside.root.clone());
        prefer_packed(&mut request, root.map(|(source, fstype)| ExpectedRoot { source, fstype }).as_ref());
        request
    }

    /// What has changed since an image was packed.
    pub fn changes(&self, inside: &Inside) -> Vec<Change> {
        let mut changes = inside.changes.clone();
        let mut add = |what, text| changes.push(Change { what, text });
        let Some(pool) = self.pool.as_ref().filter(|_| !inside.pools.is_empty()) else { return changes };
        let noted: Vec<&(String, String)> = inside.pools.iter().filter(|(name, _)| *name == pool.name).collect();
        match (noted.first(), &pool.guid) {
            (None, _) => {
                let names: Vec<String> = inside.pools.iter().map(|(name, _)| name.clone()).collect();
                add(What::Pool, format!("it expects pool {}, and / is on {}", some(&names), pool.name));
            }
            (Some((name, guid)), Some(now)) if guid != now && guid != "0" => {
                add(What::Pool, format!("it expects pool {name} with guid {guid}, and that of now has {now}"));
            }
            _ => {}
        }
        if !inside.members.is_empty() && !pool.members.is_empty() {
            let lacks = |all: &[(String, String)], guid: &str| !all.iter().any(|(known, _)| known == guid);
            let new = pool
                .members
                .iter()
                .filter(|(guid, _)| lacks(&inside.members, guid))
                .map(|(_, at)| format!("{at} (new)"));
            let gone = inside
                .members
                .iter()
                .filter(|(guid, _)| lacks(&pool.members, guid))
                .map(|(_, at)| format!("{at} (gone)"));
            let names: Vec<String> = new.chain(gone).collect();
            if !names.is_empty() {
                add(What::Disks, format!("disks of pool {} changed since: {}", pool.name, some(&names)));
            }
        }
        changes
    }
}

impl Image {
    /// What is in it, where that is known.
    pub fn inside(&self) -> Option<&Inside> {
        match &self.content {
            Content::Taproot(inside) | Content::Other(Some(inside)) => Some(inside),
            _ => None,
        }
    }

    /// The kernel that it is for: its own word, else that of its name (`initrd.img-6.1`, `initramfs-6.1.img`).
    pub fn kernel(&self) -> Option<&str> {
        if let Some(kernel) = self.inside().map(|inside| &inside.kernel).or(self.release.as_ref()) {
            return Some(kernel);
        }
        let name = self.path.file_name()?.to_str()?;
        let name = name.strip_suffix(".old").unwrap_or(name);
        let name = name.strip_suffix(".img").unwrap_or(name);
        let name = name.strip_suffix(".old").unwrap_or(name);
        ["initramfs-taproot-", "initrd.img-", "initramfs-", "initrd-"].iter().find_map(|begin| name.strip_prefix(begin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn answer(lines: &[&str], end: End) -> Answer {
        Answer { lines: lines.iter().map(|line| (*line).to_owned()).collect(), error: "taproot: no".to_owned(), end }
    }

    #[test]
    fn what_was_found_before_the_end_is_kept() {
        let kernel = serde_json::to_string(&Fact::Kernel(Kernel { release: "6.1".into(), zfs: true })).unwrap();
        let content = Content::Unreadable("/i: Permission denied".to_owned());
        let image = Image { path: "/boot/initrd.img-6.1".into(), bytes: 1, made: 1, release: None, content };
        let image = serde_json::to_string(&Fact::Image(Box::new(image))).unwrap();
        let mut survey = Survey::default();
        survey.hear("files", &answer(&[&kernel, &image, &kernel[..9]], End::Late), PATIENCE);
        assert_eq!((survey.kernels.len(), survey.images[0].kernel()), (1, Some("6.1")));
        assert_eq!(survey.unknown[0], "/i: Permission denied");
        assert!(survey.unknown[1].starts_with("files: no answer within 30 s"), "{:?}", survey.unknown);
        survey.hear("pool", &answer(&[], End::Code(1)), PATIENCE);
        assert_eq!(survey.unknown[2], "pool: no");
        assert_eq!(verdict(&answer(&["{\"boot\": null}"], End::Code(0)), PATIENCE), Ok(None));
        assert!(verdict(&answer(&["{"], End::Late), PATIENCE).unwrap_err().contains("30 s"));
        assert_eq!(verdict(&answer(&[], End::Code(1)), PATIENCE).unwrap_err(), "no");
    }
}
