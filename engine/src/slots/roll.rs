//! A queue of those who leave it from anywhere.

use super::Queue;

/// Entries looked at for each one that comes, while there is something to sweep: more come off than come.
const LOOKS: usize = 8;

/// In the order in which they came. An entry lapses where it stands when its bearer goes; those that have
/// are swept out while others come.
///
/// ```text
///      first ◄── swept ◄── (a few looked at for each that comes) ◄── rest ◄── last
/// ```
#[derive(Debug)]
pub struct Roll<T> {
    swept: Queue<T>,
    rest: Queue<T>,
    sweeping: bool,
}

impl<T> Default for Roll<T> {
    fn default() -> Self {
        Self { swept: Queue::new(), rest: Queue::new(), sweeping: false }
    }
}

impl<T> Roll<T> {
    /// How many entries there are, lapsed ones included.
    pub const fn len(&self) -> usize {
        self.swept.len() + self.rest.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts one behind all others. `living`: how many at most have not lapsed.
    pub fn push(&mut self, entry: T, living: usize, is_living: impl Fn(&T) -> bool) {
        self.rest.push_back(entry);
        self.sweeping |= self.len() > 2 * living + 64;
        if !self.sweeping {
            return;
        }
        for _ in 0..LOOKS {
            match self.rest.pop_front() {
                Some(entry) if is_living(&entry) => self.swept.push_back(entry),
                Some(_) => {}
                None => break,
            }
        }
        if self.rest.is_empty() {
            core::mem::swap(&mut self.swept, &mut self.rest);
            self.sweeping = false;
        }
    }

    /// The first one.
    pub fn front(&self) -> Option<&T> {
        self.swept.front().or_else(|| self.rest.front())
    }

    /// Takes the first one.
    pub fn pop_front(&mut self) -> Option<T> {
        self.swept.pop_front().or_else(|| self.rest.pop_front())
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.swept.iter().chain(self.rest.iter())
    }

    /// Drops a piece of it. `false`: there was none left.
    pub fn pop_piece(&mut self) -> bool {
        self.rest.pop_piece() || self.swept.pop_piece()
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    #[test]
    fn lapsed_entries_are_swept_out_a_few_at_a_time_and_the_order_stays() {
        let mut roll = Roll::default();
        (0..100_000).for_each(|entry| roll.push(entry, 100_000, |_| true));
        // All but every hundredth lapse at once.
        let (looks, mut longest) = (Cell::new(0), 0);
        for entry in 100_000..120_000 {
            looks.set(0);
            roll.push(entry, 1000 + 20_000, |entry| {
                looks.set(looks.get() + 1);
                entry % 100 == 0 || *entry >= 100_000
            });
            longest = longest.max(looks.get());
        }
        assert!(longest <= LOOKS, "{longest}");
        assert!(roll.len() <= 2 * 21_000 + 64, "{}", roll.len());
        assert!(roll.iter().is_sorted());
        assert_eq!(roll.front(), Some(&0));
        assert_eq!(roll.pop_front(), Some(0));
        assert_eq!(
            roll.iter().filter(|entry| *entry % 100 == 0 || **entry >= 100_000).count(),
            20_999
        );
    }

    #[test]
    fn it_stays_short_where_entries_lapse_as_they_come() {
        let mut roll = Roll::default();
        for entry in 0..50_000 {
            roll.push(entry, 10, |known| known + 10 > entry);
            assert!(roll.len() <= 2 * 10 + 64 + 1);
        }
    }
}
