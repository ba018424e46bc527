//! The client's own check of itself. Waits for the server as long as it is told to, and says what
//! it could not ask.

use std::time::Duration;

use qpc_proto::message::{Request, Response};

use super::Client;
use crate::doctor;
use crate::error::ClientError;
use crate::home::Home;
use crate::view::Finding;

impl Client {
    /// What a person should look at, and what is in order; `home` is the one that this client was
    /// opened from. Waits up to `limit` for the server.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn doctor(&self, home: &Home, limit: Duration) -> Result<Vec<Finding>, ClientError> {
        let asked = async {
            self.caught_up().await?;
            self.reachable().await?;
            self.ask(Request::ServerInfo).await
        };
        let server = match tokio::time::timeout(limit, asked).await {
            Ok(Ok(Response::ServerInfo(info))) => Some(info),
            // What the server does not tell is said as unchecked.
            Ok(Ok(_) | Err(_)) | Err(_) => None,
        };
        let mut all = vec![doctor::key(home), doctor::versions(server.as_ref())];
        all.extend(self.host.run(|machine, step| machine.findings(step)).await?);
        Ok(all)
    }
}
