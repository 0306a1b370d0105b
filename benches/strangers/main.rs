//! The damage that an attacker can do to the other users: `cargo bench --bench strangers`; some minutes
//! with `-- --quick`; with `-- --check`, an exceeded bound is an error. Linux only.
//!
//! The server, the honest links and the attacker are processes of their own. This process measures what the honest
//! links notice, for each attack at rest and then beside the attacker. Everything runs in a network namespace if one
//! can be created, so that an attacker can have a whole IPv6 /48. Otherwise, a trusted proxy reports the /48.

mod attack;
#[path = "../rendezvous/client.rs"]
#[allow(dead_code, reason = "the other benchmark needs more of it")]
mod client;
mod crowd;
#[allow(dead_code, reason = "each benchmark uses its own part")]
#[path = "../star/machine.rs"]
mod machine;
mod options;
mod other;
mod plan;
mod process;
mod source;
#[path = "../star/spread.rs"]
mod spread;
mod table;
mod usage;
mod watch;

use std::{io, process::ExitCode, time::Duration};

use self::{
    attack::Target,
    options::Options,
    other::Other,
    plan::Plan,
    source::Family,
    table::Row,
    usage::{number, usage},
    watch::Watch,
};

/// The environment variable that is set within the namespace.
const INSIDE: &str = "STRANGERS_NAMESPACE";
/// The command that sets up the namespace: it makes all IPv6 addresses of the documentation range local.
const ENTER: &str =
    "ip link set lo up && ip -6 route add local 2001:db8::/32 dev lo && exec \"$@\"";
/// The time to settle after a change.
const SETTLE: Duration = Duration::from_secs(2);

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_child = arguments
        .first()
        .is_some_and(|first| ["--serve", "--crowd", "--attack"].contains(&first.as_str()));
    if !is_child && !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test` starts benchmarks too.
        return Ok(ExitCode::SUCCESS);
    }
    if !cfg!(target_os = "linux") {
        println!("The figures come from /proc, which only Linux has.");
        return Ok(ExitCode::SUCCESS);
    }
    if !is_child && std::env::var_os(INSIDE).is_none() {
        Options::parse(&arguments)?;
        if let Some(status) = run_inside(&arguments) {
            return status;
        }
    }
    // Allow as many descriptors as possible, for all the links.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = tokio::runtime::Runtime::new()?;
    if is_child {
        return runtime
            .block_on(child(&arguments))
            .map(|()| ExitCode::SUCCESS);
    }
    runtime.block_on(measure(&Options::parse(&arguments)?))
}

/// Runs this program again in a namespace; `None` if none can be created.
fn run_inside(arguments: &[String]) -> Option<io::Result<ExitCode>> {
    let unshare = || {
        let mut command = std::process::Command::new("unshare");
        command.args(["-Urn", "sh", "-c", ENTER, "sh"]);
        command
    };
    let tried = unshare().arg("true").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return None;
    }
    let this = std::env::current_exe();
    Some(this.and_then(|this| {
        let status = unshare()
            .arg(this)
            .args(arguments)
            .env(INSIDE, "1")
            .status()?;
        Ok(match status.success() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }))
}

async fn child(arguments: &[String]) -> io::Result<()> {
    let [what, honest, rest @ ..] = arguments else {
        return Err(usage());
    };
    let plan = Plan {
        honest: number(honest)?,
        window: Duration::ZERO,
    };
    match (what.as_str(), rest) {
        ("--serve", [both]) => process::serve(plan, both == "both").await,
        ("--crowd", [port]) => crowd::run(plan, port.parse().map_err(|_| usage())?).await,
        ("--attack", rest) => attack::run(Target::from_arguments(rest, plan)?).await,
        _ => Err(usage()),
    }
}

fn load() -> String {
    format!("load {}", machine::load())
}

async fn measure(options: &Options) -> io::Result<ExitCode> {
    let plan = options.plan;
    let both = std::env::var_os(INSIDE).is_some();
    println!("# Strangers, {}", load());
    plan.print();
    if !both {
        println!(
            "No network namespace can be created here, so a trusted proxy names the IPv6 /48."
        );
    }
    let honest = plan.honest.to_string();
    let kind = if both { "both" } else { "one" };
    let serve = ["--serve", &honest, kind].map(str::to_owned);
    let mut server = Other::start(&serve, false).await?;
    let port = server.said["port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or_else(|| io::Error::other("the server has no port"))?;
    let crowd = ["--crowd", &honest, &port.to_string()].map(str::to_owned);
    let mut crowd = Other::start(&crowd, false).await?;
    let mut watch = Watch::start(plan, port).await?;
    let mut is_kept = true;
    for (name, family) in [
        ("v4", Family::V4),
        ("v6", if both { Family::V6 } else { Family::Forwarded }),
    ] {
        if !options.wants_family(name) {
            continue;
        }
        println!("\n## The attacker has {}\n\n{}", family.name(), table::HEAD);
        for attack in options.attacks() {
            let target = Target {
                port,
                family,
                attack,
                victim: watch.victim.clone(),
                plan,
            };
            let row = attacked(&mut server, &mut crowd, &mut watch, target).await?;
            is_kept &= row.print(plan);
        }
    }
    println!("\n{}", load());
    drop(watch);
    crowd.end().await?;
    server.end().await?;
    Ok(match is_kept || !options.check {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Measures at rest, and then beside an attack.
async fn attacked(
    server: &mut Other,
    crowd: &mut Other,
    watch: &mut Watch,
    target: Target,
) -> io::Result<Row> {
    tokio::time::sleep(SETTLE).await;
    let lost = |said: serde_json::Value| said["lost"].as_u64().unwrap_or_default();
    let rest = watch.window(server).await?;
    let lost_before = lost(crowd.ask().await?);
    let mut attacker = Other::start(&target.to_arguments(), true).await?;
    tokio::time::sleep(SETTLE).await;
    let tried = |said: serde_json::Value| said["tried"].as_f64().unwrap_or_default();
    let before = tried(attacker.ask().await?);
    let seen = watch.window(server).await?;
    let after = tried(attacker.ask().await?);
    if std::env::var_os("STRANGERS_VERBOSE").is_some() {
        eprintln!(
            "server: {}\nattacker: {}",
            server.ask().await?,
            attacker.ask().await?
        );
    }
    attacker.end().await?;
    Ok(Row {
        family: target.family,
        attack: target.attack,
        rest,
        seen,
        tried: (after - before) / target.plan.window.as_secs_f64(),
        lost: lost(crowd.ask().await?) - lost_before,
    })
}
