//! The signals that the process handles.

use std::io;

use crate::stop::Stop;

/// A request that the process receives as a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Reload the certificate and the access lists.
    #[cfg_attr(not(unix), allow(dead_code, reason = "there is no SIGHUP"))]
    Reload,
    /// Stop the server.
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

    /// Waits for the next signal. Cancel safe.
    #[cfg(unix)]
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            () = self.stop.wanted() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// Waits for the next signal. Cancel safe.
    #[cfg(not(unix))]
    pub async fn next(&mut self) -> Signal {
        self.stop.wanted().await;
        Signal::Stop
    }

    /// Returns when the process has been asked to end.
    pub async fn stop(&mut self) {
        self.stop.wanted().await;
    }
}
