//! The mask of frames that a client sends (RFC 6455, section 5.3).

/// Applies or removes the mask. The first byte of `data` is at `offset` in the payload.
pub(super) fn apply(mut key: [u8; 4], offset: usize, data: &mut [u8]) {
    key.rotate_left(offset % 4);
    let wide = u128::from_ne_bytes(std::array::from_fn(|n| key[n % 4]));
    let (chunks, rest) = data.as_chunks_mut();
    for chunk in chunks {
        *chunk = (u128::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_the_key_of_its_place_whatever_the_pieces() {
        let key = [1, 20, 0, 255];
        for len in 0..100_usize {
            for cut in 0..=len {
                let mut data: Vec<u8> = (0..100).take(len).collect();
                let (first, second) = data.split_at_mut(cut);
                apply(key, 0, first);
                apply(key, cut, second);
                let plain = (0..100).zip(key.into_iter().cycle());
                assert!(data.iter().zip(plain).all(|(m, (p, k))| *m == p ^ k));
            }
        }
    }
}
