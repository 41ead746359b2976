//! A set of HTTP statuses, small enough to be copied.

/// A set of HTTP statuses from 100 to 599.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statuses([u64; 8]);

impl Statuses {
    /// Returns whether `status` is in it.
    pub fn contains(&self, status: u16) -> bool {
        place(status).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }

    /// Returns whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is no status is left out.
impl FromIterator<u16> for Statuses {
    fn from_iter<I: IntoIterator<Item = u16>>(statuses: I) -> Self {
        let mut set = Self::default();
        for (word, bit) in statuses.into_iter().filter_map(place) {
            set.0[word] |= bit;
        }
        set
    }
}

/// Returns the word and the bit that stand for `status`.
fn place(status: u16) -> Option<(usize, u64)> {
    let offset = status.checked_sub(100).filter(|&offset| offset < 500)?;
    Some((usize::from(offset / 64), 1 << (offset % 64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        let put = [100, 163, 164, 404, 429, 503, 599, 0, 99, 600, u16::MAX];
        let set: Statuses = put.into_iter().collect();
        let held: Vec<_> = (0..=u16::MAX).filter(|&status| set.contains(status)).collect();
        assert_eq!(held, [100, 163, 164, 404, 429, 503, 599]);
        assert!(!set.is_empty() && Statuses::default().is_empty());
    }
}
