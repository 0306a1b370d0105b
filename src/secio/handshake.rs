//! The handshake. Both sides do the same at the same time: propose, exchange, and send the nonce back.

use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, future::try_join, io::ReadHalf,
};
use libp2p_identity::PeerId;

use super::{
    Config, Error, FrameError, NONCE_LEN, Output,
    frame::{FrameDecoder, HEADER},
    identity::IdentityKey,
    keys::{Ephemeral, Keys},
    message::{Exchange, Propose},
    seal::{Opener, Sealer},
    suite::{CIPHERS, EXCHANGES, HASHES, Suite},
};

/// The largest accepted handshake message, in bytes. A message with an RSA key of 8192 bits has 2 KiB.
const MAX_MESSAGE: usize = 16 * 1024;

pub(super) async fn handshake<S>(mut io: S, config: Config) -> Result<(PeerId, Output<S>), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let nonce: [u8; NONCE_LEN] = rand::random();
    let own_key = config.keypair.public().encode_protobuf();
    let local = Propose {
        rand: &nonce,
        pubkey: &own_key,
        exchanges: EXCHANGES,
        ciphers: CIPHERS,
        hashes: HASHES,
    };
    let ours = local.encode();
    let mut decoder = FrameDecoder::new(MAX_MESSAGE);

    let theirs = swap(&mut io, &mut decoder, &ours).await?;
    let remote = Propose::decode(&theirs).map_err(malformed("Propose"))?;
    let their_nonce: [u8; NONCE_LEN] = remote
        .rand
        .try_into()
        .map_err(|_| Error::NonceLength(remote.rand.len()))?;
    let key = identify(&config, &remote)?;
    let suite = Suite::agree(&local, &remote)?;

    let ephemeral = Ephemeral::generate(suite.curve);
    let epubkey = ephemeral.public();
    let signature = config
        .keypair
        .sign(&[&ours, &theirs, &epubkey[..]].concat())?;
    let exchange = Exchange {
        epubkey: &epubkey,
        signature: &signature,
    };
    let answer = swap(&mut io, &mut decoder, &exchange.encode()).await?;
    let exchange = Exchange::decode(&answer).map_err(malformed("Exchange"))?;
    let signed = [&theirs, &ours, exchange.epubkey].concat();
    if !key.verify(&signed, exchange.signature) {
        return Err(Error::BadSignature);
    }

    let secret = ephemeral.agree(exchange.epubkey)?;
    let (own, their) = Keys::stretch(&suite, &secret);
    let (opener, sealer) = (Opener::new(&suite, &their), Sealer::new(&suite, &own));
    let mut output = Output::new(io, decoder, opener, sealer);
    if echo(&mut output, &their_nonce).await? != nonce {
        return Err(Error::WrongNonce);
    }
    Ok((key.to_peer_id(), output))
}

fn malformed(message: &'static str) -> impl FnOnce(super::MessageError) -> Error {
    move |error| Error::Message { message, error }
}

/// Returns the identity key of the other side, which the other side has not yet proved.
fn identify(config: &Config, remote: &Propose<'_>) -> Result<IdentityKey, Error> {
    let key = IdentityKey::decode(remote.pubkey)?;
    let found = key.to_peer_id();
    if found == config.keypair.public().to_peer_id() {
        return Err(Error::SelfDial);
    }
    match config.expected_peer {
        Some(expected) if expected != found => Err(Error::UnexpectedPeer {
            expected: Box::new(expected),
            found: Box::new(found),
        }),
        _ => Ok(key),
    }
}

/// Sends one message and receives another at the same time. Two sides that only send would wait for each other on a
/// connection with little buffering.
async fn swap<S>(io: S, decoder: &mut FrameDecoder, message: &[u8]) -> Result<Vec<u8>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = io.split();
    let send = async {
        let len = u32::try_from(message.len()).expect("our messages are short");
        let mut frame = Vec::with_capacity(HEADER + message.len());
        frame.extend_from_slice(&len.to_be_bytes());
        frame.extend_from_slice(message);
        writer.write_all(&frame).await?;
        writer.flush().await?;
        Ok(())
    };
    let ((), received) = try_join(send, receive(&mut reader, decoder)).await?;
    Ok(received)
}

async fn receive<S>(io: &mut ReadHalf<S>, decoder: &mut FrameDecoder) -> Result<Vec<u8>, Error>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(place) = decoder.next_frame()? {
            return Ok(decoder.get(place).to_vec());
        }
        let read = io.read(decoder.space()).await?;
        if read == 0 {
            return Err(FrameError::Truncated.into());
        }
        decoder.filled(read);
    }
}

/// Sends the peer's nonce back, and receives what should be our own nonce.
async fn echo<S>(output: S, theirs: &[u8; NONCE_LEN]) -> Result<[u8; NONCE_LEN], Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = output.split();
    let send = async {
        writer.write_all(theirs).await?;
        writer.flush().await
    };
    let mut echoed = [0; NONCE_LEN];
    try_join(send, reader.read_exact(&mut echoed)).await?;
    Ok(echoed)
}
