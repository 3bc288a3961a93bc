//! Certificates that Weir makes by itself: those of a development cluster, with an
//! authority made once, that of a node which is its whole cluster, and the one that a
//! node shows to clients who encrypt without being told whom to trust.
//!
//! Ed25519 between nodes. They do not expire in anybody's life time: they protect links
//! that never leave one machine. Clusters of several machines bring their own.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use weir_base::NodeId;
use weir_peer::{IdentityError, NodeIdentity, node_name};

use crate::options::NodeOptions;

/// What signs the certificates of one cluster's nodes.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cluster: String,
}

impl Authority {
    /// The authority whose key lies in `directory` (`ca.key`, `ca.crt`), made if there is
    /// none.
    ///
    /// # Errors
    /// If a file cannot be read or written, or the key is damaged.
    pub fn open(directory: &Path, cluster: &str) -> io::Result<Self> {
        let path = directory.join("ca.key");
        let key = match fs::read_to_string(&path) {
            Ok(pem) => KeyPair::from_pem(&pem).map_err(|error| bad(&path, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = new_key()?;
                write_private(&path, &key.serialize_pem())?;
                key
            }
            Err(error) => return Err(error),
        };
        let authority = Self::of(key, cluster);
        let path = directory.join("ca.crt");
        if !path.exists() {
            write_private(&path, &authority.certificate()?.pem())?;
        }
        Ok(authority)
    }

    /// Makes a node's certificate and key, if they are not there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn ensure_node(&self, node: u32, certificate: &Path, key: &Path) -> io::Result<()> {
        // The certificate is written last: if it is there, so is its key.
        if certificate.exists() {
            return Ok(());
        }
        let (signed, node_key) = self.sign(node)?;
        write_private(key, &node_key.serialize_pem())?;
        write_private(certificate, &signed.pem())
    }

    fn of(key: KeyPair, cluster: &str) -> Self {
        Self {
            issuer: Issuer::new(authority_params(cluster), key),
            cluster: cluster.to_owned(),
        }
    }

    fn certificate(&self) -> io::Result<Certificate> {
        authority_params(&self.cluster)
            .self_signed(self.issuer.key())
            .map_err(io::Error::other)
    }

    fn sign(&self, node: u32) -> io::Result<(Certificate, KeyPair)> {
        let key = new_key()?;
        let name = node_name(&self.cluster, NodeId(node));
        let mut params = CertificateParams::new(vec![name.clone()]).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Every node is both: it accepts links and makes them.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(io::Error::other)?;
        Ok((certificate, key))
    }
}

/// The same for every run, so that the authority's key alone makes it an issuer again.
fn authority_params(cluster: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{cluster}.weir authority"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Who this node is on its links: from the files that the options name, or, for a node
/// that is its whole cluster and names none, made for this run alone.
///
/// # Errors
/// Which option's file is no good.
pub fn identity(options: &NodeOptions) -> io::Result<NodeIdentity> {
    let cluster = &options.node.cluster;
    let peer = &options.peer;
    let (Some(certificate), Some(key), Some(authority)) =
        (&peer.tls_cert, &peer.tls_key, &peer.tls_ca)
    else {
        return lone_identity(options.node.id, cluster);
    };
    let read = |option: &str, path: &Path| {
        fs::read(path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("{option} = {:?}: {error}", path.display().to_string()),
            )
        })
    };
    NodeIdentity::from_pem(
        cluster.as_str(),
        &read("peer.tls_cert", certificate)?,
        &read("peer.tls_key", key)?,
        &read("peer.tls_ca", authority)?,
    )
    .map_err(|error| refused(&error))
}

