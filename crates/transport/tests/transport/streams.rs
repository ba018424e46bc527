//! Frames over streams, the same over QUIC and in memory.

use qpc_proto::frame::{Frame, FrameError};
use qpc_proto::limits::FRAME_BYTES_MAX;
use qpc_transport::{CloseReason, Connection, FrameReceiver, FrameSender, Limits, TransportError};

use crate::raw;
use crate::support::{assert_same, both_kinds, cancelled, identity, listen, reply};

/// Opens a stream with a first frame, which the server has read.
async fn stream(
    client: &Connection,
    server: &Connection,
) -> ((FrameSender, FrameReceiver), (FrameSender, FrameReceiver)) {
    let mut near = client.open_stream().await.unwrap();
    near.0.send(&Frame::End).await.unwrap();
    let mut far = server.accept_stream().await.unwrap().unwrap();
    assert_same(far.1.next().await.unwrap(), &Frame::End);
    (near, far)
}

#[tokio::test]
async fn frames_arrive_whole_and_in_order_both_ways() {
    for (client, server) in both_kinds().await {
        let ((mut send, mut receive), (mut answer, mut requests)) = stream(&client, &server).await;
        let frames = [reply(0, 0), reply(3, 1), reply(40_000, 2), reply(5, 3)];
        let sending = async {
            send.send_all(&frames).await.unwrap();
            send.finish().await.unwrap();
            send.delivered().await.unwrap();
        };
        let reading = async {
            for frame in &frames {
                assert_same(requests.next().await.unwrap(), frame);
            }
            assert!(requests.next().await.unwrap().is_none());
            assert!(requests.next().await.unwrap().is_none());
            answer.send(&reply(1, 9)).await.unwrap();
        };
        tokio::join!(sending, reading);
        assert_same(receive.next().await.unwrap(), &reply(1, 9));
    }
}

#[tokio::test]
async fn the_largest_frame_passes() {
    for (client, server) in both_kinds().await {
        let ((mut send, _receive), (_answer, mut requests)) = stream(&client, &server).await;
        let largest = reply(FRAME_BYTES_MAX, 5);
        let (sent, got) = tokio::join!(send.send(&largest), requests.next());
        sent.unwrap();
        assert_same(got.unwrap(), &largest);
        assert!(!requests.is_inside_frame());
    }
}

#[tokio::test]
async fn case_033_a_frame_that_is_too_large_is_refused_by_its_header() {
    for (client, server) in both_kinds().await {
        let ((mut send, _receive), (_answer, mut requests)) = stream(&client, &server).await;
        let (_sent, got) = tokio::join!(
            // The end of the reader ends the sender too.
            async { send.send(&reply(FRAME_BYTES_MAX + 1, 5)).await },
            async {
                let got = requests.next().await;
                requests.stop(3);
                got
            }
        );
        let error = got.unwrap_err();
        assert!(matches!(error, TransportError::Frame(FrameError::TooLarge)), "{error}");
    }
}

#[tokio::test]
async fn a_limited_receiver_holds_no_more_than_its_limit() {
    for (client, server) in both_kinds().await {
        let ((mut send, _receive), (_answer, mut requests)) = stream(&client, &server).await;
        requests.limit_frames(1000);
        let (fits, too_long) = (reply(1000, 5), reply(100_000, 5));
        let (sent, got) = tokio::join!(send.send(&fits), requests.next());
        sent.unwrap();
        assert_same(got.unwrap(), &fits);
        let (_sent, got) = tokio::join!(send.send(&too_long), requests.next());
        let error = got.unwrap_err();
        assert!(matches!(error, TransportError::Frame(FrameError::TooLarge)), "{error}");
    }
}

