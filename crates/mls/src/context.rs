//! The GroupContext extension that binds a group to its channel, title and roles (RFC 9420 section
//! 12.1.7).
//!
//! Every member computes the same verdicts from it. Never decides policy beyond what it states.

use std::collections::BTreeSet;

use openmls::prelude::{
    Extension, ExtensionType, Extensions, GroupContext, RequiredCapabilitiesExtension,
    UnknownExtension,
};
use qpc_proto::codec::{Reader, Writer};
use qpc_proto::message::ChannelKind;
use qpc_proto::roster::Role;
use qpc_proto::{AccountId, ChannelId, Malformed, limits};

/// Extension type, from the private-use range of RFC 9420 section 17.3.
pub const CHANNEL_EXTENSION: u16 = 0xf0c1;
/// The policy version that this code judges by.
pub const POLICY_VERSION: u32 = 1;
/// Bytes of a title.
pub const TITLE_BYTES_MAX: usize = 256;
/// Bytes of a description.
pub const DESCRIPTION_BYTES_MAX: usize = 4_096;

/// What a group is, as all its members agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelContext {
    /// The channel whose log carries it.
    pub channel: ChannelId,
    /// Direct or group.
    pub kind: ChannelKind,
    /// A group's title; empty for a direct channel.
    pub title: String,
    /// What a group is about; empty for a direct channel.
    pub description: String,
    /// The channel that this one goes on from, after a reset.
    pub replaces: Option<ChannelId>,
    /// Accounts that are admins; all others are members.
    pub admins: BTreeSet<AccountId>,
    /// Rules that Commits are judged by.
    pub policy_version: u32,
}

impl ChannelContext {
    /// The role of an account.
    pub fn role(&self, account: &AccountId) -> Role {
        if self.admins.contains(account) { Role::Admin } else { Role::Member }
    }

    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.kind {
            ChannelKind::Direct => 1,
            ChannelKind::Group | ChannelKind::Inbox => 2,
        };
        let count = u32::try_from(self.admins.len()).unwrap_or(u32::MAX);
        let writer = Writer::with_label("qpc/v1 channel context")
            .fixed(self.channel)
            .u8(kind)
            .u32(self.policy_version)
            .var(self.title.as_bytes())
            .var(self.description.as_bytes())
            .var(self.replaces.as_ref().map_or(&[][..], |channel| channel.0.as_slice()))
            .u32(count);
        self.admins.iter().fold(writer, |writer, account| writer.fixed(account)).finish()
    }

    /// Parses canonical bytes.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        r.label("qpc/v1 channel context")?;
        let channel = ChannelId(r.array()?);
        let kind = match r.u8()? {
            1 => ChannelKind::Direct,
            2 => ChannelKind::Group,
            _ => return Err(Malformed("unknown channel kind")),
        };
        let policy_version = r.u32()?;
        let title = text(r.var(TITLE_BYTES_MAX)?)?;
        let description = text(r.var(DESCRIPTION_BYTES_MAX)?)?;
        let replaces = match r.var(ChannelId::ZERO.0.len())? {
            [] => None,
            id => Some(ChannelId::try_from(id)?),
        };
        let count = usize::try_from(r.u32()?).unwrap_or(usize::MAX);
        if count > limits::CHANNEL_DEVICES_MAX {
            return Err(Malformed("too many admins"));
        }
        let mut admins = BTreeSet::new();
        for _ in 0..count {
            let account = AccountId(r.array()?);
            if admins.last().is_some_and(|last| *last >= account) {
                return Err(Malformed("admins out of order"));
            }
            admins.insert(account);
        }
        r.finish()?;
        Ok(Self { channel, kind, title, description, replaces, admins, policy_version })
    }

    /// The extensions of a group with this context: itself, and that every member must know it
    /// (RFC 9420 section 11.1), without which OpenMLS lets nobody change it.
    pub(crate) fn extensions(&self) -> Result<Extensions<GroupContext>, Malformed> {
        let own = Extension::Unknown(CHANNEL_EXTENSION, UnknownExtension(self.encode()));
        Extensions::from_vec(vec![Extension::RequiredCapabilities(required()), own])
            .map_err(|_| Malformed("channel context"))
    }

    /// Reads the context from a group's extensions, which must hold nothing else.
    pub(crate) fn from_extensions(all: &Extensions<GroupContext>) -> Result<Self, Malformed> {
        if all.iter().count() != 2 || all.required_capabilities() != Some(&required()) {
            return Err(Malformed("extensions that this profile does not allow"));
        }
        let extension = all.unknown(CHANNEL_EXTENSION).ok_or(Malformed("no channel context"))?;
        Self::decode(&extension.0)
    }
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("a text is not UTF-8"))?;
    Ok(text.to_owned())
}

/// What every leaf of this profile must be able to do.
fn required() -> RequiredCapabilitiesExtension {
    RequiredCapabilitiesExtension::new(&[ExtensionType::Unknown(CHANNEL_EXTENSION)], &[], &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_bytes_round_trip_and_every_cut_is_refused() {
        let context = ChannelContext {
            channel: ChannelId([1; 16]),
            kind: ChannelKind::Group,
            title: "Fishing".into(),
            description: "Where and when".into(),
            replaces: Some(ChannelId([4; 16])),
            admins: [AccountId([2; 16]), AccountId([3; 16])].into(),
            policy_version: POLICY_VERSION,
        };
        let bytes = context.encode();
        assert_eq!(ChannelContext::decode(&bytes), Ok(context));
        for cut in 0..bytes.len() {
            assert!(ChannelContext::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
