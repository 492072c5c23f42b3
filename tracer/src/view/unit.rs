//! Numbers for people: IEC sizes, signed rates, times, shares. Every text is short enough for its unit's column,
//! whatever the number, and a number that is not known is `-`.

use crate::{aggregator::row::How, metric::Unit};

/// Columns that the longest text of the unit takes, without a mark.
pub const fn columns(unit: Unit) -> usize {
    match unit {
        Unit::Bytes => 8,
        Unit::BytesPerSecond => 11,
        Unit::Traffic => 10,
        Unit::Seconds => 7,
        Unit::Share => 5,
        Unit::Count | Unit::PerSecond => 6,
    }
}

pub fn format(unit: Unit, value: Option<f64>) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else {
        return String::from("-");
    };
    // Minus zero prints its sign.
    let value = value + 0.0;
    match unit {
        Unit::Bytes => bytes(value),
        Unit::BytesPerSecond => rate(value),
        Unit::Traffic => format!("{}/s", bytes(value.max(0.0))),
        Unit::Seconds => seconds(value),
        Unit::Share => share(value),
        Unit::Count => count(value),
        Unit::PerSecond if value < 9.95 => format!("{:.1}", value.max(0.0)),
        Unit::PerSecond => count(value),
    }
}

/// The same, with a mark before a number that is not simply measured.
pub fn format_marked(unit: Unit, value: Option<f64>, how: Option<How>) -> String {
    let text = format(unit, value);
    match how {
        Some(how) if value.is_some() => format!("{}{text}", mark(how)),
        _ => text,
    }
}

/// Columns that the longest `short` text takes, without a mark.
pub const SHORT: usize = 5;

/// `1023`, `1.5K`, `312M`: a size for where there is little room; K is 1024.
pub fn short(value: Option<f64>) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else {
        return String::from("-");
    };
    let text = bytes(value.max(0.0));
    text.trim_end_matches('B').trim_end_matches('i').replace(' ', "")
}

/// The same, with a mark before a number that is not simply measured.
pub fn short_marked(value: Option<f64>, how: Option<How>) -> String {
    let text = short(value);
    match how {
        Some(how) if value.is_some() => format!("{}{text}", mark(how)),
        _ => text,
    }
}

pub const fn mark(how: How) -> &'static str {
    match how {
        How::Inferred | How::Sampled => "~",
        How::AtLeast => ">=",
    }
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(format(Unit::Traffic, Some(12.3 * mib)), "12.3 MiB/s");
        assert_eq!(
            [0.0, 1023.0, 1024.0, 312.4 * mib].map(|size| short(Some(size))),
            ["0", "1023", "1.0K", "312M"]
        );
        assert_eq!(short_marked(Some(2048.0), Some(How::AtLeast)), ">=2.0K");
        assert_eq!(short_marked(None, Some(How::AtLeast)), "-");
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
        assert_eq!(format(Unit::Count, None), "-");
        assert_eq!(format(Unit::Bytes, Some(f64::NAN)), "-");
        assert_eq!(format_marked(Unit::Bytes, Some(2048.0), Some(How::Inferred)), "~2.0 KiB");
        assert_eq!(format_marked(Unit::Bytes, None, Some(How::Inferred)), "-");
    }

    proptest! {
        #[test]
        fn every_number_fits_its_column(value in any::<f64>(), bits in any::<u64>()) {
            prop_assert!(short(Some(value)).len() <= SHORT && short(Some(bits as f64)).len() <= SHORT);
            for unit in [Unit::Bytes, Unit::BytesPerSecond, Unit::Traffic, Unit::Seconds, Unit::Share, Unit::Count, Unit::PerSecond] {
                for value in [value, bits as f64] {
                    let text = format(unit, Some(value));
                    let negative = usize::from(unit == Unit::Bytes && value < 0.0);
                    prop_assert!(text.len() <= columns(unit) + negative, "{unit:?} {value}: {text}");
                }
            }
        }
    }
}
