//! Encryption followed by authentication, separate for each direction.
//!
//! The keystream continues from frame to frame. The MAC covers only the ciphertext of its own frame, not even the
//! frame's position. This is a weakness of the protocol.

use aes::{Aes128, Aes256};
use ctr::{
    Ctr128BE,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Sha256, Sha512};

use super::{
    FrameError,
    frame::HEADER,
    keys::Keys,
    replay::Seen,
    suite::{Cipher, Hash, Suite},
};

enum Keystream {
    Aes128(Ctr128BE<Aes128>),
    Aes256(Ctr128BE<Aes256>),
}

impl Keystream {
    fn new(suite: &Suite, keys: &Keys) -> Self {
        let (key, iv) = (keys.cipher(), keys.iv());
        match suite.cipher {
            Cipher::Aes128 => Self::Aes128(
                Ctr128BE::new_from_slices(key, iv).expect("the key and IV lengths match"),
            ),
            Cipher::Aes256 => Self::Aes256(
                Ctr128BE::new_from_slices(key, iv).expect("the key and IV lengths match"),
            ),
        }
    }

    fn apply(&mut self, data: &mut [u8]) {
        match self {
            Self::Aes128(cipher) => cipher.apply_keystream(data),
            Self::Aes256(cipher) => cipher.apply_keystream(data),
        }
    }
}

enum Authenticator {
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
}

impl Authenticator {
    fn new(suite: &Suite, keys: &Keys) -> Self {
        let key = keys.mac();
        match suite.hash {
            Hash::Sha256 => {
                Self::Sha256(Hmac::new_from_slice(key).expect("HMAC takes any key length"))
            }
            Hash::Sha512 => {
                Self::Sha512(Hmac::new_from_slice(key).expect("HMAC takes any key length"))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Sha256(_) => 32,
            Self::Sha512(_) => 64,
        }
    }

    fn append(&self, frame: &mut Vec<u8>) {
        let data = &frame[HEADER..];
        match self {
            Self::Sha256(mac) => {
                let mac = mac.clone().chain_update(data).finalize();
                frame.extend_from_slice(&mac.into_bytes());
            }
            Self::Sha512(mac) => {
                let mac = mac.clone().chain_update(data).finalize();
                frame.extend_from_slice(&mac.into_bytes());
            }
        }
    }

    /// Verifies the MAC in constant time.
    fn verify(&self, data: &[u8], mac: &[u8]) -> bool {
        match self {
            Self::Sha256(own) => own.clone().chain_update(data).verify_slice(mac).is_ok(),
            Self::Sha512(own) => own.clone().chain_update(data).verify_slice(mac).is_ok(),
        }
    }
}

/// Creates the frames of our direction. Its keys are erased when it is dropped.
pub(super) struct Sealer {
    keystream: Keystream,
    mac: Authenticator,
}

impl Sealer {
    pub(super) fn new(suite: &Suite, keys: &Keys) -> Self {
        Self {
            keystream: Keystream::new(suite, keys),
            mac: Authenticator::new(suite, keys),
        }
    }

    /// Turns `frame`, which holds space for the header and the plaintext, into a complete frame.
    pub(super) fn seal(&mut self, frame: &mut Vec<u8>) {
        self.keystream.apply(&mut frame[HEADER..]);
        self.mac.append(frame);
        let len = u32::try_from(frame.len() - HEADER).expect("frames are short");
        frame[..HEADER].copy_from_slice(&len.to_be_bytes());
    }
}

/// Opens the frames of the peer's direction. Its keys are erased when it is dropped.
pub(super) struct Opener {
    keystream: Keystream,
    mac: Authenticator,
    seen: Seen,
}

impl Opener {
    pub(super) fn new(suite: &Suite, keys: &Keys) -> Self {
        Self {
            keystream: Keystream::new(suite, keys),
            mac: Authenticator::new(suite, keys),
            seen: Seen::default(),
        }
    }

    /// Verifies a frame and then decrypts it in place. Returns the length of the plaintext at its beginning.
    pub(super) fn open(&mut self, frame: &mut [u8]) -> Result<usize, FrameError> {
        let total = frame.len();
        let (data, mac) = total
            .checked_sub(self.mac.len())
            .and_then(|len| frame.split_at_mut_checked(len))
            .ok_or(FrameError::TooShort(total))?;
        if !self.mac.verify(data, mac) {
            return Err(FrameError::BadMac);
        }
        if !self.seen.is_new(data.len(), mac) {
            return Err(FrameError::Replayed);
        }
        self.keystream.apply(data);
        Ok(data.len())
    }
}
