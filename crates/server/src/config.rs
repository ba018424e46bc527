//! The configuration file: parsed strictly, every value checked where it stands, so that an error
//! names its line. Never reads the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use qpc_proto::message::RegistrationMode;
use qpc_transport::ServerUrl;
use serde::de::{Deserialize, Deserializer, Error as _};
use tracing_subscriber::EnvFilter;

use crate::audit::Keeping;
use crate::error::ServerError;
use crate::limits::{AddressLists, Limiter, Period, Rate, Rates};
use crate::node::Policy;
use crate::server::Limits;

/// The file that `init` writes: every setting with its default, commented out.
pub const EXAMPLE: &str = include_str!("../../../docs/operate/config.example.toml");

/// The line of [`EXAMPLE`] that `init --host` replaces.
const PUBLIC_ADDRESS_LINE: &str = "#public_address = \"chat.example.org\"";

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen, UDP.
    pub listen: SocketAddr,
    /// What clients are told: a host, or a host and a port.
    pub public_address: Option<String>,
    /// Filter of the log.
    pub log: String,
    /// What the operator decides about the services.
    pub policy: Policy,
    /// Named limits of the sessions.
    pub limits: Limits,
    /// Which addresses may connect.
    pub addresses: AddressLists,
    /// Files of the audit log.
    pub audit: Keeping,
}

impl Default for Config {
    fn default() -> Self {
        RawConfig::default().into()
    }
}

/// The file as it stands.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    listen: SocketAddr,
    public_address: Option<String>,
    log: String,
    registration: RawRegistration,
    #[serde(deserialize_with = "within::<1, 30, _>")]
    retention_days: u64,
    #[serde(deserialize_with = "within::<1, 30, _>")]
    outbox_days: u64,
    #[serde(deserialize_with = "within::<128, 65_536, _>")]
    channel_mib: u64,
    #[serde(deserialize_with = "within::<1, 1_000, _>")]
    commit_burst: u64,
    #[serde(deserialize_with = "within::<0, 3_600, _>")]
    commit_seconds: u64,
    #[serde(deserialize_with = "within::<0, 60, _>")]
    commit_channel_seconds: u64,
    #[serde(deserialize_with = "within::<1, 1_440, _>")]
    access_token_minutes: u64,
    #[serde(deserialize_with = "within::<1, 365, _>")]
    refresh_token_days: u64,
    #[serde(deserialize_with = "within::<1, 90, _>")]
    invite_days: u64,
    #[serde(deserialize_with = "within::<0, 32, _>")]
    proof_of_work_bits: u64,
    #[serde(deserialize_with = "within::<1, 1_000_000, _>")]
    proof_of_work_raise_above: u64,
    #[serde(deserialize_with = "within::<1, 365, _>")]
    deletion_grace_days: u64,
    #[serde(deserialize_with = "within::<1, 1_000_000, _>")]
    connections_max: u64,
    #[serde(deserialize_with = "within::<1, 1_000_000, _>")]
    connections_per_network_max: u64,
    #[serde(deserialize_with = "networks")]
    allow: Vec<IpNet>,
    #[serde(deserialize_with = "networks")]
    deny: Vec<IpNet>,
    #[serde(deserialize_with = "within::<1_024, 10_000_000, _>")]
    rate_keys_max: u64,
    rates: BTreeMap<Limiter, RawRate>,
    #[serde(deserialize_with = "within::<1, 64, _>")]
    readers: u64,
    #[serde(deserialize_with = "within::<1, 3_650, _>")]
    audit_days: u64,
    #[serde(deserialize_with = "within::<1, 1_024, _>")]
    audit_file_mib: u64,
}

/// A rate as it stands in the file.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRate {
    #[serde(deserialize_with = "within::<1, 1_000_000, _>")]
    count: u64,
    per: Period,
    #[serde(deserialize_with = "within::<1, 1_000_000, _>")]
    burst: u64,
}

#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawRegistration {
    Invite,
    Open,
    Closed,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 4810)),
            public_address: None,
            log: "info".to_owned(),
            registration: RawRegistration::Invite,
            retention_days: 7,
            outbox_days: 7,
            channel_mib: 256,
            commit_burst: 3,
            commit_seconds: 60,
            commit_channel_seconds: 2,
            access_token_minutes: 15,
            refresh_token_days: 60,
            invite_days: 7,
            proof_of_work_bits: 20,
            proof_of_work_raise_above: 30,
            deletion_grace_days: 30,
            connections_max: 10_000,
            connections_per_network_max: 64,
            allow: Vec::new(),
            deny: Vec::new(),
            rate_keys_max: 16_384,
            rates: BTreeMap::new(),
            readers: 2,
            audit_days: 90,
            audit_file_mib: 16,
        }
    }
}

