//! Attacks with connections only.

use std::{io, sync::Arc, time::Duration};

use tokio::{io::AsyncReadExt as _, task::JoinSet, time::timeout};

use super::{Attack, Attacker};

/// The number of connections tried per second if there are 5,000 honest links.
const STEADY: usize = 1000;
/// The number of tasks that connect one after the other, as fast as they can.
const AT_A_TIME: usize = 128;
/// The time that it takes to use up the bursts of the rate limits, with the weight of a /48.
const USING_UP: Duration = Duration::from_secs(5);
/// The time after which the attacker closes a connection that was not refused.
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

/// Uses up the bursts that the rate limits allow after a rest, because the benchmark measures the lasting effect.
pub async fn use_up(attacker: Arc<Attacker>) {
    let _ = timeout(USING_UP, connect_always(attacker)).await;
}

async fn connect_always(attacker: Arc<Attacker>) {
    let mut connecting = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let attacker = attacker.clone();
        connecting.spawn(async move {
            loop {
                // Most connections are refused, as intended.
                let _ = connect(&attacker).await;
            }
        });
    }
    while connecting.join_next().await.is_some() {}
}

/// Connects, and waits until the connection is refused.
async fn connect(attacker: &Attacker) -> io::Result<()> {
    let source = attacker.source(attacker.number());
    let mut stream = attacker.connect(source).await?;
    let mut byte = [0];
    let _ = timeout(PATIENCE, stream.read(&mut byte)).await;
    // Reset the connection, so that its port can be used again at once.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}