/// What TLS clients are shown: the files that the options name, or a certificate made at
/// the first start and kept in the data directory (`rocketmq.crt`, `rocketmq.key`). It is
/// its own authority, for clients that want to be given one.
///
/// # Errors
/// If a file cannot be read or written, or is no good.
pub fn client_tls(options: &NodeOptions) -> io::Result<Arc<ServerConfig>> {
    let front = &options.rocketmq;
    let (certificate, key) = match (&front.tls_cert, &front.tls_key) {
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        (_, _) => {
            let data = &options.node.data;
            let files = (data.join("rocketmq.crt"), data.join("rocketmq.key"));
            make_client_tls(options, &files.0, &files.1)?;
            files
        }
    };
    let bad = |path: &Path, why: String| {
        io::Error::other(format!("rocketmq TLS, {}: {why}", path.display()))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect)
        .map_err(|error| bad(&certificate, error.to_string()))?;
    let private =
        PrivateKeyDer::from_pem_file(&key).map_err(|error| bad(&key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| {
            config
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(|error| bad(&certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn make_client_tls(options: &NodeOptions, certificate: &Path, key: &Path) -> io::Result<()> {
    if certificate.exists() {
        return Ok(());
    }
    let listen = options.rocketmq.listen.ip().to_string();
    let told = options.rocketmq.advertised.as_ref();
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), listen];
    names.extend(told.map(|told| told.host.clone()));
    names.sort();
    names.dedup();
    // Not Ed25519: clients whose TLS is BoringSSL do not offer to take it.
    let private = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    params
        .distinguished_name
        .push(DnType::CommonName, options.display_name());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let signed = params.self_signed(&private).map_err(io::Error::other)?;
    // The certificate is written last: if it is there, so is its key.
    write_private(key, &private.serialize_pem())?;
    write_private(certificate, &signed.pem())
}

/// Nobody else has a certificate of this authority, whose key is gone after this call.
fn lone_identity(node: u32, cluster: &str) -> io::Result<NodeIdentity> {
    let authority = Authority::of(new_key()?, cluster);
    let (certificate, key) = authority.sign(node)?;
    NodeIdentity::from_pem(
        cluster,
        certificate.pem().as_bytes(),
        key.serialize_pem().as_bytes(),
        authority.certificate()?.pem().as_bytes(),
    )
    .map_err(|error| refused(&error))
}

fn refused(error: &IdentityError) -> io::Error {
    io::Error::other(format!(
        "peer.tls_cert, peer.tls_key, peer.tls_ca: {error}; give PEM files made for this node"
    ))
}

fn new_key() -> io::Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ED25519).map_err(io::Error::other)
}

fn bad(path: &Path, error: &rcgen::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// Writes a file that only the owner may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_signs_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let files = |node: u32| {
            (
                path.join(format!("{node}.crt")),
                path.join(format!("{node}.key")),
            )
        };
        let (certificate, key) = files(1);
        Authority::open(path, "c")
            .unwrap()
            .ensure_node(1, &certificate, &key)
            .unwrap();
        let first = [&path.join("ca.crt"), &certificate, &key].map(|p| fs::read(p).unwrap());
        let again = Authority::open(path, "c").unwrap();
        again.ensure_node(1, &certificate, &key).unwrap();
        let second = [&path.join("ca.crt"), &certificate, &key].map(|p| fs::read(p).unwrap());
        assert_eq!(first, second);
        let (other, other_key) = files(2);
        again.ensure_node(2, &other, &other_key).unwrap();

        let mut options = NodeOptions::default();
        options.node.cluster = "c".to_owned();
        options.peer.tls_ca = Some(path.join("ca.crt"));
        options.peer.tls_cert = Some(other);
        options.peer.tls_key = Some(other_key);
        assert_eq!(identity(&options).unwrap().chain.len(), 1);
        options.peer.tls_key = Some(path.join("none.key"));
        let error = identity(&options).unwrap_err().to_string();
        assert!(
            error.contains("peer.tls_key = ") && error.contains("none.key"),
            "{error}"
        );
        options.peer.tls_key = Some(path.join("ca.crt"));
        let error = identity(&options).unwrap_err().to_string();
        assert!(error.contains("private key"), "{error}");
    }

    #[test]
    fn clients_are_shown_one_certificate_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let mut options = NodeOptions::default();
        options.node.data = directory.path().to_owned();
        let config = client_tls(&options).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2"]);
        let file = directory.path().join("rocketmq.crt");
        let first = fs::read(&file).unwrap();
        client_tls(&options).unwrap();
        assert_eq!(fs::read(&file).unwrap(), first);
        fs::write(&file, "no certificate").unwrap();
        let error = client_tls(&options).unwrap_err().to_string();
        assert!(error.contains("rocketmq.crt"), "{error}");
    }

    #[test]
    fn a_lone_node_needs_no_files() {
        let identity = identity(&NodeOptions::default()).unwrap();
        assert_eq!((identity.chain.len(), identity.roots.len()), (1, 1));
    }
}
