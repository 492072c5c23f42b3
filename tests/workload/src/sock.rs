//! Socket buffers: TCP connections on the loopback whose reader never reads.

use std::{
    io::{ErrorKind, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
};

use anyhow::Context as _;
use clap::Args;

use crate::{
    amount::{Bytes, Hold},
    report,
};

/// Fill socket buffers
#[derive(Args)]
pub(crate) struct Sock {
    /// How much is sent and never read, as 512k, 64M or 1G
    #[arg(long)]
    total: Bytes,
    /// Keep it so many seconds, or `forever`
    #[arg(long, default_value = "0")]
    hold: Hold,
}

impl Sock {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on the loopback")?;
        let address = listener.local_addr().context("cannot ask for the address")?;
        let mut open = Vec::new();
        let (mut sent, piece) = (0, [b'm'; 16 << 10]);
        while sent < self.total.0 {
            let mut sender = TcpStream::connect(address).context("cannot connect; is the loopback up?")?;
            let (reader, _) = listener.accept().context("cannot accept")?;
            sender.set_nonblocking(true).context("cannot make the sender non-blocking")?;
            while sent < self.total.0 {
                match sender.write(&piece) {
                    Ok(taken) => sent += taken as u64,
                    // Both buffers are full: another connection.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("cannot send"),
                }
            }
            open.push((sender, reader));
        }
        report::done_then_hold(sent, self.hold)
    }
}
