//! Numbers for people by their unit. Every text is short enough for its unit's column, whatever the number, and a
//! number that is not known is `-`.

pub use crate::quantity::{bytes, count, rate, seconds, share, time};
use crate::{aggregator::row::How, metric::Unit};

/// Columns that the longest text of the unit takes, without a mark.
pub const fn columns(unit: Unit) -> usize {
    match unit {
        Unit::Bytes => 8,
        Unit::BytesPerSecond => 11,
        Unit::Traffic => 10,
        Unit::Seconds | Unit::Time | Unit::Microseconds => 7,
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
        Unit::Time => time(value),
        Unit::Microseconds => time(value / 1e6),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unknown_is_a_dash_and_a_mark_goes_before() {
        assert_eq!(format(Unit::Traffic, Some(12.3 * 1024.0 * 1024.0)), "12.3 MiB/s");
        assert_eq!(
            [0.0, 1023.0, 1024.0, 312.4 * 1024.0 * 1024.0].map(|size| short(Some(size))),
            ["0", "1023", "1.0K", "312M"]
        );
        assert_eq!(short_marked(Some(2048.0), Some(How::AtLeast)), ">=2.0K");
        assert_eq!(short_marked(None, Some(How::AtLeast)), "-");
        assert_eq!(format(Unit::Count, None), "-");
        assert_eq!(format(Unit::Bytes, Some(f64::NAN)), "-");
        assert_eq!(format_marked(Unit::Bytes, Some(2048.0), Some(How::Inferred)), "~2.0 KiB");
        assert_eq!(format_marked(Unit::Bytes, None, Some(How::Inferred)), "-");
    }

    proptest! {
        #[test]
        fn every_number_fits_its_column(value in any::<f64>(), bits in any::<u64>()) {
            prop_assert!(short(Some(value)).len() <= SHORT && short(Some(bits as f64)).len() <= SHORT);
            for unit in [Unit::Bytes, Unit::BytesPerSecond, Unit::Traffic, Unit::Seconds, Unit::Time, Unit::Microseconds, Unit::Share, Unit::Count, Unit::PerSecond] {
                for value in [value, bits as f64] {
                    let text = format(unit, Some(value));
                    let negative = usize::from(unit == Unit::Bytes && value < 0.0);
                    prop_assert!(text.len() <= columns(unit) + negative, "{unit:?} {value}: {text}");
                }
            }
        }
    }
}
