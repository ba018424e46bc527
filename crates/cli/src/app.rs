//! From an argument list to an exit code: logging, the runtime, one command, the report of a
//! failure. Knows no command by name.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

use crate::args::Arguments;
use crate::command;
use crate::error::CliError;
use crate::output::Output;

/// MLS work may run on the runtime's threads and recurses deeply in big groups.
const THREAD_STACK_BYTES: usize = 4 << 20;
const WORKER_THREADS: usize = 2;
/// How long the runtime's threads may take to end: one may wait for a name to be resolved.
const THREADS_END: Duration = Duration::from_secs(2);

/// Runs one command line, program name first.
pub(crate) fn run(words: Vec<OsString>) -> ExitCode {
    let json = words.iter().any(|word| word == "--json");
    let mut output = Output::standard(json);
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => return answer_parser(&mut output, &error),
    };
    // `--json` among the words may have been a message after `--`.
    output.set_json(arguments.json);
    match start(arguments, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&mut output, &error),
    }
}

fn start(arguments: Arguments, output: &mut Output) -> Result<(), CliError> {
    if let Some(filter) = &arguments.log {
        start_log(filter)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_stack_size(THREAD_STACK_BYTES)
        .enable_all()
        .build()
        .map_err(|error| CliError::Internal(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(command::run(arguments, output));
    // A thread that ends while the process does frees what libcrypto frees at its exit.
    runtime.shutdown_timeout(THREADS_END);
    outcome
}

fn start_log(filter: &str) -> Result<(), CliError> {
    // The MLS library logs secrets-adjacent detail below `warn`.
    let filter = EnvFilter::try_new(format!("{filter},openmls=warn"))
        .map_err(|error| CliError::Usage(format!("--log: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(|error| CliError::Internal(format!("no log: {error}")))
}

fn answer_parser(output: &mut Output, error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match output.text(&error.render().to_string()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(output, &error),
        };
    }
    let rendered = error.render().to_string();
    if output.json() {
        let message = rendered.lines().next().unwrap_or("wrong command line");
        let message = message.strip_prefix("error: ").unwrap_or(message);
        return fail(output, &CliError::Usage(message.to_owned()));
    }
    output.complain(&rendered);
    CliError::Usage(String::new()).exit_code()
}

fn fail(output: &mut Output, error: &CliError) -> ExitCode {
    output.failure(error);
    error.exit_code()
}
