//! The listening end of an operator's socket, and the way from a line to its answer.
//!
//! Decides only what the role of the socket forbids; the desk answers.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use qpc_transport::ServerUrl;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::desk::Asked;
use super::{Answer, EXCHANGE_TIMEOUT, QUESTION_BYTES_MAX, Question, Role};
use crate::error::ServerError;
use crate::server::Server;

/// The superuser, who may ask everything.
const ROOT: u32 = 0;

/// The listening end; its file goes when it is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    role: Role,
    /// The user that the server runs as.
    owner: u32,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // A file left behind is replaced at the next start.
        drop(fs::remove_file(&self.path));
    }
}

impl AdminSocket {
    /// Listens on `path`, replacing a file that a killed server left: call it under the store's
    /// lock. The file's mode is that of its role, 0600 or 0660.
    ///
    /// # Errors
    /// [`ServerError::System`], also for a path longer than a socket's name may be (about 100
    /// bytes).
    pub fn bind(path: PathBuf, role: Role) -> Result<Self, ServerError> {
        let what = || format!("listening on {}", path.display());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ServerError::system(what())(error));
            }
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path).map_err(ServerError::system(what()))?;
        let mode = match role {
            Role::Admin => 0o600,
            Role::Viewer => 0o660,
        };
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(ServerError::system(what()))?;
        let owner = fs::metadata(&path).map_err(ServerError::system(what()))?.uid();
        Ok(Self { listener, path, role, owner })
    }

    /// Answers one question after the other, for as long as it is polled. Invites name `url`.
    pub async fn serve(&self, server: &Server, url: &ServerUrl) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let exchange = self.exchange(stream, server, url);
                    match tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::debug!(%error, "an operator's question failed"),
                        Err(_) => tracing::debug!("an operator's question took too long"),
                    }
                }
                Err(error) => {
                    // Such as too many open files, which passes.
                    tracing::warn!(%error, "the operator's socket failed; trying again");
                    tokio::time::sleep(EXCHANGE_TIMEOUT).await;
                }
            }
        }
    }

    async fn exchange(
        &self,
        stream: UnixStream,
        server: &Server,
        url: &ServerUrl,
    ) -> io::Result<()> {
        let uid = stream.peer_cred()?.uid();
        let (reader, mut writer) = stream.into_split();
        let mut line = String::new();
        let mut reader = tokio::io::BufReader::new(reader.take(QUESTION_BYTES_MAX));
        reader.read_line(&mut line).await?;
        let answer = match serde_json::from_str(&line) {
            Ok(question) => match self.forbids(&question, uid) {
                Some(reason) => Answer::Error(reason.to_owned()),
                None => {
                    let url = url.clone();
                    server.administer(Asked { question, uid: Some(uid), url }).await
                }
            },
            Err(error) => Answer::Error(error.to_string()),
        };
        let mut text = serde_json::to_string(&answer)?;
        text.push('\n');
        writer.write_all(text.as_bytes()).await
    }

    fn forbids(&self, question: &Question, uid: u32) -> Option<&'static str> {
        match self.role {
            // Its file says so already, but not in the moment before its mode was set.
            Role::Admin if uid != self.owner && uid != ROOT => {
                Some("only the user that the server runs as may ask here")
            }
            Role::Viewer if question.changes() => {
                Some("viewer.sock changes nothing; ask as the user that the server runs as")
            }
            Role::Admin | Role::Viewer => None,
        }
    }
}
