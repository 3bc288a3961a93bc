//! TCP on the machine's sockets, Nagle's algorithm off: a request is a whole message.

#![expect(
    clippy::disallowed_methods,
    reason = "this crate is where the machine's sockets are opened"
)]

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use weir_base::{BoxFuture, ByteStream, Listener, Net};

/// Connections the kernel may hold that nobody accepted yet; beyond it clients wait.
const BACKLOG: u32 = 1024;

/// The machine's TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsNet;

impl Net for OsNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            // A restarted node takes its port back while old connections linger.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let listener = OsListener(socket.listen(BACKLOG)?);
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }

    fn resolve(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let host = host.to_owned();
        Box::pin(async move {
            Ok(tokio::net::lookup_host((host.as_str(), port))
                .await?
                .collect())
        })
    }
}

struct OsListener(TcpListener);

impl Listener for OsListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn ByteStream>, from))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_cross_and_a_closed_port_refuses() {
        let listener = OsNet
            .listen("127.0.0.1:0".parse().unwrap())
            .await
            .ok()
            .unwrap();
        let address = listener.local_address().unwrap();
        let taken = OsNet.listen(address).await.err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);

        let (client, server) = tokio::join!(OsNet.connect(address), listener.accept());
        let (mut client, (mut server, _)) = (client.ok().unwrap(), server.ok().unwrap());
        client.write_all(b"weir").await.unwrap();
        let mut got = [0; 4];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"weir");

        drop((listener, client, server));
        let refused = OsNet.connect(address).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let found = OsNet.resolve("127.0.0.1", 9).await.unwrap();
        assert_eq!(found, ["127.0.0.1:9".parse().unwrap()]);
    }
}
