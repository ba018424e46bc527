//! `qpc device`: links a device, on either side, and revokes devices. A code goes through standard
//! input or the screen, never through an argument list.

use std::io::IsTerminal as _;
use std::time::Duration;

use qpc_client::Joining;
use qpc_client::link::{LinkCode, OfferedDevice};
use qpc_client::view::Whoami;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::Place;
use super::register::{make_folder, protection};
use crate::args::{Device, Keeping};
use crate::confirm;
use crate::error::CliError;
use crate::output::Output;
use crate::plain::Plain;
use crate::qr;
use crate::session::{ANSWER, Session};

/// How long a code lives.
const CODE: Duration = Duration::from_secs(10 * 60);
/// How often the primary device looks for an offer.
const POLL: Duration = Duration::from_millis(1_500);
/// How long it looks for one whose code it was given.
const GIVEN: Duration = Duration::from_secs(30);

/// What one device shows for the other one.
#[derive(Serialize)]
struct Shown<'a> {
    code: &'a str,
    url: &'a str,
    /// Of the device that is to be linked; the primary learns it later.
    fingerprint: Option<&'a str>,
}

/// The device that wants to be linked.
#[derive(Serialize)]
struct Offered {
    device: String,
    fingerprint: String,
    linked: bool,
}

impl Plain for Offered {
    fn plain(&self) -> String {
        match self.linked {
            true => format!("linked    {}", self.device),
            false => format!("A device wants to be linked. It shows this fingerprint:\n  {}", {
                &self.fingerprint
            }),
        }
    }
}

#[derive(Serialize)]
struct Revoked {
    revoked: Vec<String>,
    left: usize,
}

impl Plain for Revoked {
    fn plain(&self) -> String {
        let devices = if self.left == 1 { "device is" } else { "devices are" };
        format!("revoked   {}\n{} {devices} left", self.revoked.join(", "), self.left)
    }
}

/// `qpc device ...`.
pub(super) async fn run(
    place: &Place,
    device: Device,
    output: &mut Output,
) -> Result<(), CliError> {
    match device {
        Device::Link { server, code_stdin, keeping } => {
            link(place, (server, code_stdin, keeping), output).await
        }
        Device::Add { code_stdin, yes } => {
            if !yes {
                confirm::can_ask(
                    "no terminal to compare fingerprints on: compare them yourself, then add --yes",
                )?;
            }
            place.with(output, async |s, o| add(s, o, (code_stdin, yes)).await).await
        }
        Device::Revoke { devices, yes } => {
            if !yes {
                confirm::can_ask("revoking a device cannot be taken back: add --yes")?;
            }
            place.with(output, async |s, o| revoke(s, o, (devices, yes)).await).await
        }
    }
}

/// What a person typed for a code.
enum Given {
    Code(LinkCode),
    /// The address of a link, with the code in it.
    Url(Zeroizing<String>),
}

fn given(output: &mut Output) -> Result<Given, CliError> {
    if std::io::stdin().is_terminal() {
        output.complain("Code or address that the other device shows: ");
    }
    let line = Zeroizing::new(confirm::line("the code")?);
    let text = line.trim();
    match text.starts_with("qpc:") {
        true => Ok(Given::Url(Zeroizing::new(text.to_owned()))),
        false => Ok(Given::Code(LinkCode::parse(text)?)),
    }
}

async fn link(
    place: &Place,
    (server, code_stdin, keeping): (Option<String>, bool, Keeping),
    output: &mut Output,
) -> Result<(), CliError> {
    let given = if code_stdin { Some(given(output)?) } else { None };
    let in_arguments = !matches!(given, Some(Given::Url(_)));
    let is_given = given.is_some();
    let (at, code) = match (given, server) {
        (Some(Given::Url(url)), _) => (url, None),
        (Some(Given::Code(code)), Some(server)) => (Zeroizing::new(server), Some(code)),
        (None, Some(server)) => (Zeroizing::new(server), None),
        (_, None) => {
            return Err(CliError::Usage(
                "a code alone does not say where: add --server URL, or give the address of the \
                 link"
                    .to_owned(),
            ));
        }
    };
    if in_arguments && at.contains("/link-") {
        return Err(CliError::Usage(
            "the address of a link holds its code, which others see on a command line: give it to \
             --code-stdin"
                .to_owned(),
        ));
    }
    let protection = protection(place, keeping)?;
    make_folder(place)?;
    let joining = Joining::begin(&place.home(), &at, (&protection, code))?;
    introduce(&joining, is_given, output)?;
    let client = joining.wait().await?;
    let session = Session::of(client.clone());
    let reachable = client.reachable().await;
    let whoami: Whoami = client.whoami().await?;
    drop(client);
    let shown = output.records(&[whoami]);
    output.remark("linked: channels appear here as the account's other devices add this one");
    let closed = session.close(output).await;
    shown.and(reachable.map_err(Into::into)).and(closed)
}

