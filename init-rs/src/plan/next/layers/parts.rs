//! What is mounted in a root that is a layer itself. An overlay does not cross into the mounts of a lower: each of them gets an
//! overlay of its own, so that nothing of the root is written to.

use super::{Moment, Next, Step};
use crate::devices::filesystems::in_memory;
use crate::plan::layers::escaped;
use crate::plan::next::LayerStep;
use crate::plan::next::step::Mount;
use crate::plan::root::Root;

impl Moment<'_> {
    /// How a mount in the root is made.
    pub(in crate::plan::next) fn part_of_root(self, mut mount: Mount) -> Next {
        let Some(Root::Layers(layers)) = self.facts.attempt.root.as_ref().filter(|_| !in_memory(&mount.fstype)) else {
            return Next::Do(Step::Mount(Box::new(mount)));
        };
        if !layers.itself {
            return Next::Do(Step::Mount(Box::new(mount)));
        }
        mount.step.options.flags |= libc::MS_RDONLY;
        let upper = layers.dir.as_ref().map(|dir| format!("{dir}/parts/{}", escaped(&mount.step.place)));
        Next::Do(Step::Layer(LayerStep::Protect { mount: Box::new(mount), upper }))
    }
}
