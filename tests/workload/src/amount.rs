//! Amounts on the command line: bytes with a suffix, and how long a finished workload keeps what it holds.

use std::{str::FromStr, time::Duration};

/// A number of bytes: `4096`, `512k`, `64M`, `1G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, shift) = match text.as_bytes().last() {
            Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
            Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
            Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        let number: u64 = digits
            .parse()
            .map_err(|_| format!("`{text}` is not a number of bytes: write 4096, 512k, 64M or 1G"))?;
        number
            .checked_mul(1 << shift)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is more bytes than a 64-bit number holds"))
    }
}

/// How long a workload stays after it is done: seconds (`0.3`), or `forever`, which ends at SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    For(Duration),
    Forever,
}

impl FromStr for Hold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        text.parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(Self::For)
            .ok_or_else(|| format!("`{text}` is not a time: write seconds (0.3) or `forever`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_suffixes() {
        assert_eq!("4096".parse(), Ok(Bytes(4096)));
        assert_eq!("512k".parse(), Ok(Bytes(512 << 10)));
        assert_eq!("64M".parse(), Ok(Bytes(64 << 20)));
        assert_eq!("1G".parse(), Ok(Bytes(1 << 30)));
        assert!("".parse::<Bytes>().is_err());
        assert!("-1".parse::<Bytes>().is_err());
        assert!("99999999999G".parse::<Bytes>().is_err());
    }

    #[test]
    fn hold_is_seconds_or_forever() {
        assert_eq!("0.3".parse(), Ok(Hold::For(Duration::from_millis(300))));
        assert_eq!("forever".parse(), Ok(Hold::Forever));
        assert!("-1".parse::<Hold>().is_err());
        assert!("soon".parse::<Hold>().is_err());
    }
}
