//! Whether a certificate chain and a private key can serve together.
//!
//! Used where a Secret is decoded, so that a broken edit leaves the certificate before it in force, and where a listener
//! takes a Secret of another type. Repeats no value in its messages: it may be the secret itself. Must not do I/O.

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What keeps a chain and a key from serving together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The key is damaged or of a kind that TLS here does not sign with.
    #[error("is no private key that can be used; RSA (2048 bits or more), ECDSA and Ed25519 keys can")]
    Key,
    /// The chain's first certificate cannot be read.
    #[error("does not begin with a certificate that can be read; put the server's own certificate first")]
    Certificate,
    /// The key is not the one of the chain's first certificate.
    #[error(
        "belongs to another certificate than the first of tls.crt; put the key there that the certificate was made for, \
         and the server's own certificate first"
    )]
    Mismatch,
}

/// Checks a chain, the server's own certificate first, against a private key.
///
/// # Errors
/// [`Unusable`], where a handshake with them could not succeed.
pub fn check(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Result<(), Unusable> {
    let key = any_supported_type(&key.clone_key()).map_err(|_| Unusable::Key)?;
    match CertifiedKey::new(chain, key).keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(Unusable::Mismatch),
        // A kind of key that does not tell its public half proves nothing.
        Ok(()) | Err(Error::InconsistentKeys(_)) => Ok(()),
        Err(_) => Err(Unusable::Certificate),
    }
}
