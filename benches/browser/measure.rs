//! The measurements of a row, taken in its page.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Result,
    driver::{Browser, Window},
    lineup::Id,
    native::Native,
    options::Plan,
    progress::progress,
    spread::Spread,
};

const MIB: f64 = (1024 * 1024) as f64;
/// The interval of the timer that shows whether a page is slowed down.
const TICK: Duration = Duration::from_millis(100);

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// The rate from the page to the native peer, in MiB/s.
    Up,
    /// The rate from the native peer to the page, in MiB/s.
    Down,
    /// The mean round-trip time of 64 bytes, in microseconds.
    RoundTrip,
}

impl Metric {
    pub const ALL: [Self; 3] = [Self::Up, Self::Down, Self::RoundTrip];
    /// The figures that are measured in a hidden page.
    const HIDDEN: [Self; 1] = [Self::Up];

    /// Returns the method of the page's node that measures this figure.
    fn method(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::RoundTrip => "roundTrips",
        }
    }

    fn amount(self, plan: &Plan) -> u32 {
        match self {
            Self::Up | Self::Down => plan.bulk,
            Self::RoundTrip => plan.pings,
        }
    }

    fn warm_up(self, plan: &Plan) -> u32 {
        match self {
            Self::Up | Self::Down => plan.warm_up,
            Self::RoundTrip => plan.pings / 10,
        }
    }

    fn figure(self, amount: u32, milliseconds: f64) -> f64 {
        match self {
            Self::Up | Self::Down => f64::from(amount) / MIB / (milliseconds / 1e3),
            Self::RoundTrip => milliseconds * 1e3 / f64::from(amount),
        }
    }
}

/// The measured figures, in the order of the rounds.
#[derive(Default)]
pub struct Results(HashMap<(Id, Metric), Vec<f64>>);

impl Results {
    fn add(&mut self, id: Id, metric: Metric, figure: f64) {
        self.0.entry((id, metric)).or_default().push(figure);
    }

    pub fn spread(&self, id: Id, metric: Metric) -> Option<Spread> {
        Spread::of(self.0.get(&(id, metric))?.iter().copied())
    }

    /// Returns the ratio of two rows, computed in each round. In a round, both are measured within a short time.
    pub fn ratio(&self, metric: Metric, of: Id, to: Id) -> Option<Spread> {
        let (of, to) = (self.0.get(&(of, metric))?, self.0.get(&(to, metric))?);
        Spread::of(of.iter().zip(to).map(|(of, to)| of / to))
    }
}

/// The browser and the servers of a run, and its plan.
pub struct Place<'a> {
    pub browser: &'a Browser,
    pub site: SocketAddr,
    pub native: &'a Native,
    pub plan: &'a Plan,
}

impl Place<'_> {
    /// Measures all rows, each in a page that is loaded anew. Hidden pages are measured last, when they have been
    /// hidden for long.
    pub async fn round(&self, ids: &[Id], results: &mut Results) -> Result<()> {
        let (hidden, visible): (Vec<Id>, Vec<Id>) = ids.iter().partition(|id| id.is_hidden());
        let mut windows = Vec::new();
        for id in hidden {
            progress(&format!("starting: {}", id.name()));
            let window = self.browser.window().await?;
            self.start(&window, id).await?;
            self.hide(&window).await?;
            windows.push((id, window));
        }
        let since = Instant::now();
        let front = self.browser.window().await?;
        for id in visible {
            progress(id.name());
            self.start(&front, id).await?;
            for metric in Metric::ALL {
                self.measure(&front, id, metric, results).await?;
            }
        }
        self.browser.close(front).await?;
        for (id, window) in windows {
            progress(id.name());
            tokio::time::sleep_until((since + self.plan.hidden).into()).await;
            self.check_hidden(&window).await?;
            for metric in Metric::HIDDEN {
                self.measure(&window, id, metric, results).await?;
            }
            self.browser.close(window).await?;
        }
        Ok(())
    }

    /// Hides a page, and makes it count the ticks of a timer from then on.
    async fn hide(&self, window: &Window) -> Result<()> {
        self.browser.minimize(window).await?;
        let body = "window.ticks = 0; setInterval(() => window.ticks++, args[0]);";
        let every = TICK.as_millis() as u64;
        self.browser.run(window, body, vec![json!(every)]).await?;
        Ok(())
    }

    /// Fails if the page is not slowed down. Timers of a hidden page fire once a second, and later once a minute.
    async fn check_hidden(&self, window: &Window) -> Result<()> {
        let ticks = self.browser.run(window, "return window.ticks;", vec![]);
        let ticks = ticks.await?.as_u64().ok_or("the page has no timer")?;
        match ticks <= self.plan.hidden.as_secs() + 1 {
            true => Ok(()),
            false => Err(format!(
                "a hidden page had {ticks} timer ticks: the browser does not slow it down"
            )
            .into()),
        }
    }

    /// Loads the page, starts its node, and transfers some data as a warm-up.
    async fn start(&self, window: &Window, id: Id) -> Result<()> {
        let url = format!("http://{}/{}", self.site, id.page());
        self.browser.open(window, &url).await?;
        if id.is_plain() {
            let body = "return delete globalThis.WebSocketStream && !globalThis.WebSocketStream;";
            let deleted = self.browser.run(window, body, vec![]).await?;
            if deleted != Value::Bool(true) {
                return Err("WebSocketStream cannot be deleted".into());
            }
        }
        let body = "while (!window[args[0]]) await new Promise(done => setTimeout(done, 10));
                    window.node = await window[args[0]](args[1], args[2]);";
        let (start, to) = id.start(self.native);
        let args = vec![json!(start), json!(self.native.rendezvous), json!(to)];
        self.browser.run(window, body, args).await?;
        for metric in Metric::ALL {
            let body = "await node[args[0]](args[1]);";
            let args = vec![json!(metric.method()), json!(metric.warm_up(self.plan))];
            self.browser.run(window, body, args).await?;
        }
        Ok(())
    }

    async fn measure(
        &self,
        window: &Window,
        id: Id,
        metric: Metric,
        results: &mut Results,
    ) -> Result<()> {
        let body = "const seen = [document.visibilityState];
                    const took = await node[args[0]](args[1]);
                    seen.push(document.visibilityState);
                    if (seen.some(state => state !== args[2])) throw new Error(`the page was ${seen}, not ${args[2]}`);
                    return took;";
        let amount = metric.amount(self.plan);
        let state = if id.is_hidden() { "hidden" } else { "visible" };
        let args = vec![json!(metric.method()), json!(amount), json!(state)];
        let took = self.browser.run(window, body, args).await;
        let took = took.map_err(|error| format!("{}: {error}", id.name()))?;
        let took = took.as_f64().ok_or("the page returned no time")?;
        results.add(id, metric, metric.figure(amount, took));
        Ok(())
    }
}
