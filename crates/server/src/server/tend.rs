//! What a running server does from time to time: sweeps, writes acknowledgements, gives disk back.
//! Sweeps are offered to the writer, which has more urgent work first.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use qpc_proto::ChannelId;

use super::Server;
use crate::node::{Refused, Task, Work};
use crate::sweep::ACKED_AT_ONCE;
use crate::{acks, audit};

/// How long an acknowledgement waits to be written, if nobody asks about it.
const ACKS_EVERY: Duration = Duration::from_secs(1);

impl Server {
    /// Offers one step of a sweep to the writer; the next comes when that is done.
    pub(super) fn sweep(&self) {
        self.shared.writer.offer(audit::note(&self.shared.audit));
        // Taken only if they can be looked at: the next sweep comes.
        let room = self.shared.writer.has_room();
        let acks = room.then(|| self.shared.acks.channels(ACKED_AT_ONCE));
        self.sweep_step(acks.unwrap_or_default());
        self.shared.writer.release();
    }

    fn sweep_step(&self, (acked, more_acked): (Vec<ChannelId>, bool)) {
        let node = Arc::clone(&self.shared.node);
        let now_ms = self.shared.now_ms();
        let sweep_on = Arc::clone(&self.shared.sweep_on);
        let task: Task = Box::new(move |tx, mut rng| match node.sweep(tx, now_ms, &acked) {
            Ok((outputs, more)) => {
                if more || more_acked {
                    sweep_on.notify_one();
                }
                Ok(outputs)
            }
            Err(refusal) => Err(Refused::new(refusal, &mut rng)),
        });
        self.shared.writer.offer(Work::Task(task));
    }

    /// Writes acknowledgements from time to time, for as long as it is polled.
    pub(super) async fn keep_acks(&self) -> Infallible {
        let mut due = tokio::time::interval(ACKS_EVERY);
        loop {
            due.tick().await;
            acks::write_all(&self.shared).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Policy, schemas};
    use crate::server::{Limits, Settings};
    use qpc_proto::message::{Cursor, DeviceRef};
    use qpc_proto::{AccountId, DeviceId};
    use qpc_storage::{Durability, Key, Options, Store};
    use qpc_transport::{Listener, ServerIdentity};
    use std::net::{Ipv4Addr, SocketAddr};

    #[tokio::test]
    async fn a_server_that_serves_writes_what_was_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(Key::from_bytes([1; 32]), schemas());
        let options = options.with_durability(Durability::Process);
        let store = Store::open(&dir.path().join("server.db"), &options).unwrap();
        let clock: crate::clock::Clock = Arc::new(|| 1_000);
        let settings = Settings::new(Policy::default(), Limits::default(), clock);
        let server = Server::start(store, settings).unwrap();
        let identity = ServerIdentity::generate(&["localhost".to_owned()], 1_000).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind(any, &identity, qpc_transport::Limits::default()).unwrap();
        let acks = &server.shared.acks;
        let device = DeviceRef { account: AccountId([1; 16]), device: DeviceId([2; 16]) };
        assert!(acks.note(device, &[Cursor { channel: ChannelId([3; 16]), seq: 4 }]));
        let written = async {
            while !acks.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = server.serve(&listener, std::future::pending()) => panic!("it serves on"),
            () = written => {}
        }
        // A channel that the device was never in is nothing to look at.
        assert_eq!(acks.channels(1), (vec![], false));
        server.stop().await.unwrap();
    }
}
