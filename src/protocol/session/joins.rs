//! Joins: the key, the challenge, and the proof.

use web_time::Instant;

use super::{DialError, Join, JoinError, Output, Pending, Session};
use crate::{
    address::StarAddr,
    protocol::{
        ProtocolError,
        event::{Event, JoinAnswer},
        nonce,
        refusal::Refusal,
    },
};

impl Session {
    pub(super) fn join(&mut self, now: Instant, address: StarAddr, listening: bool) {
        let wire = address.to_wire();
        // The specification says base64, which no published server accepts.
        let data = hex::encode(self.settings.keypair.public().encode_protobuf());
        let join = Join {
            address,
            joined: false,
            listening,
            leaving: false,
        };
        self.joins.insert(wire.clone(), join);
        self.send_join(now, wire, data, Pending::Challenge);
    }

    fn send_join(
        &mut self,
        now: Instant,
        wire: String,
        data: String,
        pending: fn(String) -> Pending,
    ) {
        let ack = self.expect(pending(wire.clone()), now + self.settings.join_timeout);
        self.transmit.push_back(
            Event::Join {
                address: wire,
                data,
            }
            .encode(Some(ack)),
        );
    }

    pub(super) fn challenge_answered(&mut self, now: Instant, wire: String, json: &str) {
        match JoinAnswer::decode(json) {
            Ok(JoinAnswer::Nonce(nonce)) => self.sign(now, wire, &nonce),
            Ok(JoinAnswer::Joined(peers)) if self.settings.allow_join_with_disabled_challenge => {
                self.joined(&wire, &peers);
            }
            Ok(JoinAnswer::Joined(_)) => {
                let leave = Event::Leave {
                    address: wire.clone(),
                };
                self.transmit.push_back(leave.encode(None));
                self.join_failed(&wire, JoinError::ChallengeDisabled);
            }
            Ok(JoinAnswer::Refused(reason)) => self.key_refused(now, wire, reason),
            Err(error) => self.join_failed(&wire, JoinError::Malformed(error)),
        }
    }

    /// Handles the refusal of the first `ss-join`. If the rendezvous takes it for the answer to a challenge that it has
    /// kept, sends that answer. Any other refusal is unrelated to our proof.
    fn key_refused(&mut self, now: Instant, wire: String, reason: String) {
        let error = without_proof(reason);
        let kept = match error {
            JoinError::StaleChallenge => self.signatures.remove(&wire),
            _ => None,
        };
        match kept {
            Some(signature) => self.send_join(now, wire, signature, Pending::Replay),
            None => self.join_failed(&wire, error),
        }
    }

    pub(super) fn signature_answered(
        &mut self,
        wire: &str,
        json: &str,
        refused: fn(String) -> JoinError,
    ) {
        let error = match JoinAnswer::decode(json) {
            Ok(JoinAnswer::Joined(peers)) => return self.joined(wire, &peers),
            Ok(JoinAnswer::Refused(reason)) => refused(reason),
            Ok(JoinAnswer::Nonce(_)) => JoinError::Malformed(ProtocolError::Arguments {
                event: "ss-join",
                reason: "a nonce instead of the result of the join",
            }),
            Err(error) => JoinError::Malformed(error),
        };
        self.join_failed(wire, error);
    }

    fn sign(&mut self, now: Instant, wire: String, nonce: &str) {
        if self.joins.get(&wire).is_none_or(|join| join.leaving) {
            self.joins.remove(&wire);
            return;
        }
        if let Err(error) = nonce::check(nonce, &wire) {
            return self.join_failed(&wire, error.into());
        }
        match self.settings.keypair.sign(nonce.as_bytes()) {
            Ok(signature) => {
                let signature = hex::encode(signature);
                self.signatures.insert(wire.clone(), signature.clone());
                self.send_join(now, wire, signature, Pending::Signature);
            }
            Err(error) => self.join_failed(&wire, JoinError::Signing(error.to_string())),
        }
    }

    fn joined(&mut self, wire: &str, peers: &[String]) {
        let Some(join) = self.joins.get_mut(wire) else {
            return;
        };
        join.joined = true;
        let address = join.address.clone();
        if join.leaving {
            return self.leave(&address);
        }
        if join.listening {
            self.outputs.push_back(Output::Joined { address });
        }
        for peer in peers {
            self.peer(peer);
        }
        for dial in std::mem::take(&mut self.waiting) {
            self.send_dial(wire, dial);
        }
    }

    /// Handles the loss of an address to another node. Ignores addresses that are not joined on this link.
    pub(super) fn displaced(&mut self, wire: &str) {
        if self.joins.get(wire).is_some_and(|join| join.joined) {
            self.join_failed(wire, JoinError::Displaced);
        }
    }

    pub(super) fn join_failed(&mut self, wire: &str, error: JoinError) {
        let Some(join) = self.joins.remove(wire) else {
            return;
        };
        if self.joins.is_empty() {
            for dial in std::mem::take(&mut self.waiting) {
                let result = Err(DialError::Join(error.clone()));
                self.outputs.push_back(Output::Dialed {
                    dial_id: dial.dial_id,
                    result,
                });
            }
        }
        if join.listening {
            let address = join.address;
            self.outputs
                .push_back(Output::JoinFailed { address, error });
        }
    }
}

/// Returns why a join failed whose request had no signature for the open challenge. If the refusal is about a
/// signature, the rendezvous waits for the signature of another challenge.
pub(super) fn without_proof(reason: String) -> JoinError {
    match Refusal::of_words(&reason) {
        Some(Refusal::WrongSignature | Refusal::UnusableProof) => JoinError::StaleChallenge,
        _ => JoinError::Refused(reason),
    }
}
