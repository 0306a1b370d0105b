//! Parsers for the numbers, sizes and durations that an operator writes.

use std::time::Duration;

use libp2p_websocket_star::rendezvous::{Network, NetworkError};

/// The reason why a number, a size or a duration is not valid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum NumberError {
    #[error("must be a whole number, at least 1")]
    Count,
    #[error("must be a whole number of bytes, or of KiB, MiB or GiB, at least 1")]
    Size,
    #[error(
        "must be a whole number of seconds, or a whole number with ms, s, m or h, and at most one day"
    )]
    Duration,
    #[error("must be longer than 0")]
    Zero,
}

pub(super) fn count(text: &str) -> Result<usize, NumberError> {
    let count = text.parse().map_err(|_| NumberError::Count)?;
    if count == 0 {
        return Err(NumberError::Count);
    }
    Ok(count)
}

pub(super) fn rate(text: &str) -> Result<u32, NumberError> {
    count(text)?.try_into().map_err(|_| NumberError::Count)
}

/// The reason why a text is not a network with a weight.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum WeightError {
    #[error("must be a network and its weight, such as 10.0.0.0/8=5")]
    Form,
    #[error("the network {0}")]
    Network(#[from] NetworkError),
    #[error("the weight {0}")]
    Weight(#[from] NumberError),
}

pub(super) fn weight(text: &str) -> Result<(Network, u32), WeightError> {
    let (network, weight) = text.split_once('=').ok_or(WeightError::Form)?;
    Ok((network.parse()?, rate(weight)?))
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

pub(super) fn size(text: &str) -> Result<usize, NumberError> {
    match size_or_none(text)? {
        0 => Err(NumberError::Size),
        size => Ok(size),
    }
}

pub(super) fn size_or_none(text: &str) -> Result<usize, NumberError> {
    let (number, unit) = split_unit(text);
    let unit = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "GiB" => 1024 * 1024 * 1024,
        _ => return Err(NumberError::Size),
    };
    let number: usize = number.parse().map_err(|_| NumberError::Size)?;
    number.checked_mul(unit).ok_or(NumberError::Size)
}

pub(super) fn duration(text: &str) -> Result<Duration, NumberError> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let (number, unit) = split_unit(text);
    let millis = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return Err(NumberError::Duration),
    };
    let number: u64 = number.parse().map_err(|_| NumberError::Duration)?;
    let duration = number.checked_mul(millis).map(Duration::from_millis);
    duration
        .filter(|duration| *duration <= DAY)
        .ok_or(NumberError::Duration)
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, NumberError> {
    match duration(text)? {
        Duration::ZERO => Err(NumberError::Zero),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1 MiB"), Ok(1 << 20));
        assert_eq!(size("3GiB"), Ok(3 << 30));
        assert_eq!(size_or_none("0"), Ok(0));
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for bad in ["", "-1", "1.5", "x", "1MB", "99999999999999999999", "0"] {
            assert_eq!(size(bad), Err(NumberError::Size), "{bad}");
        }
        for bad in ["", "-1", "1.5", "x", "1d", "25h", "18446744073709551615h"] {
            assert_eq!(duration(bad), Err(NumberError::Duration), "{bad}");
        }
        assert_eq!(positive_duration("0"), Err(NumberError::Zero));
    }

    #[test]
    fn a_weight_belongs_to_a_network() {
        let network: Network = "10.0.0.0/8".parse().expect("a network");
        assert_eq!(weight("10.0.0.0/8=5"), Ok((network, 5)));
        assert_eq!(weight("10.0.0.0/8"), Err(WeightError::Form));
        for bad in ["=5", "star=5", "10.0.0.0/33=5"] {
            assert!(matches!(weight(bad), Err(WeightError::Network(_))), "{bad}");
        }
        for bad in ["::1=", "::1=0", "::1=x", "::1=1=1"] {
            assert!(matches!(weight(bad), Err(WeightError::Weight(_))), "{bad}");
        }
    }

    #[test]
    fn a_rate_is_a_number_that_fits() {
        assert_eq!(rate("4294967295"), Ok(u32::MAX));
        for bad in ["0", "4294967296", "-1", "1/s"] {
            assert_eq!(rate(bad), Err(NumberError::Count), "{bad}");
        }
    }
}
