//! Requests and responses as validated types, and the table of methods.
//!
//! Decoding checks every length and required choice; policy is checked by the services, never here.

mod account;
mod auth;
mod convert;
mod delivery;
mod fields;
mod notice;
mod request;
mod response;

pub use auth::{
    Devices, Identity, LinkDevice, LinkRelay, LinkSide, Login, LoginAnswer, ProofOfWork, Recover,
    RecoverPublish, Register, RegistrationMode, Relayed, RenewDevices, ServerInfo,
};
pub use delivery::{
    Accepted, ChannelKind, ChannelState, ClaimKeyPackages, ClaimedKeyPackage, Claims, CommitBundle,
    CommitRequest, CreateChannel, Cursor, Enqueue, EnqueueAnswer, Entry, EntryKind, Fetch,
    FetchWait, KeyPackageStatus, NewEntry, Page, Publish, Statement, UploadKeyPackages,
    WelcomePointer, inbox_channel,
};
pub use notice::{Notice, NoticeKind};
pub use request::Request;
pub use response::Response;

use crate::ids::{AccountId, DeviceId};

/// A device and the account it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceRef {
    /// The account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        /// A method of the Authentication Service (0x00xx) or the Delivery Service (0x01xx).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Method { $($(#[$doc])* $name = $number,)* }

        impl Method {
            /// Every method, in order of number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The method of a number, if this version knows it.
            pub fn from_u16(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The number on the wire.
            pub fn as_u16(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// The name in the contract.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

methods! {
    /// What this server is and speaks.
    ServerInfo = 0x0001;
    /// Creates an account with its first device.
    Register = 0x0002;
    /// Binds this connection to a device.
    Login = 0x0003;
    /// Trades a refresh token for new tokens.
    Refresh = 0x0004;
    /// Ends this login.
    Logout = 0x0005;
    /// Finds an account by name.
    Lookup = 0x0006;
    /// The newest device list of an account.
    DeviceList = 0x0007;
    /// Passes sealed bytes between a new device and one that links it.
    LinkRelay = 0x0008;
    /// Publishes a device list with one device more.
    LinkDevice = 0x0009;
    /// Publishes a device list with devices less.
    RevokeDevice = 0x000a;
    /// Begins a new generation of the account key.
    Recover = 0x000b;
    /// All that the server holds about the account.
    ExportAccount = 0x000c;
    /// Ends the account after a grace.
    DeleteAccount = 0x000d;
    /// Takes a deletion back.
    CancelDeletion = 0x000e;
    /// Publishes a device list with later ends.
    RenewDevices = 0x000f;
    /// Adds KeyPackages of this device.
    UploadKeyPackages = 0x0101;
    /// Takes a KeyPackage of every device of an account.
    ClaimKeyPackages = 0x0102;
    /// How many KeyPackages are left.
    KeyPackageStatus = 0x0103;
    /// Creates a channel with its first Commit.
    CreateChannel = 0x0104;
    /// The channels that this device may read.
    ListChannels = 0x0105;
    /// Appends application entries.
    Enqueue = 0x0106;
    /// Appends a Commit.
    Commit = 0x0107;
    /// Appends a signed statement.
    Statement = 0x0108;
    /// Hands bytes to whoever follows the channel now; stored nowhere.
    Publish = 0x0109;
    /// Reads a page of a log.
    Fetch = 0x010a;
    /// Reads a page of a log, and waits for it if there is nothing yet.
    FetchWait = 0x010b;
    /// Follows logs.
    Subscribe = 0x010c;
    /// Notes how far this device has read.
    Ack = 0x010d;
}

impl Method {
    /// Whether the method changes state under the frame's request id (a retry repeats it).
    /// `Enqueue` and `Commit` carry message ids instead.
    pub fn takes_request_id(self) -> bool {
        match self {
            Self::Register
            | Self::LinkDevice
            | Self::RevokeDevice
            | Self::RenewDevices
            | Self::Recover
            | Self::DeleteAccount
            | Self::CancelDeletion
            | Self::UploadKeyPackages
            | Self::ClaimKeyPackages
            | Self::CreateChannel
            | Self::Statement => true,
            Self::ServerInfo
            | Self::Login
            | Self::Refresh
            | Self::Logout
            | Self::Lookup
            | Self::DeviceList
            | Self::LinkRelay
            | Self::ExportAccount
            | Self::KeyPackageStatus
            | Self::ListChannels
            | Self::Enqueue
            | Self::Commit
            | Self::Publish
            | Self::Fetch
            | Self::FetchWait
            | Self::Subscribe
            | Self::Ack => false,
        }
    }
}
