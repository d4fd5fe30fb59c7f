//! What the words so far amount to, and what is settled only when all of them are known.

use std::time::Duration;

use super::layers::LayerWords;
use super::live::LiveWords;
use super::root::Roots;
use super::values::module_number;
use super::{Decided, HostidPolicy, ModuleOption, Note, OnFailure, Request, Stage, defaults};
use crate::sorted;

/// A setting that both our own words and those of other systems reach: ours win wherever they stand.
#[derive(Debug)]
pub(super) struct Slot<T> {
    pub(super) own: Option<Decided<T>>,
    pub(super) other: Option<Decided<T>>,
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self { own: None, other: None }
    }

    fn or(self, default: Decided<T>) -> Decided<T> {
        self.get().unwrap_or(default)
    }

    fn get(self) -> Option<Decided<T>> {
        self.own.or(self.other)
    }
}

/// What the words so far amount to; what depends on words to come is settled by `finish`.
pub(super) struct State {
    pub(super) request: Request,
    pub(super) roots: Roots,
    pub(super) layers: LayerWords,
    pub(super) live: LiveWords,
    /// The first word about layers that cannot be obeyed.
    pub(super) layers_problem: Option<Note>,
    pub(super) wait: Slot<Duration>,
    pub(super) resume_wait: Slot<Duration>,
    pub(super) policy: Slot<HostidPolicy>,
    pub(super) hostid: Slot<u32>,
    pub(super) level: Slot<u8>,
    pub(super) on_failure: Slot<OnFailure>,
    /// `rd.shell=0`; any other word about failures is stronger.
    pub(super) no_shell: Option<Decided<OnFailure>>,
    /// `taproot.key_prompt=`.
    pub(super) prompt: Option<Decided<bool>>,
    pub(super) stops: Vec<Decided<Stage>>,
    /// A bare `taproot.rescue`.
    pub(super) rescue_now: Option<String>,
}

impl State {
    /// No word yet.
    pub(super) fn new() -> Self {
        Self {
            request: defaults::request(),
            roots: Roots::default(),
            layers: LayerWords::default(),
            live: LiveWords::default(),
            layers_problem: None,
            wait: Slot::new(),
            resume_wait: Slot::new(),
            policy: Slot::new(),
            hostid: Slot::new(),
            level: Slot::new(),
            on_failure: Slot::new(),
            no_shell: None,
            prompt: None,
            stops: Vec::new(),
            rescue_now: None,
        }
    }

    /// Settles what depends on several words.
    pub(super) fn finish(mut self) -> Request {
        let mut stops = self.stops;
        stops.extend(self.layers.stops());
        let mut request = self.request;
        self.roots.resolve(&mut request);
        let live = self.live.settle(&mut request);
        if let Some(Ok(live)) = &live {
            self.wait.other = live.wait.clone().or(self.wait.other);
        }
        self.layers.settle(self.layers_problem, live, &mut request);
        same_pool(&mut request);
        request.wait = self.wait.or(request.wait);
        request.resume.wait = self.resume_wait.or(request.resume.wait);
        request.import.hostid_policy = self.policy.or(request.import.hostid_policy);
        request.import.hostid = self.hostid.get();
        request.console_level = self.level.get();
        // The words of others (panic=, rd.emergency=) say what follows a failure; a passphrase is none.
        if let Some(headless) = self.on_failure.own.as_ref().filter(|policy| policy.value.headless()) {
            request.keys.prompt = Decided::new(false, format!("default (no, because of {})", headless.why));
        }
        request.rescue.on_failure = self.on_failure.get().or(self.no_shell).unwrap_or(request.rescue.on_failure);
        if let Some(prompt) = self.prompt {
            request.keys.prompt = prompt;
        }
        stops.extend(self.rescue_now.map(|why| Decided::new(Stage::Start, why)));
        sorted::by_key(&mut stops, |a| a.value);
        stops.dedup_by_key(|stop| stop.value);
        request.rescue.stops = stops;
        drop_other_hostids(&mut request);
        request
    }
}

/// The bootfs that stands in for a root is the one of its own pool, if that is known, and layers lie on the same base.
fn same_pool(request: &mut Request) {
    let root = request.root.value.clone();
    for fallback in &mut request.fallback {
        fallback.value.complete(&root);
    }
}

/// The module would believe its parameter rather than the hostid that was decided.
fn drop_other_hostids(request: &mut Request) {
    let Some(hostid) = &request.import.hostid else { return };
    let disagrees = |option: &ModuleOption| {
        let value = option.value.as_deref().and_then(module_number);
        option.module == "spl"
            && option.param == "spl_hostid"
            && value.is_some_and(|value| value & u64::from(u32::MAX) != u64::from(hostid.value))
    };
    for option in request.module_options.extract_if(.., |option| disagrees(option)) {
        let message = format!("{} wins; left out", hostid.why);
        request.notes.push(Note { word: format!("spl.{}", option.render()), message });
    }
}
