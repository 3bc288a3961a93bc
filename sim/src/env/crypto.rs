//! TLS without real entropy: seeded randoms, a key exchange whose secrets are drawn from
//! the node's stream, and Ed25519 certificates (whose signatures draw nothing).

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{Error, NamedGroup, PeerMisbehaved};
use weir_base::{Entropy, NodeId};
use weir_peer::{NodeIdentity, node_name};
use x25519_dalek::{PublicKey, StaticSecret};

/// Ciphers of ring, with every random number out of `entropy`.
///
/// rustls wants its sources for ever, so each call leaks two small ones: one call for
/// every start of a node, and a process per sweep.
#[must_use]
pub fn crypto_provider(entropy: &Entropy) -> CryptoProvider {
    let random: &'static SimRandom = Box::leak(Box::new(SimRandom(entropy.fork("tls random"))));
    let group: &'static SimX25519 = Box::leak(Box::new(SimX25519(entropy.fork("key shares"))));
    CryptoProvider {
        kx_groups: vec![group],
        secure_random: random,
        ..rustls::crypto::ring::default_provider()
    }
}

#[derive(Debug)]
struct SimRandom(Entropy);

impl SecureRandom for SimRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        self.0.fill(bytes);
        Ok(())
    }
}

/// X25519; ring's own always asks the operating system.
#[derive(Debug)]
struct SimX25519(Entropy);

impl SupportedKxGroup for SimX25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; 32];
        self.0.fill(&mut secret);
        let secret = StaticSecret::from(secret);
        let public = PublicKey::from(&secret);
        Ok(Box::new(KeyShare { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct KeyShare {
    secret: StaticSecret,
    public: PublicKey,
}

impl ActiveKeyExchange for KeyShare {
    fn complete(self: Box<Self>, theirs: &[u8]) -> Result<SharedSecret, Error> {
        let theirs: [u8; 32] = theirs
            .try_into()
            .map_err(|_| Error::from(PeerMisbehaved::InvalidKeyShare))?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(theirs));
        Ok(SharedSecret::from(shared.as_bytes().as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// The cluster's certificate authority. Its keys are fixed: identities are no matter of
/// chance.
pub struct Authority {
    cluster: String,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    /// The authority of `cluster`.
    ///
    /// # Errors
    /// If `cluster` is no DNS label.
    pub fn new(cluster: &str) -> anyhow::Result<Self> {
        let key = key_pair(&ed25519_key(0))?;
        let mut params = CertificateParams::new(vec![])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key)?.der().clone();
        Ok(Self {
            cluster: cluster.to_owned(),
            issuer: Issuer::new(params, key),
            root,
        })
    }

    /// The certificate and key of `node`, the same at every call.
    ///
    /// # Errors
    /// If the cluster's name makes no certificate.
    pub fn identity(&self, node: NodeId) -> anyhow::Result<NodeIdentity> {
        let key = ed25519_key(u64::from(node.0) + 1);
        let params = CertificateParams::new(vec![node_name(&self.cluster, node)])?;
        let leaf = params.signed_by(&key_pair(&key)?, &self.issuer)?;
        Ok(NodeIdentity {
            cluster: self.cluster.clone(),
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::Pkcs8(key),
            roots: vec![self.root.clone()],
        })
    }
}

fn key_pair(key: &PrivatePkcs8KeyDer<'static>) -> anyhow::Result<KeyPair> {
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(key, &PKCS_ED25519)?)
}

/// Ed25519 key number `number`, in PKCS #8 (RFC 8410).
fn ed25519_key(number: u64) -> PrivatePkcs8KeyDer<'static> {
    const PREFIX: [u8; 16] = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    let mut secret = [0; 32];
    Entropy::from_seed([0x57; 32])
        .fork(&format!("certificate {number}"))
        .fill(&mut secret);
    PrivatePkcs8KeyDer::from([PREFIX.as_slice(), &secret].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_the_same_every_time() {
        let of = |node| {
            let authority = Authority::new("sim").unwrap();
            authority.identity(NodeId(node)).unwrap().chain
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn both_ends_of_a_key_exchange_agree() {
        let entropy = Entropy::from_seed([9; 32]);
        let group = SimX25519(entropy);
        let (one, two) = (group.start().unwrap(), group.start().unwrap());
        let (to_one, to_two) = (two.pub_key().to_vec(), one.pub_key().to_vec());
        let a = one.complete(&to_one).unwrap();
        let b = two.complete(&to_two).unwrap();
        assert_eq!(a.secret_bytes(), b.secret_bytes());
    }
}
