//! Answers each message with its own text: `echo_bot HOME NAME SERVER_URL`. Registers on its first
//! run and goes on with its account on every other. Keeps nothing beside the client's home.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use qpc_client::view::{Event, Message, MessageState};
use qpc_client::{Client, ClientError, Home, Protection, Registration, Unlock};

/// Opens the home, or makes an account in it.
pub(crate) async fn client(home: &Home, name: &str, server: &str) -> Result<Client, ClientError> {
    if home.exists() {
        return Client::open(home, Unlock::Automatic).await;
    }
    let (name, server) = (name.to_owned(), server.to_owned());
    let registration = Registration { name, server, protection: Protection::KeyFile };
    Client::register(home, registration, drop).await
}

/// Answers until the client is closed. What came while nobody listened is answered first.
pub(crate) async fn answer_all(client: &Client) -> Result<(), ClientError> {
    let mut events = client.events();
    loop {
        for message in client.unseen(100).await? {
            answer(client, &message).await?;
            client.mark_seen(message.id).await?;
        }
        // Whatever happened: what is unseen says what is to be done.
        loop {
            match events.next().await {
                Some(Event::Message(_)) => break,
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
}

async fn answer(client: &Client, message: &Message) -> Result<(), ClientError> {
    if message.state == MessageState::Received && !message.own {
        client.queue(&message.channel, &message.text).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    let mut arguments = std::env::args().skip(1);
    let (Some(home), Some(name), Some(server)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err(ClientError::Usage("echo_bot HOME NAME SERVER_URL".to_owned()));
    };
    let client = client(&Home::new(home.into()), &name, &server).await?;
    println!("answering as {}", client.whoami().await?.name);
    answer_all(&client).await
}