impl From<RawConfig> for Config {
    fn from(raw: RawConfig) -> Self {
        let mut policy = Policy::default();
        policy.auth.registration = match raw.registration {
            RawRegistration::Invite => RegistrationMode::Invite,
            RawRegistration::Open => RegistrationMode::Open,
            RawRegistration::Closed => RegistrationMode::Closed,
        };
        policy.auth.access_ttl_ms = minutes(raw.access_token_minutes);
        policy.auth.refresh_ttl_ms = days(raw.refresh_token_days);
        policy.auth.invite_ttl_ms = days(raw.invite_days);
        policy.auth.pow_bits = u8::try_from(raw.proof_of_work_bits).unwrap_or(u8::MAX);
        policy.auth.pow_raise_above = raw.proof_of_work_raise_above;
        policy.auth.deletion_grace_ms = days(raw.deletion_grace_days);
        deliver(&raw, &mut policy.delivery);
        let rates = rates(&raw);
        Self {
            listen: raw.listen,
            public_address: raw.public_address,
            log: raw.log,
            policy,
            audit: Keeping::of(raw.audit_file_mib, raw.audit_days),
            limits: Limits {
                connections_max: size(raw.connections_max),
                connections_per_network_max: size(raw.connections_per_network_max),
                readers: size(raw.readers),
                rates,
                ..Limits::default()
            },
            addresses: AddressLists { allow: raw.allow, deny: raw.deny },
        }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ServerError::System`] when it cannot be read, [`ServerError::Config`] naming the line when
    /// it is wrong.
    pub fn read(file: &Path) -> Result<Self, ServerError> {
        let text = std::fs::read_to_string(file)
            .map_err(ServerError::system(format!("reading {}", file.display())))?;
        Self::parse(&text).map_err(|detail| ServerError::Config { file: file.to_owned(), detail })
    }

    /// Checks the text of a file.
    ///
    /// # Errors
    /// Line, column and reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        if let Some(address) = &raw.public_address {
            Endpoint::parse(address).map_err(|error| format!("public_address: {error}"))?;
        }
        check_log(&raw.log).map_err(|error| format!("log: {error}"))?;
        Ok(raw.into())
    }

    /// Where clients find a server that listens on `bound` with this key fingerprint (SHA-256, 32
    /// bytes): the public address where there is one, else the address itself, or loopback for
    /// "any".
    ///
    /// # Errors
    /// [`ServerError::Address`] when the public address is none.
    pub fn url(&self, bound: SocketAddr, fingerprint: [u8; 32]) -> Result<ServerUrl, ServerError> {
        let own = match bound.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
        };
        let endpoint = match &self.public_address {
            Some(address) => Endpoint::parse(address)?,
            None => Endpoint { host: own.to_string(), port: None },
        };
        Ok(ServerUrl {
            host: endpoint.host,
            port: endpoint.port.unwrap_or(bound.port()),
            fingerprint,
            invite: None,
        })
    }
}

/// Checks a filter of the log.
///
/// # Errors
/// What is wrong with it.
pub fn check_log(filter: &str) -> Result<(), String> {
    EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string())
}

/// A host, and a port if one was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// UDP port.
    pub port: Option<u16>,
}

impl Endpoint {
    /// Parses `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
    ///
    /// # Errors
    /// [`ServerError::Address`] for anything else.
    pub fn parse(text: &str) -> Result<Self, ServerError> {
        let wrong = || ServerError::Address(text.to_owned());
        let (host, rest) = match text.strip_prefix('[') {
            Some(inner) => inner.split_once(']').ok_or_else(wrong)?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port.parse().map_err(|_| wrong())?),
            None if rest.is_empty() => None,
            None => return Err(wrong()),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "-.:_".contains(c);
        if host.is_empty() || !host.chars().all(fits) {
            return Err(wrong());
        }
        // What no client takes must not get into an invite.
        let port_shown = port.unwrap_or(u16::MAX);
        let url = ServerUrl {
            host: host.to_owned(),
            port: port_shown,
            fingerprint: [0; 32],
            invite: None,
        };
        url.to_string().parse::<ServerUrl>().map_err(|_| wrong())?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The file that `init` writes for a server that clients reach under `host`, if one is known.
pub(crate) fn example_for(host: Option<&str>) -> String {
    match host {
        None => EXAMPLE.to_owned(),
        Some(host) => EXAMPLE.replace(PUBLIC_ADDRESS_LINE, &format!("public_address = \"{host}\"")),
    }
}

/// A number that the file may set between both ends.
fn within<'de, const MIN: u64, const MAX: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<u64, D::Error> {
    let value = u64::deserialize(deserializer)?;
    if (MIN..=MAX).contains(&value) {
        Ok(value)
    } else {
        Err(D::Error::custom(format!("{value} is not between {MIN} and {MAX}")))
    }
}

/// A list of networks, each named where it is wrong.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| AddressLists::parse(text).map_err(D::Error::custom)).collect()
}

fn deliver(raw: &RawConfig, delivery: &mut qpc_delivery::Config) {
    let seconds = |seconds| millis(Duration::from_secs(seconds));
    delivery.retention_ms = days(raw.retention_days);
    delivery.outbox_age_ms = days(raw.outbox_days);
    delivery.channel_bytes_max = raw.channel_mib.saturating_mul(1_024 * 1_024);
    let pacing = &mut delivery.pacing;
    (pacing.burst, pacing.channel_burst) = (raw.commit_burst, raw.commit_burst);
    pacing.wait_ms = seconds(raw.commit_seconds);
    pacing.wait_max_ms = pacing.wait_max_ms.max(pacing.wait_ms);
    pacing.channel_wait_ms = seconds(raw.commit_channel_seconds);
}

fn rates(raw: &RawConfig) -> Rates {
    let mut default = Rates::default();
    default.keys_max = size(raw.rate_keys_max);
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    raw.rates.iter().fold(default, |rates, (limiter, rate)| {
        rates.with(*limiter, Rate::new(small(rate.count), rate.per, small(rate.burst)))
    })
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn minutes(minutes: u64) -> u64 {
    millis(Duration::from_secs(minutes.saturating_mul(60)))
}

fn days(days: u64) -> u64 {
    minutes(days.saturating_mul(24 * 60))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example with every setting taken out of its comment.
    fn uncommented() -> String {
        let setting = |line: &str| {
            let line = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
            format!("{line}\n")
        };
        EXAMPLE.lines().map(setting).collect()
    }

    #[test]
    fn the_example_names_every_setting_with_its_default() {
        let mut written = Config::parse(&uncommented()).unwrap();
        assert_eq!(written.public_address.take().as_deref(), Some("chat.example.org"));
        assert_eq!(format!("{written:?}"), format!("{:?}", Config::default()));
        let commented = Config::parse(EXAMPLE).unwrap();
        assert_eq!(format!("{commented:?}"), format!("{:?}", Config::default()));
        let settings = uncommented().lines().filter(|line| line.contains(" = ")).count();
        // One line for each field of RawConfig but the table, and one for each of its rates.
        assert_eq!(settings, 24 + Limiter::ALL.len());
    }

    #[test]
    fn rates_and_lists_are_taken_from_the_file() {
        let text = "deny = [\"192.0.2.0/24\", \"2001:db8::1\"]\n\
                    [rates]\nlogin = { count = 7, per = \"minute\", burst = 3 }";
        let config = Config::parse(text).unwrap();
        assert!(!config.addresses.admits([192, 0, 2, 9].into()));
        assert_eq!(config.limits.rates.get(Limiter::Login), Rate::new(7, Period::Minute, 3));
        let other = config.limits.rates.get(Limiter::Register);
        assert_eq!(other, Limiter::Register.default_rate());
        for (wrong, needle) in [
            ("deny = [\"192.0.2.1/24\"]", "192.0.2.0/24"),
            ("allow = [\"here\"]", "here"),
            ("[rates]\nlogon = { count = 7, per = \"minute\", burst = 3 }", "logon"),
            ("[rates]\nlogin = { count = 0, per = \"minute\", burst = 3 }", "not between 1"),
            ("[rates]\nlogin = { count = 7, per = \"hour\" }", "burst"),
        ] {
            let error = Config::parse(wrong).unwrap_err();
            assert!(error.contains(needle) && error.contains("line "), "{error}");
        }
    }

    #[test]
    fn init_with_a_host_writes_it_where_the_example_has_one() {
        let config = Config::parse(&example_for(Some("qpc.test"))).unwrap();
        assert_eq!(config.public_address.as_deref(), Some("qpc.test"));
    }

    #[test]
    fn case_192_an_unknown_key_or_wrong_value_names_its_line() {
        for (text, needle) in [
            ("\nlisten_on = 1", "listen_on"),
            ("\nretention_days = 31", "not between 1 and 30"),
            ("\nretention_days = 0", "not between 1 and 30"),
            ("\nlisten = \"here\"", "line 2"),
            ("\nregistration = \"maybe\"", "maybe"),
        ] {
            let error = Config::parse(text).unwrap_err();
            assert!(error.contains(needle), "{error}");
            assert!(error.contains("line 2"), "{error}");
        }
        assert!(Config::parse("public_address = \"a b\"").is_err());
        assert!(Config::parse("log = \"a=b=c\"").unwrap_err().contains("log: "));
        assert!(Config::parse("retention_days = 30").is_ok());
    }

    #[test]
    fn endpoints_have_a_host_and_maybe_a_port() {
        let parsed = |text| Endpoint::parse(text).ok().map(|e| (e.host, e.port));
        assert_eq!(parsed("a.example"), Some(("a.example".to_owned(), None)));
        assert_eq!(parsed("a.example:1"), Some(("a.example".to_owned(), Some(1))));
        assert_eq!(parsed("[::1]:2"), Some(("::1".to_owned(), Some(2))));
        assert_eq!(parsed("[::1]"), Some(("::1".to_owned(), None)));
        let long = "a".repeat(300);
        let no_url = ["a..b", "[a:b]", "a:0", "-a", ".", &long];
        let wrong = ["", ":1", "a:", "a:b", "[::1", "[::1]x", "::1", "a/b"];
        for wrong in wrong.into_iter().chain(no_url) {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
