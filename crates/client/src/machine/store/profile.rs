//! The one row that says who this client is.

use qpc_credential::Certificate;
use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, DeviceId, Incarnation, PublicKey, RequestId};
use qpc_storage::sql::{self, OptionalExtension as _, params};
use zeroize::Zeroizing;

use super::Db;
use crate::keys::{Keys, NewIdentity};

/// Who this client is.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) name: String,
    pub(crate) server: String,
    pub(crate) keys: Keys,
    pub(crate) identity: NewIdentity,
    pub(crate) register_request: RequestId,
    pub(crate) registered: bool,
    pub(crate) incarnation: Option<Incarnation>,
}

impl Db<'_> {
    pub(crate) fn profile(&self) -> sql::Result<Option<Profile>> {
        let mut statement = self.0.prepare_cached(
            "SELECT name, server, account, device, root_seed, account_seed, device_seed,
                    account_key, device_list, certificate, register_request, registered, incarnation
             FROM profile WHERE id = 1",
        )?;
        statement
            .query_row([], |row| {
                let device =
                    DeviceRef { account: AccountId(row.get(2)?), device: DeviceId(row.get(3)?) };
                Ok(Profile {
                    name: row.get(0)?,
                    server: row.get(1)?,
                    keys: Keys {
                        root: row.get::<_, Option<_>>(4)?.map(Zeroizing::new),
                        account: row.get::<_, Option<_>>(5)?.map(Zeroizing::new),
                        device: Zeroizing::new(row.get(6)?),
                    },
                    identity: NewIdentity {
                        device,
                        root: root(&row.get::<_, Vec<u8>>(9)?)?,
                        account_key: row.get(7)?,
                        device_list: row.get(8)?,
                        certificate: row.get(9)?,
                    },
                    register_request: RequestId(row.get(10)?),
                    registered: row.get(11)?,
                    incarnation: row.get::<_, Option<[u8; 16]>>(12)?.map(Incarnation),
                })
            })
            .optional()
    }

    pub(crate) fn insert_profile(&self, profile: &Profile) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT INTO profile (id, name, server, account, device, root_seed, account_seed,
                    device_seed, account_key, device_list, certificate, register_request)
                 VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                profile.name,
                profile.server,
                profile.identity.device.account.0,
                profile.identity.device.device.0,
                profile.keys.root.as_ref().map(|seed| seed.as_slice()),
                profile.keys.account.as_ref().map(|seed| seed.as_slice()),
                profile.keys.device.as_slice(),
                profile.identity.account_key,
                profile.identity.device_list,
                profile.identity.certificate,
                profile.register_request.0,
            ])?;
        Ok(())
    }

    /// Writes a device that the server knows already: a linked or a recovered one.
    pub(crate) fn insert_linked(&self, profile: &Profile) -> sql::Result<()> {
        self.insert_profile(profile)?;
        self.set_registered()
    }

    /// Keeps newer signed objects of the own account; the device stays who it is.
    pub(crate) fn replace_identity(&self, identity: &NewIdentity) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE profile SET account_key = ?1, device_list = ?2, certificate = ?3",
            )?
            .execute(params![identity.account_key, identity.device_list, identity.certificate])?;
        Ok(())
    }

    /// Deletes the root's secret: from here on only the recovery phrase has it.
    pub(crate) fn forget_root(&self) -> sql::Result<()> {
        self.0.prepare_cached("UPDATE profile SET root_seed = NULL")?.execute([])?;
        Ok(())
    }

    /// Deletes an account key that a newer generation has ended.
    pub(crate) fn forget_account_key(&self) -> sql::Result<()> {
        self.0.prepare_cached("UPDATE profile SET account_seed = NULL")?.execute([])?;
        Ok(())
    }

    pub(crate) fn set_server(&self, server: &str) -> sql::Result<()> {
        self.0.prepare_cached("UPDATE profile SET server = ?1")?.execute([server])?;
        Ok(())
    }

    pub(crate) fn set_registered(&self) -> sql::Result<()> {
        self.0.prepare_cached("UPDATE profile SET registered = 1")?.execute([])?;
        Ok(())
    }

    pub(crate) fn set_incarnation(&self, incarnation: &Incarnation) -> sql::Result<()> {
        self.0.prepare_cached("UPDATE profile SET incarnation = ?1")?.execute([incarnation.0])?;
        Ok(())
    }
}

/// The root that a stored certificate names.
fn root(certificate: &[u8]) -> sql::Result<PublicKey> {
    let certificate = Certificate::read_verified(certificate).map_err(|error| {
        sql::Error::FromSqlConversionFailure(9, sql::types::Type::Blob, error.into())
    })?;
    Ok(certificate.account_key.root)
}
