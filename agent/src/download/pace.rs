//! How fast a download may go: what was read is paid for with waiting. Pure; the time since boot is an argument.

use std::time::Duration;

/// Read at once before any waiting: less than a socket holds anyway.
const BURST: u64 = 64 * 1024;

/// What is owed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    /// Up to when what was read so far is paid for, in time since boot.
    paid: Duration,
}

impl Pace {
    /// How long to wait at `now` after `bytes` were read, if no more than `bytes_per_s` are allowed.
    pub(crate) fn wait(&mut self, now: Duration, bytes: u64, bytes_per_s: Option<u64>) -> Duration {
        let Some(rate) = bytes_per_s else {
            self.paid = Duration::ZERO;
            return Duration::ZERO;
        };
        // A pause is not saved up, but for one burst.
        let saved = now.saturating_sub(worth(BURST, rate));
        self.paid = self.paid.max(saved) + worth(bytes, rate);
        self.paid.saturating_sub(now)
    }
}

/// How long so many bytes take.
fn worth(bytes: u64, rate: u64) -> Duration {
    let ns = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    /// Reads pieces for `seconds` by a clock that only waiting moves; gives the bytes.
    fn read(pace: &mut Pace, from: Duration, seconds: u64, piece: u64, rate: Option<u64>) -> u64 {
        let (mut now, mut bytes) = (from, 0);
        while now < from + Duration::from_secs(seconds) {
            bytes += piece;
            now += pace.wait(now, piece, rate);
        }
        bytes
    }

    #[test]
    fn no_more_than_the_rate_and_one_burst_is_read() {
        for rate in [4096, 100_000, 1_000_000] {
            for piece in [1, 1000, 16_384, 65_536] {
                let bytes = read(&mut Pace::default(), START, 2, piece, Some(rate));
                let most = rate * 2 + BURST + piece + rate / 1000;
                assert!(bytes >= rate * 2 && bytes <= most, "{rate} {piece}: {bytes}, at most {most}");
            }
        }
    }

    #[test]
    fn a_pause_is_not_saved_up() {
        let mut pace = Pace::default();
        read(&mut pace, START, 10, 1000, Some(10_000));
        let bytes = read(&mut pace, START + Duration::from_secs(3600), 10, 1000, Some(10_000));
        assert!(bytes <= 100_000 + BURST + 1000, "{bytes}");
    }

    #[test]
    fn another_rate_holds_from_the_next_piece_on() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait(START, BURST + 50_000, Some(50_000)), Duration::from_secs(1));
        assert_eq!(pace.wait(START + Duration::from_secs(1), 50_000, Some(5000)), Duration::from_secs(10));
        assert_eq!(pace.wait(START + Duration::from_secs(2), 1 << 40, None), Duration::ZERO, "no limit any more");
        assert_eq!(pace.wait(START + Duration::from_secs(2), BURST, Some(5000)), Duration::ZERO, "begins anew");
    }
}
