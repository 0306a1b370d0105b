use std::{future::pending, time::Duration};

use super::{
    super::{
        config::Limits,
        outbox::{Parcel, TryPushError},
        places::BESIDE_LINKS,
        registry::FlowId,
    },
    *,
};
use crate::websocket::Message;

fn admission(limits: Limits) -> Arc<Admission> {
    let limits = limits.with_connection_rate(1, 100_000);
    Arc::new(Admission::new(Config::default().with_limits(limits)))
}

fn host(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn enter(admission: &Arc<Admission>, n: u8) -> Place {
    let entered = admission.enter(host(n), false, Instant::now());
    entered.expect("a share")
}

#[tokio::test]
async fn a_connection_that_gives_way_before_its_task_is_known_is_ended_all_the_same() {
    let admission = admission(Limits::default().with_max_links(0));
    let first = enter(&admission, 1);
    let _others: Vec<_> = (1..BESIDE_LINKS).map(|_| enter(&admission, 1)).collect();
    let _newcomer = enter(&admission, 2);
    let refusals = admission.refusals();
    assert_eq!(refusals.get(Refused::ConnectionGaveWay), 1);
    let ticket = first.ticket();
    let task = tokio::spawn(async move {
        let _first = first;
        pending::<()>().await;
    });
    ticket.served_by(task.abort_handle());
    let ended = tokio::time::timeout(Duration::from_secs(20), task).await;
    let ended = ended.expect("at once").expect_err("ended");
    assert!(ended.is_cancelled());
    assert_eq!(admission.connections(), BESIDE_LINKS);
}

#[tokio::test]
async fn a_link_that_begins_before_its_task_is_known_is_told_when_it_gives_way() {
    let admission = admission(Limits::default().with_max_links(2));
    let begin = |n, ticket: Option<AbortHandle>| {
        let outbox = Arc::new(Outbox::new(1024));
        let place = enter(&admission, n);
        let link = place.begin_link(host(n), &outbox, Instant::now());
        if let Some(task) = ticket {
            place.ticket().served_by(task);
        }
        (link.expect("a share"), place, outbox)
    };
    let _first = begin(1, None);
    let task = tokio::spawn(pending::<()>());
    let (_link, _place, outbox) = begin(1, Some(task.abort_handle()));
    let parcel = || Parcel::One(Message::text("x"));
    assert!(outbox.try_push(FlowId(0), parcel()).is_ok());
    let _newcomer = begin(2, None);
    let closed = outbox.try_push(FlowId(0), parcel());
    assert!(matches!(closed, Err(TryPushError::Closed)));
    tokio::task::yield_now().await;
    assert!(!task.is_finished());
}
