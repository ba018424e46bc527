//! The operator's socket of a running server: one JSON line each way, then the connection ends.
//!
//! Reachable only through the data directory, which is its owner's alone.

use std::fs::{self, Permissions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qpc_proto::limits::INVITE_BYTES;
use qpc_transport::ServerUrl;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use zeroize::Zeroizing;

use crate::error::ServerError;
use crate::server::Server;

/// Bytes of one line, its end included.
const LINE_MAX: u64 = 4 * 1_024;
/// Time for one exchange.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// What an operator may ask.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
enum Question {
    /// A one-use invite.
    Invite,
}

/// What the server says.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// The invite's URL.
    Invite(String),
    /// Why not.
    Error(String),
}

/// The listening end; its file goes when it is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // A file left behind is replaced at the next start.
        drop(fs::remove_file(&self.path));
    }
}

impl AdminSocket {
    /// Listens on `path`, replacing a file that a killed server left: call it under the store's
    /// lock.
    ///
    /// # Errors
    /// [`ServerError::System`], also for a path longer than a socket's name may be (about 100
    /// bytes).
    pub fn bind(path: PathBuf) -> Result<Self, ServerError> {
        let what = || format!("listening on {}", path.display());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ServerError::system(what())(error));
            }
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path).map_err(ServerError::system(what()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(ServerError::system(what()))?;
        Ok(Self { listener, path })
    }

    /// Answers one question after the other, for as long as it is polled. Invites name `url`.
    pub async fn serve(&self, server: &Server, url: &ServerUrl) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let exchange = exchange(stream, server, url);
                    match tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::debug!(%error, "an operator's question failed"),
                        Err(_) => tracing::debug!("an operator's question took too long"),
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the operator's socket failed; invites need a restart");
                    return std::future::pending().await;
                }
            }
        }
    }
}

async fn exchange(
    stream: tokio::net::UnixStream,
    server: &Server,
    url: &ServerUrl,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(LINE_MAX));
    reader.read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(Question::Invite) => match server.create_invite().await {
            Ok(code) => Answer::Invite(with_invite(url, code).to_string()),
            Err(body) => Answer::Error(body.to_string()),
        },
        Err(error) => Answer::Error(error.to_string()),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    writer.write_all(text.as_bytes()).await
}

/// Asks the server that listens on `path` for an invite; `None` when none listens.
///
/// # Errors
/// [`ServerError::Refused`] with the server's reason, [`ServerError::System`] when it does not
/// answer.
pub fn ask_for_invite(path: &Path) -> Result<Option<String>, ServerError> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(ServerError::system("asking the running server")(error)),
    };
    match ask(&mut stream, &Question::Invite) {
        Ok(Answer::Invite(url)) => Ok(Some(url)),
        Ok(Answer::Error(reason)) => Err(ServerError::Refused(reason)),
        Err(error) => Err(ServerError::system("asking the running server")(error)),
    }
}

fn ask(stream: &mut UnixStream, question: &Question) -> io::Result<Answer> {
    stream.set_read_timeout(Some(EXCHANGE_TIMEOUT))?;
    stream.set_write_timeout(Some(EXCHANGE_TIMEOUT))?;
    let mut text = serde_json::to_string(question)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// The URL under which a client registers with this invite.
pub fn with_invite(url: &ServerUrl, code: Zeroizing<[u8; INVITE_BYTES]>) -> ServerUrl {
    ServerUrl { invite: Some(code), ..url.clone() }
}
