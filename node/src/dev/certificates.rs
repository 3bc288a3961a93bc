//! The certificates of a development cluster: its own authority, made once.
//!
//! Ed25519 throughout. They do not expire in any developer's life time: they protect a
//! cluster that never leaves one machine.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519,
};

use super::plan::{NodeCertificates, NodePlan, Plan};

/// Makes what is missing of the authority and of the nodes' certificates.
///
/// # Errors
/// If a file cannot be read or written, or an existing key is damaged.
pub(super) fn ensure(directory: &Path, plan: &Plan, cluster: &str) -> io::Result<()> {
    let authority = directory.join("ca.crt");
    let authority_key = directory.join("ca.key");
    let key = match fs::read_to_string(&authority_key) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(|error| bad(&authority_key, &error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = new_key()?;
            write_private(&authority_key, &key.serialize_pem())?;
            key
        }
        Err(error) => return Err(error),
    };
    let issuer = Issuer::new(authority_params(cluster), key);
    if !authority.exists() {
        let certificate = authority_params(cluster)
            .self_signed(issuer.key())
            .map_err(|error| bad(&authority, &error))?;
        write_private(&authority, &certificate.pem())?;
    }
    for node in &plan.nodes {
        ensure_node(directory, node, cluster, &issuer)?;
    }
    Ok(())
}

fn ensure_node(
    directory: &Path,
    node: &NodePlan,
    cluster: &str,
    issuer: &Issuer<'_, KeyPair>,
) -> io::Result<()> {
    let files = NodeCertificates::of(directory, node);
    // The certificate is written last: if it is there, so is its key.
    if files.certificate.exists() {
        return Ok(());
    }
    let key = new_key()?;
    let name = format!("node-{}.{cluster}.weir", node.id);
    let wrong = |error| bad(&files.certificate, &error);
    let mut params = CertificateParams::new(vec![name.clone()]).map_err(wrong)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Every node is both: it accepts links and makes them.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.signed_by(&key, issuer).map_err(wrong)?;
    write_private(&files.key, &key.serialize_pem())?;
    write_private(&files.certificate, &certificate.pem())
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
