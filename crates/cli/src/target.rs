//! Finds the one channel that a TARGET names. Creates a direct channel where there is none, and
//! never guesses between two.

use qpc_client::view::{Channel, ChannelStatus};

use crate::error::CliError;
use crate::plain::{Plain as _, SHORT_ID};
use crate::session::{ANSWER, Session};

/// The channel named `target`: its id, its title, or the name of a person.
pub(crate) async fn resolve(session: &mut Session, target: &str) -> Result<Channel, CliError> {
    let client = session.client();
    let channels = client.channels().await?;
    match chosen(&channels, target)? {
        Some(channel) => Ok(channel.clone()),
        None => session.answer(ANSWER, client.dm(target)).await,
    }
}

/// Channels that can still be used go before those that cannot; of these a direct one is opened
/// anew instead.
fn chosen<'a>(channels: &'a [Channel], target: &str) -> Result<Option<&'a Channel>, CliError> {
    let named: Vec<&Channel> =
        channels.iter().filter(|channel| answers_to(channel, target)).collect();
    let usable: Vec<&Channel> = named.iter().copied().filter(|channel| usable(channel)).collect();
    let candidates = if usable.is_empty() {
        named.into_iter().filter(|channel| channel.kind != "direct").collect()
    } else {
        usable
    };
    match candidates.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        several => {
            let list: Vec<String> = several.iter().map(|channel| channel.plain()).collect();
            Err(CliError::Usage(format!(
                "{target} names {} channels, give the id instead: {}",
                several.len(),
                list.join("; ")
            )))
        }
    }
}

fn answers_to(channel: &Channel, target: &str) -> bool {
    channel.title == target || (target.len() >= SHORT_ID && channel.channel.starts_with(target))
}

fn usable(channel: &Channel) -> bool {
    match channel.status {
        ChannelStatus::Left | ChannelStatus::Failed | ChannelStatus::Closed => false,
        ChannelStatus::Creating
        | ChannelStatus::Active
        | ChannelStatus::Unconfirmed
        | ChannelStatus::Leaving
        | ChannelStatus::Held
        | ChannelStatus::NeedsRepair
        | ChannelStatus::Rejoining
        | ChannelStatus::Alarm => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::samples::channel;

    fn channels() -> Vec<Channel> {
        let mut left = channel();
        left.channel = "aaaaaaaa00000000aaaaaaaa00000000".to_owned();
        left.status = ChannelStatus::Left;
        let mut dm = channel();
        dm.channel = "bbbbbbbb00000000bbbbbbbb00000000".to_owned();
        dm.title = "bob".to_owned();
        dm.kind = "direct".to_owned();
        vec![left, channel(), dm]
    }

    fn id(channels: &[Channel], target: &str) -> Option<String> {
        chosen(channels, target).unwrap().map(|channel| channel.channel.clone())
    }

    #[test]
    fn by_title_by_name_by_id() {
        let channels = channels();
        assert_eq!(id(&channels, "bob"), Some(channels[2].channel.clone()));
        assert_eq!(id(&channels, "bbbbbbbb"), Some(channels[2].channel.clone()));
        assert_eq!(id(&channels, "bbbbbbb"), None, "7 digits are too few");
        assert_eq!(id(&channels, "carol"), None);
    }

    #[test]
    fn a_left_group_stands_back_behind_a_live_one_of_its_title() {
        let channels = channels();
        assert_eq!(id(&channels, "Hikers"), Some(channels[1].channel.clone()));
        assert_eq!(id(&channels[..1], "Hikers"), Some(channels[0].channel.clone()));
    }

    #[test]
    fn a_dead_direct_channel_is_opened_anew() {
        let mut channels = channels();
        channels[2].status = ChannelStatus::Failed;
        assert_eq!(id(&channels, "bob"), None);
    }

    #[test]
    fn two_of_a_name_are_listed_and_not_guessed() {
        let mut channels = channels();
        channels[0].status = ChannelStatus::Active;
        let error = chosen(&channels, "Hikers").unwrap_err();
        let message = error.to_string();
        assert!(message.contains("aaaaaaaa  group") && message.contains("01234567  group"));
        assert!(matches!(error, CliError::Usage(_)));
    }
}
