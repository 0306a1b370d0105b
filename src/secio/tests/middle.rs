//! Tests with an attacker between two honest peers.

use super::*;
use crate::secio::frame::HEADER;

/// The number of frames in one side's handshake: proposal, exchange, nonce.
const HANDSHAKE: usize = 3;
const FIRST: &[u8] = b"the first message";
const SECOND: &[u8] = b"the other message";

/// Connects a dialer and a listener. Each frame from the dialer passes through `middle`, which is called with the
/// number of the frame and the whole frame with its header. A frame that `middle` shortens is the last one. The dialer
/// writes two frames and closes. Returns what the listener reads, and the listener's result.
fn through(mut middle: impl FnMut(usize, Vec<u8>) -> Vec<u8>) -> (Vec<u8>, Result<(), Error>) {
    let (mut a, near) = long_wire();
    let (mut far, b) = long_wire();
    let dialer = async {
        let (_, mut output) = dial(near, Config::new(&key())).await?;
        for message in [FIRST, SECOND] {
            output.write_all(message).await?;
            output.flush().await?;
        }
        output.close().await.map_err(Error::from)
    };
    let (mut heard, mut read) = (Vec::new(), Ok(()));
    let listener = async {
        let (_, mut output) = listen(b, Config::new(&key())).await?;
        read = output.read_to_end(&mut heard).await.map(drop);
        if let Err(error) = &read {
            let again = output.read(&mut [0]).await.expect_err("it stays broken");
            assert_eq!(again.kind(), error.kind());
        }
        Ok(())
    };
    let relay = async {
        let (mut from_near, mut to_near) = (&mut a).split();
        let (mut from_far, mut to_far) = (&mut far).split();
        let there = async {
            for number in 0.. {
                let Ok(frame) = receive(&mut from_near).await else {
                    break;
                };
                let len = u32::try_from(frame.len()).expect("short").to_be_bytes();
                let whole = HEADER + frame.len();
                let frame = middle(number, [&len[..], &frame].concat());
                if to_far.write_all(&frame).await.is_err() || frame.len() < whole {
                    break;
                }
            }
            let _ = to_far.close().await;
        };
        let back = async {
            while let Ok(frame) = receive(&mut from_far).await {
                if send(&mut to_near, &frame).await.is_err() {
                    break;
                }
            }
            let _ = to_near.close().await;
        };
        join(there, back).await;
    };
    let (_, listened, ()) = block_on(async { futures::join!(dialer, listener, relay) });
    let result = listened.and(read.map_err(Error::from));
    (heard, result)
}

fn frame_error(result: Result<(), Error>) -> FrameError {
    match result {
        Err(Error::Frame(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn untouched_frames_arrive() {
    let (heard, result) = through(|_, frame| frame);
    result.expect("nobody did anything");
    assert_eq!(heard, [FIRST, SECOND].concat());
}

#[test]
fn a_changed_bit_anywhere_in_a_frame_is_noticed() {
    for at in [4, 10, 20, 21, 40] {
        let (heard, result) = through(|number, mut frame| {
            if number == HANDSHAKE + 1 {
                frame[at] ^= 1;
            }
            frame
        });
        assert_eq!(frame_error(result), FrameError::BadMac);
        assert_eq!(heard, FIRST);
    }
}

#[test]
fn a_changed_bit_anywhere_in_the_handshake_is_noticed() {
    for number in 0..HANDSHAKE {
        for at in [0, 3, 4, 6, 9, 20, 23, 30, 51] {
            let (heard, result) = through(|this, mut frame| {
                if this == number {
                    frame[at] ^= 1;
                }
                frame
            });
            assert!(result.is_err(), "byte {at} of frame {number}");
            assert!(heard.is_empty());
        }
    }
}

#[test]
fn a_frame_that_comes_twice_is_noticed() {
    let mut first = Vec::new();
    let (heard, result) = through(|number, frame| {
        if number == HANDSHAKE {
            first = frame.clone();
        }
        if number == HANDSHAKE + 1 {
            first.clone()
        } else {
            frame
        }
    });
    assert_eq!(frame_error(result), FrameError::Replayed);
    assert_eq!(heard, FIRST);
}

#[test]
fn an_end_inside_of_a_frame_is_noticed() {
    for len in [1, 4, 5, 40] {
        let (heard, result) = through(|number, mut frame| {
            if number == HANDSHAKE + 1 {
                frame.truncate(len);
            }
            frame
        });
        assert_eq!(frame_error(result), FrameError::Truncated);
        assert_eq!(heard, FIRST);
    }
    assert_eq!(
        io::Error::from(FrameError::Truncated).kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[test]
fn an_end_inside_of_the_handshake_is_noticed() {
    for cut in 0..HANDSHAKE {
        for len in [0, 2, 4, 9] {
            let (_, result) = through(|number, mut frame| {
                if number == cut {
                    frame.truncate(len);
                }
                frame
            });
            assert_eq!(frame_error(result), FrameError::Truncated);
        }
    }
}

#[test]
fn a_frame_over_the_bound_or_without_room_for_a_mac_is_refused() {
    let replaced = |header: usize| {
        let (heard, result) = through(|number, mut frame| {
            if number == HANDSHAKE + 1 {
                frame[..4].copy_from_slice(&(header as u32).to_be_bytes());
            }
            frame
        });
        assert_eq!(heard, FIRST);
        frame_error(result)
    };
    assert_eq!(replaced(0), FrameError::TooShort(0));
    assert_eq!(replaced(31), FrameError::TooShort(31));
    assert_eq!(
        replaced(MAX_FRAME + 1),
        FrameError::TooLong {
            len: MAX_FRAME + 1,
            max: MAX_FRAME
        }
    );
    assert_eq!(
        replaced(u32::MAX as usize),
        FrameError::TooLong {
            len: u32::MAX as usize,
            max: MAX_FRAME
        }
    );
    assert_eq!(replaced(MAX_FRAME), FrameError::Truncated);
}

#[test]
fn a_frame_of_another_connection_is_noticed() {
    let mut other = Vec::new();
    let _ = through(|_, frame| {
        other = frame.clone();
        frame
    });
    let (heard, result) = through(|number, frame| {
        if number == HANDSHAKE + 1 {
            other.clone()
        } else {
            frame
        }
    });
    assert_eq!(frame_error(result), FrameError::BadMac);
    assert_eq!(heard, FIRST);
}
