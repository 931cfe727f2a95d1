//! TLS: which certificate a handshake gets, from the snapshot in force.
//!
//! Certificates are loaded when a snapshot is applied, not per handshake; connections that stand keep theirs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, ServerName};
use tidegate_routing::snapshot::{Certificate, Hostname};
use tokio_rustls::TlsAcceptor;
use tracing::warn;

use crate::table::{TableListener, takes};

/// The certificates of a socket; replaced as a whole.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    loaded: ArcSwap<Vec<ListenerCertificates>>,
}

/// Those of one listener, in the order of the snapshot: most specific hostname first.
#[derive(Debug)]
struct ListenerCertificates {
    hostname: Option<Hostname>,
    keys: Vec<LoadedKey>,
}

#[derive(Clone, Debug)]
struct LoadedKey {
    fingerprint: u64,
    key: Arc<CertifiedKey>,
}

impl Certificates {
    /// Takes the certificates of a snapshot's listeners; those already loaded are kept, those that cannot be loaded are
    /// left out.
    pub(crate) fn reload(&self, listeners: &[TableListener]) {
        let before = self.loaded.load();
        let known = |fingerprint: u64| {
            before.iter().flat_map(|listener| &listener.keys).find(|key| key.fingerprint == fingerprint).cloned()
        };
        let loaded = listeners
            .iter()
            .map(|table| ListenerCertificates {
                hostname: table.listener.hostname.clone(),
                keys: table
                    .listener
                    .certificates
                    .iter()
                    .filter_map(|certificate| known(certificate.fingerprint).or_else(|| load(certificate)))
                    .collect(),
            })
            .collect();
        self.loaded.store(Arc::new(loaded));
    }

    /// The certificate for a server name: of the most specific listener that takes it, the first whose names cover it,
    /// else its first. Without a name, the first of the listener for every host, else the first of all.
    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded.load();
        let Some(name) = name else {
            let any = loaded.iter().find(|listener| listener.hostname.is_none()).or_else(|| loaded.first())?;
            return any.keys.first().map(|loaded| loaded.key.clone());
        };
        let matching = || loaded.iter().filter(|listener| takes(listener.hostname.as_ref(), name));
        let best = matching().next()?;
        let keys =
            || matching().filter(|listener| listener.hostname == best.hostname).flat_map(|listener| &listener.keys);
        keys().find(|loaded| covers(&loaded.key, name)).or_else(|| keys().next()).map(|loaded| loaded.key.clone())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        self.choose(name.as_deref())
    }
}

fn load(certificate: &Certificate) -> Option<LoadedKey> {
    match aws_lc_rs::sign::any_supported_type(&certificate.key) {
        Ok(key) => {
            let certified = CertifiedKey::new(certificate.chain.clone(), key);
            Some(LoadedKey { fingerprint: certificate.fingerprint, key: Arc::new(certified) })
        }
        Err(error) => {
            warn!(secret = %certificate.secret, %error, "a certificate's private key cannot be used");
            None
        }
    }
}

/// Whether a certificate's names cover a server name.
fn covers(key: &CertifiedKey, name: &str) -> bool {
    let leaf: Option<&CertificateDer<'_>> = key.cert.first();
    let (Some(leaf), Ok(name)) = (leaf, ServerName::try_from(name)) else { return false };
    ParsedCertificate::try_from(leaf).is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
}

/// The acceptor of a socket's connections, made once.
#[derive(Default)]
pub(crate) struct Acceptors {
    made: std::sync::OnceLock<TlsAcceptor>,
}

impl Acceptors {
    /// The acceptor; all sessions and tickets of a socket share it.
    pub(crate) fn acceptor(&self, certificates: &Arc<Certificates>) -> Result<TlsAcceptor, rustls::Error> {
        if let Some(made) = self.made.get() {
            return Ok(made.clone());
        }
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(self.made.get_or_init(|| acceptor).clone())
    }
}
