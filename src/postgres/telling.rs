//! How often a trouble that lasts is told.

use std::time::{Duration, Instant};

/// Between two lines about the same trouble.
const EVERY: Duration = Duration::from_secs(60);

/// Tells a trouble when it begins, and then once a minute, however often it is met.
#[derive(Debug, Default)]
pub struct Telling(Option<Instant>);

impl Telling {
    /// Whether it is time for a line.
    pub fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|told| told.elapsed() >= EVERY);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_when_it_begins_and_once_a_minute() {
        let mut telling = Telling::default();
        assert_eq!([telling.is_due(), telling.is_due(), telling.is_due()], [true, false, false]);
        telling.0 = Instant::now().checked_sub(EVERY);
        assert_eq!([telling.is_due(), telling.is_due()], [true, false]);
    }
}
