//! Behaviours of libp2p that keep connections in use while these move to direct ones.

use std::time::Duration;

use libp2p::{gossipsub, request_response};
use libp2p_websocket_star::direct::Event;
use tokio::time::sleep;

use super::node::{InnerEvent, Kind, Node, Options, pair};
use crate::support::{embedded, log, panics};

#[tokio::test]
async fn gossipsub_goes_over_and_goes_on() {
    log();
    let server = embedded().await;
    let topic = gossipsub::IdentTopic::new("test");
    let mut options = Options::of(Kind::Quic);
    options.gossipsub = true;
    let [mut one, mut two] = pair(&server, [options.clone(), options]).await;
    for node in [&one, &two] {
        let topic = topic.clone();
        node.order(move |swarm| {
            let gossipsub = swarm.behaviour_mut().gossipsub.as_mut();
            let subscribed = gossipsub.expect("it has one").subscribe(&topic);
            assert!(subscribed.expect("a topic"));
        });
    }
    one.upgraded(two.peer).await;
    two.upgraded(one.peer).await;
    let before = server.snapshot().relayed_bytes;
    publish(&one, &topic, b"from one");
    hear(&mut two, b"from one").await;
    publish(&two, &topic, b"from two");
    hear(&mut one, b"from two").await;
    // The messages that close the connection through the rendezvous may still be in transit.
    let relayed = server.snapshot().relayed_bytes - before;
    assert!(relayed < 100, "{relayed} bytes");
    assert_eq!(panics(), 0);
    server.shutdown().await;
}

fn publish(node: &Node, topic: &gossipsub::IdentTopic, text: &'static [u8]) {
    let topic = topic.clone();
    node.order(move |swarm| {
        let gossipsub = swarm.behaviour_mut().gossipsub.as_mut();
        let published = gossipsub.expect("it has one").publish(topic, text);
        published.expect("a mesh of two");
    });
}

async fn hear(node: &mut Node, text: &[u8]) {
    let data = node
        .event("the message", |event| match event {
            InnerEvent::Gossipsub(gossipsub::Event::Message { message, .. }) => Some(message.data),
            _ => None,
        })
        .await;
    assert_eq!(data, text);
}

/// While there are two connections, requests use one and then the other in turn.
#[tokio::test]
async fn requests_and_their_answers_go_over() {
    log();
    let server = embedded().await;
    let options = Options::of(Kind::Tcp);
    let [mut one, mut two] = pair(&server, [options.clone(), options]).await;
    let peer = two.peer;
    // Some requests are sent before, some while there are two connections, and some after that.
    let mut after = 0;
    for number in 0_u32.. {
        let request = number.to_be_bytes().repeat(1000);
        let sent = request.clone();
        one.order(move |swarm| {
            swarm.behaviour_mut().requests.send_request(&peer, sent);
        });
        answer(&mut two).await;
        let (received, upgraded) = answered(&mut one).await;
        assert!(received == request, "request {number}");
        after += usize::from(upgraded || after > 0);
        if after == 10 {
            break;
        }
        // Every tenth request is followed by a pause longer than the grace period.
        let pause = if number % 10 == 9 { 1500 } else { 0 };
        sleep(Duration::from_millis(pause)).await;
    }
    assert_eq!(panics(), 0);
    server.shutdown().await;
}

/// Returns the answer to a request, and whether the connection through the rendezvous has ended in the meantime.
async fn answered(node: &mut Node) -> (Vec<u8>, bool) {
    let mut upgraded = false;
    let response = node
        .event("the answer", |event| match event {
            InnerEvent::Requests(request_response::Event::Message {
                message: request_response::Message::Response { response, .. },
                ..
            }) => Some(response),
            InnerEvent::Requests(event) => panic!("{event:?}"),
            InnerEvent::Direct(event) => {
                upgraded |= matches!(event, Event::Upgraded { .. });
                None
            }
            _ => None,
        })
        .await;
    (response, upgraded)
}

async fn answer(node: &mut Node) {
    let (request, channel) = node
        .event("the request", |event| match event {
            InnerEvent::Requests(request_response::Event::Message {
                message:
                    request_response::Message::Request {
                        request, channel, ..
                    },
                ..
            }) => Some((request, channel)),
            _ => None,
        })
        .await;
    node.order(move |swarm| {
        let sent = swarm
            .behaviour_mut()
            .requests
            .send_response(channel, request);
        assert!(sent.is_ok(), "the request waits");
    });
}