#[tokio::test]
async fn cancelled_calls_lose_and_repeat_nothing() {
    for (client, server) in both_kinds().await {
        let ((mut send, _receive), (_answer, mut requests)) = stream(&client, &server).await;
        assert!(cancelled(requests.next()).await.is_none());
        // Larger than every window and queue, so that the first poll cannot finish it.
        let large = reply(4 << 20, 6);
        assert!(cancelled(send.send(&large)).await.is_none());
        let sending = async {
            send.send(&reply(2, 7)).await.unwrap();
            send.finish().await.unwrap();
        };
        let reading = async {
            let mut cancellations = 0;
            let first = loop {
                match cancelled(requests.next()).await {
                    Some(frame) => break frame.unwrap(),
                    None => cancellations += 1,
                }
                tokio::task::yield_now().await;
            };
            assert!(cancellations > 0);
            assert_same(first, &large);
            assert_same(requests.next().await.unwrap(), &reply(2, 7));
            assert!(requests.next().await.unwrap().is_none());
        };
        tokio::join!(sending, reading);
    }
}

#[tokio::test]
async fn a_reset_reaches_the_receiver_and_a_stop_the_sender() {
    for (client, server) in both_kinds().await {
        let ((mut send, receive), (mut answer, mut requests)) = stream(&client, &server).await;
        send.reset(11);
        let error = requests.next().await.unwrap_err();
        assert!(matches!(error, TransportError::Reset(11)), "{error}");
        let error = send.send(&Frame::End).await.unwrap_err();
        assert!(matches!(error, TransportError::Closed(CloseReason::Local)), "{error}");

        let mut receive = receive;
        receive.stop(12);
        let error = loop {
            if let Err(error) = answer.send(&reply(10_000, 1)).await {
                break error;
            }
        };
        assert!(matches!(error, TransportError::Reset(12)), "{error}");
        let error = receive.next().await.unwrap_err();
        assert!(matches!(error, TransportError::Closed(CloseReason::Local)), "{error}");
        // The connection lives.
        stream(&client, &server).await;
    }
}

#[tokio::test]
async fn dropped_halves_end_the_stream() {
    for (client, server) in both_kinds().await {
        let ((send, receive), (mut answer, mut requests)) = stream(&client, &server).await;
        drop(send);
        assert!(requests.next().await.unwrap().is_none());
        drop(receive);
        let error = loop {
            if let Err(error) = answer.send(&reply(10_000, 1)).await {
                break error;
            }
        };
        assert!(matches!(error, TransportError::Reset(0)), "{error}");
    }
}

#[tokio::test]
async fn a_closed_connection_ends_waiting_streams() {
    for (client, server) in both_kinds().await {
        let ((mut send, mut receive), (_answer, _requests)) = stream(&client, &server).await;
        let large = reply(4 << 20, 1);
        let (sent, got, ()) = tokio::join!(send.send(&large), receive.next(), async {
            server.close(5, "");
        });
        for error in [sent.unwrap_err(), got.unwrap_err()] {
            let TransportError::Closed(CloseReason::Peer { code, .. }) = error else {
                panic!("{error}");
            };
            assert_eq!(code, 5);
        }
    }
}

#[tokio::test]
async fn case_032_a_stream_cut_inside_a_frame_is_truncated_or_reset() {
    let whole = reply(50, 1).encode();
    let (listener, url) = listen(&identity(), Limits::default());
    let (_endpoint, connecting) = raw::dial(&url, &[b"qpc"], None);
    let (client, server) =
        tokio::join!(connecting, async { listener.accept().await.unwrap().establish().await });
    let (client, server) = (client.unwrap(), server.unwrap());
    for cut in 1..whole.len() {
        let (mut send, _receive) = client.open_bi().await.unwrap();
        send.write_all(&whole[..cut]).await.unwrap();
        let (_answer, mut requests) = server.accept_stream().await.unwrap().unwrap();
        assert!(cancelled(requests.next()).await.is_none());
        if cut % 2 == 0 {
            send.finish().unwrap();
            let error = requests.next().await.unwrap_err();
            let truncated = TransportError::Frame(FrameError::Truncated);
            assert_eq!(error.to_string(), truncated.to_string(), "cut at {cut}");
        } else {
            send.reset(quinn::VarInt::from_u32(4)).unwrap();
            let error = requests.next().await.unwrap_err();
            assert!(matches!(error, TransportError::Reset(4)), "cut at {cut}: {error}");
        }
    }
}
