//! What a purchase is likely to cost, for people: the only floats near money, and never booked.

/// Winners among `tickets` draws that each win with probability `chance`: (mean, low, high), where 95 of 100 such
/// purchases lie between low and high.
#[must_use]
pub fn winners_95(tickets: u64, chance: f64) -> (f64, u64, u64) {
    let draws = tickets as f64;
    let mean = draws * chance;
    if chance >= 1.0 {
        return (mean, tickets, tickets);
    }
    let variance = mean * (1.0 - chance);
    if variance > EXACT_VARIANCE_MAX {
        let spread = Z_95 * variance.sqrt();
        return (
            mean,
            (mean - spread).max(0.0).floor() as u64,
            ((mean + spread).ceil() as u64).min(tickets),
        );
    }
    if chance > 0.5 {
        // Losers are the rarer ones then, and counting what is rare is exact and short.
        let (_, least, most) = winners_95(tickets, 1.0 - chance);
        return (mean, tickets - most, tickets - least);
    }
    // Exact binomial: each probability from the one before it.
    let odds = chance / (1.0 - chance);
    let mut probability = (draws * (-chance).ln_1p()).exp();
    let (mut below, mut count, mut low) = (0.0, 0u64, None);
    loop {
        below += probability;
        if low.is_none() && below >= TAIL {
            low = Some(count);
        }
        if below >= 1.0 - TAIL || count >= tickets {
            return (mean, low.unwrap_or(count), count);
        }
        probability *= odds * (draws - count as f64) / (count as f64 + 1.0);
        count += 1;
    }
}

/// How lucky a series of draws was, in standard deviations: above 0 means more winners than expected.
#[must_use]
pub fn luck(tickets: u64, chance: f64, winners: u64) -> f64 {
    let mean = tickets as f64 * chance;
    let deviation = (mean * (1.0 - chance)).sqrt();
    if deviation == 0.0 {
        0.0
    } else {
        (winners as f64 - mean) / deviation
    }
}

/// The probability of a threshold.
#[must_use]
pub fn chance(threshold: tombola_core::odds::Threshold) -> f64 {
    (threshold.0 as f64 + 1.0) / 2f64.powi(64)
}

/// Above this the normal distribution is as good for people, and the exact one would underflow.
const EXACT_VARIANCE_MAX: f64 = 400.0;
const Z_95: f64 = 1.96;
const TAIL: f64 = 0.025;

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec: O-04.
    #[test]
    fn ranges_are_those_of_the_binomial_distribution() {
        assert_eq!(winners_95(10, 1.0), (10.0, 10, 10));
        // Binomial(16, 0.1): P(0) = 0.185, P(<= 4) = 0.983.
        let (_, low, high) = winners_95(16, 0.1);
        assert_eq!((low, high), (0, 4));
        let (mean, low, high) = winners_95(1_000_000, 0.001);
        assert_eq!((mean.round() as u64, low, high), (1_000, 938, 1_062));
        // The mirror image: as many losers as there were winners.
        assert_eq!(winners_95(16, 0.9), (14.4, 12, 16));
        let (_, low, high) = winners_95(100_000, 0.999);
        assert!(
            99_870 < low && low < 99_900 && 99_900 < high && high < 99_930,
            "{low} {high}"
        );
    }

    #[test]
    fn luck_is_zero_at_the_mean_and_one_a_deviation_above() {
        assert!(luck(10_000, 0.5, 5_000).abs() < 1e-9);
        assert!((luck(10_000, 0.5, 5_050) - 1.0).abs() < 1e-9);
    }
}
