//! The endpoints that a request has been sent to already.

/// The endpoints a request has been sent to already, to be avoided by its retries.
///
/// The numbers are those of the one set the request picks from. Up to eight are kept without an allocation.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    first: [u32; INLINE],
    count: usize,
    rest: Vec<u32>,
}

impl Tried {
    /// Notes that endpoint number `index` was tried.
    pub fn on_attempt(&mut self, index: usize) {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        match self.first.get_mut(self.count) {
            Some(slot) => *slot = number,
            None => self.rest.push(number),
        }
        self.count += 1;
    }

    /// Returns whether endpoint number `index` was tried.
    pub fn contains(&self, index: usize) -> bool {
        self.iter().any(|tried| tried == index)
    }

    /// Returns the endpoints that were tried, in order, one as often as it was.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        let first = &self.first[..self.count.min(INLINE)];
        first.iter().chain(&self.rest).map(|&tried| tried as usize)
    }

    /// Returns whether none was tried.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Istio's default is three tries, and few write more than eight.
const INLINE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_tried_is_remembered_and_no_other() {
        let mut tried = Tried::default();
        assert!(tried.is_empty() && !tried.contains(0));
        for index in (0..40).step_by(2) {
            tried.on_attempt(index);
            assert!(!tried.is_empty());
            assert!((0..60).all(|other| tried.contains(other) == (other <= index && other % 2 == 0)));
        }
    }

    #[test]
    fn eight_tries_do_not_allocate() {
        let mut tried = Tried::default();
        (0..8).for_each(|index| tried.on_attempt(index));
        assert_eq!(tried.rest.capacity(), 0);
    }
}
