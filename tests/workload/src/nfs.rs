//! An NFS server (version 3) of one directory in memory, which needs no port mapper.

use anyhow::Context as _;
use clap::Args;
use nfs3_server::{
    memfs::{MemFs, MemFsConfig},
    tcp::{NFSTcp as _, NFSTcpListener},
};

use crate::{amount::Bytes, report};

/// Serve files in memory by NFS, to this machine only
#[derive(Args)]
pub(crate) struct Nfs {
    /// 0: any that is free; either way it is told
    #[arg(long, default_value = "0")]
    port: u16,
    /// Of each file
    #[arg(long, default_value = "1M")]
    size: Bytes,
    /// Their names
    #[arg(required = true)]
    file: Vec<String>,
}

impl Nfs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let mut files = MemFsConfig::default();
        for name in &self.file {
            files.add_file(&format!("/{name}"), vec![b'n'; self.size.0 as usize]);
        }
        let files = MemFs::new(files).map_err(|error| anyhow::anyhow!("cannot make the files: {error:?}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("cannot start the server")?.block_on(async {
            let listener = NFSTcpListener::bind(&format!("127.0.0.1:{}", self.port), files).await;
            let listener = listener.context("cannot listen")?;
            report::line(&format!(r#"{{"done_bytes":0,"port":{}}}"#, listener.get_listen_port()))?;
            listener.handle_forever().await.context("cannot take connections")
        })
    }
}
