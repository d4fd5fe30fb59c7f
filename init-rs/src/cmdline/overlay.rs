//! dracut's words for an overlay over the root, and ours for what becomes of an upper that is there.

use super::layers::DEFAULT;
use super::state::State;
use super::upper::ram;
use super::values::boolean;
use super::{Decided, ITSELF, LayerSettings, Note, Upper, Word, is_block_device};

impl State {
    /// A word of dracut about an overlay; whether it is one.
    pub(super) fn dracut_overlay(&mut self, word: &Word, value: Option<&str>) -> bool {
        match word.key.as_str() {
            "rd.overlay" | "rd.live.overlay" => self.dracut_upper(word, value),
            "rd.overlay.reset" | "rd.live.overlay.reset" => self.fresh_upper(word, value),
            "rd.overlay.readonly" | "rd.live.overlay.readonly" => self.kept_upper(word, value),
            _ => return false,
        }
        true
    }

    /// Begins with a fresh upper.
    pub(super) fn fresh_upper(&mut self, word: &Word, value: Option<&str>) {
        match boolean(value) {
            Some(on) => {
                self.layers.fresh = on.then(|| word.text.clone());
                self.layers.first.get_or_insert_with(|| word.text.clone());
            }
            None => self.bad(word),
        }
    }

    /// What is there of an upper is a layer, and memory takes what is written.
    pub(super) fn kept_upper(&mut self, word: &Word, value: Option<&str>) {
        match boolean(value) {
            Some(on) => {
                self.layers.kept = on.then(|| word.text.clone());
                self.layers.first.get_or_insert_with(|| word.text.clone());
            }
            None => self.bad(word),
        }
    }

    /// `rd.overlay[=tmpfs[:OPTION,...]|DEVICE]`: the root itself under an upper.
    fn dracut_upper(&mut self, word: &Word, value: Option<&str>) {
        let why = word.text.as_str();
        self.layers.itself = Some(why.to_owned());
        self.layers.first.get_or_insert_with(|| why.to_owned());
        let upper = match (boolean(value), value.unwrap_or_default()) {
            (Some(false), _) => {
                (self.layers.dracut, self.layers.itself) = (None, None);
                return;
            }
            (Some(true), _) => ram(""),
            (None, text) => match text.split_once(':').unwrap_or((text, "")) {
                ("tmpfs", options) => self.tmpfs(word, options),
                // Where dracut has its upper on a device is not where ours is.
                (device, "" | "auto" | "none") if is_block_device(device) => Some(Upper::Device(device.to_owned())),
                _ => None,
            },
        };
        let Some(upper) = upper else {
            self.problem(word, "rd.overlay, rd.overlay=tmpfs[:size=SIZE,nr_inodes=N] or a device without a path, such as LABEL=...; taproot.upper= has every other upper");
            return;
        };
        self.layers.dracut = Some(Decided::new(upper, why));
    }

    fn tmpfs(&mut self, word: &Word, options: &str) -> Option<Upper> {
        let (mut size, mut inodes) = (String::new(), String::new());
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("size", value)) => value.clone_into(&mut size),
                Some(("nr_inodes", value)) => inodes = format!(",inodes={value}"),
                _ => self.note(word, &format!("`{option}` is not understood; left out")),
            }
        }
        ram(&format!("{size}{inodes}"))
    }
}

/// What is to be said of a directory that is asked for where the layer state says which upper it is.
pub(super) fn directory_of_state(listed: &Decided<Option<String>>, upper: Option<&Decided<Upper>>) -> Option<Note> {
    let dir = upper.filter(|upper| listed.value.is_none() && matches!(upper.value, Upper::Directory(_)))?;
    let message = format!("says no more than dir: with {} alone, uppers lie where the layer state is", listed.why);
    Some(Note { word: dir.why.clone(), message })
}

impl LayerSettings {
    /// The same for these layers.
    pub fn named(&self, names: Decided<Vec<String>>) -> Result<Self, Note> {
        let mut settings = Self { names, ..self.clone() };
        if let Some(to_ram) = settings.to_ram.as_ref().filter(|_| settings.itself()) {
            let message =
                "the base itself is a layer, which is not copied to memory; an image of it can be (taproot layer init)";
            return Err(Note { word: to_ram.why.clone(), message: message.to_owned() });
        }
        if settings.itself() && matches!(settings.upper.value, Upper::Directory(_)) {
            if !settings.upper.is_default() {
                let message =
                    "the base itself is a layer, so no directory of it can be the upper; taproot.upper=ram can";
                return Err(Note { word: settings.upper.why, message: message.to_owned() });
            }
            settings.upper = Decided::new(Upper::Ram { size: None, inodes: None }, format!("{DEFAULT} (ram)"));
        }
        Ok(settings)
    }

    /// Whether the state file says which layers there are.
    pub fn by_state(&self) -> bool {
        self.names.value.is_empty() && self.live.is_none()
    }

    /// What the state file lies with: the upper that is asked for, or the one that is a layer.
    pub fn home(&self) -> &Upper {
        &self.retained.as_ref().unwrap_or(&self.upper).value
    }

    /// The uppers that are mounted: the one that is written to, and one that is a layer.
    pub fn uppers(&self) -> impl Iterator<Item = &Upper> {
        [&self.upper].into_iter().chain(&self.retained).map(|upper| &upper.value)
    }

