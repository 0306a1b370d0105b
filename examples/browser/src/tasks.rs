//! The two ends of a transfer, as tasks of the page.

use std::{pin::pin, rc::Rc, time::Duration};

use futures::{
    channel::oneshot,
    future::{Aborted, Either, select},
};
use futures_timer::Delay;
use libp2p::{PeerId, Stream};
use libp2p_stream::Control;
use web_sys::File;

use crate::{
    behaviours::FILES,
    store::{Receiving, Sending, Store},
    text::cut,
    transfer::{Incoming, Name, Refusal, offer},
    transfers::{Ended, Failure, Progress},
};

/// The longest time for steps that do not wait for a person.
pub const SOON: Duration = Duration::from_secs(10);
/// The longest time to open a stream, including a dial.
const OPEN: Duration = Duration::from_secs(30);
/// The time that a person has to answer an offer.
const ANSWER: Duration = Duration::from_secs(120);

/// Offers a file, and sends it.
pub async fn send(
    mut streams: Control,
    peer: PeerId,
    name: Name,
    file: File,
    progress: Rc<Progress>,
) -> Ended {
    let opened = within(OPEN, streams.open_stream(peer, FILES)).await;
    let opened =
        opened.ok_or_else(|| Failure::NotReached("the connection took too long".to_owned()))?;
    let stream = opened.map_err(|error| Failure::NotReached(cut(&error.to_string(), 300)))?;
    let size = file.size() as u64;
    // If the person there does not answer, the receiver declines after [`ANSWER`]. Hence the longer wait here.
    let accepted = within(ANSWER + SOON, offer(stream, &name, size)).await;
    let outgoing = accepted.ok_or(Failure::NoAnswer)??;
    progress.accept();
    outgoing.send(&mut Sending::new(file, progress)).await?;
    Ok(None)
}

/// Waits for the decision about an offer, and receives the file.
pub async fn receive(
    mut offer: Incoming<Stream>,
    decision: oneshot::Receiver<bool>,
    store: Rc<Store>,
    place: String,
    progress: Rc<Progress>,
) -> Ended {
    let decided = {
        let decision = pin!(within(ANSWER, decision));
        match select(decision, pin!(offer.taken_back())).await {
            Either::Left((Some(accepted), _)) => Ok(accepted.unwrap_or(false)),
            Either::Left((None, _)) => Err(Failure::NoAnswer),
            Either::Right((error, _)) => return Err(error.into()),
        }
    };
    let (refusal, failure) = match decided {
        Ok(true) => match store.create(&place).await {
            Ok(stored) => {
                progress.accept();
                let mut receiving = Receiving::new(stored, progress);
                offer.receive(&mut receiving).await?;
                let kept = receiving.into_stored().keep().await;
                let lost = |error: std::io::Error| Failure::NoPlace(error.to_string());
                return kept.map(Some).map_err(lost);
            }
            Err(error) => (Refusal::NoPlace, Failure::NoPlace(error.to_string())),
        },
        Ok(false) => (Refusal::Declined, Failure::Declined),
        Err(failure) => (Refusal::Declined, failure),
    };
    // The sender may be gone.
    let _ = within(SOON, offer.decline(refusal)).await;
    Err(failure)
}

/// Returns the result of a transfer. One that was aborted here counts as cancelled.
pub fn ended(ended: Result<Ended, Aborted>) -> Ended {
    ended.unwrap_or(Err(Failure::Cancelled))
}

/// Returns the output of `future`, or `None` if it takes longer than `time`.
pub async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), Delay::new(time)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}
