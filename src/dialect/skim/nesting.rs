//! The arrays and objects that a reader is in, a bit for each. Pure.

/// The arrays and objects that are open.
#[derive(Debug)]
pub(super) struct Nesting {
    /// A bit for each, set for objects, the innermost lowest; above them a bit that tells where they end.
    open: u64,
    /// Full words of those further out.
    outer: Vec<u64>,
}

impl Nesting {
    pub(super) fn new() -> Self {
        Self {
            open: 1,
            outer: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open == 1
    }

    pub(super) fn is_in_object(&self) -> bool {
        // An object has a bit above its own, the mark has none.
        self.open & 1 == 1 && self.open > 1
    }

    pub(super) fn push(&mut self, object: bool) {
        if self.open >> 63 == 1 {
            self.outer.push(self.open);
            self.open = 1;
        }
        self.open = self.open << 1 | u64::from(object);
    }

    pub(super) fn pop(&mut self) {
        self.open >>= 1;
        if self.open == 1
            && let Some(outer) = self.outer.pop()
        {
            self.open = outer;
        }
    }
}
