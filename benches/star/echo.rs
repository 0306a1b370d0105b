//! The echo of a stream.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Sends everything back until the end, at most `chunk` bytes at a time.
pub async fn echo(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    chunk: usize,
) -> io::Result<()> {
    let mut buffer = vec![0; chunk];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
        stream.flush().await?;
    }
}
