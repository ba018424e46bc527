//! Every limit of the protocol in one place; the ones a client needs go out in `ServerInfo`.
//!
//! Policy that an operator may change is configuration of the server, not here.

/// The frame version spoken.
pub const VERSION: u8 = 1;
/// The oldest frame version still spoken.
pub const VERSION_MIN: u8 = 1;
/// Application-layer protocol (RFC 7301) of every connection.
pub const ALPN: &[u8] = b"qpc";
/// Largest payload of one entry, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Largest frame behind its header, in bytes.
pub const FRAME_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 64 * 1024;
/// Entries in one `Enqueue`.
pub const ENQUEUE_ENTRIES_MAX: usize = 256;
/// Entries in one `Page`.
pub const PAGE_ENTRIES_MAX: usize = 512;
/// Payload bytes in one `Page`, unless one entry alone is larger.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of what one `Publish` hands to those who follow a channel.
pub const PUBLISH_BYTES_MAX: usize = 4 * 1024;
/// Milliseconds that one `FetchWait` waits.
pub const WAIT_MS_MAX: u64 = 60_000;
/// KeyPackages in one upload.
pub const UPLOAD_KEY_PACKAGES_MAX: usize = 100;
/// Unclaimed KeyPackages the directory keeps for a device.
pub const KEY_PACKAGES_PER_DEVICE_MAX: usize = 200;
/// Bytes of one KeyPackage.
pub const KEY_PACKAGE_BYTES_MAX: usize = 8 * 1024;
/// Devices of one account.
pub const DEVICES_PER_ACCOUNT_MAX: usize = 10;
/// Devices in one channel.
pub const CHANNEL_DEVICES_MAX: usize = 1_000;
/// Channels in one `Subscribe`, and cursors in one `Ack`.
pub const CURSORS_MAX: usize = 1_024;
/// Characters of an account name.
pub const NAME_CHARS_MAX: usize = 32;
/// Bytes of a signed device list or account key statement.
pub const IDENTITY_BYTES_MAX: usize = 4 * 1024;
/// Bytes of one signed statement (the largest carries a KeyPackage).
pub const STATEMENT_BYTES_MAX: usize = 16 * 1024;
/// Statements that one Commit may rely on.
pub const COMMIT_STATEMENTS_MAX: usize = 64;
/// Bytes of an invite's code.
pub const INVITE_BYTES: usize = 16;
/// Bytes of a new device's sealed offer.
pub const LINK_OFFER_BYTES_MAX: usize = 1_024;
/// Bytes of the sealed answer to it.
pub const LINK_ANSWER_BYTES_MAX: usize = 8 * 1_024;
/// Milliseconds that a link's one-time code lives.
pub const LINK_CODE_MS: u64 = 10 * 60 * 1_000;
/// Leading zero bits that a proof of work may ask for.
pub const PROOF_OF_WORK_BITS_MAX: u8 = 32;
/// Protobuf fields of a request's body, those of its Commit bundle included.
pub const REQUEST_FIELDS_MAX: usize = 2_048;
/// Protobuf fields of a response's body, those of a page's entries included.
pub const RESPONSE_FIELDS_MAX: usize = 64 * 1024;
