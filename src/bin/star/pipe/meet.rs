//! How the two ends of a pipe find each other.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    AsyncReadExt as _, StreamExt as _,
    io::{ReadHalf, WriteHalf},
};
use libp2p_identity::PeerId;
use libp2p_stream::{Control, OpenStreamError};
use libp2p_swarm::{Stream, SwarmEvent};
use multiaddr::Multiaddr;
use serde_json::json;
use subtle::ConstantTimeEq as _;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    PROTOCOL, PipeError,
    frame::{Frame, Reader, Writer},
};
use crate::{
    address::{self, PlaceError},
    arguments::{NodeArguments, PipeArguments},
    failure::{Failure, StartError},
    node::{Habits, Node, told},
    output::{note, words},
};

/// The random bytes in a code: too many to guess.
const CODE: usize = 16;
/// The number of peers that have opened a stream and wait for a decision. When there are more, the oldest is dropped.
const CANDIDATES: usize = 16;
/// The time limit for each step with a candidate.
const HELLO: Duration = Duration::from_secs(10);
/// The number of attempts to open a stream if it ends without an answer: libp2p-stream drops a stream that comes
/// directly after another.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);
const NOT_ALLOWED: &str = "this peer may not connect: start it with the --identity of a peer that --allow names at the listening end";
const WRONG_CODE: &str = "the code is not the one that the listening end has printed";

type Reading = Reader<ReadHalf<Stream>>;
type Writing = Writer<WriteHalf<Stream>>;

/// The connection to the other end, which both ends have accepted.
pub struct Met {
    pub node: Node,
    pub peer: PeerId,
    pub reader: Reading,
    pub writer: Writing,
}

/// The rule for who may connect: the peers that are named, or any peer that knows the code.
enum Door {
    Peers(Vec<PeerId>),
    Code(String),
}

impl Door {
    fn judge(&self, peer: PeerId, code: &[u8]) -> Result<(), &'static str> {
        match self {
            Self::Peers(allowed) if allowed.contains(&peer) => Ok(()),
            Self::Peers(_) => Err(NOT_ALLOWED),
            // The comparison takes constant time, so that its duration reveals nothing about the code.
            Self::Code(expected) if bool::from(expected.as_bytes().ct_eq(code)) => Ok(()),
            Self::Code(_) => Err(WRONG_CODE),
        }
    }

    fn code(&self) -> Option<&str> {
        match self {
            Self::Peers(_) => None,
            Self::Code(code) => Some(code),
        }
    }
}

fn halves(stream: Stream) -> (Reading, Writing) {
    let (reader, writer) = stream.split();
    (Reader::new(reader), Writer::new(writer))
}

/// Joins a rendezvous and waits there for the other end.
///
/// # Errors
/// If the rendezvous cannot be joined.
pub async fn listen(arguments: &PipeArguments) -> Result<Met, Failure> {
    let place = match &arguments.to.to[..] {
        [] => None,
        [place] => Some(place.parse()?),
        [_, extra, ..] => return Err(PlaceError::Extra(words(extra)).into()),
    };
    let star = address::rendezvous(place)?;
    let (key, config) = (arguments.node.key()?, arguments.node.config(&star)?);
    let mut node = Node::new(&key, config, Habits::within(arguments.node.timeout))?;
    let mut control = node.swarm.behaviour().streams.new_control();
    let mut incoming = control.accept(PROTOCOL).map_err(StartError::Stream)?;
    let door = match arguments.allow.is_empty() {
        true => Door::Code(hex::encode(rand::random::<[u8; CODE]>())),
        false => Door::Peers(arguments.allow.clone()),
    };
    let joined = node.join(&star).await?;
    invite(&joined, &door, &arguments.node);
    let mut candidates = Candidates::new(door, arguments.node.json);
    loop {
        tokio::select! {
            event = node.next() => match event {
                // The transport joins again by itself.
                SwarmEvent::ListenerError { error, .. } => lost(&told(&error), arguments.node.json),
                SwarmEvent::ListenerClosed { reason: Err(error), .. } => {
                    return Err(Failure::Rendezvous(told(&error)));
                }
                _ => {}
            },
            Some((peer, stream)) = incoming.next() => candidates.add(peer, stream),
            Some((peer, reader, mut writer)) = candidates.next() => {
                // A candidate that has left meanwhile is ignored.
                if writer.send(&Frame::Accept).await.is_ok() {
                    return Ok(Met { node, peer, reader, writer });
                }
            }
        }
    }
}

/// Prints the command for the other end.
fn invite(joined: &Multiaddr, door: &Door, arguments: &NodeArguments) {
    if arguments.json {
        let listening = json!({
            "event": "listening",
            "address": joined.to_string(),
            "code": door.code(),
        });
        return note(&listening.to_string());
    }
    match door {
        Door::Code(code) => note(&format!("star pipe {joined} --code {code}")),
        Door::Peers(_) => note(&format!("star pipe {joined} --identity FILE")),
    }
}

fn lost(why: &str, json: bool) {
    match json {
        true => note(&json!({"event": "lost", "reason": why}).to_string()),
        false => note(&format!("star: {why}; joining again")),
    }
}

