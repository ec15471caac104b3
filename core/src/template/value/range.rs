//! `range` objects.

/// A `range` object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::template) struct Range {
    pub(in crate::template) start: i64,
    pub(in crate::template) stop: i64,
    pub(in crate::template) step: i64,
}

impl Range {
    pub(in crate::template) fn len(self) -> usize {
        let (start, stop, step) = (i128::from(self.start), i128::from(self.stop), i128::from(self.step));
        let count =
            if step > 0 { (stop - start + step - 1) / step } else { (start - stop - step - 1) / -step };
        usize::try_from(count.max(0)).unwrap_or(usize::MAX)
    }

    pub(in crate::template) fn get(self, at: usize) -> Option<i64> {
        let at = i64::try_from(at).ok().filter(|_| at < self.len())?;
        self.start.checked_add(self.step.checked_mul(at)?)
    }
}
