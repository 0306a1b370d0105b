//! What the system asks the process to do.

use std::io;

use crate::stop::Stop;

/// A request of the system's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Read the certificate and the lists anew.
    #[cfg_attr(not(unix), allow(dead_code, reason = "there is no SIGHUP"))]
    Reload,
    /// End.
    Stop,
}

pub struct Signals {
    stop: Stop,
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            stop: Stop::new()?,
            #[cfg(unix)]
            hangup: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
        })
    }

    /// The next signal. Cancel safe.
    #[cfg(unix)]
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            () = self.stop.wanted() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// The next signal. Cancel safe.
    #[cfg(not(unix))]
    pub async fn next(&mut self) -> Signal {
        self.stop.wanted().await;
        Signal::Stop
    }

    /// Returns when the process is to end.
    pub async fn stop(&mut self) {
        self.stop.wanted().await;
    }
}
