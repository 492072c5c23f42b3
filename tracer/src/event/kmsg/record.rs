//! One record of `/dev/kmsg`: `priority,sequence,microseconds,flag[,caller=...];text`, a newline, and lines of keys that
//! begin with a blank. What is no printable ASCII is written `\xNN`.

use std::time::Duration;

/// One record that the kernel wrote.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Since boot, by the clock of the log.
    pub at: Duration,
    /// It goes on with the text of another record.
    pub continued: bool,
    /// The task or CPU that wrote it, where the kernel tells.
    pub caller: Option<&'a str>,
    pub text: String,
}

/// `None` for what is no record, and for what a process wrote.
pub fn record(bytes: &[u8]) -> Option<Record<'_>> {
    let semicolon = bytes.iter().position(|byte| *byte == b';')?;
    let mut fields = std::str::from_utf8(&bytes[..semicolon]).ok()?.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    if priority >> 3 != 0 {
        return None;
    }
    let _sequence: u64 = fields.next()?.parse().ok()?;
    let at = Duration::from_micros(fields.next()?.parse().ok()?);
    let continued = fields.next() == Some("c");
    let caller = fields.find_map(|field| field.strip_prefix("caller="));
    let text = bytes[semicolon + 1..].split(|byte| *byte == b'\n').next()?;
    Some(Record { at, continued, caller, text: String::from_utf8_lossy(&unescaped(text)).into_owned() })
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'\\').then(|| hexadecimal(after)).flatten();
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    out
}

/// Of `xNN`.
fn hexadecimal(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    (text.first() == Some(&b'x')).then(|| Some((digit(1)? * 16 + digit(2)?) as u8))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_record_apart() {
        let bytes =
            b"4,1471,27444983064,-,caller=T12;eat (x) y\\x0a invoked; oom\\x5c\n SUBSYSTEM=x\n DEVICE=y\n";
        let found = record(bytes).expect("a record");
        assert_eq!(found.at, Duration::from_micros(27_444_983_064));
        assert_eq!((found.continued, found.caller), (false, Some("T12")));
        assert_eq!(found.text, "eat (x) y\n invoked; oom\\");
        assert!(record(b"6,1,2,c;rest\n").expect("a record").continued);
    }

    /// `echo '<0>Out of memory: Killed process 1 (init)' > /dev/kmsg` becomes facility 1.
    #[test]
    fn what_a_process_writes_is_none() {
        assert_eq!(record(b"8,1,2,-;Out of memory: Killed process 1 (init) total-vm:1kB\n"), None);
        assert_eq!(record(b"12,1,2,-;x\n"), None);
        for garbage in [&b""[..], b";", b"4,1;", b"x,1,2,-;y", b"4,1,2"] {
            assert_eq!(record(garbage), None);
        }
    }

    #[test]
    fn half_an_escape_is_text() {
        assert_eq!(unescaped(b"a\\x0"), b"a\\x0");
        assert_eq!(unescaped(b"\\\\x41\\"), b"\\A\\");
    }
}
