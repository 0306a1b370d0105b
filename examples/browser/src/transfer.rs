//! Transfers one file over one stream, from the end that opened the stream to the other end.
//!
//! | end | bytes | content |
//! |---|---|---|
//! | sender | 1 | the version, 1 |
//! | | 2 | the length of the name |
//! | | 1 to 255 | the [`Name`], in UTF-8 |
//! | | 8 | the size of the file in bytes |
//! | receiver | 1 | the answer: 0 accepts, anything else is a [`Refusal`] |
//! | sender | the size | the file |
//! | receiver | 1 | 0: all is stored; 1: it could not be stored, and this may come at any time after the answer |
//! | | 8 | after 0: the number of stored bytes |
//!
//! Numbers are big-endian. An end that drops the stream before this exchange is complete cancels the transfer. Each
//! end holds two chunks of [`CHUNK`] bytes in memory, in addition to what the stream holds: it reads one while it
//! writes the other. A slow disk therefore slows the sender down.
//!
//! This module has no clock. The caller decides how long to wait.

use std::{io, pin::pin};

use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    future::{Either, select, try_join},
};

/// The number of bytes that are read from or written to a file at a time. Each such call takes a browser
/// milliseconds.
pub const CHUNK: usize = 1 << 20;
/// The longest name, in bytes. Most file systems have this limit.
pub const MAX_NAME: usize = 255;
/// The largest file, in bytes: 1 TiB.
pub const MAX_SIZE: u64 = 1 << 40;

const VERSION: u8 = 1;
const ACCEPTED: u8 = 0;
const STORED: u8 = 0;
const NOT_STORED: u8 = 1;

/// The reason why a transfer ended before it was complete.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other end dropped the stream, or the connection was lost.
    #[error("The other end has cancelled.")]
    Cancelled,
    /// The receiver did not accept the file.
    #[error("{0}")]
    Refused(Refusal),
    /// The receiver could not store the file.
    #[error("The receiver could not store it.")]
    NotStored,
    /// The sender's own file could not be read.
    #[error("The file cannot be read: {0}")]
    Source(#[source] io::Error),
    /// The receiver's own store has failed.
    #[error("The file cannot be stored: {0}")]
    Sink(#[source] io::Error),
    /// The offered name is not acceptable.
    #[error("The name of the file is not acceptable: {0}")]
    Name(#[from] NameError),
    /// The file is larger than [`MAX_SIZE`].
    #[error("The file has {0} bytes; at most {MAX_SIZE} are possible.")]
    TooLarge(u64),
    /// The other end does not follow the protocol.
    #[error("The other end does not follow the protocol: {0}.")]
    Protocol(&'static str),
}

/// The reason why the receiver does not take a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The person at the receiver said no.
    #[error("Declined.")]
    Declined,
    /// There are too many offers already.
    #[error("The receiver has too many offers already.")]
    Busy,
    /// There is no place to store it.
    #[error("The receiver cannot store files.")]
    NoPlace,
    /// The offer is malformed.
    #[error("The receiver does not accept this offer.")]
    Malformed,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Declined, Self::Busy, Self::NoPlace, Self::Malformed];

    fn to_byte(self) -> u8 {
        match self {
            Self::Declined => 1,
            Self::Busy => 2,
            Self::NoPlace => 3,
            Self::Malformed => 4,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|refusal| refusal.to_byte() == byte)
    }
}

/// The name of a file, without its folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// The reason why a text is not acceptable as the name of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty or too long.
    #[error("it has {0} bytes; 1 to {MAX_NAME} are possible")]
    Length(usize),
    /// It is not UTF-8.
    #[error("it is not UTF-8 text")]
    NotText,
    /// It contains a path.
    #[error("it contains a path")]
    Path,
    /// It has invisible characters, or characters that change the direction of the text.
    #[error("it contains the character {}, which is invisible or changes the direction of the text", .0.escape_unicode())]
    Unseen(char),
    /// It begins or ends with a space.
    #[error("it begins or ends with a space")]
    Space,
}

impl Name {
    /// # Errors
    /// If the name is not safe to show, or not safe as the name of a file.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > MAX_NAME {
            return Err(NameError::Length(text.len()));
        }
        if text.contains(['/', '\\']) || text == "." || text == ".." {
            return Err(NameError::Path);
        }
        if let Some(unseen) = text.chars().find(|c| is_unseen(*c)) {
            return Err(NameError::Unseen(unseen));
        }
        if text.trim() != text {
            return Err(NameError::Space);
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether a character takes no room, or changes how its neighbours are shown.
fn is_unseen(c: char) -> bool {
    let marks = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}');
    let formats =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    let tags = matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || marks || formats || tags
}

