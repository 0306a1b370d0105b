//! Connections, and nothing else.

use std::{io, sync::Arc, time::Duration};

use tokio::{io::AsyncReadExt as _, task::JoinSet, time::timeout};

use super::{Attack, Attacker};

/// How many connections are tried a second with 5,000 honest links.
const STEADY: usize = 1000;
/// How many connect one after the other, as fast as they can.
const AT_A_TIME: usize = 128;
/// How long it takes to use up what may be done at once, with the weight of a /48.
const USING_UP: Duration = Duration::from_secs(5);
/// One that is let in is closed by the attacker then.
const PATIENCE: Duration = Duration::from_millis(50);

pub async fn run(attacker: Arc<Attacker>, flood: Attack) {
    match flood {
        Attack::Steady => {
            let rate = attacker.target.plan.scaled(STEADY);
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate as u32);
            loop {
                ticks.tick().await;
                let attacker = attacker.clone();
                tokio::spawn(async move { connect(&attacker).await });
            }
        }
        _ => connect_always(attacker).await,
    }
}

/// Uses up what may be done at once after a rest: what can be done for long is to be measured.
pub async fn use_up(attacker: Arc<Attacker>) {
    let _ = timeout(USING_UP, connect_always(attacker)).await;
}

async fn connect_always(attacker: Arc<Attacker>) {
    let mut connecting = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let attacker = attacker.clone();
        connecting.spawn(async move {
            loop {
                // Most are refused: that is the point.
                let _ = connect(&attacker).await;
            }
        });
    }
    while connecting.join_next().await.is_some() {}
}

/// Connects, and waits until it is refused.
async fn connect(attacker: &Attacker) -> io::Result<()> {
    let source = attacker.source(attacker.number());
    let mut stream = attacker.connect(source).await?;
    let mut byte = [0];
    let _ = timeout(PATIENCE, stream.read(&mut byte)).await;
    // Ports of connections that are reset can be used at once.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}