    /// Whether the base itself is one of the layers.
    pub fn itself(&self) -> bool {
        self.names.value.iter().any(|name| name == ITSELF)
    }
}

#[cfg(test)]
mod tests {
    use crate::cmdline::{LayerSettings, Selector, Upper, parse};

    fn layers(line: &str) -> LayerSettings {
        let request = parse(line.as_bytes());
        request.layers.unwrap_or_else(|| panic!("{line}: {:?}", request.problems))
    }

    #[test]
    fn dracuts_overlay_over_the_root() {
        let ram = |size: Option<&str>, inodes| Upper::Ram { size: size.map(str::to_owned), inodes };
        for (word, upper) in [
            ("rd.overlay", ram(None, None)),
            ("rd.overlay=1", ram(None, None)),
            ("rd.overlay=tmpfs", ram(None, None)),
            ("rd.overlay=tmpfs:size=2G,nr_inodes=9", ram(Some("2G"), Some(9))),
            ("rd.overlay=LABEL=keep", Upper::Device("LABEL=keep".into())),
            ("rd.overlay=UUID=1:auto", Upper::Device("UUID=1".into())),
        ] {
            let settings = layers(&format!("root=ZFS=t/a {word}"));
            assert_eq!((settings.names.value, settings.upper.value), (vec![".".to_owned()], upper), "{word}");
        }
        let settings = layers("root=UUID=1 rd.overlay taproot.layers=a:b");
        assert_eq!(settings.names.value, ["a", "b"]);
        assert!(parse(b"root=UUID=1 rd.overlay rd.overlay=0").layers.is_none());
        for wrong in ["rd.overlay=LABEL=x:/path", "rd.overlay=nonsense", "rd.overlay=tmpfs:size=x"] {
            assert!(matches!(parse(wrong.as_bytes()).root.value, Selector::Unusable(_)), "{wrong}");
        }
    }

    #[test]
    fn what_becomes_of_an_upper_that_is_there() {
        for word in ["taproot.upper_reset", "taproot.upper-reset=yes", "rd.overlay.reset", "rd.live.overlay.reset=1"] {
            assert_eq!(layers(&format!("taproot.layers=a {word}")).fresh.as_deref(), Some(word));
        }
        assert_eq!(layers("taproot.layers=a taproot.upper_reset taproot.upper_reset=0").fresh, None);
        for (line, kept) in [
            ("taproot.upper_readonly", Some(Upper::Directory("upper".into()))),
            ("rd.overlay.readonly taproot.upper=zvol:t/live", Some(Upper::Zvol("t/live".into()))),
            ("rd.overlay.readonly taproot.upper=ram", None),
        ] {
            let settings = layers(&format!("taproot.layers=a {line}"));
            assert!(matches!(settings.upper.value, Upper::Ram { size: None, inodes: None }), "{line}");
            assert_eq!(settings.retained.map(|kept| kept.value), kept, "{line}");
        }
        let settings = layers("taproot.layers=a ram_layer=1G rd.overlay.readonly taproot.upper=LABEL=x");
        assert!(matches!(settings.upper.value, Upper::Ram { size: Some(_), .. }));
        assert_eq!(settings.retained.unwrap().value, Upper::Device("LABEL=x".into()));
    }

    #[test]
    fn without_a_list_the_state_says_which() {
        let settings = layers("root=UUID=1 taproot.layers ro");
        assert!(settings.by_state() && settings.upper.value == Upper::Directory("upper".into()));
        assert!(!layers("taproot.layers sqsh_layers=a:b").by_state(), "a list holds");
        assert!(layers("sqsh_layers=a:b taproot.layers").by_state(), "the last one holds");
        let notes = |line: &str| parse(line.as_bytes()).notes.len();
        assert_eq!(
            layers("taproot.layers taproot.upper=label:x rd.overlay.readonly").home(),
            &Upper::Device("LABEL=x".into())
        );
        assert_eq!(notes("taproot.layers taproot.upper=dir"), 1, "no directory of its own");
        assert_eq!(notes("taproot.layers taproot.upper=label:x") + notes("taproot.layers=a taproot.upper=dir:x"), 0);
    }

    #[test]
    fn the_base_can_be_a_layer_of_its_own() {
        let settings = layers("root=UUID=1 taproot.layers=site:.");
        assert_eq!(settings.names.value, ["site", "."]);
        assert!(matches!(settings.upper.value, Upper::Ram { .. }), "a directory of it would be below itself");
        let request = parse(b"root=UUID=1 taproot.layers=. taproot.upper=dir");
        assert!(matches!(&request.root.value, Selector::Unusable(why) if why.contains("itself is a layer")));
        assert!(matches!(parse(b"root=UUID=1 taproot.layers=. to_ram").root.value, Selector::Unusable(_)));
        assert_eq!(layers("root=UUID=1 taproot.layers=. taproot.upper=none").upper.value, Upper::None);
        let mut request = parse(b"root=UUID=1");
        crate::plan::roots::ask_for(&mut request, "layers:.@t/a", "chosen").unwrap();
        assert!(matches!(request.layers.unwrap().upper.value, Upper::Ram { .. }));
    }
}
