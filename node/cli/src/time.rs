//! Points in time as people write them (RFC 3339), and back. Pure.

/// Milliseconds since the Unix epoch of `2026-11-21T16:00:00Z`, `2026-11-21 16:00:00.5+01:00`
/// or `2026-11-21`. UTC if no zone is told.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, rest) = match text.split_once(['T', 't', ' ']) {
        Some((date, rest)) => (date, rest),
        None => (text, "00:00:00Z"),
    };
    let mut date = date.split('-');
    let (year, month, day) = (
        number(date.next()?, 4, 1970..=9999)?,
        number(date.next()?, 2, 1..=12)?,
        number(date.next()?, 2, 1..=31)?,
    );
    if date.next().is_some() || day > days_in(year, month) {
        return None;
    }
    let (clock, zone) = split_zone(rest)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.split(':');
    let hour = number(clock.next()?, 2, 0..=23)?;
    let minute = number(clock.next()?, 2, 0..=59)?;
    let second = match clock.next() {
        Some(second) => number(second, 2, 0..=59)?,
        None => 0,
    };
    if clock.next().is_some() {
        return None;
    }
    let millis = millis(fraction)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - zone;
    Some(seconds * 1_000 + millis)
}

/// `2026-11-21T16:00:00.000Z`
pub(crate) fn show(millis: i64) -> String {
    let days_since = millis.div_euclid(86_400_000);
    let within = millis.rem_euclid(86_400_000);
    // Howard Hinnant's civil_from_days, for years from 1970 on and before.
    let z = days_since + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        within / 3_600_000,
        within / 60_000 % 60,
        within / 1_000 % 60,
        within % 1_000
    )
}

/// Milliseconds of `500ms`, `30s`, `10m`, `2h`, `1d`, or of a number without a unit.
pub(crate) fn duration(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)? {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let right = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .parse::<u64>()
        .ok()
        .filter(|_| right)?
        .checked_mul(unit)
}

/// The same, written in the largest unit that shows all of it.
pub(crate) fn show_duration(millis: u64) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ];
    let fits = |(unit, _): &&(u64, &str)| millis > 0 && millis.is_multiple_of(*unit);
    match units.iter().find(fits) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// Splits off the zone and gives its seconds east of UTC.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, 0));
    };
    let (clock, zone) = text.split_at_checked(at)?;
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let seconds = number(hours, 2, 0..=23)? * 3_600 + number(minutes, 2, 0..=59)? * 60;
    Some((clock, sign * seconds))
}

fn number(text: &str, digits: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let right = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|_| right)?;
    range.contains(&value).then_some(value)
}

/// Milliseconds of a fraction of a second; finer digits are dropped.
fn millis(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<3}").get(..3)?.parse().ok()
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since the Unix epoch (Howard Hinnant's days_from_civil).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        let table = [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-21T16:00:00Z", 1_795_276_800_000),
            ("2026-11-21T16:00:00", 1_795_276_800_000),
            ("2026-11-21T17:00:00+01:00", 1_795_276_800_000),
            ("2026-11-21 10:30-05:30", 1_795_276_800_000),
            ("2026-11-21", 1_795_219_200_000),
            ("2024-02-29T12:00:00.1234Z", 1_709_208_000_123),
            ("2000-03-01T00:00:00.5Z", 951_868_800_500),
        ];
        for (text, millis) in table {
            assert_eq!(parse(text), Some(millis), "{text}");
            assert_eq!(parse(&show(millis)), Some(millis));
        }
        for bad in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-02-29",
            "2026-1-1",
            "2026-11-21T24:00:00Z",
            "2026-11-21T16",
            "2026-11-21T16:00:00+1",
            "2026-11-21T16:00:00.Z",
            "1969-12-31",
            "2026-11-21T16:00:00Zä",
            "+026-11-21",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_read_and_shown() {
        for (text, millis) in [
            ("0ms", 0),
            ("1500ms", 1_500),
            ("90s", 90_000),
            ("10m", 600_000),
        ] {
            assert_eq!(duration(text), Some(millis), "{text}");
            assert_eq!(show_duration(millis), text);
        }
        assert_eq!(duration("3000"), Some(3_000));
        assert_eq!(duration("48h").map(show_duration).as_deref(), Some("2d"));
        for bad in [
            "",
            "s",
            "1.5s",
            "-1s",
            "1w",
            "1 s",
            "99999999999999999d",
            "ä",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_round_trips() {
        for day in 0..150_000i64 {
            let millis = day * 86_400_000 + 1;
            assert_eq!(parse(&show(millis)), Some(millis), "{day}");
        }
    }
}
