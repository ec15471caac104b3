//! Whose turn it is among endpoints that are otherwise equal: the one that was put first longest ago.

use std::collections::HashMap;
use std::sync::Arc;

/// Endpoints that are remembered, about 100 bytes each. As many as there may be endpoints in all; only endpoints that
/// have left can take it further, and then everyone's turn begins anew.
const REMEMBERED_MAX: usize = 4096;

/// When each endpoint was last put first, in picks since the start.
#[derive(Debug, Default)]
pub struct Turns {
    now: u64,
    last: HashMap<Arc<str>, u64>,
}

impl Turns {
    /// The endpoint's last turn; 0 if it had none.
    pub fn last(&self, address: &str) -> u64 {
        self.last.get(address).copied().unwrap_or(0)
    }

    /// The endpoint has its turn now.
    pub fn take(&mut self, address: Arc<str>) {
        if self.last.len() >= REMEMBERED_MAX && !self.last.contains_key(&address) {
            self.last.clear();
        }
        self.now += 1;
        self.last.insert(address, self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_a_bounded_number_of_endpoints() {
        let mut turns = Turns::default();
        for number in 0..=REMEMBERED_MAX {
            turns.take(number.to_string().into());
        }
        assert_eq!(turns.last.len(), 1);
        assert_eq!(
            (turns.last("0"), turns.last(&REMEMBERED_MAX.to_string())),
            (0, REMEMBERED_MAX as u64 + 1)
        );
    }
}
