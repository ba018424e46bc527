//! A hand-made QUIC Initial packet with a TLS 1.2 ClientHello, which no library here would send,
//! and the server's answer to it (RFC 9000 section 17.2.2, RFC 9001 section 5).

use std::net::{Ipv4Addr, SocketAddr};

use qpc_transport::{Limits, TransportError};
use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{Keys, Version};
use tokio::net::UdpSocket;

use crate::support::{identity, listen};

const DATAGRAM: usize = 1200;
const TAG: usize = 16;
const TO_SERVER: [u8; 8] = [0xd0; 8];
const TO_CLIENT: [u8; 8] = [0xc1; 8];

fn client_keys() -> Keys {
    // Irrefutable only while rustls is built without TLS 1.2.
    let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256;
    let suite = suite.quic_suite().unwrap();
    suite.keys(&TO_SERVER, rustls::Side::Client, Version::V1)
}

/// Length-prefixed bytes, the length in two bytes.
fn vec16(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes(), bytes].concat()
}

fn extension(number: u16, body: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes(), vec16(body).as_slice()].concat()
}

/// RFC 5246 section 7.4.1.2; with `supported_versions` (RFC 8446 section 4.2.1) if it names any.
fn client_hello(supported_versions: &[u8]) -> Vec<u8> {
    let mut extensions = [
        extension(0x0a, &vec16(&[0, 0x1d, 0, 0x17])),
        extension(0x0d, &vec16(&[0x04, 0x03, 0x08, 0x07])),
        extension(0x10, &vec16(b"\x03qpc")),
        // Transport parameters: initial_source_connection_id.
        extension(0x39, &[&[0x0f, 8], TO_CLIENT.as_slice()].concat()),
    ]
    .concat();
    if !supported_versions.is_empty() {
        let len = u8::try_from(supported_versions.len()).unwrap();
        extensions.extend(extension(0x2b, &[&[len], supported_versions].concat()));
    }
    let suites = vec16(&[0xc0, 0x2b, 0xc0, 0x2f]);
    let body =
        [&[3, 3], [0x11; 32].as_slice(), &[0], &suites, &[1, 0], &vec16(&extensions)].concat();
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[1, 0], len.as_slice(), &body].concat()
}

fn initial(hello: &[u8]) -> Vec<u8> {
    let hello_len = (u16::try_from(hello.len()).unwrap() | 0x4000).to_be_bytes();
    let mut payload = [&[0x06, 0], hello_len.as_slice(), hello].concat();
    let mut header = vec![0xc3, 0, 0, 0, 1, 8];
    header.extend(TO_SERVER);
    header.push(8);
    header.extend(TO_CLIENT);
    header.push(0);
    let header_len = header.len() + 2 + 4;
    payload.resize(DATAGRAM - header_len - TAG, 0);
    let rest = u16::try_from(4 + payload.len() + TAG).unwrap() | 0x4000;
    header.extend(rest.to_be_bytes());
    header.extend([0; 4]);
    let keys = client_keys().local;
    let tag = keys.packet.encrypt_in_place(0, &header, &mut payload).unwrap();
    let sample = payload[..keys.header.sample_len()].to_vec();
    let (first, numbered) = header.split_at_mut(1);
    let number_at = numbered.len() - 4;
    let number = &mut numbered[number_at..];
    keys.header.encrypt_in_place(&sample, &mut first[0], number).unwrap();
    [&header, payload.as_slice(), tag.as_ref()].concat()
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let len = 1 << (bytes[0] >> 6);
    let (head, rest) = bytes.split_at(len);
    *bytes = rest;
    let value = head.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    value & (u64::MAX >> (66 - 8 * len))
}

/// Error code of the CONNECTION_CLOSE in the server's Initial.
fn close_code(mut packet: Vec<u8>) -> u64 {
    assert_eq!(packet[0] & 0xf0, 0xc0, "an Initial packet");
    assert_eq!(packet[5..14], [&[8], TO_CLIENT.as_slice()].concat());
    let mut rest = &packet[14..];
    rest = &rest[1 + usize::from(rest[0])..];
    let token = varint(&mut rest);
    assert_eq!(token, 0);
    let len = usize::try_from(varint(&mut rest)).unwrap();
    let number_at = packet.len() - rest.len();
    packet.truncate(number_at + len);
    let keys = client_keys().remote;
    let sample_at = number_at + 4;
    let sample = packet[sample_at..sample_at + keys.header.sample_len()].to_vec();
    let (first, numbered) = packet.split_at_mut(1);
    let number = &mut numbered[number_at - 1..number_at + 3];
    keys.header.decrypt_in_place(&sample, &mut first[0], number).unwrap();
    let number_len = usize::from(packet[0] & 3) + 1;
    let (header, payload) = packet.split_at_mut(number_at + number_len);
    let number = header[number_at..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let plain = keys.packet.decrypt_in_place(number, header, payload);
    let mut frames: &[u8] = plain.unwrap();
    loop {
        match varint(&mut frames) {
            0 => {}
            2 => {
                // ACK: largest, delay, count, first range, then count pairs.
                let fields = [varint(&mut frames), varint(&mut frames), varint(&mut frames)];
                for _ in 0..=2 * fields[2] {
                    varint(&mut frames);
                }
            }
            0x1c => return varint(&mut frames),
            other => panic!("frame {other}"),
        }
    }
}

async fn answer(hello: &[u8]) -> (u64, TransportError) {
    let (listener, url) = listen(&identity(), Limits::default());
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let server = SocketAddr::new(url.host.parse().unwrap(), url.port);
    socket.send_to(&initial(hello), server).await.unwrap();
    let refused = listener.accept().await.unwrap().establish().await;
    let mut packet = vec![0; 2048];
    let len = socket.recv(&mut packet).await.unwrap();
    packet.truncate(len);
    (close_code(packet), refused.unwrap_err())
}

#[tokio::test]
async fn case_002_a_client_of_tls_1_2_alone_is_refused_by_protocol_version() {
    for versions in [[].as_slice(), &[3, 3], &[3, 3, 3, 2]] {
        let (code, refused) = answer(&client_hello(versions)).await;
        assert_eq!(code, 0x100 + 70, "protocol_version");
        assert!(matches!(refused, TransportError::TlsVersion), "{refused}");
    }
}

#[tokio::test]
async fn the_hand_made_packet_is_sound() {
    // TLS 1.3 offered by the same packet fails later: it carries no key share.
    let (code, refused) = answer(&client_hello(&[3, 4])).await;
    assert!(code > 0x100 && code != 0x100 + 70, "{code:x}");
    assert!(matches!(refused, TransportError::Handshake(_)), "{refused}");
}