/// The source of a file that is sent.
pub trait Source {
    /// Returns the next bytes of the file, at most `most`. Returns none only at the end of the file.
    ///
    /// # Errors
    /// If the file cannot be read.
    async fn next(&mut self, most: usize) -> io::Result<Vec<u8>>;
}

/// The destination of a file that is received.
pub trait Sink {
    /// Appends bytes, and waits until they are accepted.
    ///
    /// # Errors
    /// If they cannot be stored.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Waits until everything is stored.
    ///
    /// # Errors
    /// If it cannot be stored.
    async fn finish(&mut self) -> io::Result<()>;
}

/// A file that the receiver has accepted.
#[derive(Debug)]
pub struct Outgoing<S> {
    stream: S,
    size: u64,
}

/// Offers a file of `size` bytes, and waits until the receiver accepts it.
///
/// # Errors
/// If the receiver refuses, cancels or does not follow the protocol.
pub async fn offer<S>(mut stream: S, name: &Name, size: u64) -> Result<Outgoing<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if size > MAX_SIZE {
        return Err(Error::TooLarge(size));
    }
    let name = name.as_str().as_bytes();
    let length = u16::try_from(name.len()).map_err(|_| NameError::Length(name.len()))?;
    let mut header = vec![VERSION];
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(name);
    header.extend_from_slice(&size.to_be_bytes());
    let written = write(&mut stream, &header).await;
    // A receiver that refuses may close the stream before it has read the whole offer, so the write may fail. Its
    // answer says more than that error.
    match (read::<1>(&mut stream).await, written) {
        (Ok([ACCEPTED]), Ok(())) => Ok(Outgoing { stream, size }),
        (Ok([ACCEPTED]), Err(error)) => Err(error),
        (Ok([answer]), _) => {
            let refusal = Refusal::from_byte(answer);
            Err(refusal.map_or(
                Error::Protocol("it gives an unknown answer"),
                Error::Refused,
            ))
        }
        (Err(error), _) => Err(error),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Outgoing<S> {
    /// Sends the file, and waits until the receiver has stored it.
    ///
    /// # Errors
    /// If the file cannot be read, or if the receiver cannot store it, cancels or does not follow the protocol.
    ///
    /// # Cancel safety
    /// Dropping this cancels the transfer.
    pub async fn send(self, source: &mut impl Source) -> Result<(), Error> {
        let (mut reader, mut writer) = self.stream.split();
        let stored = {
            let sending = pin!(send(&mut writer, self.size, source));
            let verdict = pin!(verdict(&mut reader));
            match select(sending, verdict).await {
                Either::Left((Ok(()), verdict)) => verdict.await?,
                // The receiver may have sent a reason before it dropped the stream.
                Either::Left((Err(Error::Cancelled), verdict)) => {
                    return Err(verdict.await.err().unwrap_or(Error::Cancelled));
                }
                Either::Left((Err(error), _)) | Either::Right((Err(error), _)) => {
                    return Err(error);
                }
                Either::Right((Ok(stored), sending)) => {
                    sending.await?;
                    stored
                }
            }
        };
        if stored != self.size {
            return Err(Error::Protocol("it has stored another number of bytes"));
        }
        // The receiver has the whole file. It does not matter whether the close arrives.
        let _ = writer.close().await;
        Ok(())
    }
}

async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    size: u64,
    source: &mut impl Source,
) -> Result<(), Error> {
    let (mut left, mut chunk) = (size, Vec::new());
    loop {
        let most = room(left);
        let written = async { writer.write_all(&chunk).await.map_err(cancelled) };
        let read = async {
            let next = match most {
                0 => Vec::new(),
                most => source.next(most).await.map_err(Error::Source)?,
            };
            match next.len() <= most && (next.is_empty() == (most == 0)) {
                true => Ok(next),
                false => Err(Error::Source(io::ErrorKind::UnexpectedEof.into())),
            }
        };
        let ((), next) = try_join(written, read).await?;
        if next.is_empty() {
            break;
        }
        left -= next.len() as u64;
        chunk = next;
    }
    writer.flush().await.map_err(cancelled)
}

/// Reads the number of bytes that the receiver has stored.
async fn verdict(reader: &mut (impl AsyncRead + Unpin)) -> Result<u64, Error> {
    match read::<1>(reader).await? {
        [STORED] => Ok(u64::from_be_bytes(read(reader).await?)),
        [NOT_STORED] => Err(Error::NotStored),
        _ => Err(Error::Protocol("it ends with an unknown result")),
    }
}

