//! Exit codes, and everything a command can end with.
//!
//! | code | meaning |
//! | ---: | --- |
//! | 0 | done; also when whoever reads the output has left (`revokectl list \| head`) |
//! | 1 | the daemon refused it, or at least one line of what was handed in |
//! | 64 | the command line is wrong |
//! | 66 | a file can't be read |
//! | 69 | no daemon answers, or it may not be asked |
//! | 70 | a bench could not go on, or found a promise broken |
//! | 74 | the output can't be written |
//! | 76 | the answer makes no sense: is the daemon of another version? |
//! | 78 | the configuration file has errors; nothing was changed |
//!
//! From 64 on as in sysexits.h, so that a script can tell "no" from "try again later".

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::show;
use crate::intake::wire::ErrorBody;

/// Refused by the daemon.
pub const REFUSED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 64;
/// A file can't be read.
pub const NO_INPUT: u8 = 66;
/// No daemon answers.
pub const UNAVAILABLE: u8 = 69;
/// A bench could not go on, or found a promise broken.
pub const SOFTWARE: u8 = 70;
/// The output can't be written.
pub const IO: u8 = 74;
/// The answer makes no sense.
pub const PROTOCOL: u8 = 76;
/// The configuration file has errors.
pub const CONFIG: u8 = 78;

/// Why a command is not done, in words for whoever typed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{}", show::refusal(.0))]
    Refused(ErrorBody),
    /// Some lines were refused; each was told about when its answer came.
    #[error("some lines were refused")]
    Told,
    /// An export without its end.
    #[error("this is not a whole export: {0}; what there is of it may be imported again with the rest")]
    CutOff(String),
    /// The report on a configuration file, which begins with `error:` itself.
    #[error("{}", show::plain_lines(.0))]
    Config(String),
    #[error("can't read {}: {error}", .path.display())]
    Input { path: PathBuf, error: io::Error },
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Bench(String),
    #[error("can't write the output: {0}")]
    Output(#[from] io::Error),
    #[error("the daemon's answer makes no sense ({0}): are revoked and revokectl of the same version?")]
    Protocol(String),
}

impl Failure {
    /// Says what there is to say on stderr, and gives the code to leave with.
    pub(super) fn report(&self) -> ExitCode {
        let code = match self {
            // The reader had enough. That is how `head` says thank you.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::Told => return REFUSED.into(),
            Self::Config(_) => {
                anstream::eprintln!("{self}\n\nNothing was changed: the daemon goes on with the configuration it has.");
                return CONFIG.into();
            }
            Self::Refused(_) | Self::CutOff(_) => REFUSED,
            Self::Input { .. } => NO_INPUT,
            Self::Unavailable(_) => UNAVAILABLE,
            Self::Bench(_) => SOFTWARE,
            Self::Output(_) => IO,
            Self::Protocol(_) => PROTOCOL,
        };
        anstream::eprintln!("error: {self}");
        code.into()
    }
}
