//! Plaintext and TLS on one port, told apart by the first byte.
//!
//! A TLS record of a client starts with 0x16 (handshake), which is the first byte of no
//! protocol served here. Nothing is kept; a crash loses connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use weir_base::ByteStream;

/// The content type of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// Whether clients may, must or cannot encrypt.
#[derive(Debug, Clone, Default)]
pub struct Encryption {
    /// What TLS clients are shown; without it they are refused.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether clients without TLS are refused.
    pub required: bool,
}

/// Looks at the first byte that the client sends and undoes TLS if it is that. The
/// caller sets the deadline.
///
/// # Errors
/// The socket's or the handshake's; `PermissionDenied` names what the client has to do
/// the other way round; `UnexpectedEof` if it sent nothing.
pub async fn sniff(
    mut stream: Box<dyn ByteStream>,
    encryption: &Encryption,
) -> io::Result<Box<dyn ByteStream>> {
    let first = stream.read_u8().await?;
    let stream = Rewound {
        first: Some(first),
        stream,
    };
    let refused = |why| io::Error::new(io::ErrorKind::PermissionDenied, why);
    match &encryption.tls {
        Some(config) if first == TLS_HANDSHAKE => {
            let acceptor = TlsAcceptor::from(Arc::clone(config));
            Ok(Box::new(acceptor.accept(stream).await?))
        }
        None if first == TLS_HANDSHAKE => Err(refused("TLS is not served here: connect without")),
        Some(_) | None if encryption.required => Err(refused("only TLS is served here")),
        Some(_) | None => Ok(Box::new(stream)),
    }
}

/// A stream whose first byte was read already.
struct Rewound {
    first: Option<u8>,
    stream: Box<dyn ByteStream>,
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn first(bytes: &[u8], encryption: &Encryption) -> io::Result<Vec<u8>> {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(bytes).await.unwrap();
        drop(client);
        let mut stream = sniff(Box::new(server), encryption).await?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await?;
        Ok(got)
    }

    #[tokio::test]
    async fn plaintext_passes_whole_unless_tls_is_required() {
        let optional = Encryption::default();
        assert_eq!(
            first(b"PRI * HTTP/2.0", &optional).await.unwrap(),
            b"PRI * HTTP/2.0"
        );
        let required = Encryption {
            required: true,
            ..Encryption::default()
        };
        let error = first(b"PRI", &required).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn tls_is_refused_where_there_is_no_certificate() {
        let error = first(&[TLS_HANDSHAKE, 3, 1], &Encryption::default())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let error = first(&[], &Encryption::default()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