/// A file that is offered to this node.
#[derive(Debug)]
pub struct Incoming<S> {
    stream: S,
    name: Name,
    size: u64,
}

/// Reads an offer. Refuses it if it is malformed.
///
/// # Errors
/// If the offer is malformed, or if the sender cancels.
pub async fn incoming<S>(mut stream: S) -> Result<Incoming<S>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match header(&mut stream).await {
        Ok((name, size)) => Ok(Incoming { stream, name, size }),
        Err(Error::Cancelled) => Err(Error::Cancelled),
        Err(error) => {
            // The sender may be gone.
            let _ = refuse(stream, Refusal::Malformed).await;
            Err(error)
        }
    }
}

async fn header(stream: &mut (impl AsyncRead + Unpin)) -> Result<(Name, u64), Error> {
    if read(stream).await? != [VERSION] {
        return Err(Error::Protocol("it speaks another version"));
    }
    let length = usize::from(u16::from_be_bytes(read(stream).await?));
    if length > MAX_NAME {
        return Err(NameError::Length(length).into());
    }
    let mut name = vec![0; length];
    stream.read_exact(&mut name).await.map_err(cancelled)?;
    let size = u64::from_be_bytes(read(stream).await?);
    let name = std::str::from_utf8(&name).map_err(|_| NameError::NotText)?;
    let name = Name::new(name)?;
    if size > MAX_SIZE {
        return Err(Error::TooLarge(size));
    }
    Ok((name, size))
}

/// Tells the sender of an offer why this node does not take the file. The offer need not have been read.
///
/// # Errors
/// [`Error::Cancelled`] if the sender is gone.
pub async fn refuse<S>(mut stream: S, why: Refusal) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    write(&mut stream, &[why.to_byte()]).await?;
    stream.close().await.map_err(cancelled)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Incoming<S> {
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Waits until the sender takes the offer back. Call this only before the answer: until then, the sender must not
    /// send anything.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn taken_back(&mut self) -> Error {
        match read::<1>(&mut self.stream).await {
            Ok(_) => Error::Protocol("it sends data before its offer is accepted"),
            Err(error) => error,
        }
    }

    /// Declines the file.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the sender is gone.
    pub async fn decline(self, why: Refusal) -> Result<(), Error> {
        refuse(self.stream, why).await
    }

    /// Accepts the file, and waits until it is stored.
    ///
    /// # Errors
    /// If the file cannot be stored, or if the sender cancels.
    ///
    /// # Cancel safety
    /// Dropping this cancels the transfer.
    pub async fn receive(mut self, sink: &mut impl Sink) -> Result<(), Error> {
        write(&mut self.stream, &[ACCEPTED]).await?;
        if let Err(error) = store(&mut self.stream, self.size, sink).await {
            if matches!(error, Error::Sink(_)) {
                // The sender may be gone.
                let _ = write(&mut self.stream, &[NOT_STORED]).await;
                let _ = self.stream.close().await;
            }
            return Err(error);
        }
        let mut end = vec![STORED];
        end.extend_from_slice(&self.size.to_be_bytes());
        write(&mut self.stream, &end).await?;
        self.stream.close().await.map_err(cancelled)
    }
}

async fn store(
    reader: &mut (impl AsyncRead + Unpin),
    size: u64,
    sink: &mut impl Sink,
) -> Result<(), Error> {
    let (mut left, mut chunk) = (size, Vec::new());
    loop {
        let mut next = vec![0; room(left)];
        let read = async { reader.read_exact(&mut next).await.map_err(cancelled) };
        let written = async {
            match chunk.is_empty() {
                true => Ok(()),
                false => sink.write(&chunk).await.map_err(Error::Sink),
            }
        };
        try_join(written, read).await?;
        if next.is_empty() {
            break;
        }
        left -= next.len() as u64;
        chunk = next;
    }
    sink.finish().await.map_err(Error::Sink)
}

/// Returns the length of the next chunk in bytes.
fn room(left: u64) -> usize {
    usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK))
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Error> {
    stream.write_all(bytes).await.map_err(cancelled)?;
    stream.flush().await.map_err(cancelled)
}

async fn read<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.map_err(cancelled)?;
    Ok(bytes)
}

/// Maps every I/O error of a stream to a cancellation. The error is the same whether the other end dropped the stream
/// or the connection was lost.
fn cancelled(_: io::Error) -> Error {
    Error::Cancelled
}