fn refused(peer: PeerId, why: &str, json: bool) {
    match json {
        true => {
            note(&json!({"event": "refused", "peer": peer.to_string(), "reason": why}).to_string())
        }
        false => note(&format!("star: {peer} was refused: {why}")),
    }
}

/// The peers that want to be the other end.
struct Candidates {
    door: Arc<Door>,
    json: bool,
    judged: JoinSet<Option<(PeerId, Reading, Writing)>>,
    handles: VecDeque<AbortHandle>,
    /// The time at which a refusal was last shown, so that strangers cannot fill the terminal.
    shown: Option<Instant>,
}

impl Candidates {
    fn new(door: Door, json: bool) -> Self {
        Self {
            door: Arc::new(door),
            json,
            judged: JoinSet::new(),
            handles: VecDeque::new(),
            shown: None,
        }
    }

    fn add(&mut self, peer: PeerId, stream: Stream) {
        self.handles.retain(|handle| !handle.is_finished());
        if self.handles.len() >= CANDIDATES
            && let Some(oldest) = self.handles.pop_front()
        {
            oldest.abort();
        }
        let is_shown = self
            .shown
            .is_none_or(|shown| shown.elapsed() > Duration::from_secs(1));
        if is_shown {
            self.shown = Some(Instant::now());
        }
        let shown = is_shown.then_some(self.json);
        let judged = judge(self.door.clone(), peer, stream, shown);
        self.handles.push_back(self.judged.spawn(judged));
    }

    /// Returns the next candidate that may connect; `None` if there are no candidates now. Cancel safe.
    async fn next(&mut self) -> Option<(PeerId, Reading, Writing)> {
        while let Some(judged) = self.judged.join_next().await {
            if let Ok(Some(found)) = judged {
                return Some(found);
            }
        }
        None
    }
}

/// Accepts a candidate, or sends it the reason for the refusal. `shown` is `None` if a refusal is not to be shown here;
/// otherwise it says whether to show it as JSON.
async fn judge(
    door: Arc<Door>,
    peer: PeerId,
    stream: Stream,
    shown: Option<bool>,
) -> Option<(PeerId, Reading, Writing)> {
    let (mut reader, mut writer) = halves(stream);
    let judged = match timeout(HELLO, reader.next()).await {
        Ok(Ok(Frame::Hello(code))) => door.judge(peer, code),
        _ => return None,
    };
    let Err(why) = judged else {
        return Some((peer, reader, writer));
    };
    if let Some(json) = shown {
        refused(peer, why, json);
    }
    let _ = timeout(HELLO, async {
        writer.send(&Frame::Failed(why)).await?;
        writer.close().await;
        reader.closed().await;
        Ok::<_, PipeError>(())
    })
    .await;
    None
}

/// Returns the code that the listening end has printed; an empty text if there is none.
fn code(arguments: &PipeArguments) -> Result<String, StartError> {
    match (&arguments.code, std::env::var_os("STAR_CODE")) {
        (Some(code), _) => Ok(code.clone()),
        (None, Some(code)) => code.into_string().map_err(|_| StartError::Code),
        (None, None) => Ok(String::new()),
    }
}

/// Connects to the end that listens.
///
/// # Errors
/// If the other end cannot be reached, or refuses.
pub async fn dial(arguments: &PipeArguments) -> Result<Met, Failure> {
    let (address, peer) = address::peer(&arguments.to.to)?;
    let code = code(arguments)?;
    let (key, config) = (arguments.node.key()?, arguments.node.config(&address)?);
    let mut node = Node::new(&key, config, Habits::within(arguments.node.timeout))?;
    node.join(&address).await?;
    node.connect(peer, &address).await?;
    let control = node.swarm.behaviour().streams.new_control();
    let opening = open(control, peer, code.as_bytes());
    let mut opening = pin!(timeout(arguments.node.timeout, opening));
    let opened = loop {
        tokio::select! {
            opened = &mut opening => break opened,
            _ = node.next() => {}
        }
    };
    let (reader, writer) = opened.map_err(|_| Failure::NoAnswer)??;
    Ok(Met {
        node,
        peer,
        reader,
        writer,
    })
}

/// Opens a stream and waits until the other end accepts it.
async fn open(
    mut control: Control,
    peer: PeerId,
    code: &[u8],
) -> Result<(Reading, Writing), PipeError> {
    let mut last = PipeError::NoPipe;
    for _ in 0..TRIES {
        match control.open_stream(peer, PROTOCOL).await {
            Ok(stream) => match greet(stream, code).await {
                Err(PipeError::Broken) => last = PipeError::NoPipe,
                greeted => return greeted,
            },
            Err(OpenStreamError::UnsupportedProtocol(_)) => return Err(PipeError::NoPipe),
            Err(error) => last = PipeError::BrokenBy(words(&error.to_string())),
        }
        sleep(PAUSE).await;
    }
    Err(last)
}

async fn greet(stream: Stream, code: &[u8]) -> Result<(Reading, Writing), PipeError> {
    let (mut reader, mut writer) = halves(stream);
    writer.send(&Frame::Hello(code)).await?;
    match reader.next().await? {
        Frame::Accept => {}
        Frame::Failed(why) => return Err(PipeError::Refused(words(why))),
        _ => return Err(PipeError::Protocol("it sent an unexpected frame")),
    }
    Ok((reader, writer))
}
