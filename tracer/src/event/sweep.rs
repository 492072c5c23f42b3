//! What the processes of a row are at, by `/proc`: which of their sockets are connections that were accepted, and which of
//! them are children of others. Only of rows that are worth a look; see `pipeline/work.rs`.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

/// Descriptors looked at per process.
const DESCRIPTORS: usize = 16_384;
/// Of a table of sockets.
const TABLE: u64 = 16 << 20;
const LISTEN: u8 = 10;

/// A TCP socket of a network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    pub port: u16,
    pub peer: IpAddr,
    pub listens: bool,
    /// Of one that listens: connections that wait to be accepted.
    pub waiting: u64,
}

/// Those of a network namespace that a descriptor may be of, by inode number.
pub type Table = HashMap<u64, Socket>;

/// One process.
#[derive(Debug, Clone, PartialEq)]
pub struct Life {
    pub pid: u32,
    pub parent: u32,
    pub comm: Arc<str>,
    pub threads: u64,
    /// Since boot, when it was forked.
    pub born: Duration,
    /// It has ended, and nobody has asked how.
    pub zombie: bool,
}

/// The inode number of a process's network namespace.
pub fn net(pid: u32) -> Option<u32> {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

/// Inode numbers of the sockets that a process has open.
pub fn sockets(pid: u32) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let socket = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.flatten().take(DESCRIPTORS).filter_map(socket).collect()
}

/// The TCP sockets of a process's network namespace; `None` where they cannot be read.
pub fn table(pid: u32) -> Option<Table> {
    let mut table = Table::new();
    let mut read = |name: &str| {
        let file = fs::File::open(format!("/proc/{pid}/net/{name}")).ok()?;
        for line in BufReader::with_capacity(1 << 16, file.take(TABLE)).lines().skip(1).map_while(Result::ok)
        {
            table.extend(socket(&line));
        }
        Some(())
    };
    let read = [read("tcp"), read("tcp6")];
    // Without IPv6 there is no such table.
    read.iter().any(Option::is_some).then_some(table)
}

/// `  0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 31337 ...`
fn socket(line: &str) -> Option<(u64, Socket)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, peer, state, queues) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let inode = words.nth(4)?.parse().ok().filter(|inode| *inode != 0)?;
    let listens = u8::from_str_radix(state, 16).ok()? == LISTEN;
    let waiting = u64::from_str_radix(queues.split_once(':')?.1, 16).ok()?;
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    let peer = address(peer.rsplit_once(':')?.0)?;
    Some((inode, Socket { port, peer, listens, waiting: if listens { waiting } else { 0 } }))
}

/// As the kernel writes it: words of 32 bits, each in this machine's order.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(8 * at..8 * at + 8)?, 16).ok()?.to_ne_bytes());
    if hex.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words = [word(0)?, word(1)?, word(2)?, word(3)?];
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(words.as_flattened()).for_each(|(to, from)| *to = *from);
    Some(Ipv6Addr::from(bytes).to_canonical())
}

/// What a process is; `None` when it is gone.
pub fn life(pid: u32) -> Option<Life> {
    stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name may hold anything, brackets too.
fn stat(pid: u32, text: &str) -> Option<Life> {
    let (head, rest) = text.rsplit_once(") ")?;
    let comm = head.split_once(" (")?.1;
    let words: Vec<&str> = rest.split_ascii_whitespace().take(20).collect();
    let number = |at: usize| words.get(at)?.parse::<u64>().ok();
    Some(Life {
        pid,
        parent: number(1)? as u32,
        comm: Arc::from(comm),
        threads: number(17)?,
        born: Duration::from_millis(
            number(19)?.checked_mul(1000 / rustix::param::clock_ticks_per_second().max(1))?,
        ),
        zombie: matches!(words.first(), Some(&("Z" | "X"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_as_the_kernel_writes_them() {
        let listens = "   0: 00000000:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 31337 1 \
                       0000000000000000 100 0 0 10 0";
        let (inode, found) = socket(listens).unwrap();
        assert_eq!((inode, found.port, found.listens, found.waiting), (31337, 8080, true, 3));
        let open = "  12: 0100007F:1F90 0200007F:A1B2 08 00000010:00000005 00:00000000 00000000  1000        0 4711 1 x";
        let (inode, found) = socket(open).unwrap();
        assert_eq!((inode, found.port, found.listens, found.waiting), (4711, 8080, false, 0));
        assert_eq!(found.peer, "127.0.0.2".parse::<IpAddr>().unwrap());
        let six = "0: 00000000000000000000000000000000:1F90 0000000000000000FFFF00000100007F:0001 01 0:0 0:0 0 0 0 7 1";
        let (_, found) = socket(six).unwrap();
        assert_eq!(found.peer, "127.0.0.1".parse::<IpAddr>().unwrap());
        // In the queue, not accepted yet: no descriptor has it.
        assert_eq!(socket(&open.replace("4711", "0")), None);
        assert_eq!(socket("  sl  local_address rem_address   st"), None);
    }

    #[test]
    fn a_name_may_hold_anything() {
        let text = "77 (a) (b) R 1) S 5 77 77 0 -1 4194304 1 0 0 0 3 4 0 0 20 0 9 0 12345 1 2";
        let life = stat(77, text).unwrap();
        assert_eq!((&*life.comm, life.parent, life.threads), ("a) (b) R 1", 5, 9));
        assert_eq!((life.born, life.zombie), (Duration::from_millis(123_450), false));
        assert!(stat(77, &text.replace(") S", ") Z")).unwrap().zombie);
        assert_eq!(stat(77, "77 (x"), None);
    }

    #[test]
    fn this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let pid = std::process::id();
        let own = |table: &Table| {
            let open = sockets(pid);
            let of = |listens| {
                open.iter()
                    .filter_map(|inode| table.get(inode))
                    .filter(|socket| socket.port == port && socket.listens == listens)
                    .cloned()
                    .collect::<Vec<Socket>>()
            };
            [of(true), of(false)]
        };
        let [listens, open] = own(&table(pid).unwrap());
        assert_eq!((listens.len(), listens[0].waiting, open.len()), (1, 1, 0));
        let _accepted = listener.accept().unwrap();
        let [listens, open] = own(&table(pid).unwrap());
        assert_eq!((listens[0].waiting, open.len()), (0, 1));
        assert_eq!(open[0].peer, client.local_addr().unwrap().ip());
        assert!(net(pid).is_some());
        let life = life(pid).unwrap();
        assert!(life.threads > 0 && life.born <= crate::kernel::clock::boottime());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_no_panic(text in "\\PC*") {
            let _ = (socket(&text), stat(1, &text), address(&text));
        }
    }
}
