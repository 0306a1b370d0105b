//! websocket-star compared with circuit relay v2, direct connections and JavaScript, in one run.
//!
//! `cargo bench --bench star`; `benches/README.md` explains the output.

mod echo;
mod line;
mod lineup;
mod machine;
mod memory;
mod options;
mod plan;
mod process;
mod progress;
mod results;
mod serve;
mod spread;
mod subjects;
mod svg;
mod table;
mod targets;
mod work;
mod works;

use std::{path::Path, process::ExitCode, time::Duration};

use lineup::{Id, Peers, Servers, Subject};
use machine::{load, processor};
use options::Options;
use plan::Plan;
use progress::progress;
use results::Results;
use works::Work;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

/// The number of threads of the runtime, here and in each child.
const WORKERS: usize = 2;
/// The longest time for one measurement of one subject, in addition to its planned duration.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.split_first() {
        Some((first, role)) if first == process::CHILD => process::run(role),
        _ => Options::parse(&arguments).and_then(|options| on_workers(run(options))),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a task on the workers of a runtime, and not on the main thread, where `block_on` would run it. The main
/// thread would be one thread more than the workers, and each wake-up of a writer would cross threads.
fn on_workers(task: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    runtime.block_on(async { tokio::spawn(task).await? })
}

async fn run(options: Options) -> Result<()> {
    let ids = options.ids();
    let machine = machine();
    let mut results = Results::default();
    rounds(&options, &ids, &mut results).await?;
    if options.wants("line") {
        progress("long line");
        line::measure(&ids, &options.plan, &mut results).await?;
    }
    if options.wants("memory") {
        progress("memory");
        for (id, found) in memory::measure(&ids, &options.plan).await {
            match found {
                Ok(found) => results.memory.push(found),
                Err(error) => results
                    .failed
                    .push(format!("{}, memory: {error}", id.name())),
            }
        }
    }
    progress("");
    if !options.smoke {
        report(&options, &machine, &ids, &results)?;
    }
    match results.failed.len() {
        0 => Ok(()),
        n => Err(format!("{n} measurements failed:\n{}", results.failed.join("\n")).into()),
    }
}

fn report(options: &Options, machine: &str, ids: &[Id], results: &Results) -> Result<()> {
    let outcomes = targets::outcomes(results);
    println!("{machine}\n");
    println!("{}", table::everything(results, ids));
    println!("{}", table::targets(&outcomes, &targets::notes(results)));
    println!("{}", table::explanation(&options.plan));
    for missing in &results.missing {
        println!("! {missing}");
    }
    println!("load average at the end {}", load());
    if options.svg {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results.svg");
        std::fs::write(&path, svg::draw(&outcomes, machine))?;
        println!("picture: {}", path.display());
    }
    Ok(())
}

/// Does every measurement of every subject in every round. Subjects that are compared are measured right after each
/// other.
async fn rounds(options: &Options, ids: &[Id], results: &mut Results) -> Result<()> {
    let plan = &options.plan;
    let works = Work::ALL
        .into_iter()
        .filter(|work| options.wants(work.name()));
    let works: Vec<Work> = works.collect();
    if works.is_empty() {
        return Ok(());
    }
    progress("starting");
    let needs_js = ids.iter().any(|id| id.needs_js());
    let servers = Servers::start(plan.with_js && needs_js).await?;
    let mut subjects = Vec::new();
    for id in ids {
        let subject = servers.subject(*id).await;
        let subject = subject.map_err(|error| format!("{}: {error}", id.name()))?;
        if let Peers::Missing(why) = subject.peers {
            results.missing.push(format!("{}: {why}", id.name()));
        }
        work::warm_up(&subject, plan).await?;
        subjects.push(subject);
    }
    for round in 0..plan.rounds {
        for work in &works {
            progress(&format!(
                "round {} of {}: {}",
                round + 1,
                plan.rounds,
                work.name()
            ));
            for subject in &subjects {
                one(results, round, subject, *work, plan).await;
            }
        }
        // The first position may be an advantage or a disadvantage, so each subject has it in turn.
        subjects.rotate_left(1);
    }
    Ok(())
}

async fn one(results: &mut Results, round: usize, subject: &Subject, work: Work, plan: &Plan) {
    let patience = PATIENCE + plan.longest();
    let measured = tokio::time::timeout(patience, work::measure(subject, work, plan));
    let failed = match measured.await {
        Ok(Ok(figures)) => {
            results.add_all(round, subject.id, figures);
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no result after {patience:?}"),
    };
    let failed = format!("{}, {}: {failed}", subject.id.name(), work.name());
    results.failed.push(failed);
}

/// Describes the machine, the build and the load.
fn machine() -> String {
    let build = if cfg!(debug_assertions) {
        "DEBUG BUILD"
    } else {
        "release"
    };
    format!("{}, {build}, load average {}", processor(), load())
}
