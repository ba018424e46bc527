//! UDP sockets with room for what arrives while their task waits for a processor.
//! Never sends or receives.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::SockRef;

/// Bytes that may have arrived and not been read, packets' overhead in the kernel among them. What
/// comes on top of it is lost and sent again: a server with many followers gets all their
/// acknowledgements at once, and a client a whole page. The system may give less (on Linux
/// `net.core.rmem_max`).
const RECEIVE_BYTES: usize = 4 * 1024 * 1024;

/// A socket at `addr` (port 0: any free one).
pub(crate) fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(addr)?;
    let options = SockRef::from(&socket);
    // Any other size serves, only worse; a larger one stays.
    if options.recv_buffer_size().is_ok_and(|bytes| bytes < RECEIVE_BYTES)
        && let Err(error) = options.set_recv_buffer_size(RECEIVE_BYTES)
    {
        tracing::debug!(%error, "the socket's buffer stays as it was");
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_no_less_room_than_the_system_gives_by_itself() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let room = |socket: &UdpSocket| SockRef::from(socket).recv_buffer_size().unwrap();
        assert!(room(&bind(any).unwrap()) >= room(&UdpSocket::bind(any).unwrap()));
    }
}
