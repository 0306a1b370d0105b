//! Nodes in a browser: how large they are, and how fast compared with the npm client. `cargo bench --bench browser`;
//! `benches/README.md` explains the output.

#[path = "node/src/behaviours.rs"]
mod behaviours;
#[allow(dead_code, reason = "tests use more of it")]
#[path = "../../tests/browser/chromium.rs"]
mod chromium;
mod driver;
#[path = "../star/echo.rs"]
mod echo;
#[allow(dead_code, reason = "the example serves the page, too")]
#[path = "../../examples/browser/src/files.rs"]
mod files;
mod lineup;
#[path = "../star/machine.rs"]
mod machine;
mod measure;
mod native;
mod options;
mod pages;
#[path = "../star/progress.rs"]
mod progress;
#[path = "node/src/request.rs"]
mod request;
#[path = "../../examples/browser/src/site.rs"]
mod site;
#[path = "../star/spread.rs"]
mod spread;
mod table;
mod targets;

use std::process::ExitCode;

use chromium::Driver;
use driver::Browser;
use machine::{load, processor};
use measure::{Place, Results};
use native::Native;
use options::{Options, USAGE};
use pages::Pages;
use progress::progress;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if has("--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if !has("--bench") {
        // `cargo test` starts benchmarks too.
        return ExitCode::SUCCESS;
    }
    match start(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what the arguments ask for. Returns whether all bounds are met; always true without `--check`.
fn start(arguments: &[String]) -> Result<bool> {
    let options = Options::parse(arguments)?;
    progress("building");
    let pages = pages::build()?;
    print!("{}", table::sizes(&pages));
    let are_small = pages.sizes.iter().all(pages::Sizes::is_met);
    let are_fast = match options.ids.is_empty() {
        true => true,
        false => tokio::runtime::Runtime::new()?.block_on(run(&options, &pages))?,
    };
    Ok((are_small && are_fast) || !options.check)
}

/// Measures all rows. Returns whether all speed targets are met.
async fn run(options: &Options, pages: &Pages) -> Result<bool> {
    let load_before = load();
    let site = pages.serve().await?;
    let native = Native::start().await?;
    let driver = Driver::start().await?;
    let browser = Browser::start(&driver).await?;
    println!(
        "\n{}, {}, load average {load_before}\n",
        browser.name(),
        processor()
    );
    let place = Place {
        browser: &browser,
        site,
        native: &native,
        plan: &options.plan,
    };
    let mut results = Results::default();
    let mut ids = options.ids.clone();
    for _ in 0..options.plan.rounds {
        place.round(&ids, &mut results).await?;
        // The first position may be an advantage or a disadvantage, so each row has it in turn.
        ids.rotate_left(1);
    }
    browser.end().await?;
    progress("");
    let outcomes = targets::outcomes(&results);
    println!("{}", table::speeds(&results, &options.ids));
    println!("{}", table::targets(&outcomes));
    println!("{}", table::explanation(&options.plan));
    println!("load average at the end {}", load());
    let met = |outcome: &targets::Outcome| outcome.is_met() != Some(false);
    Ok(outcomes.iter().all(met))
}
