//! Leave to call an upstream, as its circuit gave it, for those who send a call later than it was given, or twice.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// What a call is let through to its upstream by.
#[derive(Clone, Debug, Default)]
pub enum Leave {
    /// Nobody has to give it.
    #[default]
    Free,
    /// For as long as calls flow.
    Flow(Flow),
    /// For this call alone, and no second one for it: a probe.
    Probe,
}

/// Whether calls flow to an upstream; clones share it.
#[derive(Clone, Debug)]
pub struct Flow(Arc<AtomicBool>);

impl Leave {
    /// Returns whether it holds still.
    pub fn holds(&self) -> bool {
        match self {
            Self::Free | Self::Probe => true,
            Self::Flow(flow) => flow.0.load(Ordering::Relaxed),
        }
    }

    /// Returns whether it is for one call alone.
    pub fn is_probe(&self) -> bool {
        matches!(self, Self::Probe)
    }
}

impl Flow {
    /// Has calls flow, or not.
    pub fn set(&self, flows: bool) {
        self.0.store(flows, Ordering::Relaxed);
    }
}

impl Default for Flow {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}
