//! What the peers see when the binary is told to stop.

use futures::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{binary::Binary, raw::Raw, within};

async fn stops_in_the_middle_of_a_transfer(signal: &str) {
    let star = Binary::start(&[]).await;
    let (mut listener, dialer) = (Raw::new(), Raw::new());
    let (_, addr) = listener.listen(&star.addr()).await;
    let sending = dialer.dial(&addr.to_string()).await;
    let (receiving, _) = listener.accept().await;
    let (mut reader, _keep) = receiving.split();
    let (_keep_too, mut writer) = sending.split();
    let write = tokio::spawn(async move {
        let block = vec![7; 65_536];
        loop {
            if let Err(error) = writer.write_all(&block).await {
                break error;
            }
        }
    });
    let mut buffer = vec![0; 65_536];
    within("some data", reader.read_exact(&mut buffer))
        .await
        .expect("data");
    star.signal(signal).await;

    let mut read = async || {
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => panic!("a cut that looks like an end"),
                Ok(n) => assert!(buffer[..n].iter().all(|byte| *byte == 7)),
                Err(error) => break error,
            }
        }
    };
    let error = within("the reader to be told", read()).await;
    assert!(error.to_string().contains("shutting down"), "{error}");
    within("the writer to be told", write)
        .await
        .expect("no panic");
    let (status, last) = star.ended().await;
    assert_eq!(
        (status.code(), last.as_str()),
        (Some(0), "Rendezvous server stopped")
    );
}

#[tokio::test]
async fn sigterm_ends_streams_with_the_reason_and_exits_with_0() {
    stops_in_the_middle_of_a_transfer("TERM").await;
}

#[tokio::test]
async fn sigint_ends_streams_with_the_reason_and_exits_with_0() {
    stops_in_the_middle_of_a_transfer("INT").await;
}

#[tokio::test]
async fn sighup_without_tls_is_no_reason_to_stop() {
    let mut star = Binary::start(&["--log", "json"]).await;
    star.signal("HUP").await;
    let line = star.logged("no certificate to reload").await;
    serde_json::from_str::<serde_json::Value>(&line).expect("a JSON line");
    let mut peer = Raw::new();
    peer.listen(&star.addr()).await;
}
