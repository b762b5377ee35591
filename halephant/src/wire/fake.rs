//! Sockets for tests.

use tokio::net::{TcpListener, TcpStream};

/// Two connected sockets.
pub(crate) async fn socket_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("the listener is bound");
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    (ours.expect("the listener listens"), theirs.expect("somebody connected").0)
}
