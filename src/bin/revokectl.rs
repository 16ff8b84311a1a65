//! The control program. Everything it does is in the library.

fn main() -> std::process::ExitCode {
    revoked::ctl::main()
}
