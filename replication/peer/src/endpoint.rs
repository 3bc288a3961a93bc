//! Configures quinn so that every random number and every clock comes from the seams.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::HmacKey;
use quinn::{
    AsyncUdpSocket, ClientConfig, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig,
    IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, ValidationTokenConfig, VarInt,
};
use ring::{hkdf, hmac};
use weir_base::{Entropy, Env};

use crate::identity::Tls;
use crate::{IdentityError, NodeIdentity, Options, QuicEnv};

/// Unauthenticated attempts that may wait for their turn; the rest is refused.
const INCOMING_MAX: usize = 256;
/// Bytes buffered for one such attempt: a client's certificate chain fits.
const INCOMING_BYTES_MAX: u64 = 16 * 1024;
/// Datagrams not yet sent or not yet read; the oldest are dropped beyond it.
const DATAGRAM_BUFFER_BYTES: usize = 256 * 1024;
/// First guess of the round trip, which sets how fast a lost first packet is repeated.
const RTT_GUESS: Duration = Duration::from_millis(50);

/// An endpoint that both listens and dials.
pub(crate) struct Endpoints {
    pub(crate) endpoint: Endpoint,
    pub(crate) client: ClientConfig,
}

/// Why an endpoint could not be made.
pub(crate) enum EndpointError {
    Identity(IdentityError),
    Io(io::Error),
}

impl From<IdentityError> for EndpointError {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl From<io::Error> for EndpointError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(crate) fn build(
    env: &Env,
    quic: &dyn QuicEnv,
    identity: &NodeIdentity,
    socket: Arc<dyn AsyncUdpSocket>,
    options: &Options,
) -> Result<Endpoints, EndpointError> {
    let tls = Tls::new(&quic.crypto(), Arc::clone(&env.clock));
    let entropy = env.entropy.fork("quic");
    let transport = Arc::new(transport(options));

    let server = quinn::crypto::rustls::QuicServerConfig::try_from(identity.server(&tls)?)
        .map_err(|error| IdentityError::Tls(error.to_string()))?;
    let mut server = ServerConfig::new(Arc::new(server), Arc::new(token_key(&entropy)));
    server
        .transport_config(Arc::clone(&transport))
        .time_source(tls.time_source())
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_MAX * INCOMING_MAX as u64);
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    server.validation_token_config(tokens);

    let client = quinn::crypto::rustls::QuicClientConfig::try_from(identity.client(&tls)?)
        .map_err(|error| IdentityError::Tls(error.to_string()))?;
    let mut client = ClientConfig::new(Arc::new(client));
    let first_ids = entropy.fork("first ids");
    client
        .transport_config(transport)
        .token_store(Arc::new(quinn::NoneTokenStore))
        .initial_dst_cid_provider(Arc::new(move || random_id(&first_ids)));

    let mut config = EndpointConfig::new(Arc::new(reset_key(identity)));
    let mut seed = [0; 32];
    entropy.fork("protocol").fill(&mut seed);
    config.rng_seed(Some(seed));
    let ids = entropy.fork("ids");
    config.cid_generator(move || Box::new(RandomIds(ids.clone())));
    if let Some(mtu) = options.mtu {
        config
            .max_udp_payload_size(mtu.max(1472))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
    }
    let endpoint =
        Endpoint::new_with_abstract_socket(config, Some(server), socket, quic.runtime())?;
    Ok(Endpoints { endpoint, client })
}

fn transport(options: &Options) -> TransportConfig {
    let idle_millis = u32::try_from(options.idle_timeout.as_millis()).unwrap_or(u32::MAX);
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_millis))))
        .keep_alive_interval(Some(options.keep_alive))
        .initial_rtt(RTT_GUESS)
        .max_concurrent_bidi_streams(VarInt::from_u32(options.streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(options.stream_window_bytes))
        .receive_window(VarInt::from_u32(options.link_window_bytes))
        .send_window(u64::from(options.link_window_bytes))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES);
    if let Some(mtu) = options.mtu {
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(mtu);
        transport
            .initial_mtu(mtu)
            .mtu_discovery_config(Some(discovery));
    }
    transport
}

/// The key of address validation tokens, which need not outlive the process.
fn token_key(entropy: &Entropy) -> hkdf::Prk {
    let mut secret = [0; 64];
    entropy.fork("token key").fill(&mut secret);
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&secret)
}

/// The key of stateless resets. It follows from the node's private key, so that a
/// restarted node can tell its peers at once that their links are dead.
fn reset_key(identity: &NodeIdentity) -> hmac::Key {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, identity.key.secret_der());
    let mut key = [0; 32];
    HmacKey::sign(&secret, b"weir stateless reset", &mut key);
    hmac::Key::new(hmac::HMAC_SHA256, &key)
}

fn random_id(entropy: &Entropy) -> ConnectionId {
    ConnectionId::new(&entropy.next_u64().to_le_bytes())
}

/// Connection ids of 64 random bits each.
struct RandomIds(Entropy);

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        random_id(&self.0)
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
