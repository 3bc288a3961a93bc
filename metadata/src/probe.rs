//! The control port: proof that a process is gone.
//!
//! Every node listens on TCP at the port number of its peer address: the links between
//! nodes do, for their tethers. A machine that answers "connection refused" there has no
//! such process any more: that is proof enough to fence the node at once (a wrong guess
//! costs one leader move, never data). Silence proves nothing: it waits for the session.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use weir_base::Env;

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
