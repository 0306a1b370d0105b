//! The cost of one stream through two nodes, compared with one node.

use std::{io, time::Instant};

use crate::{
    client::{Client, ORDINARY, item},
    judge, load,
    nodes::{Kind, Nodes},
    spread::{Spread, number},
    stream::{self, Load},
};

const ITEM: usize = 128 * 1024;
/// The number of MiB to send before the measurement.
pub const WARM_UP: usize = 64;

/// A row of the table.
#[derive(Debug, Clone, Copy)]
struct Row {
    name: &'static str,
    kind: Kind,
    nodes: usize,
    /// The indexes of the nodes of the dialer and of the listener.
    at: [usize; 2],
    /// The maximum of the processor time of all nodes divided by that of one node alone.
    bound: Option<f64>,
}

const ROWS: &[Row] = &[
    Row {
        name: "one node alone",
        kind: Kind::Alone,
        nodes: 1,
        at: [0, 0],
        bound: None,
    },
    Row {
        name: "one of two nodes, both peers there",
        kind: Kind::Tls,
        nodes: 2,
        at: [0, 0],
        bound: Some(1.05),
    },
    Row {
        name: "two nodes",
        kind: Kind::Tls,
        nodes: 2,
        at: [0, 1],
        bound: Some(3.0),
    },
    #[cfg(feature = "_plain-trunks")]
    Row {
        name: "two nodes, without TLS",
        kind: Kind::Plain,
        nodes: 2,
        at: [0, 1],
        bound: Some(2.2),
    },
];

#[derive(Debug)]
struct Figures {
    /// The rate in MiB/s.
    rate: f64,
    cpu_per_gib: f64,
    /// The median round-trip time of 64 bytes, in µs.
    round_trip: f64,
}

/// Joins two new clients and dials between them with the dial id `d`. There are `others` other peers.
pub async fn dialled(
    nodes: &mut Nodes,
    at: [usize; 2],
    others: u64,
) -> io::Result<(Client, Client)> {
    let mut dialer = Client::joined(nodes.addr(at[0]), ORDINARY).await?;
    let mut listener = Client::joined(nodes.addr(at[1]), ORDINARY).await?;
    nodes.know(others + 2).await?;
    dialer.dial(&mut listener, "d").await?;
    Ok((dialer, listener))
}

async fn one(row: &Row, mib: usize) -> io::Result<Figures> {
    let mut nodes = Nodes::start(row.kind, row.nodes).await?;
    let pair = dialled(&mut nodes, row.at, 0).await?;
    let (mut dialer, mut listener) = send(pair, WARM_UP).await?;
    let round_trip = round_trips(&mut dialer, &mut listener).await?;
    let (started, before) = (Instant::now(), nodes.cpu());
    send((dialer, listener), mib).await?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(Figures {
        rate: mib as f64 / seconds,
        cpu_per_gib: (nodes.cpu() - before) * 1024.0 / mib as f64,
        round_trip,
    })
}

async fn round_trips(dialer: &mut Client, listener: &mut Client) -> io::Result<f64> {
    let (forth, back) = (item("d.dialer", &[1; 64]), item("d.listener", &[2; 64]));
    let mut times = Vec::new();
    for _ in 0..500 {
        let start = Instant::now();
        dialer.write(&forth).await?;
        listener
            .expect(|data| data == [&[4][..], &[1; 64]].concat())
            .await?;
        listener.write(&back).await?;
        dialer
            .expect(|data| data == [&[4][..], &[2; 64]].concat())
            .await?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Spread::of(times).map_or(f64::NAN, |times| times.median))
}

/// Sends `mib` MiB one way. The sender is never far ahead of the reader.
pub async fn send(pair: (Client, Client), mib: usize) -> io::Result<(Client, Client)> {
    let load = Load { item: ITEM, mib };
    stream::send(pair, load, load.bytes_from_ours()).await
}

pub async fn measure(quick: bool) -> io::Result<bool> {
    let (rounds, mib) = if quick { (3, 512) } else { (7, 2048) };
    println!(
        "\n## One way, items of {} KiB: medians of {rounds} rounds, least–most\n",
        ITEM / 1024
    );
    println!("| | MiB/s | | CPU s/GiB, all nodes | | ÷ alone | | 64 B there and back, µs | |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut figures: Vec<Vec<Figures>> = ROWS.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for n in 0..ROWS.len() {
            // The first position may be an advantage or a disadvantage, so the order rotates.
            let n = (n + round) % ROWS.len();
            figures[n].push(one(&ROWS[n], mib).await?);
        }
    }
    let mut met = true;
    let mut verdicts = Vec::new();
    for (row, of) in ROWS.iter().zip(&figures) {
        let cells = |values: Option<Spread>| {
            values.map_or(String::new(), |values| {
                format!("{} | {values}", number(values.median))
            })
        };
        let spread = |of_one: fn(&Figures) -> f64| Spread::of(of.iter().map(of_one));
        let ratios = of.iter().zip(&figures[0]);
        let ratios = Spread::of(ratios.map(|(of, alone)| of.cpu_per_gib / alone.cpu_per_gib));
        println!(
            "| {} | {} | {} | {} | {} |",
            row.name,
            cells(spread(|f| f.rate)),
            cells(spread(|f| f.cpu_per_gib)),
            cells(ratios),
            cells(spread(|f| f.round_trip)),
        );
        if let (Some(bound), Some(ratios)) = (row.bound, ratios) {
            verdicts.push((row.name, ratios, bound));
        }
    }
    println!();
    for (name, ratios, bound) in verdicts {
        let what = format!("{name}: CPU ÷ one node alone ({ratios})");
        met &= judge(&what, ratios.median, bound, ratios.median <= bound);
    }
    println!("{}", load());
    Ok(met)
}
