//! What a disk does to a file that nobody writes: a bit that has changed, a sector that was lost, or one that has what was
//! meant for another.

use crate::dice::Dice;
use std::ops::Range;

/// What a disk loses or misplaces as one.
const SECTOR: usize = 512;
/// What files are read in: one that is all zeros has nothing to lose.
const PAGE: usize = 4_096;
/// Where a file says what it is; each of its bytes has its turn, and each bit of the first.
const HEADER: usize = 320;
const FLAGS: usize = 16;

/// One thing that happened to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rot {
    /// A bit of a byte has changed.
    Bit {
        /// Where.
        at: usize,
        /// The bits that have.
        mask: u8,
    },
    /// A sector has zeros.
    Lost(Range<usize>),
    /// A sector has what another one has.
    Misplaced {
        /// Where it was read.
        from: usize,
        /// Where it lies now.
        to: Range<usize>,
    },
}

impl Rot {
    /// A bit of each byte of the header, and so many bits and sectors in pages that have something; by a seed.
    #[must_use]
    pub fn sample(file: &[u8], bits: usize, sectors: usize, seed: u64) -> Vec<Self> {
        let mut dice = Dice::new(seed);
        let pages: Vec<usize> = (0..file.len().div_ceil(PAGE))
            .map(|page| page * PAGE)
            .filter(|at| file.iter().skip(*at).take(PAGE).any(|byte| *byte != 0))
            .collect();
        let place = |dice: &mut Dice, step: usize| {
            let page = pages.get(dice.index(pages.len())).copied().unwrap_or_default();
            (page + dice.index(PAGE / step) * step).min(file.len().saturating_sub(step))
        };
        let mask = |dice: &mut Dice| 1u8 << dice.index(8);
        let mut all: Vec<Self> = (0..HEADER.min(file.len()))
            .map(|at| Self::Bit {
                at,
                mask: mask(&mut dice),
            })
            .collect();
        for at in 0..FLAGS.min(file.len()) {
            all.extend((0..8).map(|bit| Self::Bit { at, mask: 1 << bit }));
        }
        for _ in 0..bits {
            let at = place(&mut dice, 1);
            all.push(Self::Bit {
                at,
                mask: mask(&mut dice),
            });
        }
        for n in 0..sectors {
            let at = place(&mut dice, SECTOR);
            let to = at..at + SECTOR.min(file.len());
            all.push(match n % 2 {
                0 => Self::Lost(to),
                _ => Self::Misplaced {
                    from: place(&mut dice, SECTOR),
                    to,
                },
            });
        }
        all
    }

    /// Lets it happen.
    pub fn befall(&self, file: &mut [u8]) {
        match self {
            Self::Bit { at, mask } => file[*at] ^= mask,
            Self::Lost(sector) => file[sector.clone()].fill(0),
            Self::Misplaced { from, to } => file.copy_within(*from..*from + to.len(), to.start),
        }
    }
}
