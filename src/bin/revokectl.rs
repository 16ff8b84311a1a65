//! `revokectl`: asks the daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    revoked::ctl::main()
}
