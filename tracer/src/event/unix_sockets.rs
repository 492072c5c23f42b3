//! Who is connected to whom by unix sockets, asked of the kernel (`NETLINK_SOCK_DIAG`); by hand, since of a whole library of
//! netlink one question is wanted. Sockets of this network namespace only. Kernel source: net/unix/diag.c.

use std::io;

use bytes::Buf as _;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
};

/// One socket of a connection, or one that listens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Socket {
    pub ino: u32,
    /// The other end's inode; `None` while nobody has accepted it.
    pub peer: Option<u32>,
    /// It has a name: it listens, or was accepted by who does. Who connects has none, as a rule.
    pub named: bool,
    /// Clients that wait to be accepted by this listener, by their inodes.
    pub waiting: Option<Vec<u32>>,
}

// Of include/uapi/linux/{netlink,sock_diag,unix_diag}.h: an interface to programs.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_AND_DUMP: u16 = 0x1 | 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const UNIX: u8 = 1;
const ESTABLISHED: u32 = 1;
const LISTEN: u32 = 10;
const NAME: u16 = 0;
const PEER: u16 = 2;
const ICONS: u16 = 3;
const SHOW: u32 = 1 << NAME | 1 << PEER | 1 << ICONS;
const HEADER: usize = 16;

/// Beyond so many nothing is told.
const SOCKETS: usize = 65_536;

/// All connections and listeners.
pub fn sockets() -> io::Result<Vec<Socket>> {
    let kernel =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    // It answers at once, or not at all.
    sockopt::set_socket_timeout(&kernel, sockopt::Timeout::Recv, Some(std::time::Duration::from_secs(1)))?;
    let mut question = Vec::with_capacity(40);
    question.extend(40u32.to_ne_bytes());
    question.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    question.extend(REQUEST_AND_DUMP.to_ne_bytes());
    question.extend([0; 8]);
    question.extend([UNIX, 0, 0, 0]);
    question.extend((1u32 << ESTABLISHED | 1 << LISTEN).to_ne_bytes());
    question.extend(0u32.to_ne_bytes());
    question.extend(SHOW.to_ne_bytes());
    question.extend([0; 8]);
    send(&kernel, &question, SendFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let (_, length) = recv(&kernel, &mut buffer[..], RecvFlags::empty())?;
        if messages(&buffer[..length.min(buffer.len())], &mut found)? || found.len() >= SOCKETS {
            return Ok(found);
        }
    }
}

/// Takes in what one datagram holds; whether it was the last.
fn messages(mut bytes: &[u8], found: &mut Vec<Socket>) -> io::Result<bool> {
    while bytes.len() >= HEADER {
        let mut head = bytes;
        let length = head.get_u32_ne() as usize;
        let kind = head.get_u16_ne();
        if length < HEADER || length > bytes.len() {
            return Err(io::Error::other("a message of the kernel is cut off"));
        }
        let body = &bytes[HEADER..length];
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY => found.extend(socket(body)),
            _ => {}
        }
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    Ok(false)
}

fn socket(body: &[u8]) -> Option<Socket> {
    let mut head = body.get(..16)?;
    head.advance(2);
    let state = u32::from(head.get_u8());
    head.advance(1);
    let mut socket = Socket { ino: head.get_u32_ne(), ..Socket::default() };
    if state == LISTEN {
        socket.waiting = Some(Vec::new());
    }
    let mut rest = &body[16..];
    while rest.len() >= 4 {
        let mut head = rest;
        let length = usize::from(head.get_u16_ne());
        let kind = head.get_u16_ne();
        let value = rest.get(4..length)?;
        match kind {
            NAME => socket.named = true,
            PEER => {
                socket.peer = value.first_chunk().map(|ino| u32::from_ne_bytes(*ino)).filter(|ino| *ino != 0)
            }
            ICONS => {
                let (inodes, _) = value.as_chunks();
                socket.waiting = Some(inodes.iter().map(|ino| u32::from_ne_bytes(*ino)).collect());
            }
            _ => {}
        }
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    Some(socket)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{
            fs::MetadataExt as _,
            net::{UnixListener, UnixStream},
        },
        path::PathBuf,
    };

    use super::*;

    fn inode(socket: &impl std::os::fd::AsFd) -> u32 {
        let file = std::fs::File::from(socket.as_fd().try_clone_to_owned().expect("a descriptor is left"));
        file.metadata().expect("it is open").ino() as u32
    }

    #[test]
    fn the_two_ends_of_a_connection_know_each_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path: PathBuf = dir.path().join("socket");
        let listener = UnixListener::bind(&path).expect("it can listen");
        let first = UnixStream::connect(&path).expect("it listens");
        let (accepted, _) = listener.accept().expect("one connected");
        let second = UnixStream::connect(&path).expect("it listens");
        let Ok(all) = sockets() else { return println!("skipping: no unix_diag here") };
        let of = |ino: u32| all.iter().find(|socket| socket.ino == ino).expect("it is there");
        let (client, server) = (of(inode(&first)), of(inode(&accepted)));
        assert_eq!((client.peer, server.peer), (Some(server.ino), Some(client.ino)));
        assert_eq!((client.named, server.named), (false, true));
        assert_eq!(of(inode(&listener)).waiting, Some(vec![inode(&second)]));
        assert_eq!(of(inode(&second)).peer, None, "not accepted yet");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(input in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = messages(&input, &mut Vec::new());
            let _ = socket(&input);
        }
    }
}
