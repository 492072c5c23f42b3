//! Pure decoding of what the kernel programs send. Input is untrusted in length and kind: what does not
//! decode is an error to be counted, never a panic.

use bytes::Buf;
use thiserror::Error;
use tracer_ebpf::abi::event::{Kind, PATH_LEN, UNKNOWN};

use super::{Event, oom, page_size};

#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("a record of {0} bytes is too short")]
    Short(usize),
    #[error("unknown kind {0}")]
    Kind(u32),
}

const HEADER: usize = 40;

/// One record of the ring buffer.
pub fn record(mut bytes: &[u8]) -> Result<Event, DecodeError> {
    let length = bytes.len();
    if length < HEADER {
        return Err(DecodeError::Short(length));
    }
    let kind = bytes.get_u32_ne();
    let path_len = bytes.get_u32_ne() as usize;
    let at = bytes.get_u64_ne();
    let id = bytes.get_u64_ne();
    let (a, b) = (bytes.get_u64_ne(), bytes.get_u64_ne());
    let kind = Kind::ALL.iter().find(|known| **known as u32 == kind).ok_or(DecodeError::Kind(kind))?;
    let pages = |count: u64| (count != UNKNOWN).then(|| count.saturating_mul(page_size()));
    Ok(match kind {
        Kind::CgroupMade => Event::CgroupMade { id, path: path(bytes, path_len) },
        Kind::CgroupRenamed => Event::CgroupRenamed { id, path: path(bytes, path_len) },
        Kind::CgroupRemoved => Event::CgroupRemoved { id, usage: pages(a), peak: pages(b) },
        Kind::CgroupReleased => Event::CgroupReleased { id },
        Kind::StreamWritten => Event::StreamWritten { id, key: a, pid: b as u32 },
        Kind::OomKill => {
            let rest = oom::Rest::read(bytes).ok_or(DecodeError::Short(length))?;
            Event::OomMarked(Box::new(oom::mark(at, id, a, b, &rest)))
        }
        Kind::TaskMoved => Event::TaskMoved { id, pid: a as u32 },
    })
}

/// `None` where the kernel had to cut it or sent none.
fn path(bytes: &[u8], length: usize) -> Option<String> {
    let path = bytes.get(..length)?;
    (length > 0 && length < PATH_LEN - 1).then(|| String::from_utf8_lossy(path).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(kind: u32, path: &[u8], a: u64, b: u64) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(kind.to_ne_bytes());
        out.extend((path.len() as u32).to_ne_bytes());
        for word in [1u64, 42, a, b] {
            out.extend(word.to_ne_bytes());
        }
        out.extend(path);
        out
    }

    #[test]
    fn decodes_each_kind() {
        let made = record(&bytes(1, b"/docker/x", 0, 0));
        assert_eq!(made, Ok(Event::CgroupMade { id: 42, path: Some("/docker/x".to_owned()) }));
        let removed = record(&bytes(3, b"", 2, UNKNOWN));
        assert_eq!(removed, Ok(Event::CgroupRemoved { id: 42, usage: Some(2 * page_size()), peak: None }));
        assert_eq!(record(&bytes(5, b"", 7, 0)), Ok(Event::TaskMoved { id: 42, pid: 7 }));
        assert_eq!(record(&bytes(99, b"", 0, 0)), Err(DecodeError::Kind(99)));
    }

    #[test]
    fn a_cut_path_is_no_path() {
        let long = vec![b'a'; PATH_LEN - 1];
        assert_eq!(record(&bytes(1, &long, 0, 0)), Ok(Event::CgroupMade { id: 42, path: None }));
    }

    proptest! {
        #[test]
        fn never_panics(input in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = record(&input);
        }
    }
}
