//! Answers that are properly protected and make no sense: what a meter with a defect, or with an owner, may send.

/// Mangles some answers, always the same for the same seed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hostile {
    seed: u64,
    first: u32,
    count: u32,
    answers: u32,
}

impl Hostile {
    /// Reads `SEED/FIRST/COUNT`: from the answer `FIRST` on, counted from 1, so many are mangled.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let mangler = Self {
            seed: parts.next()?.parse().ok()?,
            first: parts.next()?.parse().ok()?,
            count: parts.next()?.parse().ok()?,
            answers: 0,
        };
        parts.next().is_none().then_some(mangler)
    }

    /// The answer, or what becomes of it.
    pub(super) fn mangle(&mut self, answer: Vec<u8>) -> Vec<u8> {
        self.answers += 1;
        let since = self.answers.checked_sub(self.first);
        if since.is_none_or(|since| since >= self.count) {
            return answer;
        }
        let mut dice = Dice(self.seed ^ u64::from(self.answers) << 32);
        mangled(&mut dice, &answer)
    }
}

fn mangled(dice: &mut Dice, answer: &[u8]) -> Vec<u8> {
    let (head, tail) = answer.split_at(dice.below(answer.len() + 1));
    let length = [1, 2, 8, 200][dice.below(4)];
    let some = dice.bytes(length);
    let invoke = answer.get(2).copied().unwrap_or(0);
    let number = [0, 1, 2, u32::MAX][dice.below(4)];
    let block = |number: u32, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap_or(0);
        let head = [&BLOCK_ANSWER[..], &[invoke, 0], &number.to_be_bytes()].concat();
        [&head[..], &[0, length], content].concat()
    };
    match dice.below(9) {
        0 => head.to_vec(),
        1 => [head, &some, tail].concat(),
        2 => [head, &some, tail.get(some.len()..).unwrap_or(&[])].concat(),
        3 => [answer, answer].concat(),
        4 => some,
        5 => [head, &LONGEST, tail].concat(),
        6 => [&[0xC4, 0x01, invoke, 0x00][..], &[0x01, 0x01].repeat(300)].concat(),
        7 => block(number, some.get(..100).unwrap_or(&some)),
        _ => block(1, &[]),
    }
}

/// Numbers that look random and are not (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 32).unwrap_or(0) % bound.max(1)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// A get answer with a block.
const BLOCK_ANSWER: [u8; 2] = [0xC4, 0x02];
/// The longest length that can be written.
const LONGEST: [u8; 5] = [0x84, 0xFF, 0xFF, 0xFF, 0xFF];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answers_asked_for_are_mangled_and_always_the_same_way() {
        let run = || {
            let mut hostile = Hostile::parse("7/3/40").unwrap();
            (0..50)
                .map(|_| hostile.mangle(vec![0xC4, 1, 0xC1, 0, 6, 0, 0, 0, 7]))
                .collect::<Vec<_>>()
        };
        let answers = run();
        assert_eq!(answers, run());
        let plain = vec![0xC4, 1, 0xC1, 0, 6, 0, 0, 0, 7];
        assert!(
            answers[..2]
                .iter()
                .chain(&answers[42..])
                .all(|answer| *answer == plain)
        );
        let changed = answers[2..42].iter().filter(|answer| **answer != plain);
        assert!(changed.count() > 30);
        assert_eq!(Hostile::parse("1/2/3/4"), None);
    }
}
