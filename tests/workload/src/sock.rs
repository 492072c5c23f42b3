//! Socket buffers: TCP connections on the loopback whose reader never reads.

use std::{
    io::{ErrorKind, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
};

use anyhow::Context as _;
use clap::Args;

use crate::{
    amount::{Bytes, Hold},
    pace::paced,
    report,
};

/// Bytes sent at a time.
const PIECE: u64 = 16 << 10;

/// Fill socket buffers
#[derive(Args)]
pub(crate) struct Sock {
    /// How much is sent and never read, as 512k, 64M or 1G
    #[arg(long)]
    total: Bytes,
    /// At most so many bytes each second (default: as fast as it goes)
    #[arg(long)]
    rate: Option<Bytes>,
    /// Keep it so many seconds, or `forever`
    #[arg(long, default_value = "0")]
    hold: Hold,
}

impl Sock {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on the loopback")?;
        let address = listener.local_addr().context("cannot ask for the address")?;
        let (mut open, mut full, mut current) = (Vec::new(), Vec::new(), None);
        let sent = paced(Some(self.total.0), self.rate.map(|rate| rate.0), PIECE, |from, to| {
            let mut left = (to - from) as usize;
            while left > 0 {
                let sender = match &mut current {
                    Some(sender) => sender,
                    None => {
                        let sender =
                            TcpStream::connect(address).context("cannot connect; is the loopback up?")?;
                        sender.set_nonblocking(true).context("cannot make the sender non-blocking")?;
                        open.push(listener.accept().context("cannot accept")?);
                        current.insert(sender)
                    }
                };
                match sender.write(&[b'm'; PIECE as usize][..left.min(PIECE as usize)]) {
                    Ok(taken) => left -= taken,
                    // Both buffers are full: another connection.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => full.extend(current.take()),
                    Err(error) => return Err(error).context("cannot send"),
                }
            }
            Ok(())
        })?;
        report::done_then_hold(sent, self.hold)
    }
}
