//! The daemon. Everything it does is in the library.

fn main() -> std::process::ExitCode {
    revoked::daemon::main()
}
