//! The server's TLS identity: an Ed25519 key and a self-signed certificate for it, made, renewed,
//! saved and loaded. Clients pin the key, so a renewal with the same key changes nothing for them.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use qpc_proto::Digest;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ED25519, PublicKeyData as _,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::TransportError;
use crate::pin;

/// Name of the private key's file (PKCS #8, PEM; mode 0600).
pub const KEY_FILE: &str = "tls.key";
/// Name of the certificate's file (PEM).
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// Days for which a certificate is valid, as public ones once were; renew it well before.
pub const VALIDITY_DAYS: u64 = 825;

const DAY_SECONDS: u64 = 24 * 60 * 60;
/// End of the year 9998: X.509 can name no later year than 9999 (RFC 5280 section 4.1.2.5).
const LAST_SECOND: u64 = 253_370_764_799;
const PEM_BYTES_MAX: u64 = 64 * 1024;

/// A server's key and certificate. `Debug` shows the fingerprint alone.
#[derive(Clone)]
pub struct ServerIdentity {
    key_pem: Zeroizing<String>,
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    fingerprint: [u8; 32],
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerIdentity({})", Digest(self.fingerprint))
    }
}

impl ServerIdentity {
    /// Makes a new key and a certificate for it, valid from a day before `now_ms` (Unix time in
    /// milliseconds; clocks differ) for [`VALIDITY_DAYS`]. `hosts`: DNS names and IP addresses;
    /// clients do not compare them. The key is random by the system.
    ///
    /// # Errors
    /// [`TransportError::Certificate`] for a host name that no certificate can carry.
    pub fn generate(hosts: &[String], now_ms: u64) -> Result<Self, TransportError> {
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(certificate)?;
        Self::certify(&key, hosts, now_ms)
    }

    /// The same key with a new certificate: the fingerprint stays.
    ///
    /// # Errors
    /// As [`ServerIdentity::generate`].
    pub fn renew(&self, hosts: &[String], now_ms: u64) -> Result<Self, TransportError> {
        let key = KeyPair::from_pem(&self.key_pem).map_err(certificate)?;
        Self::certify(&key, hosts, now_ms)
    }

    fn certify(key: &KeyPair, hosts: &[String], now_ms: u64) -> Result<Self, TransportError> {
        let mut params = CertificateParams::new(hosts).map_err(certificate)?;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let now = now_ms.checked_div(1000).unwrap_or(0);
        let end = now.saturating_add(VALIDITY_DAYS.saturating_mul(DAY_SECONDS));
        let begin = now.saturating_sub(DAY_SECONDS);
        #[expect(
            clippy::arithmetic_side_effects,
            reason = "LAST_SECOND keeps the sum within the years that the type can hold"
        )]
        {
            params.not_before = epoch + Duration::from_secs(begin.min(LAST_SECOND));
            params.not_after = epoch + Duration::from_secs(end.min(LAST_SECOND));
        }
        params.distinguished_name.push(DnType::CommonName, "qpc-server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let made = params.self_signed(key).map_err(certificate)?;
        Ok(Self {
            key_pem: Zeroizing::new(key.serialize_pem()),
            certificate_pem: made.pem(),
            certificate: made.der().clone(),
            fingerprint: spki_digest(key),
        })
    }

    /// SHA-256 of the public key (SPKI DER), as [`crate::ServerUrl`] carries it.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The last moment of the certificate's validity, Unix time in milliseconds.
    ///
    /// # Errors
    /// [`TransportError::Certificate`] when the certificate cannot be read.
    pub fn expires_at_ms(&self) -> Result<u64, TransportError> {
        let (_, last) = pin::validity(&self.certificate).map_err(certificate)?;
        Ok(u64::try_from(last).unwrap_or(0).saturating_mul(1000))
    }

    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Writes [`KEY_FILE`] (mode 0600) and [`CERTIFICATE_FILE`] into `dir` and syncs them. Never
    /// overwrites: the key is what clients know the server by.
    ///
    /// # Errors
    /// [`TransportError::Identity`], with `AlreadyExists` when one of the files is there.
    pub fn save(&self, dir: &Path) -> Result<(), TransportError> {
        let (key, certificate) = (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE));
        if certificate.exists() {
            return Err(file(certificate)(io::ErrorKind::AlreadyExists.into()));
        }
        create(&key, self.key_pem.as_bytes(), 0o600).map_err(file(key))?;
        create(&certificate, self.certificate_pem.as_bytes(), 0o644).map_err(file(certificate))?;
        sync_dir(dir)
    }

    /// Replaces [`CERTIFICATE_FILE`] in `dir` at once and wholly, after a renewal.
    ///
    /// # Errors
    /// [`TransportError::Identity`]; the old file is then untouched.
    pub fn save_certificate(&self, dir: &Path) -> Result<(), TransportError> {
        let fresh = dir.join("tls.crt.new");
        let target = dir.join(CERTIFICATE_FILE);
        match fs::remove_file(&fresh) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file(fresh)(error)),
        }
        create(&fresh, self.certificate_pem.as_bytes(), 0o644).map_err(file(fresh.clone()))?;
        fs::rename(&fresh, &target).map_err(file(target))?;
        sync_dir(dir)
    }

    /// Reads both files from `dir`.
    ///
    /// # Errors
    /// [`TransportError::Identity`] when a file cannot be read or is not PEM, when others than the
    /// owner may read the key, or when the certificate belongs to another key.
    pub fn load(dir: &Path) -> Result<Self, TransportError> {
        let (key_path, certificate_path) = (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE));
        let key_pem = read_private(&key_path).map_err(file(key_path.clone()))?;
        let key = KeyPair::from_pem(&key_pem)
            .map_err(|_| file(key_path)(invalid("it is no PKCS #8 private key in PEM")))?;
        let wrong = file(certificate_path.clone());
        let (certificate_pem, certificate) = match read_certificate(&certificate_path) {
            Ok(read) => read,
            Err(error) => return Err(wrong(error)),
        };
        let fingerprint = spki_digest(&key);
        if pin::fingerprint(&certificate).ok() != Some(fingerprint) {
            return Err(wrong(invalid("it does not belong to the key in tls.key")));
        }
        Ok(Self { key_pem, certificate_pem, certificate, fingerprint })
    }
}

fn spki_digest(key: &KeyPair) -> [u8; 32] {
    Sha256::digest(key.subject_public_key_info()).into()
}

fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_dir(dir: &Path) -> Result<(), TransportError> {
    let synced = File::open(dir).and_then(|opened| opened.sync_all());
    synced.map_err(file(dir.to_owned()))
}

fn read_private(path: &Path) -> io::Result<Zeroizing<String>> {
    let metadata = fs::metadata(path)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let why = "others may read this key: run chmod 600 on it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    read_pem(path).map(Zeroizing::new)
}

fn read_certificate(path: &Path) -> io::Result<(String, CertificateDer<'static>)> {
    let pem = read_pem(path)?;
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| invalid("it is no certificate in PEM"))?;
    Ok((pem, certificate))
}

fn read_pem(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > PEM_BYTES_MAX {
        return Err(invalid("it is too large for a PEM file"));
    }
    fs::read_to_string(path)
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn file(path: PathBuf) -> impl FnOnce(io::Error) -> TransportError {
    move |source| TransportError::Identity { path, source }
}

fn certificate(error: impl std::error::Error) -> TransportError {
    TransportError::Certificate(error.to_string())
}
