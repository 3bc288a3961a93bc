//! Who a node is: a certificate whose name carries the node id, and TLS 1.3 both ways.
//!
//! The only name that counts is `node-<id>.<cluster>.weir`. A dialler asks for exactly
//! the name of the node it wants; a listener reads the id out of the client's
//! certificate. So nobody without a certificate of the cluster gets past the handshake,
//! and nobody can speak for a node it is not.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CipherSuite, RootCertStore};
use thiserror::Error;
use weir_base::{Clock, NodeId};

/// Protocol spoken on a link; a change that old nodes cannot read takes a new name.
const ALPN: &[u8] = b"weir-peer/1";

/// A node's certificate chain, its key, and the authorities it trusts.
///
/// The certificate names `node-<id>.<cluster>.weir` as a DNS subject alternative name
/// and, if it limits its usage, allows both server and client authentication.
pub struct NodeIdentity {
    /// The cluster's name in certificates: one or more DNS labels.
    pub cluster: String,
    /// The node's certificate first, then those up to a root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate. Ed25519 keeps simulated runs repeatable.
    pub key: PrivateKeyDer<'static>,
    /// The authorities that sign node certificates of this cluster.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Why a certificate proves no node.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// Not PEM, or nothing in it.
    #[error("{what}: {detail}")]
    Pem {
        /// Which of the three inputs.
        what: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The TLS library refused the material.
    #[error("tls: {0}")]
    Tls(String),
    /// The peer showed no certificate.
    #[error("no certificate")]
    Missing,
    /// The certificate does not name exactly one node of this cluster.
    #[error("certificate names {found} nodes of cluster {cluster}, expected one")]
    Name {
        /// The cluster asked for.
        cluster: String,
        /// How many node names of that cluster it carries.
        found: usize,
    },
}

impl NodeIdentity {
    /// Reads an identity from PEM text.
    ///
    /// # Errors
    /// If one of the three is not PEM or is empty.
    pub fn from_pem(
        cluster: impl Into<String>,
        chain: &[u8],
        key: &[u8],
        roots: &[u8],
    ) -> Result<Self, IdentityError> {
        let certificates = |what, pem| {
            let read: Vec<_> = CertificateDer::pem_slice_iter(pem)
                .collect::<Result<_, _>>()
                .map_err(|error| IdentityError::Pem {
                    what,
                    detail: error.to_string(),
                })?;
            if read.is_empty() {
                let detail = "no certificate in it".to_owned();
                return Err(IdentityError::Pem { what, detail });
            }
            Ok(read)
        };
        Ok(Self {
            cluster: cluster.into(),
            chain: certificates("certificate chain", chain)?,
            key: PrivateKeyDer::from_pem_slice(key).map_err(|error| IdentityError::Pem {
                what: "private key",
                detail: error.to_string(),
            })?,
            roots: certificates("certificate authorities", roots)?,
        })
    }

    /// TLS as a listener.
    pub(crate) fn server(&self, tls: &Tls) -> Result<rustls::ServerConfig, IdentityError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.root_store()?, tls.provider())
                .build()
                .map_err(|error| IdentityError::Tls(error.to_string()))?;
        let mut config =
            rustls::ServerConfig::builder_with_details(tls.provider(), tls.time_provider())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(tls_error)?
                .with_client_cert_verifier(verifier)
                .with_single_cert(self.chain.clone(), self.key.clone_key())
                .map_err(tls_error)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Links are few and long: a resumed session would save little, and its tickets
        // are one more source of time and randomness.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }

    /// TLS as a dialler.
    pub(crate) fn client(&self, tls: &Tls) -> Result<rustls::ClientConfig, IdentityError> {
        let mut config =
            rustls::ClientConfig::builder_with_details(tls.provider(), tls.time_provider())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(tls_error)?
                .with_root_certificates(self.root_store()?)
                .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
                .map_err(tls_error)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    fn root_store(&self) -> Result<Arc<RootCertStore>, IdentityError> {
        let mut store = RootCertStore::empty();
        for root in &self.roots {
            store.add(root.clone()).map_err(tls_error)?;
        }
        Ok(Arc::new(store))
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeIdentity")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

fn tls_error(error: rustls::Error) -> IdentityError {
    IdentityError::Tls(error.to_string())
}

/// The name that `node`'s certificate must carry.
#[must_use]
pub fn node_name(cluster: &str, node: NodeId) -> String {
    format!("node-{node}.{cluster}.weir")
}

/// Which node a verified certificate speaks for.
pub(crate) fn node_of(
    chain: &[CertificateDer<'_>],
    cluster: &str,
) -> Result<NodeId, IdentityError> {
    let leaf = chain.first().ok_or(IdentityError::Missing)?;
    let leaf = webpki::EndEntityCert::try_from(leaf)
        .map_err(|error| IdentityError::Tls(error.to_string()))?;
    let nodes: Vec<NodeId> = leaf
        .valid_dns_names()
        .filter_map(|name| parse_node_name(name, cluster))
        .collect();
    match nodes.as_slice() {
        [node] => Ok(*node),
        others => Err(IdentityError::Name {
            cluster: cluster.to_owned(),
            found: others.len(),
        }),
    }
}

/// The inverse of [`node_name`], and nothing more: no other spelling of the same id.
fn parse_node_name(name: &str, cluster: &str) -> Option<NodeId> {
    let id = name.strip_prefix("node-")?.split('.').next()?;
    let node = NodeId(id.parse().ok()?);
    (name == node_name(cluster, node)).then_some(node)
}

/// Cryptography and wall clock of TLS, both injected.
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    wall: Arc<WallTime>,
}

impl Tls {
    pub(crate) fn new(provider: &CryptoProvider, clock: Arc<dyn Clock>) -> Self {
        let mut provider = provider.clone();
        // AES-128 costs a fifth less than AES-256 here; QUIC needs it in any case.
        provider
            .cipher_suites
            .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        Self {
            provider: Arc::new(provider),
            wall: Arc::new(WallTime(clock)),
        }
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.provider)
    }

    fn time_provider(&self) -> Arc<dyn TimeProvider> {
        Arc::clone(&self.wall) as Arc<dyn TimeProvider>
    }

    /// The wall clock for address validation tokens.
    pub(crate) fn time_source(&self) -> Arc<dyn quinn::TimeSource> {
        Arc::clone(&self.wall) as Arc<dyn quinn::TimeSource>
    }
}

/// The node's wall clock as TLS and QUIC want it.
struct WallTime(Arc<dyn Clock>);

impl WallTime {
    fn since_epoch(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.wall().0).unwrap_or(0))
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallTime")
    }
}

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.since_epoch()))
    }
}

impl quinn::TimeSource for WallTime {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + self.since_epoch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_name_of_the_own_cluster_counts() {
        let cases = [
            ("node-7.c1.weir", Some(7)),
            ("node-07.c1.weir", None),
            ("node-+7.c1.weir", None),
            ("node-7.c2.weir", None),
            ("node-7.c1.weir.evil", None),
            ("x.node-7.c1.weir", None),
            ("node-4294967296.c1.weir", None),
            ("node-.c1.weir", None),
        ];
        for (name, node) in cases {
            assert_eq!(parse_node_name(name, "c1"), node.map(NodeId), "{name}");
        }
    }

    #[test]
    fn text_that_is_no_pem_is_refused() {
        let error = NodeIdentity::from_pem("c", b"x", b"y", b"z").err().unwrap();
        assert!(matches!(
            error,
            IdentityError::Pem {
                what: "certificate chain",
                ..
            }
        ));
    }
}
