//! Drawing by lot, where the odds matter and nobody must be surprised: a xorshift generator.

#[derive(Debug)]
pub struct Lot(u64);

impl Default for Lot {
    fn default() -> Lot {
        Lot(0x9e37_79b9_7f4a_7c15)
    }
}

impl Lot {
    /// One of 0 to `of` - 1 (0 of nothing).
    pub fn draw(&mut self, of: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % of.max(1) as u64) as usize
    }

    /// True once in `of` times, by what was drawn last.
    pub fn one_in(&self, of: u64) -> bool {
        self.0 % of == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_drawn_about_as_often() {
        let mut lot = Lot::default();
        let mut drawn = [0; 10];
        for _ in 0..10_000 {
            drawn[lot.draw(10)] += 1;
        }
        assert!(
            drawn.iter().all(|times| (900..1100).contains(times)),
            "{drawn:?}"
        );
        assert_eq!(lot.draw(0), 0);
    }
}
