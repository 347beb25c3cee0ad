//! When to ask next. Pure: the random number is an argument.

use std::time::Duration;

use crate::config::Polling;

/// The first step of the back-off.
const FIRST_BACK_OFF: Duration = Duration::from_secs(30);
/// Its last step: a server that comes back is found within the hour.
const LAST_BACK_OFF: Duration = Duration::from_secs(3600);
/// Bounds of zero are for tests; even then nobody spins.
const SHORTEST: Duration = Duration::from_millis(100);

/// After the start: anywhere up to the shorter of `first_max_s` and `max_s`. A shopping centre gets its power back all
/// at once.
pub(crate) fn first(polling: Polling, roll: u32) -> Duration {
    part(polling.first_max.min(polling.max), roll)
}

/// After an answer: what the server says, within local bounds, 10 % more or less.
pub(crate) fn next(polling: Polling, next_checkin_s: u32, roll: u32) -> Duration {
    let told = Duration::from_secs(u64::from(next_checkin_s)).clamp(polling.min, polling.max);
    spread(told, roll).max(SHORTEST)
}

/// After the `failures`th failure in a row: full jitter, or what the server asked for.
pub(crate) fn back_off(polling: Polling, failures: u32, retry_after: Option<Duration>, roll: u32) -> Duration {
    let wait = match retry_after {
        Some(wait) => spread(wait.min(polling.max.max(SHORTEST)), roll),
        None => part(ceiling(FIRST_BACK_OFF, failures, LAST_BACK_OFF.min(polling.max)), roll),
    };
    wait.max(SHORTEST)
}

/// After the beginning of a time that many devices wait for: anywhere in its first quarter, at most ten minutes.
pub(crate) fn opening(length: Duration, roll: u32) -> Duration {
    part((length / 4).min(Duration::from_secs(600)), roll)
}

/// Between tries of one download: full jitter from one second up.
pub(crate) fn retry(polling: Polling, failures: u32, roll: u32) -> Duration {
    part(ceiling(Duration::from_secs(1), failures, FIRST_BACK_OFF.min(polling.max)), roll).max(SHORTEST)
}

fn ceiling(first: Duration, failures: u32, last: Duration) -> Duration {
    let doubled = 1_u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX);
    first.saturating_mul(doubled).min(last)
}

/// `roll / 2^32` of `whole`.
fn part(whole: Duration, roll: u32) -> Duration {
    scale(whole, u64::from(roll), 1 << 32)
}

/// Nine to eleven tenths of `middle`.
fn spread(middle: Duration, roll: u32) -> Duration {
    scale(middle, 900 + u64::from(roll % 201), 1000)
}

fn scale(duration: Duration, numerator: u64, denominator: u64) -> Duration {
    let ms = u128::from(numerator) * duration.as_millis() / u128::from(denominator.max(1));
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLLING: Polling = Polling {
        min: Duration::from_secs(10),
        max: Duration::from_secs(86_400),
        first_max: Duration::from_secs(300),
        wait_s: 55,
    };

    #[test]
    fn the_servers_interval_is_clamped_to_ten_seconds_and_a_day() {
        for (told, low, high) in [(0, 9, 11), (300, 270, 330), (u32::MAX, 77_760, 95_040)] {
            for roll in [0, 1, 100, 200, u32::MAX] {
                let wait = next(POLLING, told, roll).as_secs();
                assert!((low..=high).contains(&wait), "{told}: {wait}");
            }
        }
    }

    #[test]
    fn the_first_check_in_is_spread_over_the_first_five_minutes() {
        assert_eq!(first(POLLING, 0), Duration::ZERO);
        assert_eq!(first(POLLING, 1 << 31), Duration::from_secs(150));
        assert!(first(POLLING, u32::MAX) < Duration::from_secs(300));
    }

    #[test]
    fn back_off_doubles_up_to_an_hour_and_obeys_retry_after() {
        let most = |failures| back_off(POLLING, failures, None, u32::MAX).as_secs() + 1;
        assert_eq!([most(0), most(1), most(6), most(7), most(40)], [30, 60, 1920, 3600, 3600]);
        let asked = back_off(POLLING, 9, Some(Duration::from_secs(100)), 0).as_secs();
        assert_eq!(asked, 90);
    }

    #[test]
    fn tries_of_a_download_become_rarer_up_to_half_a_minute() {
        let most = |tries| retry(POLLING, tries, u32::MAX).as_secs() + 1;
        assert_eq!([most(1), most(2), most(4), most(5), most(u32::MAX)], [2, 4, 16, 30, 30]);
    }

    #[test]
    fn local_bounds_of_zero_do_not_spin() {
        let zero = Polling { min: Duration::ZERO, max: Duration::ZERO, first_max: Duration::ZERO, wait_s: 0 };
        assert_eq!(next(zero, 0, 7), SHORTEST);
        assert_eq!(back_off(zero, 3, Some(Duration::from_secs(9)), 7), SHORTEST);
        assert_eq!(first(zero, 7), Duration::ZERO);
    }
}
