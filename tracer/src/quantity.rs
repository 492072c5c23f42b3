//! Numbers for people: IEC sizes, signed rates, times, shares, each a short text. No stage: findings and views both
//! write numbers, and so write them alike.

use std::time::SystemTime;

use time::OffsetDateTime;

/// `1.5 GiB`, `312 MiB`, `0 B`: three digits, four before the next unit.
pub fn bytes(value: f64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let sign = if value <= -0.5 { "-" } else { "" };
    let mut size = value.abs();
    let mut unit = 0;
    // 1023.7 would be written as 1024.
    while size >= 1023.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && size < 99.95);
    format!("{sign}{:.digits$} {}", size.min(9999.0), UNITS[unit])
}

/// `+12.3 MiB/s`; nothing to speak of has no sign.
pub fn rate(value: f64) -> String {
    let sign = if value >= 0.5 { "+" } else { "" };
    format!("{sign}{}/s", bytes(value))
}

/// `3.2 s`, `42 s`, `4m 12s`, `1h 20m`, `3d 4h`, `>99 d`.
pub fn seconds(value: f64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let value = value.max(0.0);
    if value < 9.95 {
        return format!("{value:.1} s");
    }
    let whole = value.round() as u64;
    match whole {
        0..100 => format!("{whole} s"),
        100..HOUR => format!("{}m {:02}s", whole / MINUTE, whole % MINUTE),
        HOUR..DAY => format!("{}h {:02}m", whole / HOUR, whole % HOUR / MINUTE),
        _ if whole < 100 * DAY => format!("{}d {:02}h", whole / DAY, whole % DAY / HOUR),
        _ => String::from(">99 d"),
    }
}

/// `0 s`, `812 ns`, `4.6 us`, `12 ms`, then as `seconds`.
pub fn time(value: f64) -> String {
    let nanoseconds = (value * 1e9).max(0.0);
    if nanoseconds < 0.5 {
        return String::from("0 s");
    }
    for (unit, size) in [("ns", 1.0), ("us", 1e3), ("ms", 1e6)] {
        let value = nanoseconds / size;
        if value < 9.95 && size > 1.0 {
            return format!("{value:.1} {unit}");
        }
        if value < 999.5 {
            return format!("{value:.0} {unit}");
        }
    }
    seconds(value)
}

/// `87 %`, `3.2 %`.
pub fn share(value: f64) -> String {
    let percent = (value * 100.0).clamp(0.0, 999.0);
    if percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// `1234`, `12.3 M`.
pub fn count(value: f64) -> String {
    const UNITS: [&str; 4] = ["M", "G", "T", "P"];
    let value = value.max(0.0);
    if value < 999_999.5 {
        return format!("{value:.0}");
    }
    let mut size = value / 1e6;
    let mut unit = 0;
    while size >= 999.5 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(size < 99.95);
    format!("{:.digits$} {}", size.min(9999.0), UNITS[unit])
}

/// RFC 3339 in UTC with milliseconds: what JSON's `ts` is.
pub fn timestamp(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_like_speech() {
        let mib = 1024.0 * 1024.0;
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1023.0), "1023 B");
        assert_eq!(bytes(1024.0), "1.0 KiB");
        assert_eq!(bytes(1023.7 * mib), "1.0 GiB");
        assert_eq!(bytes(1023.0 * mib), "1023 MiB");
        assert_eq!(bytes(1536.0 * mib), "1.5 GiB");
        assert_eq!(bytes(-64.0 * mib), "-64.0 MiB");
        assert_eq!(rate(12.3 * mib), "+12.3 MiB/s");
        assert_eq!(rate(-12.3 * mib), "-12.3 MiB/s");
        assert_eq!(rate(-0.2), "0 B/s");
    }

    #[test]
    fn times_shares_and_counts() {
        assert_eq!(seconds(3.21), "3.2 s");
        assert_eq!(seconds(9.96), "10 s");
        assert_eq!(seconds(252.0), "4m 12s");
        assert_eq!(seconds(4800.0), "1h 20m");
        assert_eq!(seconds(1e12), ">99 d");
        assert_eq!(share(0.874), "87 %");
        assert_eq!(share(0.0316), "3.2 %");
        assert_eq!(count(999_999.0), "999999");
        assert_eq!(count(12_345_678.0), "12.3 M");
    }
}
