//! An input cut into the parts that a target needs.

/// Takes values off the front of an input. It never fails: what is missing reads as zero or as
/// nothing, so that every input means something and a shortened one still does.
#[derive(Debug)]
pub(crate) struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    /// All of `data` is still to be taken.
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// One byte; `None` at the end. Loops end with it.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// One byte, or zero.
    pub(crate) fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// Two bytes, big-endian.
    pub(crate) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Up to `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A run of bytes behind its length, which is a [`Self::word`].
    pub(crate) fn run(&mut self) -> &'a [u8] {
        let length = self.word();
        self.take(length.into())
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }
}
