//! What every MLS PrivateMessage authenticates beside its content (RFC 9420 section 6.3.2), at
//! fixed length.
//!
//! Version u8, kind u8, channel (16), base commit u64, head seq u64, head digest (16); a Commit
//! adds the digest of its declared roster change (32) and of its statements (32). The server reads
//! it, members compare it with what they were shown.

use crate::codec::{Reader, Writer};
use crate::error::Malformed;
use crate::ids::{ChannelId, Digest};

/// Bytes for an application message.
pub const APPLICATION_BYTES: usize = 50;
/// Bytes for a Commit.
pub const COMMIT_BYTES: usize = APPLICATION_BYTES + 64;

const FORM: u8 = 1;

/// The authenticated data of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aad {
    /// The channel it was sealed for.
    pub channel: ChannelId,
    /// Sequence number of the last Commit that its sender applied; 0 before the first.
    pub base_commit: u64,
    /// Sequence number of the log head that its sender knew.
    pub head_seq: u64,
    /// The first 16 bytes of that head.
    pub head: [u8; 16],
    /// What a Commit binds.
    pub commit: Option<CommitBinding>,
}

/// What a Commit binds beside its proposals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitBinding {
    /// [`crate::roster::RosterChange::digest`] of the declared change.
    pub roster_change: Digest,
    /// [`crate::chain::statements_digest`] of the statements relied on.
    pub statements: Digest,
}

impl Aad {
    /// The fixed-length bytes.
    pub fn encode(&self) -> Vec<u8> {
        let writer = Writer::default()
            .u8(FORM)
            .u8(if self.commit.is_some() { 2 } else { 1 })
            .fixed(self.channel)
            .u64(self.base_commit)
            .u64(self.head_seq)
            .fixed(self.head);
        match &self.commit {
            Some(binding) => writer.fixed(binding.roster_change).fixed(binding.statements),
            None => writer,
        }
        .finish()
    }

    /// Parses exactly [`APPLICATION_BYTES`] or [`COMMIT_BYTES`].
    ///
    /// # Errors
    /// [`Malformed`] for any other form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.u8()? != FORM {
            return Err(Malformed("unknown form of authenticated data"));
        }
        let kind = r.u8()?;
        let mut aad = Self {
            channel: ChannelId(r.array()?),
            base_commit: r.u64()?,
            head_seq: r.u64()?,
            head: r.array()?,
            commit: None,
        };
        match kind {
            1 => {}
            2 => {
                let roster_change = Digest(r.array()?);
                let statements = Digest(r.array()?);
                aad.commit = Some(CommitBinding { roster_change, statements });
            }
            _ => return Err(Malformed("unknown kind of authenticated data")),
        }
        r.finish()?;
        Ok(aad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_have_their_length_and_round_trip() {
        let mut aad = Aad {
            channel: ChannelId([1; 16]),
            base_commit: 2,
            head_seq: 3,
            head: [4; 16],
            commit: None,
        };
        assert_eq!(aad.encode().len(), APPLICATION_BYTES);
        assert_eq!(Aad::decode(&aad.encode()), Ok(aad));
        let digest = Digest([5; 32]);
        aad.commit = Some(CommitBinding { roster_change: digest, statements: digest });
        assert_eq!(aad.encode().len(), COMMIT_BYTES);
        assert_eq!(Aad::decode(&aad.encode()), Ok(aad));
        for cut in 0..COMMIT_BYTES {
            assert!(Aad::decode(&aad.encode()[..cut]).is_err(), "cut at {cut}");
        }
    }
}
