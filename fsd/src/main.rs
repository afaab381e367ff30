//! `fsd --socket PATH [--log-level LEVEL] [--transport auto|classic]`

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use fsd::control::{self, Ending};
use fsd::server::Server;
use fsd::sys::event::{self, Epoll};

const USAGE: &str =
    "usage: fsd --socket PATH [--log-level error|warn|info|debug|trace] [--transport auto|classic]";

struct Arguments {
    socket: PathBuf,
    level: tracing::Level,
    classic: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut given = std::env::args_os().skip(1);
    let mut socket = None;
    let mut level = tracing::Level::INFO;
    let mut classic = false;
    while let Some(option) = given.next() {
        let option = option.to_string_lossy().into_owned();
        let mut value = || given.next().ok_or(format!("{option} needs a value"));
        match option.as_str() {
            "--socket" => socket = Some(PathBuf::from(value()?)),
            "--log-level" => {
                let name = value()?.to_string_lossy().into_owned();
                level = name
                    .parse()
                    .map_err(|_| format!("--log-level: {name:?} is no level"))?;
            }
            "--transport" => {
                classic = match value()?.to_string_lossy().as_ref() {
                    "auto" => false,
                    "classic" => true,
                    other => {
                        return Err(format!(
                            "--transport: {other:?} given, auto or classic allowed"
                        ))
                    }
                }
            }
            other => return Err(format!("{other}: unknown option")),
        }
    }
    Ok(Arguments {
        socket: socket.ok_or("--socket is missing")?,
        level,
        classic,
    })
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("fsd: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .json()
        // A supervisor that was killed leaves a broken pipe; that must not keep us from unmounting.
        .log_internal_errors(false)
        .with_max_level(arguments.level)
        .with_writer(std::io::stderr)
        .init();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = %error, "fsd cannot run");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    // Before any thread: all inherit the blocked signals.
    let signals = event::termination_signals()?;
    let ending = Arc::new(Ending::new()?);
    let on_panic = Arc::clone(&ending);
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(%panic, "panic: unmounting everything");
        on_panic.panic();
    }));
    let server = Arc::new(Server::start(arguments.classic)?);
    control::listen(&arguments.socket, Arc::clone(&server), Arc::clone(&ending))?;
    tracing::info!(socket = %arguments.socket.display(), transport = server.transport(), "serving");
    // Who started fsd waits for one line on its standard output.
    let _ = writeln!(std::io::stdout(), "{{\"ready\":true}}");
    let wait = Epoll::new()?;
    wait.add(signals.as_raw_fd(), 0, false)?;
    wait.add(ending.event.as_raw_fd(), 1, false)?;
    let reason = wait.wait()?;
    tracing::info!(signal = reason == 0, "ending");
    server.shut_down();
    let _ = std::fs::remove_file(&arguments.socket);
    let code = if ending.panicked() {
        ExitCode::from(101)
    } else {
        ExitCode::SUCCESS
    };
    Ok(code)
}
