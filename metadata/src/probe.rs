//! The control port: proof that a process is gone.
//!
//! Every node listens on TCP at the port number of its peer address, says nothing, and
//! holds what connects (up to a bound; the rest is closed again). A machine that answers "connection refused" there has no such process any
//! more: that is proof enough to fence the node at once (a wrong guess costs one
//! leader move, never data). Silence proves nothing: it waits for the session.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::Semaphore;
use weir_base::Env;

/// Connections held at once: one from every other node, and strangers.
const CONNECTIONS_MAX: usize = 1024;

/// Splits `host:port`, with brackets around an IPv6 host.
pub(crate) fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').unwrap_or(host);
    let host = host.strip_suffix(']').unwrap_or(host);
    Some((host, port.parse().ok()?))
}

/// Looks up `host:port`.
pub(crate) async fn resolve(env: &Env, address: &str) -> io::Result<SocketAddr> {
    let bad = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("'{address}': not host:port"),
        )
    };
    let (host, port) = split(address).ok_or_else(bad)?;
    let found = env.net.resolve(host, port).await?;
    found.first().copied().ok_or_else(bad)
}

/// Whether the control port at `address` is refused for certain.
pub(crate) async fn is_refused(env: &Env, address: &str, deadline: Duration) -> bool {
    let probe = async {
        let address = resolve(env, address).await?;
        env.net.connect(address).await
    };
    match env.timeout(deadline, probe).await {
        Some(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
        Some(Ok(_)) | None => false,
    }
}

/// Listens at the port of `peer_address` for as long as the node lives: on loopback if
/// that is what it names, else on every interface, since behind address translation
/// the advertised one is not there.
pub(crate) async fn listen(
    env: &Env,
    peer_address: &str,
    bind: Option<SocketAddr>,
) -> io::Result<()> {
    let address = match bind {
        Some(bind) => bind,
        None => {
            let named = resolve(env, peer_address).await?;
            let any: IpAddr = match named.ip() {
                ip if ip.is_loopback() => ip,
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            SocketAddr::new(any, named.port())
        }
    };
    let listener = env.net.listen(address).await?;
    let env_of_task = env.clone();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    env.tasks.spawn("control-port", async move {
        loop {
            match listener.accept().await {
                Ok((mut connection, _)) => {
                    let Ok(permit) = room.clone().try_acquire_owned() else {
                        continue;
                    };
                    env_of_task.tasks.spawn("control-connection", async move {
                        let mut byte = [0];
                        // Nobody has anything to say here: the first byte ends it.
                        drop(connection.read(&mut byte).await);
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: the kernel still accepts.
                    tracing::warn!(%error, "control port");
                    env_of_task.sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn addresses_are_split() {
        assert_eq!(split("a.b:1"), Some(("a.b", 1)));
        assert_eq!(split("[::1]:9092"), Some(("::1", 9092)));
        for bad in ["a", "a:", "a:b", "a:70000"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
