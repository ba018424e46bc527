//! What a process says after it did something, in a file that outlives it.

use std::fs::{File, OpenOptions, read_to_string};
use std::io::Write as _;
use std::path::Path;

use qpc_proto::ChannelId;
use qpc_sim::World;

const NAME: &str = "notes";

/// Notes of a process that may die.
pub(crate) struct Notes(File);

impl Notes {
    pub(crate) fn begin(folder: &Path) -> Self {
        let path = folder.join(NAME);
        Self(OpenOptions::new().create(true).append(true).open(path).unwrap())
    }

    /// Writes a message, and tells once it was taken.
    pub(crate) fn say(
        &mut self,
        world: &mut World,
        (index, channel, text): (usize, ChannelId, &str),
    ) {
        world.write(index, (&channel, text)).unwrap();
        self.note(world, &format!("did {index} {channel} {text}"));
    }

    /// That something is done for good.
    pub(crate) fn note(&mut self, world: &World, line: &str) {
        writeln!(self.0, "now {}\n{line}", world.now_ms).unwrap();
    }
}

/// A text, its writer and its channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) index: usize,
    pub(crate) channel: ChannelId,
    pub(crate) text: String,
}

/// What was noted before the end.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    pub(crate) now_ms: u64,
    /// Queued for certain.
    pub(crate) did: Vec<Text>,
    /// Everything else.
    pub(crate) done: Vec<String>,
}

impl Noted {
    pub(crate) fn read(folder: &Path) -> Self {
        let mut noted = Self::default();
        let lines = read_to_string(folder.join(NAME)).unwrap_or_default();
        for line in lines.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "now" => noted.now_ms = rest.parse().unwrap(),
                "did" => noted.did.push(text(rest)),
                _ => noted.done.push(line.to_owned()),
            }
        }
        noted
    }
}

fn text(rest: &str) -> Text {
    let mut words = rest.splitn(3, ' ');
    let index = words.next().unwrap().parse().unwrap();
    let channel = ChannelId::from_hex(words.next().unwrap()).unwrap();
    Text { index, channel, text: words.next().unwrap().to_owned() }
}