fn introduce(joining: &Joining, is_given: bool, output: &mut Output) -> Result<(), CliError> {
    let (code, url, fingerprint) = (joining.code().text(), joining.url(), joining.fingerprint());
    if output.json() {
        let shown = Shown { code: &code, url: &url, fingerprint: Some(&fingerprint) };
        output.json_record(&shown)?;
        return output.flush();
    }
    if !is_given {
        show_code(output, (&code, &url))?;
        output.line("On the primary device run `qpc device add --code-stdin` and give it that.")?;
    }
    output.line("Go on there only if it shows the same fingerprint of this device:")?;
    output.line(&format!("  {fingerprint}"))?;
    output.flush()
}

fn show_code(output: &mut Output, (code, url): (&str, &str)) -> Result<(), CliError> {
    if std::io::stdout().is_terminal()
        && let Some(picture) = qr::of(url)
    {
        output.line(&picture)?;
    }
    output.line(&format!("Code      {code}"))?;
    output.line(&format!("Address   {url}"))?;
    output.line("It counts for 10 minutes and for one device.")
}

async fn add(
    session: &mut Session,
    output: &mut Output,
    (code_stdin, yes): (bool, bool),
) -> Result<(), CliError> {
    let client = session.client();
    let (code, limit) = match code_stdin {
        true => (code_of(session, given(output)?).await?, GIVEN),
        false => {
            let code = client.link_code();
            let url = client.link_url(&code).await?;
            if output.json() {
                let shown = Shown { code: &code.text(), url: &url, fingerprint: None };
                output.json_record(&shown)?;
            } else {
                show_code(output, (&code.text(), &url))?;
                output.line("On the new device run `qpc device link --code-stdin`.")?;
            }
            output.flush()?;
            (code, CODE)
        }
    };
    let offered = wait_for_offer(session, (&code, limit)).await?;
    let shown = |linked: bool| Offered {
        device: offered.device.to_string(),
        fingerprint: offered.fingerprint(),
        linked,
    };
    output.records(&[shown(false)])?;
    if !yes {
        confirm::ask(output, "Does the new device show the same?", "nothing was linked")?;
    }
    session.answer(ANSWER, client.link_device(&code, offered)).await?;
    output.records(&[shown(true)])
}

async fn code_of(session: &Session, given: Given) -> Result<LinkCode, CliError> {
    let url = match given {
        Given::Code(code) => return Ok(code),
        Given::Url(url) => url,
    };
    let client = session.client();
    let code = url.rsplit_once("/link-").and_then(|(_, rest)| rest.split('#').next());
    let code = LinkCode::parse(code.unwrap_or_default())?;
    if *client.link_url(&code).await? == *url {
        return Ok(code);
    }
    Err(CliError::Usage("this is a link at another server than this account's".to_owned()))
}

async fn wait_for_offer(
    session: &mut Session,
    (code, limit): (&LinkCode, Duration),
) -> Result<OfferedDevice, CliError> {
    let client = session.client();
    let end = Instant::now() + limit;
    loop {
        if let Some(offered) = session.answer(ANSWER, client.offered(code)).await? {
            return Ok(offered);
        }
        if Instant::now() >= end {
            return Err(CliError::Waiting(
                "no device has made an offer under this code: look at it again, or begin again"
                    .to_owned(),
            ));
        }
        sleep(POLL).await;
    }
}

async fn revoke(
    session: &mut Session,
    output: &mut Output,
    (prefixes, yes): (Vec<String>, bool),
) -> Result<(), CliError> {
    let client = session.client();
    if !yes {
        let question = format!("Revoke {} for good?", prefixes.join(", "));
        confirm::ask(output, &question, "nothing was revoked")?;
    }
    let before = client.devices().await?;
    let left = session.answer(ANSWER, client.revoke_devices(prefixes)).await?;
    let is_left = |device: &String| left.iter().any(|entry| entry.device == *device);
    let devices = before.into_iter().map(|entry| entry.device);
    let revoked = devices.filter(|device| !is_left(device)).collect();
    output.records(&[Revoked { revoked, left: left.len() }])
}
