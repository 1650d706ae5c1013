//! The vendor's clock, read from the header `Date` of its answers.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use reqwest::header::{AGE, DATE, HeaderMap};

use crate::domain::clock::Timestamp;

/// Maximum duration of a request whose answer is used as a reading of the clock. The vendor may have set `Date` at any time
/// during the request.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// Average fraction of a second that the header omits, because its times are whole seconds.
const HALF_SECOND: Duration = Duration::from_millis(500);

/// The latest reading of the vendor's clock.
#[derive(Debug, Default)]
pub(super) struct VendorTime(Mutex<Option<(Timestamp, Instant)>>);

impl VendorTime {
    /// Reads the clock from the headers of an answer to a request that began at `began`.
    pub(super) fn read(&self, headers: &HeaderMap, began: Instant) {
        if began.elapsed() <= MAX_DELAY
            && let Some(time) = date_of(headers)
        {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((time, Instant::now()));
        }
    }

    /// Returns the vendor's current time, computed from the last reading. Returns `None` if there is no reading since `since`.
    pub(super) fn now(&self, since: Instant) -> Option<Timestamp> {
        let reading = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reading.filter(|(_, at)| *at >= since).map(|(time, at)| time + at.elapsed())
    }
}

/// Returns the time in `Date` plus the age of the answer. A cache between the gateway and the vendor sets `Age`.
fn date_of(headers: &HeaderMap) -> Option<Timestamp> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let date = httpdate::parse_http_date(text(DATE)?).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let age = text(AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0);
    Some(Timestamp::from_millis(0) + date + Duration::from_secs(age) + HALF_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(reqwest::header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_time_is_the_date_plus_the_age() {
        let date = (DATE, "Mon, 20 May 2024 12:20:17 GMT");
        let at = Timestamp::from_millis(1_716_207_617_500);
        assert_eq!(date_of(&headers(std::slice::from_ref(&date))), Some(at));
        assert_eq!(date_of(&headers(&[date.clone(), (AGE, "60")])), Some(at + Duration::from_mins(1)));
        assert_eq!(date_of(&headers(&[date, (AGE, "old")])), Some(at));
        assert_eq!(date_of(&headers(&[(DATE, "yesterday")])), None);
        assert_eq!(date_of(&headers(&[])), None);
    }

    #[test]
    fn an_old_or_slow_reading_is_not_used() {
        let (time, began) = (VendorTime::default(), Instant::now());
        assert_eq!(time.now(began), None);
        // The request begins one hour later, so the answer never counts as slow, even on a busy machine.
        let later = began + Duration::from_hours(1);
        time.read(&headers(&[(DATE, "Mon, 20 May 2024 12:20:17 GMT")]), later);
        assert!(time.now(began).unwrap() >= Timestamp::from_millis(1_716_207_617_500));
        assert_eq!(time.now(Instant::now() + Duration::from_secs(1)), None);
        let late = began.checked_sub(MAX_DELAY + Duration::from_secs(1)).unwrap();
        let other = VendorTime::default();
        other.read(&headers(&[(DATE, "Mon, 20 May 2024 12:20:17 GMT")]), late);
        assert_eq!(other.now(began), None, "the answer was slow");
    }
}
