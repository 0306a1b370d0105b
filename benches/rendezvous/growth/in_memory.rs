//! Links over streams in memory, more of them than a process may have descriptors. This part runs in a process of its
//! own.

use std::{
    fs, io,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use libp2p_websocket_star::rendezvous::{Config, Limits, Server};
use serde_json::{Value, json};

use super::{Options, crowd::Crowd};
use crate::process::{locks, measure_locks, usage};

/// The name of the server's threads. It separates their processor time from that of the clients' thread.
const SERVER: &str = "server";
const CALM: Duration = Duration::from_secs(10);
/// The number of clients that join before the measurement, so that memory allocated once by any use is not counted.
const WARM_UP: usize = 16;

/// Returns the processor time of the server's threads, in seconds.
fn server_cpu() -> io::Result<f64> {
    let mut nanos = 0.0;
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == SERVER {
            let stat = fs::read_to_string(task.join("schedstat"))?;
            let field = stat.split_whitespace().next();
            nanos += field.and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        }
    }
    Ok(nanos / 1e9)
}

fn config(options: &Options) -> Config {
    let links = options.links + WARM_UP;
    let limits = Limits::default()
        .with_max_links(links)
        .with_max_links_per_ip(links)
        .with_connection_rate(u32::MAX, u32::MAX)
        .with_origin_join_rate(u32::MAX, u32::MAX);
    Config::default()
        .with_listen_addr((Ipv4Addr::LOCALHOST, 0).into())
        .with_challenge(options.challenge)
        .with_limits(limits)
}

/// Measures in this process, and prints the figures.
pub fn run(options: &Options) -> io::Result<()> {
    if options.locks {
        measure_locks();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name(SERVER)
        .enable_all()
        .build()?;
    let server = runtime
        .block_on(Server::bind(config(options)))
        .map_err(io::Error::other)?;
    let mut crowd = Crowd::new(
        runtime.handle().clone(),
        options.links + WARM_UP,
        options.origins,
    );
    crowd.join(&server, WARM_UP)?;
    crowd.idle(Duration::from_secs(1))?;
    locks();
    let rss = usage("self").rss;
    let (started, all, its) = (Instant::now(), usage("self").cpu, server_cpu()?);
    crowd.join(&server, options.links)?;
    let seconds = started.elapsed().as_secs_f64();
    let (its_joins, all_joins) = (server_cpu()? - its, usage("self").cpu - all);
    let joining = locks();
    crowd.idle(CALM)?;
    let (resting, before, heard) = (Instant::now(), server_cpu()?, crowd.announcements);
    crowd.idle(options.rest)?;
    let rest = (server_cpu()? - before) / resting.elapsed().as_secs_f64();
    let heard = (crowd.announcements - heard) as f64 / options.links as f64;
    let per_link = (usage("self").rss - rss) / options.links as f64;
    let resting = locks();
    let ending = end(&runtime, server, &mut crowd)?;
    let figures = json!({
        "joined": options.links,
        "join_rate": options.links as f64 / seconds,
        "server_cpu": its_joins / options.links as f64,
        "client_cpu": (all_joins - its_joins) / options.links as f64,
        "rss_per_link": per_link,
        "rest_cpu": rest * 100.0,
        "heard": heard / options.rest.as_secs_f64(),
        "locks": [joining, resting, ending],
    });
    println!("{figures}");
    Ok(())
}

/// Closes a tenth of the links at once, and then stops the server with the other links still open.
fn end(runtime: &tokio::runtime::Runtime, server: Server, crowd: &mut Crowd) -> io::Result<Value> {
    let some = crowd.joined / 10;
    crowd.leave(some);
    crowd.until(|crowd| crowd.ended >= some)?;
    let all = crowd.joined;
    let stopping = runtime.spawn(server.shutdown());
    crowd.until(|crowd| crowd.ended >= all || stopping.is_finished())?;
    Ok(locks())
}
