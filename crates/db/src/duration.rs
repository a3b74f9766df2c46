//! Durations as people read them.

use std::time::Duration;

/// A duration for people: `850 ms`, `1.2 s`, `45 s`, `5 min`.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        _ if !time.is_zero() && time.as_millis().is_multiple_of(60_000) => {
            format!("{} min", time.as_secs() / 60)
        }
        _ if time.as_secs() > 0 && time.subsec_millis() == 0 => format!("{} s", time.as_secs()),
        less if less < 1.0 => format!("{:.0} ms", less * 1000.0),
        less if less < 10.0 => format!("{less:.1} s"),
        more => format!("{more:.0} s"),
    }
}
