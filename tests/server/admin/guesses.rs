//! Clients that do not know the token, and guess.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures::future::join_all;
use libp2p_websocket_star::rendezvous::Refused;

use super::{TOKEN, ask, serving, try_to_log_in};

#[tokio::test]
async fn an_address_guesses_so_often_whichever_way_it_shows_the_token() {
    let server = serving().await;
    let began = std::time::Instant::now();
    let guesses = join_all((0..200).map(async |n| {
        let guess = format!("guess-number-{n}-is-wrong");
        let answer = match n % 2 {
            0 => try_to_log_in(&server, 1, &guess).await,
            _ => {
                let bearer = format!("Bearer {guess}");
                let path = ["GET /admin", "GET /admin/events"][n % 4 / 2];
                ask(&server, path, &[("Authorization", &bearer)], "").await
            }
        };
        let is_later = answer.header("retry-after").is_some();
        assert_eq!(is_later, answer.status() == 429, "{answer:?}");
        answer.status()
    }))
    .await;
    let mut counted = BTreeMap::new();
    for status in guesses {
        *counted.entry(status).or_insert(0_u64) += 1;
    }
    let seconds = began.elapsed().as_secs() + 1;
    let looked_at = counted[&401];
    assert!((10..=10 + seconds).contains(&looked_at), "{counted:?}");
    assert_eq!(counted[&429], 200 - looked_at);
    let refusals = server.snapshot().refusals;
    assert_eq!(refusals.get(Refused::WrongAdminToken), looked_at);
    assert_eq!(refusals.get(Refused::RequestRate), 200 - looked_at);
    // Other clients do not wait because of that.
    let answer = try_to_log_in(&server, 2, TOKEN).await;
    assert_eq!(answer.status(), 303, "{answer:?}");
}

#[tokio::test]
async fn the_operator_gets_in_while_strangers_guess() {
    let server = Arc::new(serving().await);
    let is_over = Arc::new(AtomicBool::new(false));
    let guesses = Arc::new(AtomicUsize::new(0));
    let strangers: Vec<_> = (10..50)
        .map(|host| {
            let (server, is_over, guesses) = (server.clone(), is_over.clone(), guesses.clone());
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let answer = try_to_log_in(&server, host, "another-wrong-token").await;
                    assert!([401, 429].contains(&answer.status()), "{answer:?}");
                    guesses.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..5 {
        let before = guesses.load(Ordering::Relaxed);
        crate::client::until("guesses", || guesses.load(Ordering::Relaxed) > before + 40).await;
        let answer = try_to_log_in(&server, 1, TOKEN).await;
        assert_eq!(answer.status(), 303, "{answer:?}");
    }
    is_over.store(true, Ordering::Relaxed);
    for stranger in strangers {
        stranger.await.expect("no panic");
    }
}
