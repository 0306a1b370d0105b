//! What can be measured.

/// One measurement, which may give several figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Bulk,
    Small,
    Echo,
    RoundTrips,
    Dial,
    Many,
    Cpu,
    Beside,
    Senders,
    Unread,
}

impl Work {
    pub const ALL: [Self; 10] = [
        Self::Bulk,
        Self::Small,
        Self::Echo,
        Self::RoundTrips,
        Self::Dial,
        Self::Many,
        Self::Cpu,
        Self::Beside,
        Self::Senders,
        Self::Unread,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Small => "small",
            Self::Echo => "echo",
            Self::RoundTrips => "rtt",
            Self::Dial => "dial",
            Self::Many => "many",
            Self::Cpu => "cpu",
            Self::Beside => "beside",
            Self::Senders => "senders",
            Self::Unread => "unread",
        }
    }
}
