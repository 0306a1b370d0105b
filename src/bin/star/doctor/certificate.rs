//! Reads the parts of a certificate that matter to people.

use std::time::{Duration, SystemTime};

use x509_cert::{
    Certificate,
    der::{Decode as _, Error},
};

use super::report::Finding;

/// The days of validity below which a certificate should be renewed: certificates of 90 days are usually renewed a
/// month before they expire.
const SOON: u64 = 14;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The certificate that the server has presented.
pub struct Shown {
    pub issuer: String,
    not_after: SystemTime,
}

/// Parses a certificate.
///
/// # Errors
/// If the bytes are not a certificate.
pub fn read(der: &[u8]) -> Result<Shown, Error> {
    let certificate = Certificate::from_der(der)?;
    let certificate = certificate.tbs_certificate();
    Ok(Shown {
        issuer: certificate.issuer().to_string(),
        not_after: certificate
            .validity()
            .not_after
            .to_date_time()
            .to_system_time(),
    })
}

impl Shown {
    /// Returns the finding for a certificate that was accepted.
    pub fn finding(&self, version: &str) -> Finding {
        let left = self.not_after.duration_since(SystemTime::now());
        let days = left.unwrap_or_default().as_secs() / DAY.as_secs();
        let unit = if days == 1 { "day" } else { "days" };
        let seen = format!(
            "{version}, the certificate issued by {} has {days} {unit} left",
            self.issuer
        );
        match days < SOON {
            true => Finding::warning(
                seen,
                "Renew it, or find out why it is not renewed automatically",
            ),
            false => Finding::ok(seen),
        }
    }
}
