//! `qpc recv`: prints each message once over successive runs. A message counts as seen only after
//! standard output took it, so a run that is killed may print its last page again, never skip one.

use std::pin::pin;
use std::time::Duration;

use qpc_client::view::{Event, Message, MessageState};

use crate::args::Recv;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::{Session, Standing};

/// Messages printed between two marks.
const PAGE: u64 = 50;
const CATCH_UP_S: u64 = 10;

pub(super) async fn run(
    session: &mut Session,
    output: &mut Output,
    recv: &Recv,
) -> Result<(), CliError> {
    if recv.follow || recv.count.is_some() {
        follow(session, output, recv).await
    } else {
        let limit = Duration::from_secs(recv.timeout.unwrap_or(CATCH_UP_S));
        once(session, output, limit).await
    }
}

async fn once(session: &mut Session, output: &mut Output, limit: Duration) -> Result<(), CliError> {
    let client = session.client();
    let caught_up = session.answer(limit, client.caught_up()).await;
    print_unseen(session, output, &mut None).await?;
    session.tell_notices(output).await?;
    caught_up
}

async fn follow(session: &mut Session, output: &mut Output, recv: &Recv) -> Result<(), CliError> {
    let limit = recv.timeout.or(if recv.follow { None } else { Some(CATCH_UP_S) });
    let mut limit_reached = pin!(expired(limit));
    let mut interrupt = Interrupt::listen()?;
    let mut left = recv.count;
    let mut standing = Standing::new();
    loop {
        print_unseen(session, output, &mut left).await?;
        session.tell_notices(output).await?;
        session.refuse_stopped().await?;
        if left == Some(0) {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = interrupt.arrived() => return Ok(()),
            event = session.next_event() => tell(&event?, output, &mut standing),
            () = &mut limit_reached => return short_of(left, session),
        }
        // One look into the database serves all events that are already here.
        while let Some(event) = session.ready_event().await {
            tell(&event, output, &mut standing);
        }
    }
}

async fn expired(limit: Option<u64>) {
    match limit {
        Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        None => std::future::pending().await,
    }
}

fn short_of(left: Option<u64>, session: &Session) -> Result<(), CliError> {
    match left {
        None => Ok(()),
        Some(missing) => {
            let reason = session.offline().map(|why| format!(" ({why})")).unwrap_or_default();
            let text = format!("{missing} fewer messages than asked for came in time{reason}");
            Err(CliError::Waiting(text))
        }
    }
}

/// Messages themselves are read from the database, where each has its mark.
fn tell(event: &Event, output: &mut Output, standing: &mut Standing) {
    if standing.is_news(event) || matches!(event, Event::Alarm { .. }) {
        output.event(event);
    }
}

async fn print_unseen(
    session: &mut Session,
    output: &mut Output,
    left: &mut Option<u64>,
) -> Result<(), CliError> {
    let client = session.client();
    while *left != Some(0) {
        let page = client.unseen(PAGE).await?;
        let Some(last) = print_page(&page, output, left)? else {
            return Ok(());
        };
        client.mark_seen(last).await?;
    }
    Ok(())
}

/// Prints up to the message that uses up `left`; the local number of the last one printed.
fn print_page(
    page: &[Message],
    output: &mut Output,
    left: &mut Option<u64>,
) -> Result<Option<u64>, CliError> {
    let mut last = None;
    for message in page {
        if *left == Some(0) {
            break;
        }
        output.record(message)?;
        last = Some(message.id);
        if counts(message) {
            *left = left.map(|left| left.saturating_sub(1));
        }
    }
    output.flush()?;
    Ok(last)
}

/// Whether it is somebody's message, not a notice about the channel.
fn counts(message: &Message) -> bool {
    match message.state {
        MessageState::Received => !message.own,
        MessageState::Waiting
        | MessageState::Sealed
        | MessageState::Accepted
        | MessageState::Refused
        | MessageState::Unreadable
        | MessageState::Cancelled
        | MessageState::Notice => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::capture;
    use crate::plain::samples::message;

    fn page() -> Vec<Message> {
        let mut own = message(3, MessageState::Received, "from my other device");
        own.own = true;
        vec![
            message(1, MessageState::Notice, "bob joined"),
            message(2, MessageState::Received, "one"),
            own,
            message(4, MessageState::Unreadable, ""),
            message(5, MessageState::Received, "two"),
            message(6, MessageState::Received, "three"),
        ]
    }

    #[test]
    fn a_count_is_of_messages_from_others() {
        for (count, last, after) in
            [(None, 6, None), (Some(1), 2, Some(0)), (Some(2), 5, Some(0)), (Some(9), 6, Some(6))]
        {
            let (mut output, results, _) = capture::output(true);
            let mut left = count;
            let marked = print_page(&page(), &mut output, &mut left).unwrap();
            assert_eq!((marked, left), (Some(last), after));
            let printed = u64::try_from(results.text().lines().count()).unwrap();
            assert_eq!(printed, last, "all before the mark are printed, nothing after it");
        }
    }

    #[test]
    fn an_empty_page_moves_no_mark() {
        let (mut output, results, _) = capture::output(false);
        assert_eq!(print_page(&[], &mut output, &mut Some(1)).unwrap(), None);
        assert_eq!(results.text(), "");
    }
}
